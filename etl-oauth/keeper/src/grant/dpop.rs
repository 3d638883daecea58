//! Proofs of possession (RFC 9449): a token that is of no use to who does not have the account's key.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use jiff::Timestamp;
use serde_json::json;
use url::Url;

use super::{KeyError, SigningKey};
use crate::token::Secret;

/// The header that carries a proof.
pub const HEADER: &str = "dpop";
/// The header that carries a server's nonce.
const NONCE: &str = "dpop-nonce";

/// A proof for one request (§4.2): of this method, to this URL, with this access token where there is one (`ath`, §7).
///
/// # Errors
/// When the system has no randomness.
pub fn proof(
    key: &SigningKey,
    (method, url): (&Method, &Url),
    token: Option<&Secret>,
    nonce: Option<&str>,
    now: Timestamp,
) -> Result<HeaderValue, KeyError> {
    let mut claims = json!({
        "jti": super::key::random_text()?,
        "htm": method.as_str(),
        "htu": without_query(url),
        "iat": now.as_second(),
    });
    if let Some(token) = token {
        let digest = digest::digest(&digest::SHA256, token.expose().as_bytes());
        claims["ath"] = URL_SAFE_NO_PAD.encode(digest).into();
    }
    if let Some(nonce) = nonce {
        claims["nonce"] = nonce.into();
    }
    let proof = key.sign(json!({"typ": "dpop+jwt", "jwk": key.public_jwk()}), &claims)?;
    // Base64url and dots are visible ASCII.
    HeaderValue::from_str(proof.expose()).map_err(|_| KeyError::OfNoUse)
}

/// `htu`: without query and fragment.
fn without_query(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

/// The newest nonce of each server (§8): the authorization server and the API have their own.
#[derive(Clone, Debug, Default)]
pub struct Nonces(Arc<Mutex<BTreeMap<String, String>>>);

impl Nonces {
    /// The nonce that a proof for `url` must bear.
    #[must_use]
    pub fn of(&self, url: &Url) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&url.origin().ascii_serialization()).cloned()
    }

    /// Takes note of the nonce in an answer.
    pub fn note(&self, url: &Url, headers: &HeaderMap) {
        let Some(nonce) = headers.get(NONCE).and_then(|nonce| nonce.to_str().ok()) else { return };
        let mut nonces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        nonces.insert(url.origin().ascii_serialization(), nonce.to_owned());
    }
}

/// Whether a server that is shown a token refuses the proof for want of the nonce that it gives (§9). Of callers
/// that were refused at the same moment each may ask once more.
#[must_use]
pub fn asks_for_nonce(status: StatusCode, headers: &HeaderMap) -> bool {
    let said = |value: &HeaderValue| value.to_str().is_ok_and(|value| value.contains("use_dpop_nonce"));
    status == StatusCode::UNAUTHORIZED
        && headers.contains_key(NONCE)
        && headers.get_all(header::WWW_AUTHENTICATE).iter().any(said)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn a_proof_binds_method_address_token_and_nonce_and_is_never_the_same_twice() {
        let key = SigningKey::generate().unwrap();
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let read = |proof: &HeaderValue| -> Vec<Value> {
            let text = proof.to_str().unwrap();
            text.split('.')
                .take(2)
                .map(|part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap())
                .collect()
        };
        let target = url("https://api.example/v2/sales?after=1#x");
        // The pair of RFC 9449 §7.1.
        let token = Secret::new("Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU");
        let proofs = [0; 2].map(|_| proof(&key, (&Method::GET, &target), Some(&token), Some("n"), now).unwrap());
        let [header, claims] = &read(&proofs[0])[..] else { panic!() };
        assert_eq!((&header["typ"], &header["alg"]), (&json!("dpop+jwt"), &json!("ES256")));
        assert_eq!(header["jwk"], key.public_jwk().unwrap());
        assert_eq!(claims["htm"], "GET");
        assert_eq!(claims["htu"], "https://api.example/v2/sales");
        assert_eq!(claims["ath"], "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo");
        assert_eq!((&claims["nonce"], &claims["iat"]), (&json!("n"), &json!(1_700_000_000)));
        assert_ne!(claims["jti"], read(&proofs[1])[1]["jti"]);
        let bare = proof(&key, (&Method::POST, &target), None, None, now).unwrap();
        assert!(read(&bare)[1].get("ath").is_none() && read(&bare)[1].get("nonce").is_none());
    }

    #[test]
    fn each_server_has_its_newest_nonce() {
        let nonces = Nonces::default();
        let answer = |nonce: &'static str| HeaderMap::from_iter([(NONCE.parse().unwrap(), nonce.parse().unwrap())]);
        let (token, api) = (url("https://as.example/token"), url("https://api.example/v2"));
        for headers in [answer("1"), answer("2"), HeaderMap::new()] {
            nonces.note(&token, &headers);
        }
        assert_eq!((nonces.of(&url("https://as.example/par")).as_deref(), nonces.of(&api)), (Some("2"), None));
    }
}
