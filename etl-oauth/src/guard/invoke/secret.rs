//! A word that callers know: as bearer, or in `X-Api-Key`.

use std::time::Duration;

use http::HeaderMap;
use jiff::Timestamp;

use super::{Caller, Identity, bearer, identity::line, only};
use crate::guard::throttle::{Guess, Throttle};
use token_keeper::token::Secret;

/// The words, a line each, so that one can be replaced by another without a gap.
#[derive(Debug)]
pub(super) struct Words(Vec<(Secret, Identity)>);

/// Reads the words of a secret.
pub(super) fn words(secret: &Secret) -> Option<Words> {
    let lines = secret.expose().lines().filter(|line| !line.trim().is_empty());
    let words = lines.map(|text| line(text).map(|(word, caller)| (Secret::new(word), caller)));
    words.collect::<Option<_>>().map(Words)
}

/// Judges the word that a call sends; and how much later to answer, where it is wrong.
pub(super) fn judge(
    Words(words): &Words,
    throttle: &Throttle,
    headers: &HeaderMap,
    now: Timestamp,
) -> (Caller, Duration, Identity) {
    let Some(given) = bearer(headers).or_else(|| only(headers, "x-api-key").map(str::trim)) else {
        return (Caller::Anonymous, Duration::ZERO, Identity::default());
    };
    let given = Secret::new(given);
    // All words are compared, so that the time tells nothing of which one is right.
    let right = words.iter().fold(None, |found, word| if word.0.same(&given) { Some(word) } else { found });
    match throttle.judge(headers, right.is_some(), right.map_or(0, |(word, _)| word.expose().len()), now) {
        Guess::Right => (Caller::Proved, Duration::ZERO, right.map(|(_, caller)| caller.clone()).unwrap_or_default()),
        Guess::Wrong(pause) => (Caller::Wrong("the secret is wrong"), pause, Identity::default()),
        Guess::Throttled(seconds) => (Caller::Throttled(seconds), Duration::ZERO, Identity::default()),
    }
}
