//! `/done`: the page after a callback, at an address without a code in it.

use std::time::Duration;

use axum::{extract::State, response::Response};
use http::HeaderValue;
use serde::{Deserialize, Serialize};

use super::{
    App, State as AppState,
    connection::Named,
    flash,
    respond::{self, Asked},
};
use crate::pages::{Done, Page, Start};
use token_keeper::{renewal::Kept, store::DEFAULT_ACCOUNT, token::Subject};

const COOKIE: &str = "etl-oauth-done";
const LIFETIME: Duration = Duration::from_secs(300);

/// What the callback passes to the page, in a cookie of the browser.
#[derive(Serialize, Deserialize)]
struct Flash {
    connection: String,
    account: String,
    unsaved: Option<String>,
}

/// The cookie that carries it.
pub(super) fn flash(app: &App, named: &Named, kept: &Kept) -> Option<HeaderValue> {
    let unsaved = match kept {
        Kept::Stored => None,
        Kept::InMemory(err) => Some(err.to_string()),
    };
    let (connection, account) = (named.connection.name().to_owned(), named.account.clone());
    flash::leave(app, COOKIE, &Flash { connection, account, unsaved }, LIFETIME)
}

/// `GET`: what was done, for the browser in which it was done; for any other where the function stands.
pub(super) async fn page(State(app): AppState, asked: Asked) -> Response {
    let flash: Option<Flash> = flash::find(&app, &asked.headers, COOKIE);
    let account = flash.as_ref().map_or(DEFAULT_ACCOUNT, |flash| &flash.account);
    let connection = flash.as_ref().and_then(|flash| app.connections.get(&flash.connection)).unwrap_or(app.home());
    let Ok(keeper) = connection.keepers.get(account) else { return super::not_found(State(app), asked).await };
    let stored = keeper.current();
    let record = stored.as_ref().map(|stored| &stored.record);
    let tokens = record.and_then(|record| record.tokens.as_ref());
    let (provider, base, operated) = (connection.provider(), &app.base, app.operator.exists());
    let (Some(flash), Some(tokens)) = (flash, tokens) else {
        return respond::page(
            Page::from(&Start { base, provider: &provider.title, state: keeper.state(), operated }),
            None,
        );
    };
    let wanted: Vec<&str> = provider.scope.iter().map(String::as_str).collect();
    // RFC 6749 §5.1: an answer without a scope grants what was asked for.
    let granted = tokens.scope.as_deref().map_or_else(|| wanted.clone(), |scope| scope.split(' ').collect());
    let unsaved = flash.unsaved.as_deref().filter(|_| !keeper.is_saved());
    let page = Page::from(&Done {
        base,
        provider: &provider.title,
        who: record.and_then(|record| record.owner.as_ref()).map(Subject::told),
        account: Some(&*flash.account).filter(|account| *account != DEFAULT_ACCOUNT),
        granted: &granted,
        wanted: &wanted,
        expires_at: tokens.expires_at,
        refresh_token: tokens.refresh_token.is_some(),
        remedy: provider.refresh_token_remedy.as_deref(),
        unsaved,
        now: app.clock.now(),
    });
    respond::page(page, None)
}
