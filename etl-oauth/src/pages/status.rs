//! Where everything stands: one structure, which a machine reads as JSON and a person as a page.

use askama::Template;
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use url::Url;

use super::timeline::Timeline;
use super::{Base, Counts, Page, Problem, STYLE, Search, Verdict, Words as _};
use crate::format::{filters, span, whole};
use token_keeper::token::State;

/// How many of the last renewals and runs are in the page's tables.
const ROWS: usize = 10;

/// The JSON of `/status`.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// The whole in one line.
    pub verdict: Verdict,
    /// The provider's name in the configuration ("gumroad"); none where several connections are shown.
    pub provider: Option<String>,
    /// Where the tokens are kept.
    pub store: Store,
    /// How many accounts there are in each state.
    pub counts: Counts,
    /// The accounts of this page; the one called `default` where there is no other.
    pub accounts: Vec<Account>,
    /// Where the next page begins.
    pub next_cursor: Option<String>,
}

impl Status {
    /// Whether the accounts are shown as a list: there are more than the eye finds at once, or some were searched for.
    fn is_list(&self, search: &Search) -> bool {
        self.counts.total() > 1 || *search != Search::default()
    }
}

/// The store and its health.
#[derive(Debug, Clone, Serialize)]
pub struct Store {
    /// Its kind, as the variable `store` has it.
    pub kind: String,
    /// Whether every token that was got is also written.
    pub ok: bool,
}

/// One account.
#[derive(Debug, Clone, Serialize)]
pub struct Account {
    /// The connection that it is an account of.
    pub connection: String,
    /// Its name.
    pub account: String,
    /// The account that granted the tokens, as the provider identifies it.
    pub who: Option<String>,
    /// Where it stands.
    pub state: State,
    /// How often its tokens were written.
    pub generation: u64,
    /// The scopes that were granted, separated by spaces; none where the provider did not say.
    pub scope: Option<String>,
    /// The scopes that were asked for.
    pub wanted_scope: Option<String>,
    /// When the access token ends, where that is known.
    #[serde(serialize_with = "seconds")]
    pub expires_at: Option<Timestamp>,
    /// Whether there is a refresh token.
    pub refresh_token: bool,
    /// When the refresh token ends, where that is known.
    #[serde(serialize_with = "seconds")]
    pub refresh_expires_at: Option<Timestamp>,
    /// The last renewal, whether it went well or not.
    pub last_renewal: Option<RenewalRow>,
    /// When the next one is due, where that is known.
    #[serde(serialize_with = "seconds")]
    pub next_renewal_at: Option<Timestamp>,
    /// The last run of the job.
    pub last_run: Option<RunRow>,
    /// The newest token is in memory alone.
    #[serde(skip)]
    pub unsaved: bool,
    /// What is wrong, and what to do about it.
    pub error: Option<Problem>,
    /// The last renewals that this replica knows of, newest first.
    pub renewals: Vec<RenewalRow>,
    /// The last runs that this replica knows of, newest first.
    pub runs: Vec<RunRow>,
    /// How often a person has authorised it. A renewal does not change it.
    pub authorisations: u32,
    /// What the access token says of itself, where it is a JWT. Never the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claims: Option<Map<String, Value>>,
    /// The code that a person was asked to type, until they have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<Invitation>,
}

/// A code for any device.
#[derive(Debug, Clone, Serialize)]
pub struct Invitation {
    /// What is typed.
    pub user_code: String,
    /// Where.
    pub verification_uri: Url,
    /// The same with the code in it.
    pub verification_uri_complete: Option<Url>,
    /// When it lapses.
    #[serde(serialize_with = "second")]
    pub ends_at: Timestamp,
    /// Why it brought nothing, once that is known.
    pub failure: Option<String>,
}

/// A renewal of the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RenewalRow {
    /// When.
    #[serde(serialize_with = "second")]
    pub at: Timestamp,
    /// `renewed`, `adopted`, or the failure's class.
    pub outcome: String,
}

/// A run of the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunRow {
    /// When it started.
    #[serde(serialize_with = "second")]
    pub at: Timestamp,
    /// `ok`, or the failure's class.
    pub outcome: String,
    /// How long it took.
    pub duration_ms: u64,
}

/// The page of a [`Status`]: what it says, a picture of the last renewals and runs, and buttons. Each button is a form that
/// posts `csrf` and `account`.
#[derive(Debug, Template)]
#[template(path = "status.html")]
pub struct StatusPage<'a> {
    /// The function's address.
    pub base: &'a Base,
    /// The provider's name for people ("Gumroad").
    pub provider: &'a str,
    /// The name of the job.
    pub job: &'a str,
    /// What to show.
    pub status: &'a Status,
    /// What the accounts were searched for.
    pub search: Search,
    /// Where "Authorise again" leads, where it leads anywhere; its origin goes into the page's policy.
    pub authorize_url: Option<&'a Url>,
    /// Whether tokens come without anybody, so that no refresh token is missed.
    pub unattended: bool,
    /// What was just done, for the browser that did it.
    pub notice: Option<&'a str>,
    /// What helps, at this provider, to get a refresh token.
    pub remedy: Option<&'a str>,
    /// The forms' token against forged posts.
    pub csrf: &'a str,
    /// The time.
    pub now: Timestamp,
}

