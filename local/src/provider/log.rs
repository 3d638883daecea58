//! What happened at the token endpoint, for tests to count. Tokens appear as the beginning of their digest.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

/// Older entries are dropped; the counts keep counting.
const KEPT: usize = 10_000;

/// One token request.
#[derive(Debug, Default, Serialize)]
pub(super) struct Entry {
    /// Place in the order of requests, from 1.
    pub(super) number: u64,
    pub(super) at: Timestamp,
    pub(super) grant_type: String,
    pub(super) client: Option<String>,
    /// `basic`, `post`, `private_key_jwt` or `none`.
    pub(super) client_auth: &'static str,
    /// `issued`, `replayed` (a spent refresh token taken again), `reuse_detected`, `refused`, or `none`: the request
    /// had no effect because a fault came first.
    pub(super) outcome: &'static str,
    /// `error` of the answer.
    pub(super) error: Option<String>,
    /// `sent`, `lost_request`, `lost_answer`, `status`, `malformed`.
    pub(super) answer: &'static str,
    /// Tokens with the same number come from one consent.
    pub(super) grant: Option<u64>,
    pub(super) refresh_token: Option<String>,
    pub(super) issued_access_token: Option<String>,
    pub(super) issued_refresh_token: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct Log {
    number: u64,
    entries: VecDeque<Entry>,
    outcomes: BTreeMap<String, u64>,
    answers: BTreeMap<&'static str, u64>,
    api: BTreeMap<String, u64>,
}

impl Log {
    pub(super) fn token_request(&mut self, mut entry: Entry) {
        self.number += 1;
        entry.number = self.number;
        *self.outcomes.entry(format!("{} {}", entry.grant_type, entry.outcome)).or_default() += 1;
        *self.answers.entry(entry.answer).or_default() += 1;
        self.entries.push_back(entry);
        if self.entries.len() > KEPT {
            self.entries.pop_front();
        }
    }

    pub(super) fn api_request(&mut self, path: &str, status: &str) {
        *self.api.entry(format!("GET {path} {status}")).or_default() += 1;
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "token_requests": self.entries,
            "token_request_count": self.number,
            "outcomes": self.outcomes,
            "answers": self.answers,
            "api_requests": self.api,
        })
    }
}
