//! `/enable`: says what will be asked for, and leads to the provider.

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::Response,
};
use http::StatusCode;

use super::{
    App, State as AppState,
    connection::Named,
    respond::{self, Asked, Fields, Posted, problem},
};
use crate::{
    guard::{Csrf, EnableAuth, Endpoint, Pending, Who, Wish},
    pages::{Enable, Page},
};
use token_keeper::{grant, provider::Grant, renewal::Keeper, token::Failure};

/// `GET`: the page. Nothing happens yet, so that a preview or a crawler starts nothing.
pub(super) async fn page(
    State(app): AppState,
    asked: Asked,
    query: Result<Query<Fields>, QueryRejection>,
) -> Result<Response, Response> {
    let fields = asked.query(&app, query)?;
    let named = app.named(&asked, &fields)?;
    let connection = &named.connection;
    if connection.provider().grant != Grant::AuthorizationCode {
        return app.begin_page(&asked, &named, fields.waits()).await;
    }
    app.admit(Endpoint::Enable, &asked, &named, "").await?;
    let csrf = Csrf::issue(&app.key, &app.jar, &asked.headers).ok_or_else(|| app.no_randomness(&asked))?;
    let provider = connection.authority.ready().await.map_err(|failure| app.not_ready(&asked, &failure))?;
    let Some(authorize_url) = &provider.authorize_url else { return Err(app.no_authorize_url(&asked)) };
    let page = Page::from(&Enable {
        base: &app.base,
        provider: &provider.title,
        scopes: &provider.scope.iter().map(String::as_str).collect::<Vec<_>>(),
        registered: provider.callback.registered,
        register: &provider.callback.to_register(connection.config.redirect_url()),
        console: None,
        authorize_url,
        connection: connection.shown(),
        account: named.shown(),
        state: connection.state(&named.account),
        open: app.config.enable_auth == EnableAuth::FirstVisit,
        csrf: &csrf.token,
    });
    Ok(respond::page(page, csrf.cookie))
}

/// `POST`: begins an authorisation and leads to the provider (RFC 6749 §4.1.1).
pub(super) async fn start(State(app): AppState, asked: Asked, form: Posted) -> Result<Response, Response> {
    let (fields, wrong) = respond::fields(form);
    let named = app.named(&asked, &fields)?;
    let who = app.admit(Endpoint::Enable, &asked, &named, &fields.csrf).await?;
    asked.refuse_body(&app, wrong)?;
    if named.connection.provider().grant != Grant::AuthorizationCode {
        return app.begin(&asked, &named, who).await;
    }
    app.lead_to_provider(&asked, &named, None, who == Who::Operator).await
}

/// Whether it is authorised: then only an operator may authorise it again.
pub(super) fn is_taken(keeper: &Keeper) -> bool {
    keeper.current().is_some_and(|stored| stored.record.tokens.is_some())
}

impl App {
    /// Begins an authorisation of the account, by a connect link or without: leads the browser to the provider. `known` says
    /// whether it is not a stranger's.
    pub(super) async fn lead_to_provider(
        &self,
        asked: &Asked,
        named: &Named,
        link: Option<&str>,
        known: bool,
    ) -> Result<Response, Response> {
        let (now, connection) = (self.clock.now(), &named.connection);
        let not_ready = |failure: Failure| self.not_ready(asked, &failure);
        let provider = connection.authority.ready().await.map_err(not_ready)?;
        let wish = Wish { connection: connection.name(), account: &named.account, link };
        let (pending, state, cookie) = Pending::begin(&self.key, &self.jar, wish, self.config.state_lifetime, now)
            .map_err(|_| self.no_randomness(asked))?;
        let client = connection.authority.client(now).map_err(|failure| {
            let words = ("The client is not configured", failure.detail(), failure.class().next_step());
            asked.problem(self, &problem("config", StatusCode::INTERNAL_SERVER_ERROR, words))
        })?;
        let redirect_uri = connection.config.redirect_uri();
        let url = grant::authorize_url(&provider, &client.id, redirect_uri, &state, pending.verifier())
            .ok_or_else(|| self.no_authorize_url(asked))?;
        let url = connection.authority.bind(url, &pending.seed(&self.key)).map_err(not_ready)?;
        let url = connection.authority.push(url, known, now).await.map_err(not_ready)?;
        Ok(respond::see_other(url.as_str(), cookie))
    }

    pub(super) fn no_randomness(&self, asked: &Asked) -> Response {
        let words = ("The function cannot go on", "the system has no randomness", "Restart the function.");
        asked.problem(self, &problem("no_randomness", StatusCode::INTERNAL_SERVER_ERROR, words))
    }

    /// The provider cannot be asked now.
    pub(super) fn not_ready(&self, asked: &Asked, failure: &Failure) -> Response {
        let words = ("The provider cannot be asked", &*failure.to_string(), failure.class().next_step());
        let error = failure.code().unwrap_or(failure.class().as_str()).to_owned();
        let problem = problem(&error, StatusCode::BAD_GATEWAY, words).with_reason(failure.reason());
        asked.problem(self, &problem.with_link("/enable", "Try again"))
    }

    pub(super) fn no_authorize_url(&self, asked: &Asked) -> Response {
        let words =
            ("This provider cannot be asked", "it has no authorization endpoint", "Set the variable authorize_url.");
        asked.problem(self, &problem("config", StatusCode::INTERNAL_SERVER_ERROR, words))
    }
}
