//! The switches and the log, for this machine only.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::log::Log;
use super::{Faults, Shared, broken};
use crate::server::Peer;

pub(super) async fn loopback_only(request: Request<Body>, next: Next) -> Response {
    match request.extensions().get::<Peer>() {
        Some(Peer(peer)) if peer.ip().to_canonical().is_loopback() => next.run(request).await,
        _ => {
            let body = json!({"error": "forbidden", "message": "/admin answers only to this machine"});
            (StatusCode::FORBIDDEN, Json(body)).into_response()
        }
    }
}

pub(super) async fn faults(State(shared): State<Arc<Shared>>) -> Json<Faults> {
    Json(shared.book().faults.clone())
}

pub(super) async fn set_faults(State(shared): State<Arc<Shared>>, Json(patch): Json<Value>) -> Response {
    match shared.set_faults(&patch) {
        Ok(faults) => Json(faults).into_response(),
        Err(message) => {
            (StatusCode::BAD_REQUEST, Json(json!({"error": "invalid_faults", "message": message}))).into_response()
        }
    }
}

pub(super) async fn log(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(shared.book().log.to_json())
}

pub(super) async fn clear_log(State(shared): State<Arc<Shared>>) -> StatusCode {
    shared.book().log = Log::default();
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Revoke {
    #[serde(default)]
    access: bool,
    #[serde(default)]
    refresh: bool,
}

pub(super) async fn revoke(State(shared): State<Arc<Shared>>, Json(what): Json<Revoke>) -> Response {
    let mut book = shared.book();
    book.grants.revoke_all(what.access, what.refresh);
    match shared.keep(&book.grants) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => broken(&error),
    }
}
