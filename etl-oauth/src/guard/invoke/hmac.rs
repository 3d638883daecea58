//! Standard Webhooks: `webhook-id`, `webhook-timestamp`, `webhook-signature` with HMAC-SHA-256 over id, time and body.

use aws_lc_rs::{constant_time, hmac};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::HeaderMap;
use jiff::{SignedDuration, Timestamp};

use super::{Call, Caller, Identity, Signed, identity::line, only};
use token_keeper::token::Secret;

const HEADERS: [&str; 3] = ["webhook-id", "webhook-timestamp", "webhook-signature"];
const LONGEST_ID: usize = 256;
/// How many entries of `webhook-signature` are looked at: a sender that rotates its key sends two.
const SIGNATURES: usize = 16;
/// How many keys there may be: each costs one HMAC over the body of a call whose sender is not known yet.
const KEYS: usize = 8;
/// The longest body that is read and hashed before its sender is known: a fraction of a millisecond with every key.
pub(super) const BODY_LIMIT: usize = 64 << 10;

/// Judges by signatures no older than a tolerance, and no further ahead.
#[derive(Debug)]
pub(super) struct Hmac {
    tolerance: SignedDuration,
}

/// The headers of a call, as far as they can be checked without its body.
struct Claim<'a> {
    id: &'a str,
    sent_at: &'a str,
    at: Timestamp,
    signatures: &'a str,
}

impl Hmac {
    pub(super) fn new(tolerance: SignedDuration) -> Self {
        Self { tolerance }
    }

    /// Whether the body decides: a call whose headers are missing or wrong is refused without it.
    pub(super) fn needs_body(&self, headers: &HeaderMap, now: Timestamp) -> bool {
        self.claim(headers, now).is_ok()
    }

    fn claim<'a>(&self, headers: &'a HeaderMap, now: Timestamp) -> Result<Claim<'a>, Caller> {
        let [id, sent_at, signatures] = HEADERS.map(|name| only(headers, name));
        let (Some(id), Some(sent_at), Some(signatures)) = (id, sent_at, signatures) else {
            let none = HEADERS.iter().all(|name| !headers.contains_key(*name));
            let some = Caller::Wrong("webhook-id, webhook-timestamp and webhook-signature are needed, once each");
            return Err(if none { Caller::Anonymous } else { some });
        };
        // The signed parts are joined by full stops: one in the id would let it take a part of the time.
        if id.is_empty() || id.len() > LONGEST_ID || id.contains('.') {
            return Err(Caller::Wrong("the webhook-id is empty, too long, or has a full stop in it"));
        }
        let at = sent_at.parse::<i64>().ok().and_then(|second| Timestamp::from_second(second).ok());
        let at = at.ok_or(Caller::Wrong("the webhook-timestamp is no time"))?;
        if now.duration_since(at).abs() > self.tolerance {
            return Err(Caller::Wrong("the webhook-timestamp is too far from now"));
        }
        if !signatures.split(' ').take(SIGNATURES).any(|signature| signature.starts_with("v1,")) {
            return Err(Caller::Wrong("webhook-signature has no entry `v1,` among its first 16"));
        }
        Ok(Claim { id, sent_at, at, signatures })
    }

    /// Judges a call: one HMAC a key, however many signatures the call brings.
    pub(super) fn judge(
        &self,
        keys: &[(hmac::Key, Identity)],
        call: Call<'_>,
        now: Timestamp,
    ) -> Result<Signed, Caller> {
        let Claim { id, sent_at, at, signatures } = self.claim(call.headers, now)?;
        let tags: Vec<hmac::Tag> = keys
            .iter()
            .map(|(key, _)| {
                let mut context = hmac::Context::with_key(key);
                for part in [id.as_bytes(), b".", sent_at.as_bytes(), b".", call.body] {
                    context.update(part);
                }
                context.sign()
            })
            .collect();
        let fits = |given: &[u8]| {
            tags.iter().position(|tag| constant_time::verify_slices_are_equal(tag.as_ref(), given).is_ok())
        };
        let signer = signatures
            .split(' ')
            .take(SIGNATURES)
            .filter_map(|signature| STANDARD.decode(signature.strip_prefix("v1,")?).ok())
            .find_map(|signature| fits(&signature));
        let Some((_, caller)) = signer.and_then(|index| keys.get(index)) else {
            return Err(Caller::Wrong("no webhook-signature fits"));
        };
        // A retry has the same id and another time, a replay has both.
        Ok(Signed {
            name: format!("webhook {id}"),
            until: at.checked_add(self.tolerance).unwrap_or(Timestamp::MAX),
            body: super::SignedBody::Whole,
            caller: caller.clone(),
        })
    }
}

/// The keys, a line each: `whsec_` and base64. `None` where one is not, where there is none, or more than eight.
pub(super) fn keys(secret: &Secret) -> Option<Vec<(hmac::Key, Identity)>> {
    let lines = secret.expose().lines().map(str::trim).filter(|line| !line.is_empty());
    let keys: Option<Vec<_>> = lines
        .map(|text| {
            let (line, caller) = line(text)?;
            let key = STANDARD.decode(line.strip_prefix("whsec_").unwrap_or(line)).ok()?;
            (24..=64).contains(&key.len()).then(|| (hmac::Key::new(hmac::HMAC_SHA256, &key), caller))
        })
        .collect();
    keys.filter(|keys| (1..=KEYS).contains(&keys.len()))
}
