//! An extension of the sandbox: a list of as many records as one likes, of a kibibyte each, for whoever copies lists.
//! `GET /records?count=1000000&limit=1000&cursor=0&since=0`: records `since` on, oldest first, and the cursor of the next
//! page. A record is the same whenever it is asked for.

use std::sync::Arc;

use axum::{
    extract::{Query, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;

use super::{Shared, api::authorized};

/// A record's size, with the comma after it.
const SIZE: usize = 1024;

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    #[serde(default = "thousand")]
    count: u64,
    #[serde(default = "thousand")]
    limit: u64,
    #[serde(default)]
    cursor: u64,
    /// The first `updated` that is wanted.
    #[serde(default)]
    since: u64,
}

fn thousand() -> u64 {
    1000
}

pub(super) async fn records(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Query(wanted): Query<Wanted>,
) -> Response {
    if let Err(challenge) = authorized(&shared, &headers, None) {
        return challenge.into_response();
    }
    let from = wanted.cursor.max(wanted.since);
    let to = from.saturating_add(wanted.limit.clamp(1, 10_000)).min(wanted.count);
    let mut body = String::with_capacity(usize::try_from(to.saturating_sub(from)).unwrap_or(0) * SIZE + 64);
    body.push_str("{\"records\":[");
    for id in from..to {
        if id > from {
            body.push(',');
        }
        let start = body.len();
        body.push_str("{\"id\":");
        body.push_str(&id.to_string());
        body.push_str(",\"updated\":");
        body.push_str(&id.to_string());
        body.push_str(",\"note\":\"");
        let left = (SIZE - 3).saturating_sub(body.len() - start);
        body.extend(std::iter::repeat_n('x', left));
        body.push_str("\"}");
    }
    body.push_str("],\"next\":");
    body.push_str(&if to < wanted.count { to.to_string() } else { "null".into() });
    body.push('}');
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}
