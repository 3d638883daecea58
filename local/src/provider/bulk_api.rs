//! A list of any number of records of a kibibyte each, to test and measure bulk copies with.
//! `GET /records?count=1000000&limit=1000&cursor=0&since=0`: records `since` on, oldest first, and the cursor of the next
//! page. A record never changes.

use std::sync::Arc;

use axum::{
    extract::{Query, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;

use super::{Shared, api::authorized};

/// The size of a record in bytes, with the comma after it.
const SIZE: usize = 1024;

/// The constant part of every record: members of each kind, some nested, as in real APIs.
const MIDDLE: &str = r#","product":{"id":"A-m3wTYdzqp8iqPyvCk0vA==","name":"Pencil kit","url":"https://example.com/l/pencil"},"email":"ada@example.com","full_name":"Ada Example","country":"Peru","zip":"15001","price":2499,"fee":312.4,"currency":"usd","quantity":1,"refunded":false,"referrer":null,"tags":["art","gift"],"variants":{"colour":"\u00e9carlate","size":"M"},"card":{"type":"visa","last4":"4242","expires":[7,2031]},"note":""#;

/// Padding of a record.
const FILL: [u8; SIZE] = [b'x'; SIZE];

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    #[serde(default = "thousand")]
    count: u64,
    #[serde(default = "thousand")]
    limit: u64,
    #[serde(default)]
    cursor: u64,
    /// The smallest `updated` to list.
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
    let mut body = Vec::with_capacity(usize::try_from(to.saturating_sub(from)).unwrap_or(0) * SIZE + 64);
    body.extend_from_slice(b"{\"records\":[");
    for id in from..to {
        if id > from {
            body.push(b',');
        }
        let start = body.len();
        body.extend_from_slice(format!("{{\"id\":{id},\"updated\":{id}").as_bytes());
        body.extend_from_slice(MIDDLE.as_bytes());
        let left = (SIZE - 3).saturating_sub(body.len() - start);
        body.extend_from_slice(&FILL[..left]);
        body.extend_from_slice(b"\"}");
    }
    let next = if to < wanted.count { to.to_string() } else { "null".into() };
    body.extend_from_slice(format!("],\"next\":{next}}}").as_bytes());
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}
