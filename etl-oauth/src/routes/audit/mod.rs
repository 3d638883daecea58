//! `/audit`: who did what to which account, for the operator.

mod event;
mod journal;

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::Response,
};
use http::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

pub(super) use event::{Action, Event, Subject};
pub(super) use journal::Audit;

use super::{
    App, State as AppState,
    connection::Named,
    respond::{self, Asked, problem},
};
use crate::{
    format::cut,
    guard::{Endpoint, Who},
};
use token_keeper::{renewal::AUTHORISED, token::LastRenewal, trace_context};

/// How much of a caller's name is shown: the issuer of its token makes it up.
const LONGEST_NAME: usize = 100;
/// How many events are on a page.
const PAGE: usize = 100;

/// The operator's name in the audit.
pub(super) const OPERATOR: &str = "operator";

/// Who was not let in.
pub(super) const STRANGER: &str = "stranger";

/// Which events are asked for.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    connection: Option<String>,
    account: Option<String>,
    cursor: Option<String>,
}

/// `GET`: the newest events first, 100 a page.
pub(super) async fn show(
    State(app): AppState,
    asked: Asked,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Response> {
    app.admit_to_function(Endpoint::Status, &asked, "").await?;
    let bad = |what: &str| {
        let words = ("That cannot be read", what, "Name connection, account and cursor once each, or not at all.");
        asked.problem(&app, &problem("bad_request", StatusCode::BAD_REQUEST, words))
    };
    let Query(wanted) = query.map_err(|_| bad("the query cannot be read"))?;
    let cursor = match &wanted.cursor {
        None => None,
        Some(cursor) => Some(Cursor::read(cursor).ok_or_else(|| bad("the cursor is none of an earlier answer"))?),
    };
    if let Some(connection) = &wanted.connection {
        app.connection_named(&asked, connection)?;
    }
    let subject = match wanted.account {
        None => None,
        Some(account) => {
            let connection = app.connection(&asked, wanted.connection.as_deref().unwrap_or_default())?;
            connection.keepers.check(&account).map_err(|err| app.no_account(&asked, &err))?;
            Some(Subject { connection: connection.name().to_owned(), account })
        }
    };
    let mut events = app.audit.events(subject).await.map_err(|err| {
        let words = ("The audit cannot be read", &*err.to_string(), "Try again once the store can be used.");
        asked.problem(&app, &problem("store_unavailable", StatusCode::SERVICE_UNAVAILABLE, words))
    })?;
    if let Some(connection) = &wanted.connection {
        events.retain(|event| event.connection.as_ref() == Some(connection));
    }
    let (page, next) = Cursor::page(&events, cursor);
    let body = json!({ "events": page, "next_cursor": next, "kept": app.audit.kept() });
    Ok(respond::json(StatusCode::OK, &body))
}

/// A place among the events, which stays where it is when new ones come: the time of the last event before it, and how many
/// of that time were before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursor {
    at: Timestamp,
    passed: usize,
}

impl Cursor {
    fn read(text: &str) -> Option<Self> {
        let (at, passed) = text.split_once('-')?;
        Some(Self { at: Timestamp::from_millisecond(at.parse().ok()?).ok()?, passed: passed.parse().ok()? })
    }

    /// The page from there on, and the cursor of the next one.
    fn page(events: &[Event], from: Option<Self>) -> (&[Event], Option<String>) {
        let begin = from.map_or(0, |from| {
            let newer = events.iter().take_while(|event| event.at > from.at).count();
            let same = events.iter().skip(newer).take_while(|event| event.at == from.at).count();
            newer + same.min(from.passed)
        });
        let rest = events.get(begin..).unwrap_or_default();
        let page = rest.get(..PAGE).unwrap_or(rest);
        let next = page.last().filter(|_| rest.len() > page.len()).map(|last| {
            let before = events.iter().take(begin + page.len());
            let passed = before.filter(|event| event.at == last.at).count();
            format!("{}-{passed}", last.at.as_millisecond())
        });
        (page, next)
    }
}

/// The actor's name of a request that was let in. A run that no one has proved to have asked for is the schedule's.
pub(super) fn actor(who: Who, caller: &str) -> String {
    match who {
        Who::Operator => OPERATOR.to_owned(),
        Who::Caller => format!("caller:{}", cut(caller, LONGEST_NAME)),
        Who::Anyone => "job".to_owned(),
    }
}

/// What sees every renewal of a connection that has ended. One on behalf of no request is the sweeper's.
pub(super) fn renewals(audit: Audit, connection: String) -> impl Fn(&str, &LastRenewal) + Send + Sync + 'static {
    move |account, last| {
        let actor = trace_context::actor();
        let actor = actor.as_deref().unwrap_or("sweeper");
        let event = if last.outcome == AUTHORISED {
            Event::new(actor, Action::Authorise, last.at)
        } else {
            Event::new(actor, Action::Renew, last.at).with_outcome(&last.outcome)
        };
        audit.note(event.about(&connection, account));
    }
}

impl App {
    /// Notes what an actor did to an account.
    pub(super) fn note(&self, actor: &str, action: Action, named: &Named, outcome: &str) {
        let event = Event::new(actor, action, self.clock.now()).about(named.connection.name(), &named.account);
        self.audit.note(event.with_outcome(outcome));
    }

    /// Notes what an actor did that concerns no account.
    pub(super) fn note_of_all(&self, actor: &str, action: Action, outcome: &str) {
        self.audit.note(Event::new(actor, action, self.clock.now()).with_outcome(outcome));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_without_a_gap_though_new_events_come() {
        let event = |second: i64| Event::new("job", Action::Run, Timestamp::from_second(second / 3).unwrap());
        let mut events: Vec<Event> = (0..250).rev().map(event).collect();
        let (first, next) = Cursor::page(&events, None);
        assert_eq!(first, &events[..100]);
        let next = Cursor::read(&next.unwrap()).unwrap();
        events.splice(0..0, [event(300), event(301)]);
        let (second, next) = Cursor::page(&events, Some(next));
        assert_eq!(second, &events[102..202]);
        let next = Cursor::read(&next.unwrap()).unwrap();
        let (third, end) = Cursor::page(&events, Some(next));
        assert_eq!((third, end), (&events[202..], None));
        assert_eq!(Cursor::read("x"), None);
    }
}
