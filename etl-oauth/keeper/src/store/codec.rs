use std::sync::{Arc, Mutex, PoisonError};

use secrecy::zeroize::Zeroizing;

use super::StoreError;
use crate::{
    seal::{self, KeyRing, Purpose},
    secrets::Secrets,
    text,
    token::{Record, Secret},
};

/// The longest record in bytes of JSON. Sealed and in base64 twice it is half of what Kubernetes and NATS take (1 MiB).
const LONGEST: usize = 256 << 10;
/// How many dropped fields, and how much of each name, a log line shows.
const SHOWN: (usize, usize) = (5, 64);

const KEYS: &str = "etl-oauth-seal-keys";

/// Turns a record into the bytes that a store keeps, and back: sealed, or plain where the store may hold it so.
///
/// The key ring is read anew for every record, so that a changed secret needs no restart. One that cannot be read changes
/// nothing while an earlier one is known.
#[derive(Debug)]
pub struct Codec {
    function: String,
    secrets: Secrets,
    /// Plain records are neither written nor read: whoever can write to the store could else plant one.
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

    /// Seals where the secret `etl-oauth-seal-keys` is mounted, for a store that keeps secrets itself. Plain records are
    /// read all the same, and sealed when they are next written.
    ///
    /// # Errors
    /// [`StoreError::Config`] when that secret is there and holds no key ring.
    pub fn optional(function: impl Into<String>, secrets: Secrets) -> Result<Self, StoreError> {
        let codec = Self { function: function.into(), secrets, always: false, known: Mutex::default() };
        codec.ring()?;
        Ok(codec)
    }

    /// The function whose records these are.
    #[must_use]
    pub fn function(&self) -> &str {
        &self.function
    }

    /// The bytes to keep of a record.
    ///
    /// # Errors
    /// [`StoreError::Config`] when there is no key to seal with.
    pub fn encode(&self, account: &str, record: &Record) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let mut plain = record.to_json();
        if plain.len() > LONGEST {
            plain = bounded(account, record, plain.len() - LONGEST);
        }
        Ok(match self.ring()? {
            Some(ring) => Zeroizing::new(seal::seal(&ring, self.purpose(account), record.generation, &plain)),
            None => plain,
        })
    }

    /// The record that `bytes` hold.
    ///
    /// # Errors
    /// [`StoreError::Sealed`] when they do not open, [`StoreError::Corrupt`] when they are no record.
    pub fn decode(&self, account: &str, bytes: &[u8]) -> Result<Record, StoreError> {
        let key = seal::sealed_with(bytes)?;
        match (self.ring()?, key) {
            (_, None) if !self.always => Ok(Record::from_json(bytes)?),
            (None, Some(key)) => Err(seal::OpenError::UnknownKey(key).into()),
            (None, None) => Err(seal::OpenError::NotSealed.into()),
            (Some(ring), _) => {
                let (generation, plain) = seal::open(&ring, self.purpose(account), bytes)?;
                let record = Record::from_json(&plain)?;
                debug_assert_eq!(record.generation, generation, "sealed with the record's own generation");
                Ok(record)
            }
        }
    }

    fn purpose<'a>(&'a self, account: &'a str) -> Purpose<'a> {
        Purpose { function: &self.function, account }
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
        let Some((_, ring)) = known else { return Err(StoreError::Config(problem.to_owned())) };
        tracing::warn!(function = self.function, problem, "the seal keys cannot be read; keeping those of before");
        Ok(Some(Arc::clone(ring)))
    }
}

/// The record without so many bytes of what the provider's answer holds beside the tokens.
fn bounded(account: &str, record: &Record, excess: usize) -> Zeroizing<Vec<u8>> {
    let mut record = record.clone();
    if let Some(tokens) = &mut record.tokens {
        let size = serde_json::to_vec(&tokens.answer).map_or(0, |json| json.len());
        let (kept, dropped) = tokens.answer.within(size.saturating_sub(excess));
        tokens.answer = kept;
        let (some, longest) = SHOWN;
        let names: Vec<String> = dropped.iter().take(some).map(|name| text::cut(name, longest)).collect();
        tracing::warn!(
            account,
            dropped = dropped.len(),
            fields = names.join(", "),
            "the provider's answer is too long for the store: its largest fields are not kept"
        );
    }
    record.to_json()
}

