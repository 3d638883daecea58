//! Grants of other persons than expected wait for the operator.

use axum::{extract::State, response::Response};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::json;

use super::{
    super::{
        App, State as AppState,
        audit::{Action, OPERATOR},
        connection::Named,
        respond::{self, Asked, Fields, Posted, problem},
        status,
    },
    stored::{Held, Link, Owner},
};
use crate::guard::{Endpoint, Who};
use token_keeper::token::{Record, Subject};

/// How long a grant waits.
const PATIENCE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The operator's decision.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::routes) struct Decided {
    csrf: String,
    connection: String,
    account: String,
    action: String,
}

/// `POST /held`: accepts the grant that waits, or discards it.
pub(in crate::routes) async fn decide(
    State(app): AppState,
    asked: Asked,
    form: Posted<Decided>,
) -> Result<Response, Response> {
    let (decided, wrong) = respond::fields(form);
    app.admit_to_function(Endpoint::Operate, &asked, &decided.csrf).await?;
    asked.refuse_body(&app, wrong)?;
    let fields = Fields { connection: decided.connection, account: decided.account, ..Fields::default() };
    let named = app.named(&asked, &fields)?;
    let accept = match &*decided.action {
        "accept" => true,
        "discard" => false,
        _ => {
            let words = ("That cannot be decided", "`action` is neither `accept` nor `discard`", "Send one of them.");
            return Err(asked.problem(&app, &problem("bad_request", StatusCode::BAD_REQUEST, words)));
        }
    };
    let now = app.clock.now();
    let taken = app.links.take_held(named.connection.name(), &named.account).await;
    let held = taken.map_err(|err| app.no_store(&asked, &err))?.filter(|held| now < held.ends_at);
    let record = held.as_ref().and_then(|held| Record::from_json(&STANDARD.decode(&held.record).ok()?).ok());
    let (Some(held), Some(record)) = (held, record) else {
        let words =
            ("No grant waits", "none is held for this account, or its seven days are over", "Look at the links.");
        return Err(asked.problem(&app, &problem("not_found", StatusCode::NOT_FOUND, words)));
    };
    let message = if accept {
        app.accept(&asked, &named, &held, &record).await?;
        "the other person's grant was accepted"
    } else {
        "the other person's grant was discarded"
    };
    app.note(OPERATOR, Action::Held, &named, if accept { "accepted" } else { "discarded" });
    tracing::info!(connection = held.connection, account = held.account, accept, "decided over a held grant");
    if asked.wants_html() {
        return Ok(status::lead_back(&app, message));
    }
    let outcome = if accept { "accepted" } else { "discarded" };
    let body = json!({ "connection": held.connection, "account": held.account, "outcome": outcome });
    Ok(respond::json(StatusCode::OK, &body))
}

impl App {
    /// Keeps the grant for the operator, and gives the page for the person who brought it.
    pub(super) async fn hold(
        &self,
        asked: &Asked,
        named: &Named,
        link: &Link,
        grant: &Record,
        now: Timestamp,
    ) -> Result<Response, Response> {
        let held = Held {
            connection: link.connection.clone(),
            account: link.account.clone(),
            link: link.id.clone(),
            who: grant.owner.as_ref().map(Subject::told).map(str::to_owned),
            at: now,
            ends_at: now.checked_add(PATIENCE).unwrap_or(now),
            record: STANDARD.encode(grant.to_json()),
        };
        self.links.hold(&held).await.map_err(|err| self.no_store(asked, &err))?;
        tracing::warn!(
            connection = link.connection,
            account = link.account,
            link = link.id,
            "another person came by a connect link; the grant is held for the operator"
        );
        self.note(&format!("link:{}", link.id), Action::Held, named, "other_person");
        let provider = &named.connection.provider().title;
        let message = format!(
            "you signed in at {provider} as {}, and this link expects another account; nothing is connected",
            held.who.as_deref().unwrap_or("an unknown person")
        );
        let next = "Tell the person who sent you the link. You can take the permission back at the provider.";
        let words = ("This link is for another person", &*message, next);
        Ok(asked.problem(self, &problem("other_person", StatusCode::FORBIDDEN, words)))
    }

    async fn accept(&self, asked: &Asked, named: &Named, held: &Held, record: &Record) -> Result<(), Response> {
        let keeper = self.keeper(asked, named)?;
        keeper.take(record).await;
        self.keep_also((Who::Operator, OPERATOR), named, record).await;
        self.floor.forget();
        let link = self.links.by_id(&held.link).await.ok().flatten();
        // The person who is there now is not the one who was expected: what was promised for that one ends.
        let terms = link.map(|link| super::stored::Terms { expect: None, ..link.terms }).unwrap_or_default();
        let owner = Owner { terms, told: None };
        let stored = self.links.set_owner(&held.connection, &held.account, Some(&owner)).await;
        stored.map_err(|err| self.no_store(asked, &err))
    }
}
