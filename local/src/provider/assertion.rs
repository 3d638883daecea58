//! Signed assertions (RFC 7523): client authentication, and the JWT bearer grant.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{Client, Shared, key::part};

/// The longest lifetime of an assertion.
const LONGEST: SignedDuration = SignedDuration::from_hours(1);

/// Verifies an assertion; returns the client that signed it, and its claims.
pub(super) fn verify<'a>(shared: &'a Shared, jwt: &str, now: Timestamp) -> Result<(&'a Client, Value), &'static str> {
    let issuer = part(jwt, 1).ok_or("The assertion is not a JWT")?["iss"].as_str().unwrap_or_default().to_owned();
    let client = shared.client(&issuer).ok_or("The issuer of the assertion is not an application of this server")?;
    let key = client.key.as_ref().ok_or("The application has no P-256 key that assertions could be checked with")?;
    let claims = key.claims(jwt).ok_or("The assertion is not signed with the application's key by ES256")?;
    let audiences = match &claims["aud"] {
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect::<Vec<_>>(),
    };
    let token_url = format!("{}/oauth/token", shared.issuer);
    if !audiences.iter().any(|audience| *audience == shared.issuer || *audience == token_url) {
        return Err("The assertion has another audience: aud must be the issuer, or the token endpoint");
    }
    let end = claims["exp"].as_i64().and_then(|end| Timestamp::from_second(end).ok());
    match end {
        Some(end) if end <= now => Err("The assertion has expired"),
        Some(end) if end > now + LONGEST => Err("The assertion is valid for more than an hour"),
        Some(_) => Ok((client, claims)),
        None => Err("The assertion has no expiry: exp"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Shared, key};
    use super::*;

    #[test]
    fn an_assertion_is_valid_if_its_client_signed_it_for_this_server_and_it_has_not_expired() {
        let (mine, other) = (key::private_pem().unwrap(), key::private_pem().unwrap());
        let shared = Shared::of("http://s", vec![Client::without_secret("app").with_key(&mine)]);
        let now = Timestamp::from_second(1000).unwrap();
        let said = |change: Value| {
            let mut claims = json!({"iss": "app", "sub": "ada", "aud": "http://s", "exp": 1060});
            claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            claims
        };
        let heard = |pem: &str, claims: &Value| {
            let jwt = key::signed(pem, json!({"typ": "JWT"}), claims);
            verify(&shared, &jwt, now).map(|(client, claims)| (client.id.clone(), claims["sub"].clone()))
        };
        assert_eq!(heard(&mine, &said(json!({}))), Ok(("app".into(), json!("ada"))));
        assert!(heard(&mine, &said(json!({"aud": ["x", "http://s/oauth/token"]}))).is_ok());
        for wrong in [
            json!({"iss": "unknown"}),
            json!({"aud": "http://t"}),
            json!({"exp": 1000}),
            json!({"exp": 9999}),
            json!({"exp": null}),
        ] {
            assert!(heard(&mine, &said(wrong.clone())).is_err(), "{wrong}");
        }
        assert!(heard(&other, &said(json!({}))).is_err(), "another key");
        let jwt = key::signed(&mine, json!({}), &said(json!({})));
        let (text, _) = jwt.rsplit_once('.').unwrap();
        assert!(verify(&shared, &format!("{text}."), now).is_err() && verify(&shared, "x", now).is_err());
    }
}