fn parse(text: &Secret) -> Result<KeyRing, seal::KeyRingError> {
    text.expose().parse()
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    use super::*;
    use crate::token::Tokens;

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

    fn record() -> Record {
        let tokens = Tokens::bare(Some(Secret::new("marker")), None);
        Record { generation: 3, tokens: Some(tokens), ..Record::default() }
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
        let bytes = codec.encode("default", &record()).unwrap();
        assert!(!shows(&bytes));
        assert_eq!(codec.decode("default", &bytes).unwrap().generation, 3);
        assert_eq!(codec.decode("other", &bytes).unwrap_err(), seal::OpenError::Forged("a".into()).into());
        assert_eq!(codec.decode("default", &record().to_json()).unwrap_err(), seal::OpenError::NotSealed.into());
    }

    #[test]
    fn s17_an_answer_of_many_unknown_fields_is_cut_to_what_every_store_takes() {
        let it = Setting::new();
        it.mount(b"a");
        let codec = Codec::sealed("etl", it.secrets()).unwrap();
        let unknown = |n: usize| (format!("unknown-{n}"), serde_json::Value::from("x".repeat(9_000)));
        let small = ("instance_url".to_owned(), serde_json::Value::from("https://acme.example"));
        let mut record = record();
        record.tokens.as_mut().unwrap().answer =
            (0..100).map(unknown).chain([small]).collect::<serde_json::Map<_, _>>().into();
        let bytes = codec.encode("default", &record).unwrap();
        assert!(bytes.len() < 400 << 10, "{}", bytes.len());
        let tokens = codec.decode("default", &bytes).unwrap().tokens.unwrap();
        assert_eq!(tokens.access_token.expose(), "marker");
        assert_eq!(tokens.answer.get("instance_url"), Some("https://acme.example".into()));
        assert!(tokens.answer.fields().len() > 20, "no more than need be");
        // One field of any size, and a name of any size.
        for (name, value) in [("x".to_owned(), "y".repeat(900_000)), ("n".repeat(900_000), "z".to_owned())] {
            record.tokens.as_mut().unwrap().answer = serde_json::Map::from_iter([(name, value.into())]).into();
            assert!(codec.encode("default", &record).unwrap().len() < 1000);
        }
    }

    #[test]
    fn a_new_first_key_seals_the_next_write_without_a_restart() {
        let it = Setting::new();
        it.mount(b"a");
        let codec = Codec::sealed("etl", it.secrets()).unwrap();
        let old = codec.encode("default", &record()).unwrap();
        it.mount(b"ba");
        assert!(codec.decode("default", &old).is_ok());
        let new = codec.encode("default", &record()).unwrap();
        assert_eq!(seal::sealed_with(&new), Ok(Some("b".into())));
        it.mount(b"b");
        assert!(codec.decode("default", &new).is_ok());
        assert_eq!(codec.decode("default", &old).unwrap_err(), seal::OpenError::UnknownKey("a".into()).into());
    }

    #[test]
    fn keys_that_vanish_or_break_leave_the_known_ones_in_use() {
        let it = Setting::new();
        it.mount(b"a");
        let codec = Codec::optional("etl", it.secrets()).unwrap();
        let sealed = codec.encode("default", &record()).unwrap();
        it.unmount();
        assert!(!shows(&codec.encode("default", &record()).unwrap()), "never plain again");
        std::fs::write(it.0.path().join(KEYS), "nonsense").unwrap();
        assert!(codec.decode("default", &sealed).is_ok());
        let err = Codec::optional("etl", it.secrets()).unwrap_err();
        assert!(matches!(&err, StoreError::Config(why) if why.contains("line 1")), "{err}");
    }

    #[test]
    fn optional_sealing_begins_with_the_first_key_and_reads_what_was_plain() {
        let it = Setting::new();
        let codec = Codec::optional("etl", it.secrets()).unwrap();
        let plain = codec.encode("default", &record()).unwrap();
        assert!(shows(&plain));
        it.mount(b"a");
        assert_eq!(codec.decode("default", &plain).unwrap().generation, 3);
        let sealed = codec.encode("default", &record()).unwrap();
        assert!(!shows(&sealed));
        it.unmount();
        let without = Codec::optional("etl", it.secrets()).unwrap();
        assert_eq!(without.decode("default", &sealed).unwrap_err(), seal::OpenError::UnknownKey("a".into()).into());
    }

    #[test]
    fn b5_damaged_bytes_are_an_error_and_not_an_empty_record() {
        let it = Setting::new();
        let codec = Codec::optional("etl", it.secrets()).unwrap();
        for damaged in ["", "{\"generation\":", "{\"sealed\":1}", "{\"sealed\":1,\"key\":\"a\"}"] {
            assert!(codec.decode("default", damaged.as_bytes()).is_err(), "{damaged}");
        }
    }
}
