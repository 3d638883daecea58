//! `/mine`: what the owner of an account sees after a link, and how to disconnect.

use std::{sync::Arc, time::Duration};

use axum::{extract::State, response::Response};
use http::{HeaderValue, StatusCode};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::{
    App, State as AppState,
    audit::Action,
    connection::Named,
    flash,
    respond::{self, Asked, Posted, problem},
};
use crate::{
    guard::{Csrf, Endpoint},
    pages::{MinePage, Page},
};

const COOKIE: &str = "etl-oauth-mine";
/// For how long after success the owner sees it.
const LIFETIME: Duration = Duration::from_hours(24);

/// Which account this browser connected.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) connection: String,
    pub(super) account: String,
    pub(super) return_url: Option<String>,
    /// When the grant of this browser was taken: a later one is another person's business.
    pub(super) decided_at: Option<Timestamp>,
    pub(super) ends_at: Timestamp,
}

/// The cookie that lets the browser see the account.
pub(super) fn remember(app: &App, seen: Seen) -> Option<HeaderValue> {
    let ends_at = app.clock.now().checked_add(LIFETIME).unwrap_or(seen.ends_at);
    flash::leave(app, COOKIE, &Seen { ends_at, ..seen }, LIFETIME)
}

/// `GET /mine`: that it worked, what happens next, and how to disconnect.
pub(in crate::routes) async fn mine(State(app): AppState, asked: Asked) -> Result<Response, Response> {
    app.admit_to_function(Endpoint::Connect, &asked, "").await?;
    let (named, seen) = app.own_account(&asked).await?;
    let csrf = Csrf::issue(&app.key, &app.jar, &asked.headers).ok_or_else(|| app.no_randomness(&asked))?;
    let keeper = app.keeper(&asked, &named)?;
    let stored = keeper.current();
    let record = stored.as_ref().map(|stored| &stored.record);
    let page = Page::from(&MinePage {
        base: &app.base,
        function: &app.config.store_options.function,
        provider: &named.connection.provider().title,
        who: record.and_then(|record| record.owner.as_ref()).map(token_keeper::token::Subject::told),
        state: keeper.state(),
        return_url: seen.return_url.as_deref(),
        csrf: &csrf.token,
    });
    Ok(respond::page(page, csrf.cookie))
}

/// `POST /mine/disconnect`: revokes the account's tokens at the provider and deletes them.
pub(in crate::routes) async fn disconnect(
    State(app): AppState,
    asked: Asked,
    form: Posted,
) -> Result<Response, Response> {
    app.admit_form(Endpoint::Connect, &asked, form).await?;
    let (named, _) = app.own_account(&asked).await?;
    let keeper = app.keeper(&asked, &named)?;
    let revoked = keeper.revoke().await;
    app.floor.forget();
    app.end_links(&named).await;
    app.note("owner", Action::Revoke, &named, if revoked.store.is_ok() { "ok" } else { "store_unavailable" });
    tracing::info!(connection = named.connection.name(), account = named.account, "disconnected by its owner");
    if let Err(err) = &revoked.store {
        let words = ("It is not deleted yet", &*err.to_string(), "Try again in a moment.");
        return Err(asked.problem(&app, &problem("store_unavailable", StatusCode::BAD_GATEWAY, words)));
    }
    Ok(respond::see_other(&app.config.page("/mine"), None))
}

impl App {
    /// The account that this browser connected by a link.
    async fn own_account(&self, asked: &Asked) -> Result<(Named, Seen), Response> {
        let seen: Option<Seen> = flash::find(self, &asked.headers, COOKIE);
        let seen = seen.filter(|seen| self.clock.now() < seen.ends_at);
        let found = seen.and_then(|seen| {
            let connection = Arc::clone(self.connections.get(&seen.connection)?);
            Some((Named { connection, account: seen.account.clone() }, seen))
        });
        let is_theirs = match &found {
            Some((named, seen)) => {
                let keeper = self.keeper(asked, named)?;
                keeper.sync().await;
                let current = keeper.current();
                let tokens = current.as_ref().filter(|stored| stored.record.tokens.is_some());
                tokens.is_none_or(|stored| stored.record.decided_at == seen.decided_at)
            }
            None => false,
        };
        found.filter(|_| is_theirs).ok_or_else(|| {
            let words = (
                "There is nothing to see here",
                "this browser connected nothing in the last 24 hours",
                "Ask the person who sent you the link.",
            );
            asked.problem(self, &problem("not_found", StatusCode::NOT_FOUND, words))
        })
    }

    /// Ends the links of an account that was revoked, and what was begun by them.
    pub(in crate::routes) async fn end_links(&self, named: &Named) {
        let ended = self.links.end_all(named.connection.name(), &named.account, self.clock.now()).await;
        if let Err(err) = ended {
            tracing::warn!(account = named.account, error = %err, "failed to end the links of a revoked account");
        }
    }
}
