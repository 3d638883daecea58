//! Proofs of possession (RFC 9449). A client that sends one gets tokens that are bound to its key.

use std::collections::BTreeMap;

use axum::Json;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{Book, Shared, digest::Digest, key, now};

/// The permitted difference between the clocks of client and server; proofs are remembered that long.
const SKEW: SignedDuration = SignedDuration::from_secs(60);

/// The proofs that were used recently: each is accepted once.
#[derive(Debug, Default)]
pub(super) struct Proofs(BTreeMap<Digest, Timestamp>);

impl Proofs {
    fn is_new(&mut self, proof: &str, now: Timestamp) -> bool {
        self.0.retain(|_, end| *end > now);
        self.0.insert(Digest::of(proof), now + SKEW + SKEW).is_none()
    }
}

/// Why a proof is refused.
pub(super) enum Refusal {
    Wrong(&'static str),
    /// It lacks the server's nonce.
    Nonce,
}

impl Refusal {
    pub(super) fn error(&self) -> &'static str {
        match self {
            Self::Wrong(_) => "invalid_dpop_proof",
            Self::Nonce => "use_dpop_nonce",
        }
    }

    /// The token endpoint's error (§5, §8).
    pub(super) fn into_response(self, shared: &Shared) -> Response {
        let description = match self {
            Self::Wrong(why) => why,
            Self::Nonce => "The proof must hold the nonce of the header DPoP-Nonce",
        };
        let body = json!({"error": self.error(), "error_description": description});
        self.with_nonce((StatusCode::BAD_REQUEST, Json(body)).into_response(), shared)
    }

    /// The API's challenge (§7.1, §9).
    fn challenge(self, shared: &Shared) -> Response {
        let value = format!("DPoP algs=\"ES256\", error=\"{}\"", self.error());
        let response = (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, value)]).into_response();
        self.with_nonce(response, shared)
    }

    fn with_nonce(&self, mut response: Response, shared: &Shared) -> Response {
        if let (Self::Nonce, Ok(nonce)) = (self, HeaderValue::from_str(&shared.nonce)) {
            response.headers_mut().insert("dpop-nonce", nonce);
        }
        response
    }
}

/// The thumbprint of the key that this request proves possession of; `None` without a proof (§4.3).
pub(super) fn proved(
    shared: &Shared,
    book: &mut Book,
    headers: &HeaderMap,
    (method, url): (&str, &str),
    token: Option<&str>,
) -> Result<Option<String>, Refusal> {
    let mut shown = headers.get_all("dpop").iter();
    let Some(proof) = shown.next() else { return Ok(None) };
    let wrong = |why| Err(Refusal::Wrong(why));
    let Some(proof) = proof.to_str().ok().filter(|_| shown.next().is_none()) else {
        return wrong("There must be one header DPoP with one proof");
    };
    let Some((claims, thumbprint)) = key::proved(proof) else {
        return wrong("The proof is not signed with the P-256 key that it brings along");
    };
    if claims["htm"] != method || claims["htu"] != url {
        return wrong("The proof is for another request");
    }
    let at = claims["iat"].as_i64().and_then(|at| Timestamp::from_second(at).ok());
    if at.is_none_or(|at| at.duration_since(now()).abs() > SKEW) {
        return wrong("The proof is too old, or of another time");
    }
    let expected = token.map(|token| URL_SAFE_NO_PAD.encode(Sha256::digest(token.as_bytes())));
    if claims.get("ath").and_then(|ath| ath.as_str()) != expected.as_deref() {
        return wrong("The proof is of another access token");
    }
    if book.faults.dpop_nonce && claims["nonce"] != *shared.nonce {
        return Err(Refusal::Nonce);
    }
    if claims["jti"].as_str().is_none_or(str::is_empty) || !book.proofs.is_new(proof, now()) {
        return wrong("The proof was shown before");
    }
    Ok(Some(thumbprint))
}

/// Checks that a bound token comes with a proof of its key, and any other token without one.
pub(super) fn admits<B>(shared: &Shared, request: &Request<B>) -> Result<(), Box<Response>> {
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some((scheme, token)) = shown.and_then(|value| value.split_once(' ')) else { return Ok(()) };
    let mut book = shared.book();
    let bound_to = book.grants.key_of(token.trim()).map(str::to_owned);
    let with_proof = scheme.eq_ignore_ascii_case("dpop");
    let Some(bound_to) = bound_to.as_ref().filter(|_| with_proof) else {
        let refused = bound_to.is_some() || with_proof;
        let why = Refusal::Wrong("The token and the way it is shown do not fit");
        return if refused { Err(Box::new(why.challenge(shared))) } else { Ok(()) };
    };
    let url = format!("{}{}", shared.issuer, request.uri().path());
    match proved(shared, &mut book, request.headers(), (request.method().as_str(), &url), Some(token.trim())) {
        Ok(Some(key)) if key == *bound_to => Ok(()),
        Ok(_) => Err(Box::new(Refusal::Wrong("The proof is of another key").challenge(shared))),
        Err(refusal) => Err(Box::new(refusal.challenge(shared))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const URL: &str = "http://s/oauth/token";

    fn shown(shared: &Shared, proof: &str, token: Option<&str>) -> Result<bool, &'static str> {
        let headers = HeaderMap::from_iter([("dpop".parse().unwrap(), HeaderValue::from_str(proof).unwrap())]);
        let key = proved(shared, &mut shared.book(), &headers, ("POST", URL), token);
        key.map(|key| key.is_some()).map_err(|refusal| refusal.error())
    }

    #[test]
    fn a_proof_is_good_once_for_its_request_its_token_and_its_time() {
        let (shared, pem) = (Shared::of("http://s", Vec::new()), key::private_pem().unwrap());
        let proof = |change: Value| {
            let mut claims = json!({"htm": "POST", "htu": URL, "iat": now().as_second(), "jti": "1"});
            claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            key::signed(&pem, json!({"typ": "dpop+jwt"}), &claims)
        };
        let good = proof(json!({}));
        assert_eq!(shown(&shared, &good, None), Ok(true));
        assert_eq!(shown(&shared, &good, None), Err("invalid_dpop_proof"), "shown before");
        let ath = URL_SAFE_NO_PAD.encode(Sha256::digest(b"token"));
        assert_eq!(shown(&shared, &proof(json!({"ath": ath})), Some("token")), Ok(true));
        for wrong in [
            json!({"htm": "GET"}),
            json!({"htu": "http://s/other"}),
            json!({"iat": now().as_second() - 3600}),
            json!({"ath": "of another token"}),
            json!({"jti": ""}),
        ] {
            assert_eq!(shown(&shared, &proof(wrong.clone()), None), Err("invalid_dpop_proof"), "{wrong}");
        }
        assert_eq!(
            shown(&shared, &key::signed(&pem, json!({"typ": "JWT"}), &json!({})), None),
            Err("invalid_dpop_proof")
        );

        shared.book().faults.dpop_nonce = true;
        assert_eq!(shown(&shared, &proof(json!({"jti": "2"})), None), Err("use_dpop_nonce"));
        assert_eq!(shown(&shared, &proof(json!({"jti": "2", "nonce": shared.nonce})), None), Ok(true));
    }
}
