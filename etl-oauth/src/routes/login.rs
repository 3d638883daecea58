//! `/login` and `/logout`: the operator signs in on a form and gets a session, so that no browser holds the secret itself.

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;
use url::Url;

use super::{
    App, State as AppState,
    audit::{Action, OPERATOR, STRANGER},
    respond::{self, Asked, Posted},
};
use crate::{
    guard::{AuthOutcome, Endpoint, Guess, Session},
    pages::{Login, Page},
};
use token_keeper::{store::DEFAULT_ACCOUNT, token::Secret};

/// Where a browser goes that names no page of ours.
const HOME: &str = "/status";

/// The fields of the form, and of the page's query.
#[derive(Default, Deserialize)]
pub(super) struct SignIn {
    #[serde(default)]
    password: String,
    #[serde(default)]
    next: String,
}

/// `GET /login`: the form.
pub(super) async fn page(
    State(app): AppState,
    asked: Asked,
    query: Result<Query<SignIn>, QueryRejection>,
) -> Result<Response, Response> {
    app.admit_to_function(Endpoint::Login, &asked, "").await?;
    let next = query.map(|Query(fields)| fields.next).unwrap_or_default();
    Ok(app.login_page(&next, None).into_response())
}

/// `POST /login`: the operator's secret for a session.
pub(super) async fn sign_in(State(app): AppState, asked: Asked, form: Posted<SignIn>) -> Result<Response, Response> {
    app.admit_to_function(Endpoint::Login, &asked, "").await?;
    let (SignIn { password, next }, wrong) = respond::fields(form);
    asked.refuse_body(&app, wrong)?;
    let now = app.clock.now();
    let (status, words, wait) = match app.operator.sign_in(&Secret::new(password), &asked.headers, now) {
        Guess::Right => {
            let fingerprint = app.operator.fingerprint().unwrap_or_default();
            let lifetime = app.config.session_lifetime;
            let cookie = Session::begin(&app.key, &app.jar, &fingerprint, lifetime, now);
            let cookie = cookie.map_err(|_| app.no_randomness(&asked))?;
            tracing::info!("the operator signed in");
            app.note_of_all(OPERATOR, Action::SignIn, "ok");
            let next = app.own_path(&next).unwrap_or(HOME);
            return Ok(respond::see_other(&app.config.page(next), cookie));
        }
        Guess::Wrong(pause) => {
            tracing::warn!("wrong password on the sign-in form");
            app.note_of_all(STRANGER, Action::Refuse, "unauthorised");
            tokio::time::sleep(pause).await;
            (StatusCode::UNAUTHORIZED, "That is not the operator's secret.".to_owned(), None)
        }
        Guess::Throttled(seconds) => {
            app.note_of_all(STRANGER, Action::Refuse, "too_many_tries");
            let words = format!("Too many wrong ones were sent. Try again in {seconds} s.");
            (StatusCode::TOO_MANY_REQUESTS, words, Some(seconds))
        }
    };
    let mut response = app.login_page(&next, Some(&words)).with_status(status).into_response();
    let headers = response.headers_mut();
    if status == StatusCode::UNAUTHORIZED {
        // RFC 9110 §15.5.2 wants a challenge; browsers do not ask for a bearer.
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    headers.extend(wait.map(|seconds| (header::RETRY_AFTER, HeaderValue::from(seconds))));
    Ok(response)
}

/// `POST /logout`: ends the session, for every replica where the store can be read back.
pub(super) async fn sign_out(State(app): AppState, asked: Asked, form: Posted) -> Result<Response, Response> {
    app.admit_form(Endpoint::Operate, &asked, form).await?;
    if let Some(session) = app.sealed_session(&asked) {
        let (name, until) = (session.name(), session.ends_at());
        app.ended.consume(&name, until, app.clock.now());
        if let Ok(keeper) = app.home().keepers.get(DEFAULT_ACCOUNT)
            && let Err(err) = keeper.use_up(&name, until).await
        {
            tracing::warn!(error = %err, "the store does not take the end of a session: it holds in this replica alone");
        }
        tracing::info!("the operator signed out");
        app.note_of_all(OPERATOR, Action::SignOut, "ok");
    }
    Ok(respond::see_other(&app.config.page("/login"), Session::forget(&app.jar)))
}

impl App {
    /// What the session amounts to, for a request without other credentials.
    pub(super) async fn or_session(&self, outcome: AuthOutcome, asked: &Asked) -> AuthOutcome {
        if outcome != AuthOutcome::Stranger {
            return outcome;
        }
        let Some(session) = self.sealed_session(asked) else { return outcome };
        let name = session.name();
        if self.ended.is_used(&name) {
            return outcome;
        }
        // Another replica may have ended it.
        let Ok(keeper) = self.home().keepers.get(DEFAULT_ACCOUNT) else { return outcome };
        keeper.sync().await;
        let ended = keeper.current().is_some_and(|stored| stored.record.used.contains_key(&name));
        if ended { outcome } else { AuthOutcome::Session }
    }

    fn sealed_session(&self, asked: &Asked) -> Option<Session> {
        let fingerprint = self.operator.fingerprint()?;
        let request = (&asked.method, &asked.headers);
        Session::open(&self.key, &self.jar, &fingerprint, request, self.clock.now())
    }

    /// Leads a browser without a session to the form, and from there back to where it was going. The query of a callback
    /// holds a code, which does not go into an address of ours.
    pub(super) fn to_login(&self, door: Endpoint, asked: &Asked) -> Response {
        let next = match (door, asked.uri.path_and_query()) {
            (Endpoint::Callback, _) | (_, None) => "/enable",
            (_, Some(next)) => next.as_str(),
        };
        let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("next", next).finish();
        respond::see_other(&self.config.page(&format!("/login?{query}")), None)
    }

    fn login_page(&self, next: &str, problem: Option<&str>) -> Page {
        Page::from(&Login { base: &self.base, next: self.own_path(next).unwrap_or(HOME), problem })
    }

    /// A path below this function, as a browser would read it unchanged; `None` for anything else.
    fn own_path<'a>(&self, next: &'a str) -> Option<&'a str> {
        let whole = self.config.page(next);
        let own = next.starts_with('/') && !next.starts_with("//") && !next.contains(['\\', '#']);
        (own && Url::parse(&whole).is_ok_and(|url| url.as_str() == whole)).then_some(next)
    }
}
