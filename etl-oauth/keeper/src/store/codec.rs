use std::sync::{Arc, Mutex, PoisonError};

use secrecy::zeroize::Zeroizing;

use super::{Key, StoreError};
use crate::{
    seal::{self, KeyRing, Purpose},
    secrets::Secrets,
    token::Secret,
};

const KEYS: &str = "etl-oauth-seal-keys";

/// Turns a value into the bytes that a store keeps, and back: sealed, or plain where the store may hold it so.
///
/// The key ring is read anew for every value, so that a changed secret needs no restart. One that cannot be read changes
/// nothing while an earlier one is known.
#[derive(Debug)]
pub struct Codec {
    function: String,
    secrets: Secrets,
    /// Plain values are neither written nor read: a writer of the store could plant one.
    always: bool,
    known: Mutex<Option<(String, Arc<KeyRing>)>>,
}

impl Codec {
    /// Seals for a store that any number of people may read.
    ///
    /// # Errors
    /// [`StoreError::Config`] when the secret `etl-oauth-seal-keys` is missing or holds no key ring.
    pub fn sealed(function: impl Into<String>, secrets: Secrets) -> Result<Self, StoreError> {
        let codec = Self { function: function.into(), secrets, always: true, known: Mutex::default() };
        codec.ring()?;
        Ok(codec)
    }

    /// Seals where the secret `etl-oauth-seal-keys` is mounted, for a store that keeps secrets itself. Plain values are
    /// read all the same, and sealed when they are next written.
    ///
    /// # Errors
    /// [`StoreError::Config`] when that secret is there and holds no key ring.
    pub fn optional(function: impl Into<String>, secrets: Secrets) -> Result<Self, StoreError> {
        let codec = Self { function: function.into(), secrets, always: false, known: Mutex::default() };
        codec.ring()?;
        Ok(codec)
    }

    /// The function whose values these are.
    #[must_use]
    pub fn function(&self) -> &str {
        &self.function
    }

    /// The bytes to keep of a value.
    ///
    /// # Errors
    /// [`StoreError::Config`] when there is no key to seal with.
    pub fn encode(&self, key: &Key, generation: u64, plain: &[u8]) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let (function, account) = (key.kind().space(&self.function), key.path());
        let purpose = Purpose { function: &function, account: &account };
        Ok(Zeroizing::new(match self.ring()? {
            Some(ring) => seal::seal(&ring, purpose, generation, plain),
            None => plain.to_vec(),
        }))
    }

    /// The value that `bytes` hold, and the generation that it was sealed with; 0 for one that is not sealed.
    ///
    /// # Errors
    /// [`StoreError::Sealed`] when they do not open.
    pub fn decode(&self, key: &Key, bytes: &[u8]) -> Result<(u64, Zeroizing<Vec<u8>>), StoreError> {
        let id = seal::sealed_with(bytes)?;
        match (self.ring()?, id) {
            (_, None) if !self.always => Ok((0, Zeroizing::new(bytes.to_vec()))),
            (None, Some(id)) => Err(seal::OpenError::UnknownKey(id).into()),
            (None, None) => Err(seal::OpenError::NotSealed.into()),
            (Some(ring), _) => {
                let (function, account) = (key.kind().space(&self.function), key.path());
                Ok(seal::open(&ring, Purpose { function: &function, account: &account }, bytes)?)
            }
        }
    }

    fn ring(&self) -> Result<Option<Arc<KeyRing>>, StoreError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let problem = match self.secrets.read(KEYS) {
            Ok(Some(text)) => {
                let digest = text.digest();
                if known.as_ref().is_none_or(|(of, _)| *of != digest) {
                    match parse(&text) {
                        Ok(ring) => *known = Some((digest, Arc::new(ring))),
                        Err(err) => {
                            return self.fall_back(&known, &format!("secret {} {err}", self.secrets.name(KEYS)));
                        }
                    }
                }
                return Ok(known.as_ref().map(|(_, ring)| Arc::clone(ring)));
            }
            Ok(None) if known.is_none() && !self.always => return Ok(None),
            Ok(None) => match self.secrets.require(KEYS) {
                Ok(_) => "the secret of the seal keys has only just appeared".to_owned(),
                Err(err) => format!("{err}; it holds lines `key-id:base64 of 32 random bytes`"),
            },
            Err(err) => err.to_string(),
        };
        self.fall_back(&known, &problem)
    }

    fn fall_back(
        &self,
        known: &Option<(String, Arc<KeyRing>)>,
        problem: &str,
    ) -> Result<Option<Arc<KeyRing>>, StoreError> {
        let Some((_, ring)) = known else { return Err(StoreError::config(problem)) };
        tracing::warn!(function = self.function, problem, "the seal keys cannot be read; keeping those of before");
        Ok(Some(Arc::clone(ring)))
    }
}

