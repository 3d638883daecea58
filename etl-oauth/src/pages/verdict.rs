//! One line that says how the function stands: the first of the status page, of the command line and of the JSON.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{Account, Counts, Store};
use crate::format::{count, moment, relative, sentence};
use token_keeper::token::State;

/// So long before a grant ends the verdict says so.
const SOON: SignedDuration = SignedDuration::from_hours(72);

/// The urgency of a verdict, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing is to be done.
    Ok,
    /// It works, and will not for ever; or it has not begun.
    Warning,
    /// It does not work, or a restart would lose something.
    Critical,
}

/// How the function stands: the worst of its accounts and its store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Its urgency.
    pub level: Level,
    /// The case, in snake case.
    pub code: &'static str,
    /// A sentence or two for people.
    pub message: String,
}

impl Level {
    /// The class of its note.
    pub(super) fn colour(self) -> &'static str {
        match self {
            Self::Ok => "good",
            Self::Warning => "warn",
            Self::Critical => "bad",
        }
    }
}

impl Verdict {
    /// The verdict at `now`. `unattended` says whether tokens come without a person.
    #[must_use]
    pub fn of(store: &Store, accounts: &[Account], unattended: bool, now: Timestamp) -> Self {
        let judged = accounts.iter().map(|account| (account, Self::on(account, unattended, now)));
        // Of equal ones the first.
        let worst = judged.reduce(|worst, other| if other.1.level > worst.1.level { other } else { worst });
        let (worst, about) = match worst {
            Some((account, verdict)) if accounts.len() > 1 && verdict.level > Level::Ok => {
                (verdict, Some(&*account.account))
            }
            Some((_, verdict)) => (verdict, None),
            None => (Self::new(Level::Warning, "not_connected", "No account is connected.".into()), None),
        };
        let worst = match about {
            Some(account) => Self { message: format!("Account {account}: {}", worst.message), ..worst },
            None => worst,
        };
        if store.ok || worst.level == Level::Critical {
            return worst;
        }
        let message = "The store cannot be used: a token that is renewed now lives in memory alone. Do not restart the \
                       function before the store works.";
        Self::new(Level::Critical, "store_unavailable", message.into())
    }

    /// The verdict where accounts that need a person may be on another page.
    #[must_use]
    pub fn with_counts(self, counts: &Counts) -> Self {
        let number = counts.needs_authorisation;
        if self.level == Level::Critical || number == 0 {
            return self;
        }
        let message = format!("{} must be authorised again by a person.", count(number, "account"));
        Self::new(Level::Critical, "needs_authorisation", message)
    }

    fn new(level: Level, code: &'static str, message: String) -> Self {
        Self { level, code, message }
    }

    /// The verdict on one account.
    fn on(account: &Account, unattended: bool, now: Timestamp) -> Self {
        let error = account.error.as_ref();
        let why = error.map(|error| sentence(&error.message)).unwrap_or_default();
        let end = account.expires_at;
        match account.state {
            State::NeedsAuthorisation => Self::new(
                Level::Critical,
                "needs_authorisation",
                format!("Nothing runs until a person authorises it again. {why}"),
            ),
            State::Disabled if unattended && account.generation == 0 => {
                Self::new(Level::Ok, "not_begun", "It has no token yet; the first run gets one by itself.".into())
            }
            State::Disabled => Self::new(
                Level::Warning,
                "not_connected",
                "Not connected: nothing runs until a person connects an account.".into(),
            ),
            State::Degraded if error.is_some_and(|error| error.error == "record_damaged") => {
                Self::new(Level::Critical, "record_damaged", why)
            }
            State::Degraded if account.unsaved => Self::new(
                Level::Critical,
                "not_saved",
                "The newest token is in memory alone. Do not restart the function before it is saved.".into(),
            ),
            State::Degraded => match end {
                Some(end) if end <= now => {
                    Self::new(Level::Critical, "no_token", format!("It has no token that works now. {why}"))
                }
                Some(end) => {
                    let until = moment(end);
                    Self::new(Level::Warning, "degraded", format!("It works until {until}, and renewing fails. {why}"))
                }
                None => Self::new(Level::Warning, "degraded", format!("It works, and renewing fails. {why}")),
            },
            State::Enabled => Self::on_connected(account, unattended, now),
        }
    }

    /// The verdict on an account that is connected, and whose last renewal went well.
    fn on_connected(account: &Account, unattended: bool, now: Timestamp) -> Self {
        let needs = |at: Timestamp| {
            let (relative, moment) = (relative(at, now), moment(at));
            format!("It stops {relative} ({moment}), unless a person authorises it again before")
        };
        if !account.refresh_token && !unattended {
            return match account.expires_at {
                Some(at) if at <= now => Self::new(
                    Level::Critical,
                    "no_refresh_token",
                    "The access token has ended, and there is no refresh token: a person must authorise it again.".into(),
                ),
                Some(at) => {
                    Self::new(Level::Warning, "no_refresh_token", format!("{}: there is no refresh token.", needs(at)))
                }
                None => Self::new(
                    Level::Ok,
                    "connected",
                    "Connected. The access token has no known end, and there is no refresh token: if the provider ends it, a \
                     person must authorise it again."
                        .into(),
                ),
            };
        }
        // A renewal that comes before the end may put it off.
        let last = |end: &Timestamp| account.next_renewal_at.is_none_or(|next| next >= *end);
        let soon = |end: &Timestamp| end.duration_since(now) < SOON;
        if let Some(end) = account.refresh_expires_at.filter(|end| soon(end) && last(end)) {
            return Self::new(Level::Warning, "grant_ends", format!("{}: the refresh token ends.", needs(end)));
        }
        match &account.last_run {
            Some(run) if !run.ok() => Self::new(
                Level::Warning,
                "job_failed",
                format!("Connected, and the token is kept alive; the last run of the job failed: {}.", run.words()),
            ),
            _ => Self::new(Level::Ok, "connected", "All is well: connected, and the token is kept alive.".into()),
        }
    }
}

#[cfg(test)]
#[path = "tests/verdict.rs"]
mod tests;
