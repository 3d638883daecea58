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
    respond::{self, Asked},
};
use crate::{format::whole, guard::Endpoint};
use token_keeper::store::DEFAULT_ACCOUNT;

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
    app.admit_caller(Endpoint::Token, &asked, Body::empty(), app.config.proxy_allow.token()).await?;
    let keeper = app.existing(&asked, wanted.account.as_deref().unwrap_or(DEFAULT_ACCOUNT)).await?;
    let token = keeper.token().await.map_err(|err| app.api_failed(&asked, &err.into()))?;
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
