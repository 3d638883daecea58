//! `/token`: the living access token, for a sibling function that calls the API itself.

use axum::{body::Body, extract::State, response::Response};
use http::StatusCode;
use serde_json::json;

use super::{
    State as AppState,
    audit::Action,
    respond::{self, Asked, Fields},
};
use crate::{format::whole, guard::Endpoint};
use token_keeper::{api::ApiError, trace_context};

/// `GET`: the access token, never the refresh token.
pub(super) async fn show(State(app): AppState, asked: Asked) -> Result<Response, Response> {
    let opened = app.connections.values().any(|connection| connection.allow.token());
    let admitted = app.admit_caller(Endpoint::Token, &asked, Body::empty(), opened).await?;
    let named = app.named(&asked, &Fields::default())?;
    app.check_rights(&asked, &admitted.caller, &named)?;
    if !named.connection.allow.token() {
        return Err(app.not_opened(&asked, "proxy_allow has no entry `token` for this connection"));
    }
    let keeper = app.existing(&asked, &named).await?;
    let actor = admitted.actor();
    let token = trace_context::acting(&actor, keeper.token()).await.map_err(ApiError::from);
    app.note(&actor, Action::Token, &named, token.as_ref().map_or_else(ApiError::code, |_| "ok"));
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
