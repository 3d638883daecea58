//! `/system/functions` and its neighbours.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use serde::Deserialize;

use super::Shared;
use super::invoke::text;
use crate::functions::{NAMESPACE, Refused, Spec};
use crate::secrets::Dialect;

/// `?namespace=` of every route of the REST API.
#[derive(Debug, Deserialize)]
pub(super) struct Namespace {
    namespace: Option<String>,
}

impl Namespace {
    /// Whether it is the only one that exists; it may be left out.
    pub(super) fn is_here(&self) -> bool {
        is_here(self.namespace.as_deref().unwrap_or_default())
    }
}

pub(super) fn is_here(namespace: &str) -> bool {
    namespace.is_empty() || namespace == NAMESPACE
}

pub(super) async fn list(State(shared): State<Arc<Shared>>, Query(namespace): Query<Namespace>) -> Response<Body> {
    if !namespace.is_here() {
        return StatusCode::BAD_REQUEST.into_response();
    }
    Json(shared.functions.list()).into_response()
}

pub(super) async fn status(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    Query(namespace): Query<Namespace>,
) -> Response<Body> {
    if !namespace.is_here() {
        return StatusCode::BAD_REQUEST.into_response();
    }
    match shared.functions.status(&name) {
        Some(status) => Json(status).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

pub(super) async fn create(State(shared): State<Arc<Shared>>, body: Bytes) -> Response<Body> {
    deploy(&shared, &body, false)
}

pub(super) async fn update(State(shared): State<Arc<Shared>>, body: Bytes) -> Response<Body> {
    deploy(&shared, &body, true)
}

fn deploy(shared: &Shared, body: &[u8], update: bool) -> Response<Body> {
    let spec: Spec = match serde_json::from_slice(body) {
        Ok(spec) => spec,
        Err(error) => return text(StatusCode::BAD_REQUEST, &format!("the body is no deployment: {error}")),
    };
    let name = spec.service.clone();
    answer(shared.functions.deploy(spec, update), &name)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Removal {
    function_name: String,
    namespace: String,
}

pub(super) async fn remove(State(shared): State<Arc<Shared>>, body: Bytes) -> Response<Body> {
    let removal: Removal = match serde_json::from_slice(&body) {
        Ok(removal) => removal,
        Err(_) => return StatusCode::BAD_REQUEST.into_response(),
    };
    if removal.function_name.is_empty() || !is_here(&removal.namespace) {
        return StatusCode::BAD_REQUEST.into_response();
    }
    answer(shared.functions.remove(&removal.function_name), &removal.function_name)
}

#[derive(Debug, Deserialize)]
struct Scale {
    replicas: u32,
}

pub(super) async fn scale(State(shared): State<Arc<Shared>>, Path(name): Path<String>, body: Bytes) -> Response<Body> {
    match serde_json::from_slice::<Scale>(&body) {
        Ok(Scale { replicas: 0 }) => {
            text(StatusCode::BAD_REQUEST, "replicas: the community edition does not scale to zero; the smallest is 1")
        }
        Ok(scale) => match (shared.functions.scale(&name, scale.replicas), shared.secrets.dialect()) {
            // As the Kubernetes provider answers when it cannot read the deployment.
            (Err(Refused::Missing), Dialect::FaasNetes) => {
                text(StatusCode::INTERNAL_SERVER_ERROR, &format!("cannot find the deployment of function {name}"))
            }
            (outcome, _) => answer(outcome, &name),
        },
        Err(_) => StatusCode::BAD_REQUEST.into_response(),
    }
}

fn answer(outcome: Result<(), Refused>, name: &str) -> Response<Body> {
    match outcome {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(Refused::Exists) => text(StatusCode::CONFLICT, &format!("function {name} exists")),
        Err(Refused::Missing) => text(StatusCode::NOT_FOUND, &format!("function {name} not found")),
        Err(Refused::Invalid(why)) => text(StatusCode::BAD_REQUEST, &why),
    }
}