impl From<&StatusPage<'_>> for Page {
    fn from(page: &StatusPage<'_>) -> Self {
        match page.authorize_url {
            Some(url) => Self::new(page).leading_to(url),
            None => Self::new(page),
        }
    }
}

impl Account {
    fn granted(&self) -> Vec<&str> {
        self.scope.as_deref().unwrap_or_default().split_whitespace().collect()
    }

    /// What was asked for and not granted; nothing where the provider did not say what it granted.
    fn missing(&self) -> Vec<&str> {
        let granted = self.granted();
        if granted.is_empty() {
            return Vec::new();
        }
        let wanted = self.wanted_scope.as_deref().unwrap_or_default();
        wanted.split_whitespace().filter(|scope| !granted.contains(scope)).collect()
    }

    /// A token that nothing can renew.
    fn will_end(&self) -> bool {
        matches!(self.state, State::Enabled | State::Degraded) && !self.refresh_token
    }

    /// When the access token ends, while it lives.
    fn end_after(&self, now: &Timestamp) -> Option<Timestamp> {
        self.expires_at.filter(|at| at > now)
    }

    fn timeline(&self, now: &Timestamp) -> Option<Timeline> {
        let renewals: Vec<_> = self.renewals.iter().map(|renewal| (renewal.at, renewal.ok())).collect();
        let runs: Vec<_> = self.runs.iter().map(|run| (run.at, run.ok())).collect();
        Timeline::of(&[("Renewals", &renewals), ("Runs", &runs)], *now)
    }
}

impl RenewalRow {
    fn ok(&self) -> bool {
        matches!(self.outcome.as_str(), "renewed" | "adopted")
    }

    /// "renewed", "invalid grant"
    fn words(&self) -> String {
        self.outcome.replace('_', " ")
    }
}

impl RunRow {
    /// Whether it succeeded.
    pub(crate) fn ok(&self) -> bool {
        self.outcome == "ok"
    }

    /// "ok", "provider unavailable"
    pub(super) fn words(&self) -> String {
        self.outcome.replace('_', " ")
    }

    fn took(&self) -> String {
        match self.duration_ms {
            ms @ ..10_000 => format!("{ms}\u{a0}ms"),
            ms => span(ms / 1000),
        }
    }
}

fn second<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    whole(*at).serialize(serializer)
}

#[allow(clippy::ref_option, reason = "the shape that serde asks for")]
fn seconds<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => second(at, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::Level;

    #[test]
    fn the_json_is_the_promised_one() {
        let renewal = RenewalRow { at: "2026-01-31T10:27:38.25Z".parse().unwrap(), outcome: "renewed".into() };
        let run = RunRow { at: "2026-01-31T11:00:00Z".parse().unwrap(), outcome: "ok".into(), duration_ms: 412 };
        let status = Status {
            verdict: Verdict { level: Level::Critical, code: "needs_authorisation", message: "Nothing runs.".into() },
            provider: Some("gumroad".into()),
            store: Store { kind: "gateway".into(), ok: true },
            counts: Counts { needs_authorisation: 1, ..Counts::default() },
            next_cursor: None,
            accounts: vec![Account {
                connection: "default".into(),
                account: "default".into(),
                who: None,
                state: State::NeedsAuthorisation,
                generation: 7,
                scope: Some("view_sales".into()),
                wanted_scope: Some("view_sales".into()),
                expires_at: Some("2026-01-31T11:27:38.999Z".parse().unwrap()),
                refresh_token: true,
                refresh_expires_at: None,
                last_renewal: Some(renewal),
                next_renewal_at: None,
                last_run: Some(run),
                unsaved: false,
                error: None,
                renewals: vec![],
                runs: vec![],
                authorisations: 2,
                claims: None,
                device: None,
            }],
        };
        assert_eq!(
            serde_json::to_string(&status).unwrap(),
            r#"{"verdict":{"level":"critical","code":"needs_authorisation","message":"Nothing runs."},"provider":"gumroad","store":{"kind":"gateway","ok":true},"counts":{"disabled":0,"enabled":0,"degraded":0,"needs_authorisation":1},"accounts":[{"connection":"default","account":"default","who":null,"state":"needs_authorisation","generation":7,"scope":"view_sales","wanted_scope":"view_sales","expires_at":"2026-01-31T11:27:38Z","refresh_token":true,"refresh_expires_at":null,"last_renewal":{"at":"2026-01-31T10:27:38Z","outcome":"renewed"},"next_renewal_at":null,"last_run":{"at":"2026-01-31T11:00:00Z","outcome":"ok","duration_ms":412},"error":null,"renewals":[],"runs":[],"authorisations":2}],"next_cursor":null}"#
        );
    }
}
