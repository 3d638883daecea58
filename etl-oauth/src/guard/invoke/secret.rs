//! A word that callers know: as bearer, or in `X-Api-Key`.

use std::time::Duration;

use http::HeaderMap;
use jiff::Timestamp;

use super::{Caller, Identity, bearer, identity, only};
use crate::guard::throttle::{Guess, Throttle};
use token_keeper::token::Secret;

/// The words, a line each, so that one can be replaced by another without a gap.
#[derive(Debug)]
pub(super) struct Words(Vec<(Secret, Identity)>);

/// Reads the words of a secret; `None` where what stands behind one cannot be read.
pub(super) fn words(secret: &Secret) -> Option<Words> {
    let lines = secret.expose().lines().map(str::trim).filter(|line| !line.is_empty());
    let words = lines.map(|line| {
        let (word, more) = identity::split(line)?;
        Some((Secret::new(word), more.identify(word.as_bytes())?))
    });
    words.collect::<Option<_>>().map(Words)
}

/// Judges the word that a call sends; and how much later to answer, where it is wrong.
pub(super) fn judge(
    Words(words): &Words,
    throttle: &Throttle,
    headers: &HeaderMap,
    now: Timestamp,
) -> (Result<Identity, Caller>, Duration) {
    let Some(given) = bearer(headers).or_else(|| only(headers, "x-api-key").map(str::trim)) else {
        return (Err(Caller::Anonymous), Duration::ZERO);
    };
    let given = Secret::new(given);
    // All words are compared, so that the time tells nothing of which one is right.
    let right = words.iter().fold(None, |found, it| if it.0.same(&given) { Some(it) } else { found });
    match (throttle.judge(headers, right.is_some(), right.map_or(0, |(word, _)| word.expose().len()), now), right) {
        (Guess::Right, Some((_, identity))) => (Ok(identity.clone()), Duration::ZERO),
        (Guess::Wrong(pause), _) => (Err(Caller::Wrong("the secret is wrong")), pause),
        (Guess::Throttled(seconds), _) => (Err(Caller::Throttled(seconds)), Duration::ZERO),
        (Guess::Right, None) => (Err(Caller::Wrong("the secret is wrong")), Duration::ZERO),
    }
}
