//! A word that callers know: as bearer, or in `X-Api-Key`.

use std::time::Duration;

use http::HeaderMap;
use jiff::Timestamp;

use super::{Caller, bearer, only};
use crate::guard::Throttle;
use token_keeper::token::Secret;

/// Judges by the words that are kept, a line each, so that one can be replaced by another without a gap.
pub(super) fn judge(kept: &Secret, throttle: &Throttle, headers: &HeaderMap, now: Timestamp) -> (Caller, Duration) {
    let Some(given) = bearer(headers).or_else(|| only(headers, "x-api-key").map(str::trim)) else {
        return (Caller::Anonymous, Duration::ZERO);
    };
    let place = match throttle.enter(headers, now) {
        Ok(place) => place,
        Err(seconds) => return (Caller::Throttled(seconds), Duration::ZERO),
    };
    let given = Secret::new(given);
    let words = kept.expose().lines().map(str::trim).filter(|word| !word.is_empty());
    // All are compared: which of them is right is nobody's business.
    if words.fold(false, |found, word| Secret::new(word).same(&given) | found) {
        place.right(now);
        return (Caller::Proved, Duration::ZERO);
    }
    (Caller::Wrong("the secret is wrong"), place.wrong())
}