fn parse(text: &Secret) -> Result<KeyRing, seal::KeyRingError> {
    text.expose().parse()
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    use super::*;

    struct Setting(tempfile::TempDir);

    impl Setting {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn secrets(&self) -> Secrets {
            Secrets::new(self.0.path(), "")
        }

        fn mount(&self, ids: &[u8]) {
            let line = |id: &u8| format!("{}:{}\n", char::from(*id), STANDARD.encode([*id; 32]));
            std::fs::write(self.0.path().join(KEYS), ids.iter().map(line).collect::<String>()).unwrap();
        }

        fn unmount(&self) {
            std::fs::remove_file(self.0.path().join(KEYS)).unwrap();
        }
    }

    const PLAIN: &[u8] = b"{\"marker\":3}";

    fn key(account: &str) -> Key {
        Key::account(account).unwrap()
    }

    fn shows(bytes: &[u8]) -> bool {
        String::from_utf8_lossy(bytes).contains("marker")
    }

    #[test]
    fn a_store_that_seals_needs_keys_and_takes_nothing_plain() {
        let it = Setting::new();
        let err = Codec::sealed("etl", it.secrets()).unwrap_err();
        assert!(matches!(&err, StoreError::Config(why) if why.contains("etl-oauth-seal-keys is missing")), "{err}");
        it.mount(b"a");
        let codec = Codec::sealed("etl", it.secrets()).unwrap();
        let bytes = codec.encode(&key("default"), 3, PLAIN).unwrap();
        assert!(!shows(&bytes));
        assert_eq!(codec.decode(&key("default"), &bytes).unwrap(), (3, PLAIN.to_vec().into()));
        assert_eq!(codec.decode(&key("other"), &bytes).unwrap_err(), seal::OpenError::Forged("a".into()).into());
        assert_eq!(codec.decode(&key("default"), PLAIN).unwrap_err(), seal::OpenError::NotSealed.into());
    }

    #[test]
    fn a_new_first_key_seals_the_next_write_without_a_restart() {
        let it = Setting::new();
        it.mount(b"a");
        let codec = Codec::sealed("etl", it.secrets()).unwrap();
        let old = codec.encode(&key("default"), 3, PLAIN).unwrap();
        it.mount(b"ba");
        assert!(codec.decode(&key("default"), &old).is_ok());
        let new = codec.encode(&key("default"), 3, PLAIN).unwrap();
        assert_eq!(seal::sealed_with(&new), Ok(Some("b".into())));
        it.mount(b"b");
        assert!(codec.decode(&key("default"), &new).is_ok());
        assert_eq!(codec.decode(&key("default"), &old).unwrap_err(), seal::OpenError::UnknownKey("a".into()).into());
    }

    #[test]
    fn keys_that_vanish_or_break_leave_the_known_ones_in_use() {
        let it = Setting::new();
        it.mount(b"a");
        let codec = Codec::optional("etl", it.secrets()).unwrap();
        let sealed = codec.encode(&key("default"), 3, PLAIN).unwrap();
        it.unmount();
        assert!(!shows(&codec.encode(&key("default"), 3, PLAIN).unwrap()), "never plain again");
        std::fs::write(it.0.path().join(KEYS), "nonsense").unwrap();
        assert!(codec.decode(&key("default"), &sealed).is_ok());
        let err = Codec::optional("etl", it.secrets()).unwrap_err();
        assert!(matches!(&err, StoreError::Config(why) if why.contains("line 1")), "{err}");
    }

    #[test]
    fn optional_sealing_begins_with_the_first_key_and_reads_what_was_plain() {
        let it = Setting::new();
        let codec = Codec::optional("etl", it.secrets()).unwrap();
        let plain = codec.encode(&key("default"), 3, PLAIN).unwrap();
        assert!(shows(&plain));
        it.mount(b"a");
        assert_eq!(*codec.decode(&key("default"), &plain).unwrap().1, PLAIN);
        let sealed = codec.encode(&key("default"), 3, PLAIN).unwrap();
        assert!(!shows(&sealed));
        it.unmount();
        let without = Codec::optional("etl", it.secrets()).unwrap();
        assert_eq!(
            without.decode(&key("default"), &sealed).unwrap_err(),
            seal::OpenError::UnknownKey("a".into()).into()
        );
    }

    #[test]
    fn b5_damaged_bytes_are_an_error_and_not_an_empty_record() {
        let it = Setting::new();
        let codec = Codec::optional("etl", it.secrets()).unwrap();
        for damaged in ["{\"sealed\":1}", "{\"sealed\":1,\"key\":\"a\"}"] {
            assert!(codec.decode(&key("default"), damaged.as_bytes()).is_err(), "{damaged}");
        }
    }
}
