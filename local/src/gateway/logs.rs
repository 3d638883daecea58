//! `/system/logs`: one JSON object a line; with `follow` the response goes on.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{Response, StatusCode, header};
use axum::response::IntoResponse;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;

use super::Shared;
use super::functions::is_here;
use crate::functions::Line;

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    follow: String,
    /// How many of the last lines; -1 means all.
    tail: Option<i64>,
    since: Option<Timestamp>,
}

pub(super) async fn logs(State(shared): State<Arc<Shared>>, Query(wanted): Query<Wanted>) -> Response<Body> {
    if !is_here(&wanted.namespace) {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let Some(log) = shared.functions.log(&wanted.name) else { return StatusCode::NOT_FOUND.into_response() };
    let (mut lines, following) = log.follow();
    lines.retain(|line| wanted.since.is_none_or(|since| line.timestamp >= since));
    if let Some(tail) = wanted.tail.and_then(|tail| usize::try_from(tail).ok()) {
        lines.drain(..lines.len().saturating_sub(tail));
    }
    let kept = stream::iter(lines);
    let body = if matches!(wanted.follow.as_str(), "1" | "true") {
        let next = stream::unfold((following, shared.stop.clone()), |(mut following, stop)| async move {
            loop {
                match stop.run_until_cancelled(following.recv()).await? {
                    Ok(line) => return Some((line, (following, stop))),
                    // A slow reader misses lines.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
        });
        Body::from_stream(kept.chain(next).map(|line| to_json(&line)))
    } else {
        Body::from_stream(kept.map(|line| to_json(&line)))
    };
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

fn to_json(line: &Line) -> serde_json::Result<Bytes> {
    let mut json = serde_json::to_vec(line)?;
    json.push(b'\n');
    Ok(json.into())
}
