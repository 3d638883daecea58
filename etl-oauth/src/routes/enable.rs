//! `/enable`: says what will be asked for, and leads to the provider.

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::Response,
};
use http::StatusCode;

use super::{
    App, State as AppState,
    reply::{self, Asked, Fields, Posted, problem},
};
use crate::{
    grant,
    guard::{Csrf, Door, EnableAuth, Pending},
    keeper::Keeper,
    pages::{Enable, Page},
    store::DEFAULT_ACCOUNT,
};

/// `GET`: the page. Nothing happens yet, so that a preview or a crawler starts nothing.
pub(super) async fn page(
    State(app): AppState,
    asked: Asked,
    query: Result<Query<Fields>, QueryRejection>,
) -> Result<Response, Response> {
    let named = asked.query(&app, query)?;
    let account = named.account();
    app.admit(Door::Enable, &asked, account, "").await?;
    let csrf = Csrf::issue(&app.key, &app.jar, &asked.headers).ok_or_else(|| app.no_randomness(&asked))?;
    let Some(authorize_url) = &app.config.provider.authorize_url else { return Err(app.no_authorize_url(&asked)) };
    let page = Page::from(&Enable {
        base: &app.base,
        provider: &app.config.provider.title,
        scopes: &app.config.provider.scope.iter().map(String::as_str).collect::<Vec<_>>(),
        redirect_uri: &app.config.redirect_uri(),
        authorize_url,
        account: Some(account).filter(|account| *account != DEFAULT_ACCOUNT),
        state: app.state(account),
        open: app.config.enable_auth == EnableAuth::FirstVisit,
        csrf: &csrf.token,
    });
    Ok(reply::page(page, csrf.cookie))
}

/// `POST`: begins an authorisation and leads to the provider (RFC 6749 §4.1.1).
pub(super) async fn start(State(app): AppState, asked: Asked, form: Posted) -> Result<Response, Response> {
    let (fields, wrong) = reply::fields(&asked, form);
    app.admit(Door::Enable, &asked, fields.account(), &fields.csrf).await?;
    asked.refuse_body(&app, wrong)?;
    let now = app.clock.now();
    let (pending, state, cookie) = Pending::begin(&app.key, &app.jar, fields.account(), app.config.state_lifetime, now)
        .map_err(|_| app.no_randomness(&asked))?;
    let client = app.client.read().map_err(|failure| {
        let words = ("The client is not configured", failure.detail(), failure.class().next_step());
        asked.problem(&app, &problem("config", StatusCode::INTERNAL_SERVER_ERROR, words))
    })?;
    let redirect_uri = app.config.redirect_uri();
    let url = grant::authorize_url(&app.config.provider, &client.id, &redirect_uri, &state, pending.verifier())
        .ok_or_else(|| app.no_authorize_url(&asked))?;
    Ok(reply::see_other(url.as_str(), cookie))
}

/// Whether somebody has authorised it: then only an operator may do so again.
pub(super) fn is_taken(keeper: &Keeper) -> bool {
    keeper.current().is_some_and(|stored| stored.record.tokens.is_some())
}

impl App {
    /// The state of an account, as far as this replica knows; asking makes no keeper of an account that has none.
    fn state(&self, account: &str) -> crate::token::State {
        if account == DEFAULT_ACCOUNT {
            return self.keepers.get(account).map_or(crate::token::State::Disabled, |keeper| keeper.state());
        }
        crate::token::State::Disabled
    }

    fn no_randomness(&self, asked: &Asked) -> Response {
        let words = ("The function cannot go on", "the system has no randomness", "Restart the function.");
        asked.problem(self, &problem("no_randomness", StatusCode::INTERNAL_SERVER_ERROR, words))
    }

    fn no_authorize_url(&self, asked: &Asked) -> Response {
        let words =
            ("There is nobody to ask", "the provider has no authorization endpoint", "Set the variable authorize_url.");
        asked.problem(self, &problem("config", StatusCode::INTERNAL_SERVER_ERROR, words))
    }
}
