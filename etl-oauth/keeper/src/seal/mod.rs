//! Authenticated encryption of a record, with keys that can be changed while the function runs.
//!
//! A sealed text is JSON, so that a person who meets it in a store sees what it is and which key opens it:
//!
//! ```json
//! {"sealed":1,"key":"2026-01","generation":7,"text":"…"}
//! ```
//!
//! `text` is base64 of the nonce (12 bytes), the ciphertext and the tag (16 bytes) of AES-256-GCM. The nonce is random,
//! which is safe for 2³² sealings with one key (NIST SP 800-38D §8.3): a renewal a second for a century. What a text was
//! sealed for is authenticated with it: one that is copied to another function, account or generation does not open.

mod keys;

pub use keys::{KeyRing, KeyRingError};

use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::zeroize::Zeroizing;
use serde::{Deserialize, Serialize};

const FORMAT: u32 = 1;

/// What a text is sealed for, and opens for alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purpose<'a> {
    /// The function.
    pub function: &'a str,
    /// Its account.
    pub account: &'a str,
}

/// Why a text does not open. Names its key, shows nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Not a sealed text.
    #[error("what is stored is not sealed")]
    NotSealed,
    /// Of a format that is not known here.
    #[error("what is stored was sealed by a newer version (format {0}): run that version")]
    Format(u32),
    /// Begun as a sealed text, and damaged.
    #[error("what is stored is a damaged sealed text")]
    Damaged,
    /// Its key is not in the ring.
    #[error(
        "what is stored was sealed with the key {0}, which the secret etl-oauth-seal-keys does not hold: add that key"
    )]
    UnknownKey(String),
    /// Damaged, moved here from elsewhere, or sealed with another key of the same name.
    #[error(
        "what is stored does not open with the key {0}: it is damaged, or belongs to another function or account, or the key \
         was replaced under the same name"
    )]
    Forged(String),
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    sealed: u32,
    key: String,
    generation: u64,
    text: String,
}

/// Seals `plain` with the first key of `ring`.
#[must_use]
pub fn seal(ring: &KeyRing, purpose: Purpose<'_>, generation: u64, plain: &[u8]) -> Vec<u8> {
    let first = ring.first();
    let mut text = Vec::with_capacity(NONCE_LEN + plain.len() + first.key.algorithm().tag_len());
    text.extend_from_slice(plain);
    let nonce = seal_in_place(&first.key, aad(purpose, &first.id, generation), &mut text);
    text.splice(..0, nonce);
    let envelope = Envelope { sealed: FORMAT, key: first.id.clone(), generation, text: STANDARD.encode(&text) };
    // Strings and numbers: nothing of it can fail to serialise.
    serde_json::to_vec(&envelope).unwrap_or_default()
}

fn seal_in_place(key: &RandomizedNonceKey, aad: Vec<u8>, text: &mut Vec<u8>) -> [u8; NONCE_LEN] {
    #[expect(
        clippy::expect_used,
        reason = "fails without randomness and past 64 GiB alone; going on would show the token"
    )]
    let nonce = key.seal_in_place_append_tag(Aad::from(aad), text).expect("a record can be sealed");
    *nonce.as_ref()
}

/// Opens what [`seal`] made with any key of `ring`: the generation that it was sealed with, and the text.
///
/// # Errors
/// [`OpenError`].
pub fn open(ring: &KeyRing, purpose: Purpose<'_>, sealed: &[u8]) -> Result<(u64, Zeroizing<Vec<u8>>), OpenError> {
    let Envelope { key: id, generation, text, .. } = envelope(sealed)?;
    let key = ring.get(&id).ok_or_else(|| OpenError::UnknownKey(id.clone()))?;
    let forged = || OpenError::Forged(id.clone());
    let mut text = Zeroizing::new(STANDARD.decode(text).map_err(|_| forged())?);
    let (nonce, cipher) = text.split_first_chunk_mut::<NONCE_LEN>().ok_or_else(forged)?;
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let length =
        key.open_in_place(nonce, Aad::from(aad(purpose, &id, generation)), cipher).map_err(|_| forged())?.len();
    text.copy_within(NONCE_LEN..NONCE_LEN + length, 0);
    text.truncate(length);
    metrics::counter!("etl_oauth_records_opened_total", "key" => id).increment(1);
    Ok((generation, text))
}

/// The id of the key that `bytes` are sealed with; `None` where they are not sealed at all.
///
/// # Errors
/// When they are sealed, and damaged or of an unknown format.
pub fn sealed_with(bytes: &[u8]) -> Result<Option<String>, OpenError> {
    match envelope(bytes) {
        Ok(envelope) => Ok(Some(envelope.key)),
        Err(OpenError::NotSealed) => Ok(None),
        Err(err) => Err(err),
    }
}

