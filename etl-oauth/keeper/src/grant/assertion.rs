//! Signed statements (RFC 7523): who this client is (§2.2), or on whose behalf it asks for a token (§2.1).

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{KeyError, SigningKey, key::random_text};
use crate::{provider::Provider, token::Secret};

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
    let key = key.with_algorithm(provider.rsa_algorithm);
    key.sign(json!({"typ": "JWT"}), &claims(provider, id, id, LIFETIME, now)?)
}

/// The statement that is changed for a token (§2.1), of the client `id` unless key or definition name another issuer.
///
/// # Errors
/// When the system has no randomness.
pub fn bearer_assertion(provider: &Provider, key: &SigningKey, id: &str, now: Timestamp) -> Result<Secret, KeyError> {
    let terms = &provider.assertion;
    let issuer = terms.issuer.as_deref().or(key.owner()).unwrap_or(id);
    let subject = terms.subject.as_deref().unwrap_or(issuer);
    let lifetime = terms.lifetime.map_or(LIFETIME, Duration::from_secs);
    let mut claims = claims(provider, issuer, subject, lifetime, now)?;
    if let Some(name) = &terms.scope_claim
        && !provider.scope.is_empty()
    {
        claims[name] = provider.scope_text().into();
    }
    key.with_algorithm(terms.algorithm.unwrap_or_default()).sign(json!({"typ": "JWT"}), &claims)
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
