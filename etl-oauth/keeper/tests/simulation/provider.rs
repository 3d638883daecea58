//! A provider that rotates refresh tokens and ends a whole grant when one is used twice; or one that gives tokens to whoever
//! asks as a client of its own.

use std::collections::BTreeSet;

/// What it does with a refresh token that was spent already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Habit {
    /// Reuse ends the grant.
    Strict,
    /// Within so many milliseconds of the first use a sibling is issued; after that, reuse ends the grant.
    Window(i64),
    /// The spent token works until the new access token was used; after that, reuse ends the grant.
    UntilUsed,
    /// Refresh tokens are not rotated at all.
    Still,
    /// Nobody authorises anything: whoever asks gets a token, and nothing is spent by it.
    Asks,
}

/// One refresh token, with the access token that came along.
#[derive(Clone, Debug, Hash)]
struct Issued {
    grant: u32,
    parent: Option<usize>,
    spent_at: Option<i64>,
    used: bool,
}

/// What one account has there.
#[derive(Clone, Debug, Hash)]
pub struct Grants {
    habit: Habit,
    account: usize,
    issued: Vec<Issued>,
    ended: BTreeSet<u32>,
    /// Until when the client is refused, whatever it shows.
    barred_until: i64,
    /// Calls that were refused because a token came twice.
    pub reuses: u32,
}

impl Grants {
    pub fn new(habit: Habit, account: usize) -> Self {
        Self { habit, account, issued: Vec::new(), ended: BTreeSet::new(), barred_until: i64::MIN, reuses: 0 }
    }

    /// A person consents: a new grant, as the body of a token answer.
    pub fn consent(&mut self, lifetime: u32) -> String {
        let grant = self.issued.last().map_or(0, |last| last.grant + 1);
        self.issue(grant, None, lifetime)
    }

    /// The body of an answer to a client that asks for itself. Some servers give a refresh token even so.
    pub fn ask(&mut self, lifetime: u32) -> String {
        self.issue(0, None, lifetime)
    }

    /// Its secret was changed at the provider, and not here.
    pub fn bar(&mut self, until: i64) {
        self.barred_until = until;
    }

    pub fn is_barred(&self, now: i64) -> bool {
        now < self.barred_until
    }

    /// The body of an answer to a renewal, or `None` for `invalid_grant`.
    pub fn renew(&mut self, token: &str, now: i64, lifetime: u32) -> Option<String> {
        let index = self.index(token)?;
        let grant = self.issued[index].grant;
        if self.ended.contains(&grant) {
            return None;
        }
        if self.habit == Habit::Still {
            return Some(self.body(index, lifetime));
        }
        if !self.honours(index, now) {
            self.reuses += 1;
            self.ended.insert(grant);
            return None;
        }
        self.issued[index].spent_at.get_or_insert(now);
        Some(self.issue(grant, Some(index), lifetime))
    }

    /// Whether a token would still be honoured.
    fn honours(&self, index: usize, now: i64) -> bool {
        let Some(spent_at) = self.issued[index].spent_at else { return true };
        let children = || self.issued.iter().filter(|issued| issued.parent == Some(index));
        match self.habit {
            Habit::Strict => false,
            // Auth0 and Okta honour the immediately previous token alone.
            Habit::Window(window) => now < spent_at + window && children().all(|child| child.spent_at.is_none()),
            Habit::UntilUsed => children().all(|child| !child.used && child.spent_at.is_none()),
            Habit::Still | Habit::Asks => true,
        }
    }

    /// The API is called with the access token that came with this refresh token.
    pub fn use_access(&mut self, token: &str) {
        if let Some(index) = self.index(token) {
            self.issued[index].used = true;
        }
    }

    /// Whether any refresh token of the grant that `token` belongs to would still be honoured.
    pub fn lives(&self, token: &str, now: i64) -> bool {
        let Some(grant) = self.index(token).map(|index| self.issued[index].grant) else { return false };
        !self.ended.contains(&grant)
            && (0..self.issued.len()).any(|index| self.issued[index].grant == grant && self.honours(index, now))
    }

    /// The provider's own reason, or the person's, to end a grant.
    pub fn end(&mut self, token: &str) {
        if let Some(index) = self.index(token) {
            self.ended.insert(self.issued[index].grant);
        }
    }

    fn issue(&mut self, grant: u32, parent: Option<usize>, lifetime: u32) -> String {
        self.issued.push(Issued { grant, parent, spent_at: None, used: false });
        self.body(self.issued.len() - 1, lifetime)
    }

    /// `serial` tells two answers apart where `Debug` hides the tokens.
    fn body(&self, index: usize, lifetime: u32) -> String {
        let account = self.account;
        format!(
            r#"{{"access_token":"a{account}.{index}","refresh_token":"r{account}.{index}","expires_in":{lifetime},"serial":{index}}}"#
        )
    }

    fn index(&self, token: &str) -> Option<usize> {
        let index = token.rsplit('.').next()?.parse().ok()?;
        (index < self.issued.len()).then_some(index)
    }
}
