//! The events of the audit.

use jiff::{Timestamp, Unit};
use serde::{Deserialize, Serialize};

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::routes) enum Action {
    /// An account was authorised.
    Authorise,
    /// Its token was renewed, or was to be.
    Renew,
    /// The job ran for it.
    Run,
    /// A caller was given its access token.
    Token,
    /// A caller used the API through the proxy.
    Proxy,
    /// Its tokens were revoked.
    Revoke,
    /// The operator signed in on the form.
    SignIn,
    /// The operator signed out.
    SignOut,
    /// A request was not let in.
    Refuse,
    /// The records were sealed anew.
    Reseal,
    /// A connect link was made.
    LinkCreate,
    /// A person came by a connect link.
    LinkUse,
    /// The operator ended a connect link.
    LinkDelete,
    /// A grant of another person than expected waits, or was decided over.
    Held,
}

impl Action {
    /// The name in JSON and in the log.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Authorise => "authorise",
            Self::Renew => "renew",
            Self::Run => "run",
            Self::Token => "token",
            Self::Proxy => "proxy",
            Self::Revoke => "revoke",
            Self::SignIn => "sign_in",
            Self::SignOut => "sign_out",
            Self::Refuse => "refuse",
            Self::Reseal => "reseal",
            Self::LinkCreate => "link_create",
            Self::LinkUse => "link_use",
            Self::LinkDelete => "link_delete",
            Self::Held => "held",
        }
    }

    /// Whether it happens all the time: equal ones within a moment are one event with a count.
    pub(super) fn is_counted(self) -> bool {
        matches!(self, Self::Token | Self::Proxy | Self::Refuse)
    }

    /// Whether it happens without a decision by a person: such events never take more than half the room.
    pub(super) fn is_routine(self) -> bool {
        self.is_counted() || matches!(self, Self::Renew | Self::Run)
    }
}

/// An account of a connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::routes) struct Subject {
    pub(in crate::routes) connection: String,
    pub(in crate::routes) account: String,
}

/// Who did what to which account, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::routes) struct Event {
    /// When; for several, the last time.
    pub(in crate::routes) at: Timestamp,
    /// `operator`, `link:ID`, `caller:KEY`, `sweeper`, `job` or `stranger`.
    pub(in crate::routes) actor: String,
    /// What was done.
    pub(in crate::routes) action: Action,
    /// The connection; none where the action concerns no account.
    pub(in crate::routes) connection: Option<String>,
    /// The account.
    pub(in crate::routes) account: Option<String>,
    /// `ok`, or the error's code; of a renewal `renewed`, `adopted` or the class of the failure.
    pub(in crate::routes) outcome: String,
    /// How often it happened within a moment, where that is more than once.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub(in crate::routes) count: u64,
    /// How long it took, of a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::routes) duration_ms: Option<u64>,
}

fn one() -> u64 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde asks for")]
fn is_one(count: &u64) -> bool {
    *count == 1
}

impl Event {
    /// An event of now that went well and concerns no account.
    pub(in crate::routes) fn new(actor: &str, action: Action, at: Timestamp) -> Self {
        // What is read back is what was written.
        let at = at.round(Unit::Millisecond).unwrap_or(at);
        let (actor, outcome) = (actor.to_owned(), "ok".to_owned());
        Self { at, actor, action, connection: None, account: None, outcome, count: 1, duration_ms: None }
    }

    /// The account that it concerns.
    pub(in crate::routes) fn about(mut self, connection: &str, account: &str) -> Self {
        self.connection = Some(connection.to_owned());
        self.account = Some(account.to_owned());
        self
    }

    /// What came of it, where that is not `ok`.
    pub(in crate::routes) fn with_outcome(mut self, outcome: &str) -> Self {
        outcome.clone_into(&mut self.outcome);
        self
    }

    /// How long it took.
    pub(in crate::routes) fn took(mut self, duration_ms: u64) -> Self {
        self.duration_ms = Some(duration_ms);
        self
    }

    /// The account that it concerns.
    pub(super) fn subject(&self) -> Option<Subject> {
        let (connection, account) = (self.connection.clone()?, self.account.clone()?);
        Some(Subject { connection, account })
    }

    /// Whether the other one is the same but for the time.
    pub(super) fn repeats(&self, other: &Self) -> bool {
        self.action.is_counted()
            && self.action == other.action
            && self.actor == other.actor
            && self.outcome == other.outcome
            && self.connection == other.connection
            && self.account == other.account
    }

    /// The event in the log.
    pub(super) fn log(&self) {
        let Self { at, actor, connection, account, outcome, count, duration_ms, .. } = self;
        let (action, connection, account) = (self.action.as_str(), connection.as_deref(), account.as_deref());
        tracing::info!(%at, actor, action, connection, account, outcome, count, duration_ms, "audit");
    }
}

/// Forgets what there is no room for, of events that are ordered newest first: the oldest, and of routine the oldest where
/// that takes more than half.
pub(super) fn trim(events: &mut Vec<Event>, room: usize) {
    let mut routine = events.iter().filter(|event| event.action.is_routine()).count();
    while events.len() > room {
        let oldest = if routine > room / 2 {
            events.iter().rposition(|event| event.action.is_routine())
        } else {
            events.iter().rposition(|event| !event.action.is_routine())
        };
        let Some(gone) = oldest.or_else(|| events.len().checked_sub(1)) else { return };
        routine -= usize::from(events.remove(gone).action.is_routine());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_json_is_the_promised_one() {
        let event = Event::new("operator", Action::Revoke, at(0)).about("default", "ada");
        assert_eq!(
            serde_json::to_string(&event).unwrap(),
            r#"{"at":"1970-01-01T00:00:00Z","actor":"operator","action":"revoke","connection":"default","account":"ada","outcome":"ok"}"#
        );
        let event = Event::new("stranger", Action::Refuse, at(0)).with_outcome("unauthorised");
        let json = serde_json::to_string(&event).unwrap();
        assert!(json.contains(r#""connection":null,"account":null,"outcome":"unauthorised""#), "{json}");
        assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), event);
    }

    #[test]
    fn routine_never_takes_the_room_of_what_people_decided() {
        let routine = |second| Event::new("job", Action::Run, at(second));
        let decided = |second| Event::new("operator", Action::Authorise, at(second));
        let mut events: Vec<Event> = (0..200).rev().map(routine).chain([decided(-1), decided(-2)]).collect();
        trim(&mut events, 100);
        assert_eq!(events.len(), 100);
        assert_eq!(events[98..], [decided(-1), decided(-2)], "older than all of the runs");
        assert_eq!(events[97], routine(102));
        let mut events: Vec<Event> = (0..200).rev().map(decided).chain((0..60).map(routine)).collect();
        trim(&mut events, 100);
        assert_eq!(events.iter().filter(|event| event.action == Action::Run).count(), 50);
    }
}
