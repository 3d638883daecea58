//! `/enable`: says what will be asked for, and leads to the provider.

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::Response,
};
use http::StatusCode;

use super::{
    App, State as AppState,
    respond::{self, Asked, Fields, Posted, problem},
};
use crate::{
    guard::{Csrf, EnableAuth, Endpoint, Pending, Who},
    pages::{Enable, Page},
};
use token_keeper::{grant, provider::Grant, renewal::Keeper, store::DEFAULT_ACCOUNT, token::Failure};

/// `GET`: the page. Nothing happens yet, so that a preview or a crawler starts nothing.
pub(super) async fn page(
    State(app): AppState,
    asked: Asked,
    query: Result<Query<Fields>, QueryRejection>,
) -> Result<Response, Response> {
    let named = asked.query(&app, query)?;
    if app.config.provider.grant != Grant::AuthorizationCode {
        return app.begin_page(&asked, &named).await;
    }
    let account = named.account();
    app.admit(Endpoint::Enable, &asked, account, "").await?;
    let csrf = Csrf::issue(&app.key, &app.jar, &asked.headers).ok_or_else(|| app.no_randomness(&asked))?;
    let provider = app.authority.ready().await.map_err(|failure| app.not_ready(&asked, &failure))?;
    let Some(authorize_url) = &provider.authorize_url else { return Err(app.no_authorize_url(&asked)) };
    let page = Page::from(&Enable {
        base: &app.base,
        provider: &app.config.provider.title,
        scopes: &app.config.provider.scope.iter().map(String::as_str).collect::<Vec<_>>(),
        registered: provider.callback.registered,
        register: &provider.callback.to_register(&app.config.redirect_url()),
        console: None,
        authorize_url,
        account: Some(account).filter(|account| *account != DEFAULT_ACCOUNT),
        state: app.state(account),
        open: app.config.enable_auth == EnableAuth::FirstVisit,
        csrf: &csrf.token,
    });
    Ok(respond::page(page, csrf.cookie))
}

/// `POST`: begins an authorisation and leads to the provider (RFC 6749 §4.1.1).
pub(super) async fn start(State(app): AppState, asked: Asked, form: Posted) -> Result<Response, Response> {
    let (fields, wrong) = respond::fields(form);
    let who = app.admit(Endpoint::Enable, &asked, fields.account(), &fields.csrf).await?;
    asked.refuse_body(&app, wrong)?;
    if app.config.provider.grant != Grant::AuthorizationCode {
        return app.begin(&asked, fields.account(), who).await;
    }
    let now = app.clock.now();
    let provider = app.authority.ready().await.map_err(|failure| app.not_ready(&asked, &failure))?;
    let (pending, state, cookie) = Pending::begin(&app.key, &app.jar, fields.account(), app.config.state_lifetime, now)
        .map_err(|_| app.no_randomness(&asked))?;
    let client = app.authority.client(now).map_err(|failure| {
        let words = ("The client is not configured", failure.detail(), failure.class().next_step());
        asked.problem(&app, &problem("config", StatusCode::INTERNAL_SERVER_ERROR, words))
    })?;
    let redirect_uri = app.config.redirect_uri();
    let url = grant::authorize_url(&provider, &client.id, &redirect_uri, &state, pending.verifier())
        .ok_or_else(|| app.no_authorize_url(&asked))?;
    let not_ready = |failure: Failure| app.not_ready(&asked, &failure);
    let url = app.authority.bind(url, &pending.seed(&app.key)).map_err(not_ready)?;
    let url = app.authority.push(url, who == Who::Operator, now).await.map_err(not_ready)?;
    Ok(respond::see_other(url.as_str(), cookie))
}

/// Whether it is authorised: then only an operator may authorise it again.
pub(super) fn is_taken(keeper: &Keeper) -> bool {
    keeper.current().is_some_and(|stored| stored.record.tokens.is_some())
}

impl App {
    /// The state of an account, as far as this replica knows; asking makes no keeper of an account that has none.
    pub(super) fn state(&self, account: &str) -> token_keeper::token::State {
        if account == DEFAULT_ACCOUNT {
            return self.keepers.get(account).map_or(token_keeper::token::State::Disabled, |keeper| keeper.state());
        }
        token_keeper::token::State::Disabled
    }

    pub(super) fn no_randomness(&self, asked: &Asked) -> Response {
        let words = ("The function cannot go on", "the system has no randomness", "Restart the function.");
        asked.problem(self, &problem("no_randomness", StatusCode::INTERNAL_SERVER_ERROR, words))
    }

    /// The provider cannot be asked now.
    fn not_ready(&self, asked: &Asked, failure: &Failure) -> Response {
        let words = ("The provider cannot be asked", &*failure.to_string(), failure.class().next_step());
        let error = failure.code().unwrap_or(failure.class().as_str()).to_owned();
        let problem = problem(&error, StatusCode::BAD_GATEWAY, words).with_reason(failure.reason());
        asked.problem(self, &problem.with_link("/enable", "Try again"))
    }

    fn no_authorize_url(&self, asked: &Asked) -> Response {
        let words =
            ("This provider cannot be asked", "it has no authorization endpoint", "Set the variable authorize_url.");
        asked.problem(self, &problem("config", StatusCode::INTERNAL_SERVER_ERROR, words))
    }
}
