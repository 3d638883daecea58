//! The account that granted the tokens, from an ID token or the userinfo endpoint.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::text;

/// By how much clocks may differ.
const LEEWAY: SignedDuration = SignedDuration::from_secs(60);
/// The longest id (OpenID Connect Core §2 says 255 for `sub`) and name that are kept, in characters.
const LONGEST: usize = 255;

/// The account that granted the tokens, as the provider identifies it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// An identifier that is stable and unique at the provider.
    pub id: String,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The address that the provider has verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}

/// Why an ID token is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdTokenError {
    /// Not three parts of base64url, or no claims in it.
    #[error("the provider's ID token cannot be read")]
    Malformed,
    /// `iss` is not the provider.
    #[error("the provider's ID token is of another issuer")]
    Issuer,
    /// `aud` or `azp` is not this client.
    #[error("the provider's ID token is for another client")]
    Audience,
    /// `exp` is over, or missing.
    #[error("the provider's ID token has expired")]
    Expired,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Value,
    azp: Option<String>,
    exp: f64,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Subject {
    /// The owner of that id.
    #[must_use]
    pub fn new(id: &str, name: Option<&str>) -> Self {
        let kept = |text: &str| text::cut(text, LONGEST);
        Self { id: kept(id), name: name.map(kept).filter(|name| !name.is_empty()), email: None }
    }

    /// The subject of an ID token that came from the token endpoint itself, over TLS: there its signature need not be
    /// checked (OpenID Connect Core §3.1.3.7, item 6), but all else must be.
    ///
    /// # Errors
    /// [`IdTokenError`].
    pub fn of_id_token(
        token: &str,
        issuer: Option<&str>,
        client_id: &str,
        now: Timestamp,
    ) -> Result<Self, IdTokenError> {
        let parts: Vec<&str> = token.split('.').collect();
        let [_, claims, _] = parts[..] else { return Err(IdTokenError::Malformed) };
        let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).map_err(|_| IdTokenError::Malformed)?;
        let claims: Claims = serde_json::from_slice(&claims).map_err(|_| IdTokenError::Malformed)?;
        if claims.sub.is_empty() || claims.sub.chars().count() > LONGEST {
            return Err(IdTokenError::Malformed);
        }
        if issuer.is_some_and(|issuer| issuer != claims.iss) {
            return Err(IdTokenError::Issuer);
        }
        let (ours, others) = match &claims.aud {
            Value::String(one) => (one == client_id, false),
            Value::Array(all) => (all.iter().any(|one| one == client_id), all.len() > 1),
            _ => (false, false),
        };
        // Of several audiences one was given the token, and says so.
        let party = claims.azp.as_deref();
        if !ours || party.map_or(others, |party| party != client_id) {
            return Err(IdTokenError::Audience);
        }
        #[expect(clippy::cast_precision_loss, reason = "seconds of the calendar are exact in a double")]
        let now = now.saturating_sub(LEEWAY).map_or(0.0, |now| now.as_second() as f64);
        // What is no number is no time, either.
        if claims.exp <= now || claims.exp.is_nan() {
            return Err(IdTokenError::Expired);
        }
        let text = |name: &str| claims.rest.get(name).and_then(Value::as_str);
        let name = ["preferred_username", "email", "name"].into_iter().find_map(text);
        // A subject is unique at its issuer.
        let id = if issuer.is_some() { claims.sub } else { format!("{} {}", claims.iss, claims.sub) };
        let email = verified_email(&Value::Object(claims.rest.clone()));
        Ok(Self { id: text::cut(&id, 4 * LONGEST), email, ..Self::new("", name) })
    }

    /// Whether this is the person that `expected` names: the verified address without regard to case, or the identifier
    /// exactly.
    #[must_use]
    pub fn is(&self, expected: &str) -> bool {
        self.id == expected || self.email.as_ref().is_some_and(|email| email.eq_ignore_ascii_case(expected))
    }

    /// The name, or the identifier where there is no name.
    #[must_use]
    pub fn told(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.id)
    }
}

/// The address among OpenID's claims, where the provider has verified it (OpenID Connect Core §5.1). Some say so by a string.
pub(crate) fn verified_email(claims: &Value) -> Option<String> {
    let is_verified = claims["email_verified"] == true || claims["email_verified"] == "true";
    claims["email"].as_str().filter(|_| is_verified).map(|email| text::cut(email, LONGEST))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn an_expected_person_is_known_by_a_verified_address_or_the_exact_identifier() {
        let of = |verified: Value| {
            let claims = json!({ "iss": "https://i.example", "sub": "7", "aud": "me", "exp": 941, "email": "A@b.example",
                                 "email_verified": verified });
            owner(&claims).unwrap()
        };
        for verified in [json!(true), json!("true")] {
            assert!(of(verified.clone()).is("a@B.example") && of(verified).is("7"));
        }
        for unverified in [json!(false), json!(null), json!("false"), json!(1)] {
            assert!(!of(unverified.clone()).is("a@b.example"), "{unverified}");
        }
        assert!(!of(json!(true)).is("A@b.exampl") && !of(json!(true)).is(""));
    }

    use super::*;

    fn owner(claims: &Value) -> Result<Subject, IdTokenError> {
        let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()));
        Subject::of_id_token(&token, Some("https://i.example"), "me", Timestamp::from_second(1000).unwrap())
    }

    #[test]
    fn an_id_token_names_the_owner_when_issuer_audience_and_time_are_right() {
        let good = json!({ "iss": "https://i.example", "sub": "7", "aud": "me", "exp": 941, "email": "a@b.example" });
        assert_eq!(owner(&good), Ok(Subject::new("7", Some("a@b.example"))));
        let with = |name: &str, value: Value| {
            let mut claims = good.clone();
            claims[name] = value;
            owner(&claims)
        };
        assert_eq!(with("aud", json!(["me"])).map(|owner| owner.id).as_deref(), Ok("7"));
        assert_eq!(with("iss", json!("https://i.example/")), Err(IdTokenError::Issuer));
        for aud in [json!("you"), json!(["you"]), json!(["me", "you"]), json!(null), json!([])] {
            assert_eq!(with("aud", aud), Err(IdTokenError::Audience));
        }
        assert_eq!(with("azp", json!("you")), Err(IdTokenError::Audience));
        assert_eq!(with("exp", json!(940)), Err(IdTokenError::Expired));
        for (name, value) in
            [("exp", json!("soon")), ("exp", json!(null)), ("sub", json!("")), ("sub", json!(7)), ("sub", json!(null))]
        {
            assert_eq!(with(name, value), Err(IdTokenError::Malformed), "{name}");
        }
        for token in ["", "a.b", "a.b.c.d", "e30.!.x", "e30.e30.x"] {
            let read = Subject::of_id_token(token, None, "me", Timestamp::UNIX_EPOCH);
            assert_eq!(read, Err(IdTokenError::Malformed), "{token}");
        }
    }
}
