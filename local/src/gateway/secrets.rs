//! `/system/secrets`. Values can be written and never read.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{Response, StatusCode, header};
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;

use super::Shared;
use super::functions::{Namespace, is_here};
use super::invoke::text;
use crate::functions::NAMESPACE;
use crate::secrets::{Dialect, Problem, Secrets};

/// The body of a write. No `Debug`: it holds the value.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Secret {
    name: String,
    namespace: String,
    value: Option<String>,
    /// Base64; wins when it is not empty.
    raw_value: Option<String>,
}

impl Secret {
    fn value(&self) -> Option<Vec<u8>> {
        match self.raw_value.as_deref() {
            None | Some("") => Some(self.value.clone().unwrap_or_default().into_bytes()),
            Some(raw) => STANDARD.decode(raw).ok(),
        }
    }
}

pub(super) async fn list(State(shared): State<Arc<Shared>>, Query(namespace): Query<Namespace>) -> Response<Body> {
    if !namespace.is_here() {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let Ok(names) = shared.secrets.names() else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let entries: Vec<_> = names.into_iter().map(|name| json!({"name": name, "namespace": NAMESPACE})).collect();
    let mut response = Json(entries).into_response();
    if shared.secrets.dialect() == Dialect::Faasd {
        // faasd sets no content type; Go then detects text.
        let sniffed = axum::http::HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, sniffed);
    }
    response
}

pub(super) async fn create(State(shared): State<Arc<Shared>>, body: Bytes) -> Response<Body> {
    match shared.secrets.dialect() {
        Dialect::FaasNetes => write(&shared, &body, Secrets::create),
        // One handler for both: an upsert.
        Dialect::Faasd => write(&shared, &body, Secrets::replace),
    }
}

pub(super) async fn replace(State(shared): State<Arc<Shared>>, body: Bytes) -> Response<Body> {
    write(&shared, &body, Secrets::replace)
}

fn write(shared: &Shared, body: &[u8], how: fn(&Secrets, &str, &[u8]) -> Result<(), Problem>) -> Response<Body> {
    let read = serde_json::from_slice::<Secret>(body).ok();
    let Some((secret, value)) = read.and_then(|secret| secret.value().map(|value| (secret, value))) else {
        return unreadable(shared);
    };
    if !is_here(&secret.namespace) {
        return StatusCode::BAD_REQUEST.into_response();
    }
    answer(shared, how(&shared.secrets, &secret.name, &value))
}

/// faas-netes finds the namespace in the body, faasd in the query, where faas-cli does not put it.
pub(super) async fn remove(
    State(shared): State<Arc<Shared>>,
    Query(namespace): Query<Namespace>,
    body: Bytes,
) -> Response<Body> {
    let Ok(secret) = serde_json::from_slice::<Secret>(&body) else { return unreadable(&shared) };
    let here = match shared.secrets.dialect() {
        Dialect::FaasNetes => is_here(&secret.namespace),
        Dialect::Faasd => namespace.is_here(),
    };
    if !here {
        return StatusCode::BAD_REQUEST.into_response();
    }
    match shared.secrets.remove(&secret.name) {
        Err(Problem::Missing) if shared.secrets.dialect() == Dialect::Faasd => {
            let path = shared.secrets.path(&secret.name);
            let message = format!("remove {}: no such file or directory", path.display());
            text(StatusCode::INTERNAL_SERVER_ERROR, &message)
        }
        outcome => answer(&shared, outcome),
    }
}

fn unreadable(shared: &Shared) -> Response<Body> {
    match shared.secrets.dialect() {
        Dialect::FaasNetes => StatusCode::BAD_REQUEST.into_response(),
        Dialect::Faasd => text(StatusCode::INTERNAL_SERVER_ERROR, "the body is not the JSON of a secret"),
    }
}

fn answer(shared: &Shared, outcome: Result<(), Problem>) -> Response<Body> {
    let dialect = shared.secrets.dialect();
    match (outcome, dialect) {
        (Ok(()), Dialect::FaasNetes) => StatusCode::ACCEPTED.into_response(),
        (Ok(()), Dialect::Faasd) => StatusCode::OK.into_response(),
        (Err(Problem::Exists), _) => StatusCode::CONFLICT.into_response(),
        (Err(Problem::Missing), _) => StatusCode::NOT_FOUND.into_response(),
        (Err(Problem::Name(why)), Dialect::Faasd) => text(StatusCode::BAD_REQUEST, why),
        // The Kubernetes API answers 422 to an invalid name; faas-netes itself answers 500 to an empty one.
        (Err(Problem::Name("invalid name")), Dialect::FaasNetes) => StatusCode::UNPROCESSABLE_ENTITY.into_response(),
        (Err(Problem::Name(_)), Dialect::FaasNetes) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        (Err(Problem::Io(error)), _) => {
            shared.console.say("gateway", &format!("cannot write a secret: {error}"));
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