fn envelope(bytes: &[u8]) -> Result<Envelope, OpenError> {
    #[derive(Deserialize)]
    struct Head {
        sealed: u32,
    }
    match serde_json::from_slice::<Head>(bytes) {
        Ok(Head { sealed: FORMAT }) => serde_json::from_slice(bytes).map_err(|_| OpenError::Damaged),
        Ok(Head { sealed }) => Err(OpenError::Format(sealed)),
        Err(_) => Err(OpenError::NotSealed),
    }
}

/// What is authenticated besides the text. Each part after its length, so that no two purposes are the same bytes.
fn aad(purpose: Purpose<'_>, key: &str, generation: u64) -> Vec<u8> {
    let mut aad = b"etl-oauth record".to_vec();
    aad.extend_from_slice(&FORMAT.to_be_bytes());
    for part in [purpose.function, purpose.account, key] {
        aad.extend_from_slice(&(part.len() as u64).to_be_bytes());
        aad.extend_from_slice(part.as_bytes());
    }
    aad.extend_from_slice(&generation.to_be_bytes());
    aad
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Purpose<'_> = Purpose { function: "etl", account: "default" };
    const PLAIN: &[u8] = br#"{"generation":7,"tokens":"marker"}"#;

    fn ring(ids: &[&str]) -> KeyRing {
        let line = |id: &&str| format!("{id}:{}\n", STANDARD.encode([id.as_bytes()[0]; 32]));
        ids.iter().map(line).collect::<String>().parse().unwrap()
    }

    #[test]
    fn what_was_sealed_opens_and_shows_nothing() {
        let sealed = seal(&ring(&["a"]), HERE, 7, PLAIN);
        assert_eq!(sealed_with(&sealed), Ok(Some("a".into())));
        let text = String::from_utf8(sealed.clone()).unwrap();
        assert!(text.starts_with(r#"{"sealed":1,"key":"a","generation":7,"text":""#) && !text.contains("marker"));
        let (generation, plain) = open(&ring(&["a"]), HERE, &sealed).unwrap();
        assert_eq!((generation, &**plain), (7, PLAIN));
        assert_ne!(sealed, seal(&ring(&["a"]), HERE, 7, PLAIN), "each sealing has a nonce of its own");
    }

    #[test]
    fn the_first_key_seals_and_any_opens() {
        let old = seal(&ring(&["a"]), HERE, 7, PLAIN);
        let rotated = ring(&["b", "a"]);
        assert!(open(&rotated, HERE, &old).is_ok());
        let new = seal(&rotated, HERE, 7, PLAIN);
        assert_eq!(open(&ring(&["a"]), HERE, &new), Err(OpenError::UnknownKey("b".into())));
        assert!(open(&ring(&["b"]), HERE, &new).is_ok());
    }

    #[test]
    fn a_text_opens_for_its_function_account_and_generation_alone() {
        let ring = ring(&["a", "b"]);
        let sealed = seal(&ring, HERE, 7, PLAIN);
        let forged = Err(OpenError::Forged("a".into()));
        for elsewhere in [
            Purpose { function: "other", ..HERE },
            Purpose { account: "other", ..HERE },
            Purpose { function: "etld", account: "efault" },
        ] {
            assert_eq!(open(&ring, elsewhere, &sealed), forged);
        }
        let text = String::from_utf8(sealed).unwrap();
        assert_eq!(open(&ring, HERE, text.replace(":7,", ":8,").as_bytes()), forged);
        let renamed = text.replace(r#""key":"a""#, r#""key":"b""#);
        assert_eq!(open(&ring, HERE, renamed.as_bytes()), Err(OpenError::Forged("b".into())));
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let ring = ring(&["a"]);
        let sealed = seal(&ring, HERE, 7, PLAIN);
        let envelope: Envelope = serde_json::from_slice(&sealed).unwrap();
        let bytes = STANDARD.decode(&envelope.text).unwrap();
        let with = |bytes: &[u8]| {
            let text = STANDARD.encode(bytes);
            serde_json::to_vec(&Envelope { sealed: 1, key: "a".into(), generation: 7, text }).unwrap()
        };
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&ring, HERE, &with(&changed)), Err(OpenError::Forged("a".into())), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert_eq!(open(&ring, HERE, &with(&bytes[..length])), Err(OpenError::Forged("a".into())));
        }
    }

    #[test]
    fn a_newer_format_is_told_from_no_format() {
        let newer = open(&ring(&["a"]), HERE, br#"{"sealed":2,"anything":true}"#);
        assert_eq!(newer, Err(OpenError::Format(2)));
        assert_eq!(sealed_with(br#"{"sealed":2}"#), Err(OpenError::Format(2)));
        assert_eq!(sealed_with(br#"{"sealed":1}"#), Err(OpenError::Damaged));
        for plain in [PLAIN, b"", b"[]", b"empty"] {
            assert_eq!(sealed_with(plain), Ok(None));
            assert_eq!(open(&ring(&["a"]), HERE, plain), Err(OpenError::NotSealed));
        }
    }
}
