//! Responses as broken servers and proxies send them.

use std::io;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use super::faults::{Corruption, Status};

const PAGE: &str = "<!doctype html><title>Bad gateway</title><h1>Something went wrong</h1>";

/// `body` with `status`, corrupted in the given way.
pub(super) fn corrupted(kind: Corruption, status: StatusCode, body: &Value) -> Response {
    let text = body.to_string();
    let half = Bytes::copy_from_slice(&text.as_bytes()[..text.len() / 2]);
    let as_json = |body: Body| {
        let mut response = Response::new(body);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    };
    let mut response = match kind {
        Corruption::Truncated => as_json(half.into()),
        Corruption::Broken => {
            let cut = async {
                // Lets the server flush the first half; otherwise it sends nothing.
                tokio::task::yield_now().await;
                Err(io::Error::from(io::ErrorKind::ConnectionReset))
            };
            let pieces = stream::once(async { Ok(half) }).chain(stream::once(cut));
            as_json(Body::from_stream(pieces))
        }
        Corruption::Html => Html(PAGE).into_response(),
        Corruption::Empty => as_json(Body::empty()),
        Corruption::WrongType => Json(mistyped(body)).into_response(),
    };
    *response.status_mut() = status;
    response
}

/// The response that a switch sets.
pub(super) fn overridden(status: &Status) -> Response {
    let code = StatusCode::from_u16(status.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = match &status.error {
        Some(error) => (code, Json(json!({"error": error, "error_description": "as the switch says"}))).into_response(),
        None => (code, Html(PAGE)).into_response(),
    };
    if let Some(after) = status.retry_after.as_deref().and_then(|after| HeaderValue::from_str(after).ok()) {
        response.headers_mut().insert(header::RETRY_AFTER, after);
    }
    response
}

/// Strings become numbers, anything else a list with a string.
fn mistyped(value: &Value) -> Value {
    match value {
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), mistyped(value))).collect(),
        Value::String(_) => json!(7),
        other => json!([other.to_string()]),
    }
}
