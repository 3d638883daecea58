//! `/refresh`, `/revoke` and `/reseal`: what an operator does by hand.

use axum::{extract::State, response::Response};
use http::StatusCode;
use serde_json::json;

use super::{
    App, State as AppState,
    audit::{Action, OPERATOR},
    connection::Named,
    respond::{self, Asked, Posted, problem},
    status,
};
use crate::{
    format::{moment, whole},
    guard::Endpoint,
    pages::Problem,
};
use token_keeper::{api::ApiError, renewal::Keeper, store::StoreError, trace_context};

/// The code of a revocation of which one half failed.
const IN_PART: &str = "revoked_in_part";

/// `POST /refresh`: one renewal now, whatever waits stand.
pub(super) async fn refresh(State(app): AppState, asked: Asked, form: Posted) -> Result<Response, Response> {
    let (named, keeper) = app.may_operate(&asked, form).await?;
    if let Some(problem) = app.nothing_to_renew_with(&named, &keeper).await {
        return Err(asked.problem(&app, &problem));
    }
    let refreshed = trace_context::acting(OPERATOR, keeper.refresh()).await;
    app.floor.forget();
    match refreshed {
        Ok(token) => {
            if asked.wants_html() {
                return Ok(status::lead_back(&app, "the token was renewed"));
            }
            let body = json!({
                "refreshed": true,
                "connection": named.connection.name(),
                "account": keeper.account(),
                "generation": token.generation(),
                "expires_at": token.tokens().expires_at.map(whole),
            });
            Ok(respond::json(StatusCode::OK, &body))
        }
        Err(err) => {
            let err = ApiError::from(err);
            let words = ("The token was not renewed", &*err.to_string(), err.next_step());
            let problem = problem(err.code(), err.status(), words).with_reason(err.reason());
            Err(asked.problem(&app, &problem.with_link("/status", "To the status")))
        }
    }
}

/// `POST /revoke`: at the provider, then here; says which half worked.
pub(super) async fn revoke(State(app): AppState, asked: Asked, form: Posted) -> Result<Response, Response> {
    let (named, keeper) = app.may_operate(&asked, form).await?;
    let revoked = keeper.revoke().await;
    app.end_links(&named).await;
    // What the last run has read is not for those who come after it.
    app.floor.forget();
    let provider = match &revoked.provider {
        None => "not_supported".to_owned(),
        Some(Ok(())) => "revoked".to_owned(),
        Some(Err(failure)) => format!("failed: {failure}"),
    };
    let store = match &revoked.store {
        Ok(()) => "deleted".to_owned(),
        Err(err) => format!("failed: {err}"),
    };
    let whole = !matches!(revoked.provider, Some(Err(_))) && revoked.store.is_ok();
    app.note(OPERATOR, Action::Revoke, &named, if whole { "ok" } else { IN_PART });
    if asked.wants_html() {
        let title = &named.connection.provider().title;
        let there = match &revoked.provider {
            None => format!("{title} offers no way to revoke them: take the permission back in your account there"),
            Some(Ok(())) => format!("{title} has revoked the tokens"),
            Some(Err(failure)) => format!("{title} did not revoke the tokens: {failure}"),
        };
        let here = match &revoked.store {
            Ok(()) => "Here they are deleted".to_owned(),
            Err(err) => format!("Here they could not be deleted: {err}"),
        };
        let message = format!("{there}. {here}");
        if whole {
            return Ok(status::lead_back(&app, &message));
        }
        let next = match revoked.store {
            Ok(()) => "Take the permission back in your account at the provider.",
            Err(_) => "Try again, once the store can be used.",
        };
        let words = ("Not all of it worked", &*message, next);
        let problem = problem("revoked_in_part", StatusCode::BAD_GATEWAY, words).with_link("/status", "To the status");
        return Err(asked.problem(&app, &problem));
    }
    let status = if whole { StatusCode::OK } else { StatusCode::BAD_GATEWAY };
    let (connection, account) = (named.connection.name(), keeper.account());
    let body = json!({ "connection": connection, "account": account, "provider": provider, "store": store });
    Ok(respond::json(status, &body))
}

/// `POST /reseal`: every record written anew, sealed with the key that is now the first.
pub(super) async fn reseal(State(app): AppState, asked: Asked, form: Posted) -> Result<Response, Response> {
    app.admit_form(Endpoint::Operate, &asked, form).await?;
    let resealed = app.reseal().await;
    app.note_of_all(OPERATOR, Action::Reseal, if resealed.is_ok() { "ok" } else { "store_unavailable" });
    match resealed {
        Ok(written) if asked.wants_html() => {
            tracing::info!(written, "resealed the records");
            let records = crate::format::count(u64::try_from(written).unwrap_or(u64::MAX), "record");
            Ok(status::lead_back(&app, &format!("sealed anew: {records}")))
        }
        Ok(written) => {
            tracing::info!(written, "resealed the records");
            Ok(respond::json(StatusCode::OK, &json!({ "resealed": written })))
        }
        Err(err) => {
            let words = (
                "Not all records were sealed anew",
                &*err.to_string(),
                "Check the store and the secret etl-oauth-seal-keys, and try again: what was written stays written.",
            );
            Err(asked.problem(&app, &problem("store_unavailable", StatusCode::BAD_GATEWAY, words)))
        }
    }
}

impl App {
    /// Writes all that is sealed anew; gives how many records.
    async fn reseal(&self) -> Result<usize, StoreError> {
        self.links.reseal().await?;
        self.home().keepers.reseal().await
    }

    /// The problem of an account whose token works, and that has no refresh token.
    async fn nothing_to_renew_with(&self, named: &Named, keeper: &Keeper) -> Option<Problem> {
        keeper.sync().await;
        let (stored, now) = (keeper.current()?, self.clock.now());
        let tokens = stored.record.tokens.as_ref().filter(|tokens| tokens.is_alive(now))?;
        if tokens.refresh_token.is_some() || named.connection.provider().grant.asks_again() {
            return None;
        }
        let end = match tokens.expires_at {
            Some(at) => format!("works until {}", moment(at)),
            None => "works, and has no known end".to_owned(),
        };
        let message = format!("account {} has no refresh token; its access token {end}", keeper.account());
        let next = match &named.connection.provider().refresh_token_remedy {
            Some(remedy) => format!("Nothing, while it works. For a refresh token: {remedy}"),
            None => "Nothing, while it works. When it ends, authorise again at the enable page.".to_owned(),
        };
        let words = ("There is no refresh token to renew with", &*message, &*next);
        let problem = problem("no_refresh_token", StatusCode::UNPROCESSABLE_ENTITY, words);
        Some(problem.with_link("/status", "To the status"))
    }

    /// Lets the operator pass, and gives the keeper of the account that the form names.
    async fn may_operate(&self, asked: &Asked, form: Posted) -> Result<(Named, Keeper), Response> {
        let fields = self.admit_form(Endpoint::Operate, asked, form).await?;
        let named = self.named(asked, &fields)?;
        let keeper = self.keeper(asked, &named)?;
        Ok((named, keeper))
    }
}
