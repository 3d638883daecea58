//! What an access token says of itself, where it is a JWT (RFC 9068). Nobody verifies it here: it is the API that must, and
//! we do no more with it than look at the clock and show it to the operator.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{Secret, lifetime};

/// The claims; `None` for a token that is no JWT.
pub(crate) fn claims(token: &Secret) -> Option<Map<String, Value>> {
    let mut parts = token.expose().split('.');
    let (header, claims, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let read =
        |part: &str| -> Option<Map<String, Value>> { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok() };
    read(header)?.contains_key("alg").then(|| read(claims)).flatten()
}

/// When it ends by its own words.
pub(super) fn expires_at(token: &Secret) -> Option<Timestamp> {
    lifetime::instant(claims(token)?.get("exp")?)
}

#[cfg(test)]
mod tests {
    use super::*;

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
