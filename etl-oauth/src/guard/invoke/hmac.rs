//! Standard Webhooks: `webhook-id`, `webhook-timestamp`, `webhook-signature` with HMAC-SHA-256 over id, time and body.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};

use super::{Call, Caller, Signed, only};
use token_keeper::token::Secret;

const HEADERS: [&str; 3] = ["webhook-id", "webhook-timestamp", "webhook-signature"];
const LONGEST_ID: usize = 256;

/// Judges by signatures no older than a tolerance, and no further ahead.
#[derive(Debug)]
pub(super) struct Hmac {
    tolerance: SignedDuration,
}

impl Hmac {
    pub(super) fn new(tolerance: SignedDuration) -> Self {
        Self { tolerance }
    }

    pub(super) fn judge(&self, kept: &Secret, call: Call<'_>, now: Timestamp) -> Result<Signed, Caller> {
        let [id, sent_at, signatures] = HEADERS.map(|name| only(call.headers, name));
        let (Some(id), Some(sent_at), Some(signatures)) = (id, sent_at, signatures) else {
            let none = HEADERS.iter().all(|name| !call.headers.contains_key(*name));
            let some = Caller::Wrong("webhook-id, webhook-timestamp and webhook-signature are needed, once each");
            return Err(if none { Caller::Anonymous } else { some });
        };
        // What is signed is joined by full stops: one in the id would let it take a part of the time.
        if id.is_empty() || id.len() > LONGEST_ID || id.contains('.') {
            return Err(Caller::Wrong("the webhook-id is empty, too long, or has a full stop in it"));
        }
        let at = sent_at.parse::<i64>().ok().and_then(|second| Timestamp::from_second(second).ok());
        let at = at.ok_or(Caller::Wrong("the webhook-timestamp is no time"))?;
        if now.duration_since(at).abs() > self.tolerance {
            return Err(Caller::Wrong("the webhook-timestamp is too far from now"));
        }
        let keys = keys(kept).ok_or(Caller::Unavailable)?;
        let message = [id.as_bytes(), b".", sent_at.as_bytes(), b".", call.body].concat();
        let good = signatures
            .split(' ')
            .filter_map(|signature| STANDARD.decode(signature.strip_prefix("v1,")?).ok())
            .any(|signature| keys.iter().any(|key| hmac::verify(key, &message, &signature).is_ok()));
        if !good {
            return Err(Caller::Wrong("no webhook-signature fits"));
        }
        // A retry has the same id and another time, a replay has both.
        Ok(Signed { name: format!("webhook {id}"), until: at.checked_add(self.tolerance).unwrap_or(Timestamp::MAX) })
    }
}

/// The keys, a line each: `whsec_` and base64. `None` where one is not, or there is none.
pub(super) fn keys(kept: &Secret) -> Option<Vec<hmac::Key>> {
    let lines = kept.expose().lines().map(str::trim).filter(|line| !line.is_empty());
    let keys: Option<Vec<_>> = lines
        .map(|line| {
            let key = STANDARD.decode(line.strip_prefix("whsec_").unwrap_or(line)).ok()?;
            (24..=64).contains(&key.len()).then(|| hmac::Key::new(hmac::HMAC_SHA256, &key))
        })
        .collect();
    keys.filter(|keys| !keys.is_empty())
}
