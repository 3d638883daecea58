//! A client's key: P-256 only, for ES256 in JWT and DPoP.

use anyhow::Context as _;
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
    },
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The public half, as an uncompressed point.
#[derive(Clone)]
pub(super) struct Key(Vec<u8>);

/// A new private key in PEM.
pub(crate) fn private_pem() -> anyhow::Result<String> {
    let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
        .ok()
        .context("the system has no randomness")?;
    let text = STANDARD.encode(der.as_ref());
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    Ok(format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n")))
}

impl Key {
    /// The public half of a private key in PEM (PKCS#8); `None` for keys of other kinds.
    pub(super) fn of_private(pem: &str) -> Option<Self> {
        let text: String = pem.lines().map(str::trim).filter(|line| !line.starts_with("-----")).collect();
        let der = STANDARD.decode(text).ok()?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der).ok()?;
        Some(Self(pair.public_key().as_ref().to_vec()))
    }

    fn of_jwk(jwk: &Value) -> Option<Self> {
        let coordinate = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str()?).ok().filter(|it| it.len() == 32);
        // A private key that is sent along is no proof of anything.
        let fits = jwk["kty"] == "EC" && jwk["crv"] == "P-256" && jwk.get("d").is_none();
        fits.then_some(())?;
        Some(Self([vec![4], coordinate("x")?, coordinate("y")?].concat()))
    }

    /// RFC 7638.
    fn thumbprint(&self) -> String {
        let [x, y] = [1..33, 33..65].map(|range| URL_SAFE_NO_PAD.encode(&self.0[range]));
        // The members in the order of their names, which is serde_json's.
        let jwk = json!({"crv": "P-256", "kty": "EC", "x": x, "y": y}).to_string();
        URL_SAFE_NO_PAD.encode(Sha256::digest(jwk.as_bytes()))
    }

    /// The claims of a JWT that this key has signed.
    pub(super) fn claims(&self, jwt: &str) -> Option<Value> {
        let (signed, signature) = jwt.rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        (part(jwt, 0)?["alg"] == "ES256").then_some(())?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.0).verify(signed.as_bytes(), &signature).ok()?;
        part(jwt, 1)
    }
}

/// A part of a JWT, without a check of its signature: 0 is the header, 1 the claims.
pub(super) fn part(jwt: &str, number: usize) -> Option<Value> {
    let part = jwt.split('.').nth(number).filter(|_| jwt.split('.').count() == 3)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// The claims of a JWT that contains its key (RFC 9449 §4.2), and the key's thumbprint.
pub(super) fn proved(jwt: &str) -> Option<(Value, String)> {
    let header = part(jwt, 0).filter(|header| header["typ"] == "dpop+jwt")?;
    let key = Key::of_jwk(&header["jwk"])?;
    Some((key.claims(jwt)?, key.thumbprint()))
}

/// A JWT signed with a key of [`private_pem`], as a client makes it.
#[cfg(test)]
pub(super) fn signed(pem: &str, header: Value, claims: &Value) -> String {
    let text: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &STANDARD.decode(text).expect("PEM"))
        .expect("a key");
    let point = pair.public_key().as_ref();
    let [x, y] = [1..33, 33..65].map(|range| URL_SAFE_NO_PAD.encode(&point[range]));
    let mut header = header;
    (header["alg"], header["jwk"]) = (json!("ES256"), json!({"kty": "EC", "crv": "P-256", "x": x, "y": y}));
    let [header, claims] = [&header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let text = format!("{header}.{claims}");
    let signature = pair.sign(&SystemRandom::new(), text.as_bytes()).expect("a signature");
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_was_made_here_is_read_here() {
        let pem = private_pem().unwrap();
        assert!(Key::of_private(&pem).is_some_and(|key| key.thumbprint().len() == 43));
        for other in ["", "empty", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"] {
            assert!(Key::of_private(other).is_none(), "{other}");
        }
    }

    #[test]
    fn the_thumbprint_is_that_of_the_standards_example() {
        // RFC 9449 §4.1 shows this key, §6.1 its thumbprint.
        let jwk = json!({"kty": "EC", "crv": "P-256", "x": "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
                         "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA"});
        assert_eq!(Key::of_jwk(&jwk).unwrap().thumbprint(), "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
        assert!(Key::of_jwk(&json!({"kty": "RSA"})).is_none());
    }
}
