//! Signed statements (RFC 7523): who this client is (§2.2), or on whose behalf it asks for a token (§2.1).

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{KeyError, SigningKey, key::random_text};
use crate::{
    provider::{Provider, fill},
    token::Secret,
};

/// The value of `client_assertion_type`.
pub(super) const CLIENT_ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How long a statement is good for. It is used at once; a minute is for clocks that disagree.
const LIFETIME: Duration = Duration::from_secs(60);

/// A statement is dated back so far: a server whose clock is a little behind would take it for one of the future.
const BEHIND: i64 = 10;

/// Proves the client `id` (§2.2). A new one for each attempt: servers refuse one that they have seen.
///
/// # Errors
/// When the system has no randomness.
pub fn client_assertion(provider: &Provider, key: &SigningKey, id: &str, now: Timestamp) -> Result<Secret, KeyError> {
    let claims = claims(provider, id, id, LIFETIME, now)?;
    signed(provider, &key.with_algorithm(provider.rsa_algorithm), id, claims)
}

/// The statement that is changed for a token (§2.1), of the client `id` unless key or definition name another issuer.
///
/// # Errors
/// When the system has no randomness.
pub fn bearer_assertion(provider: &Provider, key: &SigningKey, id: &str, now: Timestamp) -> Result<Secret, KeyError> {
    let terms = &provider.assertion;
    let filled = |text: &Option<String>| text.as_deref().and_then(|text| in_statement(provider, key, id, text));
    let issuer = filled(&terms.issuer).or(key.owner().map(str::to_owned)).unwrap_or_else(|| id.to_owned());
    let subject = filled(&terms.subject).unwrap_or_else(|| issuer.clone());
    let lifetime = terms.lifetime.map_or(LIFETIME, Duration::from_secs);
    let mut claims = claims(provider, &issuer, &subject, lifetime, now)?;
    if let Some(name) = &terms.scope_claim
        && !provider.scope.is_empty()
    {
        claims[name] = provider.scope_text().into();
    }
    signed(provider, &key.with_algorithm(terms.algorithm.unwrap_or_default()), id, claims)
}

/// The statement with what the definition says of its claims and its key.
fn signed(provider: &Provider, key: &SigningKey, id: &str, mut claims: Value) -> Result<Secret, KeyError> {
    let terms = &provider.assertion;
    let fingerprint = key.fingerprint().unwrap_or_default();
    let value = |name: &str| known(provider, &fingerprint, id, name);
    for (name, param) in &terms.claims {
        match (param.filled(&value), claims.as_object_mut()) {
            (Some(value), Some(claims)) => drop(claims.insert(name.clone(), value)),
            (None, Some(claims)) => drop(claims.remove(name)),
            _ => {}
        }
    }
    let key_id = terms.key_id.as_deref().and_then(|text| fill(text, value));
    key.clone().with_id(key_id).sign(json!({"typ": "JWT"}), &claims)
}

/// A text of a statement with its placeholders filled in.
fn in_statement(provider: &Provider, key: &SigningKey, id: &str, text: &str) -> Option<String> {
    let fingerprint = key.fingerprint().unwrap_or_default();
    fill(text, |name| known(provider, &fingerprint, id, name))
}

fn known<'a>(provider: &'a Provider, fingerprint: &'a str, id: &'a str, name: &str) -> Option<&'a str> {
    match name {
        "client_id" => Some(id),
        "key_fingerprint" => Some(fingerprint).filter(|digest| !digest.is_empty()),
        name => provider.value(name),
    }
}

fn claims(
    provider: &Provider,
    issuer: &str,
    subject: &str,
    lifetime: Duration,
    now: Timestamp,
) -> Result<Value, KeyError> {
    let seconds = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
    let issued_at = now.as_second().saturating_sub(BEHIND);
    Ok(json!({
        "iss": issuer,
        "sub": subject,
        "aud": provider.assertion_audience(),
        "jti": random_text()?,
        "iat": issued_at,
        "exp": issued_at.saturating_add(seconds),
    }))
}
