//! `/token`: the living access token, for a sibling function that calls the API itself.

use axum::{
    body::Body,
    extract::{Query, State},
    response::Response,
};
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::{
    State as AppState,
    audit::{Action, CONNECTION},
    respond::{self, Asked},
};
use crate::{format::whole, guard::Endpoint};
use token_keeper::{api::ApiError, store::DEFAULT_ACCOUNT, trace_context};

/// The account whose token is wanted.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    account: Option<String>,
}

/// `GET`: the access token, never the refresh token.
pub(super) async fn show(
    State(app): AppState,
    asked: Asked,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Response> {
    let opened = app.config.proxy_allow.token();
    let admitted = app.admit_caller(Endpoint::Token, &asked, Body::empty(), opened).await?;
    let account = wanted.account.as_deref().unwrap_or(DEFAULT_ACCOUNT);
    if !admitted.by.may_use(CONNECTION, account) {
        return Err(app.not_permitted(&asked));
    }
    let keeper = app.existing(&asked, account).await?;
    let actor = &admitted.by.actor;
    let token = trace_context::acting(actor, keeper.token()).await.map_err(ApiError::from);
    app.note(actor, Action::Token, account, token.as_ref().map_or_else(ApiError::code, |_| "ok"));
    let token = token.map_err(|err| app.api_failed(&asked, &err))?;
    let tokens = token.tokens();
    Ok(respond::json(
        StatusCode::OK,
        &json!({
            "access_token": tokens.access_token.expose(),
            "token_type": tokens.token_type,
            "expires_at": tokens.expires_at.map(whole),
            "scope": tokens.scope,
        }),
    ))
}
