//! Pushed authorization requests (RFC 9126): the browser carries a reference to the request that the client has sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::authorize::Asked;
use super::digest::Digest;
use super::log::Entry;
use super::request::{Problem, Request};
use super::{Shared, broken, now};
use crate::random;

const LIFETIME: SignedDuration = SignedDuration::from_secs(90);
const PREFIX: &str = "urn:ietf:params:oauth:request_uri:";

/// The pushed requests that have not been used yet.
#[derive(Debug, Default)]
pub(super) struct PushedRequests(BTreeMap<Digest, Kept>);

#[derive(Debug)]
struct Kept {
    client: String,
    query: String,
    ends_at: Timestamp,
}

impl PushedRequests {
    fn keep(&mut self, client: String, query: String, now: Timestamp) -> anyhow::Result<String> {
        self.0.retain(|_, kept| kept.ends_at > now);
        let reference = format!("{PREFIX}{}", random::token()?);
        self.0.insert(Digest::of(&reference), Kept { client, query, ends_at: now + LIFETIME });
        Ok(reference)
    }

    /// The query that the reference in `query` stands for. It is valid until the person has decided.
    pub(super) fn resolve(&self, query: &str, now: Timestamp) -> Option<String> {
        let get = |name: &str| url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name);
        let kept = self.0.get(&Digest::of(&get("request_uri")?.1))?;
        (kept.ends_at > now && get("client_id")?.1 == kept.client).then(|| kept.query.clone())
    }

    /// Ends a reference: it can be used once (§4).
    pub(super) fn forget(&mut self, query: &str) {
        if let Some((_, reference)) =
            url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "request_uri")
        {
            self.0.remove(&Digest::of(&reference));
        }
    }
}

/// `POST /oauth/par`
pub(super) async fn push(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    match pushed(&shared, &headers, &body) {
        Ok(Ok(reference)) => {
            let body = json!({"request_uri": reference, "expires_in": LIFETIME.as_secs()});
            (StatusCode::CREATED, Json(body)).into_response()
        }
        Ok(Err(error)) => broken(&error),
        Err(problem) => problem.into_response(),
    }
}

fn pushed(shared: &Shared, headers: &HeaderMap, body: &[u8]) -> Result<anyhow::Result<String>, Problem> {
    let request = Request::read(headers, body)?;
    let client = request.client(shared, &mut Entry::default())?.to_owned();
    if request.optional("request_uri").is_some() {
        return Err(Problem::invalid_request("A pushed request holds no request_uri"));
    }
    let proof = ["client_id", "client_secret", "client_assertion", "client_assertion_type"];
    let said = url::form_urlencoded::parse(body).filter(|(name, _)| !proof.contains(&&**name));
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("client_id", &client)
        .extend_pairs(said)
        .finish();
    Asked::read(shared, &query).map_err(|wrong| Problem::invalid_request(wrong.words().to_owned()))?;
    Ok(shared.book().pushed.keep(client, query, now()))
}
