//! What an access token says of itself, where it is a JWT (RFC 9068). Its signature is not verified here: that is the
//! API's part. The claims are used for the token's end and shown to the operator.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{Secret, lifetime};

/// The claims; `None` for a token that is no JWT.
#[must_use]
pub fn claims(token: &Secret) -> Option<Map<String, Value>> {
    let mut parts = token.expose().split('.');
    let (header, claims, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let read =
        |part: &str| -> Option<Map<String, Value>> { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok() };
    read(header)?.contains_key("alg").then(|| read(claims)).flatten()
}

/// Expiry from `exp`.
pub(super) fn expires_at(token: &Secret) -> Option<Timestamp> {
    lifetime::instant(claims(token)?.get("exp")?)
}

/// Expiry from `exp`, capped at `sent_at + (exp - iat)` against clock skew: a clock that is behind the server's takes no dead
/// token for a living one, and one that is far ahead does not find each new token dead.
pub(super) fn ends_at(token: &Secret, sent_at: Timestamp) -> Option<Timestamp> {
    let claims = claims(token)?;
    let end = lifetime::instant(claims.get("exp")?)?;
    let issued_at = claims.get("iat").and_then(lifetime::instant).filter(|issued_at| *issued_at < end);
    let by_lifetime = issued_at.and_then(|issued_at| sent_at.checked_add(end.duration_since(issued_at)).ok());
    Some(by_lifetime.map_or(end, |by_lifetime| if end <= sent_at { by_lifetime } else { end.min(by_lifetime) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_wrong_makes_no_token_live_longer_or_die_at_birth() {
        let token = |claims: &str| {
            let parts = [r#"{"alg":"ES256"}"#, claims, "x"].map(|part| URL_SAFE_NO_PAD.encode(part));
            Secret::new(parts.join("."))
        };
        let end = |claims: &str, sent_at: i64| {
            ends_at(&token(claims), Timestamp::from_second(sent_at).unwrap()).map(Timestamp::as_second)
        };
        let issued = r#"{"iat":1000000,"exp":1003600}"#;
        assert_eq!(end(issued, 1_000_000), Some(1_003_600));
        assert_eq!(end(issued, 999_000), Some(1_002_600), "our clock is behind");
        assert_eq!(end(issued, 1_000_600), Some(1_003_600), "ahead, or the token is not quite new");
        assert_eq!(end(issued, 1_010_000), Some(1_013_600), "far ahead");
        assert_eq!(end(r#"{"exp":1003600}"#, 1_010_000), Some(1_003_600), "nothing else is known");
        assert_eq!(end(r#"{"iat":1003600,"exp":1003600}"#, 1_000_000), Some(1_003_600));
        assert_eq!(end(r#"{"iat":1000000}"#, 1_000_000), None);
    }

    #[test]
    fn a_jwt_shows_its_claims_and_anything_else_none() {
        let token = |parts: [&str; 3]| Secret::new(parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join("."));
        let jwt = token([r#"{"alg":"ES256"}"#, r#"{"sub":"me","exp":1}"#, "x"]);
        assert_eq!(claims(&jwt).unwrap()["sub"], "me");
        for other in [token(["{}", "{}", ""]), token(["x", "y", "z"]), Secret::new("opaque"), Secret::new("a.b.c.d.e")]
        {
            assert!(claims(&other).is_none());
        }
    }
}
