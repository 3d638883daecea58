use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey},
    error::Unspecified,
    hkdf, hmac,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use token_keeper::token::Secret;

const NONCE: usize = 12;

/// A key of the function's own, derived from a secret that every replica has: what one seals another opens, also after a
/// restart.
pub struct Key {
    aead: RandomizedNonceKey,
    mac: hmac::Key,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// The key for `function` (its public URL) out of `secret`, by HKDF-SHA-256: two functions with one client secret do
    /// not open each other's seals.
    ///
    /// # Errors
    /// When the cryptographic library refuses; it has no reason to.
    pub fn derive(secret: &Secret, function: &str) -> Result<Self, Unspecified> {
        let expand = |purpose: &str| -> Result<[u8; 32], Unspecified> {
            let mut key = [0; 32];
            hkdf::Salt::new(hkdf::HKDF_SHA256, b"etl-oauth")
                .extract(secret.expose().as_bytes())
                .expand(&[purpose.as_bytes(), function.as_bytes()], hkdf::HKDF_SHA256)?
                .fill(&mut key)?;
            Ok(key)
        };
        let aead = RandomizedNonceKey::new(&AES_256_GCM, &expand("seal:")?)?;
        Ok(Self { aead, mac: hmac::Key::new(hmac::HMAC_SHA256, &expand("mac:")?) })
    }

    /// Seals `plain` for `purpose`, as text that fits into a URL.
    pub(crate) fn seal(&self, purpose: &str, plain: &[u8]) -> Result<String, Unspecified> {
        let mut sealed = plain.to_vec();
        let nonce = self.aead.seal_in_place_append_tag(Aad::from(purpose), &mut sealed)?;
        let whole = [nonce.as_ref().as_slice(), &sealed].concat();
        Ok(URL_SAFE_NO_PAD.encode(whole))
    }

    /// Opens what was sealed for the same purpose; `None` for anything else.
    pub(crate) fn open(&self, purpose: &str, text: &str) -> Option<Vec<u8>> {
        let mut whole = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (nonce, sealed) = whole.split_at_mut_checked(NONCE)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let plain = self.aead.open_in_place(nonce, Aad::from(purpose), sealed).ok()?;
        Some(plain.to_vec())
    }

    /// A tag over `text` that only this key makes, for one purpose: a word without a colon. A tag for one purpose
    /// says nothing about tags for another, whatever the text.
    pub(super) fn tag(&self, purpose: &str, text: &str) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.mac, format!("{purpose}:{text}").as_bytes()))
    }

    /// Whether `tag` is [`Key::tag`] of `text`, in a time that tells nothing.
    pub(super) fn verify(&self, purpose: &str, text: &str, tag: &str) -> bool {
        let text = format!("{purpose}:{text}");
        URL_SAFE_NO_PAD.decode(tag).is_ok_and(|tag| hmac::verify(&self.mac, text.as_bytes(), &tag).is_ok())
    }
}

/// 256 random bits as text that fits into a cookie and a URL.
pub(crate) fn random() -> Result<String, Unspecified> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(secret: &str, function: &str) -> Key {
        Key::derive(&Secret::new(secret), function).unwrap()
    }

    #[test]
    fn only_the_same_key_and_purpose_open_a_seal() {
        let sealed = key("s", "f").seal("state", b"plain").unwrap();
        assert_eq!(key("s", "f").open("state", &sealed).unwrap(), b"plain");
        assert!(key("s", "g").open("state", &sealed).is_none());
        assert!(key("t", "f").open("state", &sealed).is_none());
        assert!(key("s", "f").open("other", &sealed).is_none());
        for at in 0..sealed.len() {
            let mut bytes = sealed.clone().into_bytes();
            bytes[at] ^= 1;
            if let Ok(text) = String::from_utf8(bytes) {
                assert!(key("s", "f").open("state", &text).is_none(), "{at}");
            }
        }
        for text in ["", "a", "####", "é", &"A".repeat(10_000)] {
            assert!(key("s", "f").open("state", text).is_none());
        }
    }

    #[test]
    fn two_seals_of_one_text_differ() {
        let key = key("s", "f");
        assert_ne!(key.seal("p", b"x").unwrap(), key.seal("p", b"x").unwrap());
    }

    #[test]
    fn a_tag_verifies_for_its_text_alone() {
        let key = key("s", "f");
        let tag = key.tag("p", "a");
        let verify = |text, tag| key.verify("p", text, tag);
        assert!(verify("a", &tag) && !verify("b", &tag) && !verify("a", "") && !verify("a", "é"));
        assert!(!key.verify("q", "a", &tag));
    }
}
