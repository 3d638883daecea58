use std::{fmt, str::FromStr};

use aws_lc_rs::aead::{AES_256_GCM, RandomizedNonceKey};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::zeroize::Zeroizing;

/// The keys of the secret `etl-oauth-seal-keys`: lines `key-id:base64` of 32 random bytes each. The first seals, any opens.
/// Empty lines and lines that begin with `#` are passed over.
///
/// To change the key, put a new line first and keep the old ones until every record was written anew.
///
/// ```
/// use token_keeper::seal::{KeyRing, Purpose, open, seal};
///
/// let ring: KeyRing = "2026-01:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".parse()?;
/// let purpose = Purpose { function: "etl-oauth", account: "default" };
/// let sealed = seal(&ring, purpose, 1, b"secret");
/// assert_eq!(&**open(&ring, purpose, &sealed)?.1, b"secret");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct KeyRing(Vec<Key>);

pub(super) struct Key {
    pub(super) id: String,
    pub(super) key: RandomizedNonceKey,
}

/// What is wrong with a key ring. Names lines, never shows them: a line may be nothing but a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyRingError {
    /// No line holds a key.
    #[error("holds no key: it wants lines `key-id:base64 of 32 random bytes`")]
    Empty,
    /// No `:`, or nothing readable before it.
    #[error("line {0} is not `key-id:base64`; a key-id has letters, digits, `-`, `_` and `.`")]
    Line(usize),
    /// Not base64, or not 32 bytes.
    #[error("line {0} does not hold base64 of 32 bytes: make a key with `head -c 32 /dev/urandom | base64`")]
    Key(usize),
    /// Two keys of one name.
    #[error("line {0} repeats a key-id")]
    Repeated(usize),
}

impl KeyRing {
    /// The id of the key that seals.
    #[must_use]
    pub fn first_id(&self) -> &str {
        &self.first().id
    }

    #[expect(clippy::indexing_slicing, reason = "parsing is the only way to make a ring, and refuses an empty one")]
    pub(super) fn first(&self) -> &Key {
        &self.0[0]
    }

    pub(super) fn get(&self, id: &str) -> Option<&RandomizedNonceKey> {
        self.0.iter().find(|key| key.id == id).map(|key| &key.key)
    }
}

impl FromStr for KeyRing {
    type Err = KeyRingError;

    fn from_str(text: &str) -> Result<Self, KeyRingError> {
        let mut keys: Vec<Key> = Vec::new();
        for (number, line) in (1..).zip(text.lines().map(str::trim)) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (id, key) = line.split_once(':').ok_or(KeyRingError::Line(number))?;
            let is_named = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            if id.is_empty() || !id.bytes().all(is_named) {
                return Err(KeyRingError::Line(number));
            }
            if keys.iter().any(|key| key.id == id) {
                return Err(KeyRingError::Repeated(number));
            }
            let bytes = STANDARD.decode(key.trim()).map(Zeroizing::new).map_err(|_| KeyRingError::Key(number))?;
            let key = RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|_| KeyRingError::Key(number))?;
            keys.push(Key { id: id.to_owned(), key });
        }
        if keys.is_empty() { Err(KeyRingError::Empty) } else { Ok(Self(keys)) }
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.id)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_in_order_and_debug_shows_their_names_alone() {
        let key = STANDARD.encode([7; 32]);
        let ring: KeyRing = format!("# new\n\n b:{key} \r\na:{key}\n").parse().unwrap();
        assert_eq!(ring.first_id(), "b");
        assert!(ring.get("a").is_some() && ring.get("c").is_none());
        assert_eq!(format!("{ring:?}"), r#"["b", "a"]"#);
    }

    #[test]
    fn what_is_wrong_is_named_by_its_line_and_never_shown() {
        let key = STANDARD.encode([7; 32]);
        let short = STANDARD.encode([7; 31]);
        for (text, wanted) in [
            (String::new(), KeyRingError::Empty),
            ("# a:b".into(), KeyRingError::Empty),
            (key.clone(), KeyRingError::Line(1)),
            (format!("\n:{key}"), KeyRingError::Line(2)),
            (format!("a b:{key}"), KeyRingError::Line(1)),
            (format!("a:{short}"), KeyRingError::Key(1)),
            ("a:!".into(), KeyRingError::Key(1)),
            (format!("a:{key}\na:{key}"), KeyRingError::Repeated(2)),
        ] {
            let err = text.parse::<KeyRing>().unwrap_err();
            assert_eq!(err, wanted);
            assert!(!err.to_string().contains(&key));
        }
    }
}
