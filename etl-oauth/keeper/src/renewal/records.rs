//! Token records as values of a store: the one place that turns the one into the other.

use jiff::Timestamp;

use crate::{
    store::{ByteStore, Bytes, Key, Meta, StoreError, Value, Version},
    text,
    token::{CorruptRecord, Record},
};

/// The longest record in bytes of JSON. Sealed and in base64 twice it is half of what Kubernetes and NATS take (1 MiB).
const LONGEST: usize = 256 << 10;
/// How many dropped fields, and how much of each name, a log line shows.
const SHOWN: (usize, usize) = (5, 64);

/// A token record as it was read or written, with the version that the next write must name.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The record.
    pub record: Record,
    /// Its version.
    pub version: Version,
}

/// Token records in any store.
pub trait RecordStore: ByteStore {
    /// Reads an account's record; `None` where there is none.
    fn load(&self, key: &Key) -> impl Future<Output = Result<Option<Stored>, StoreError>> + Send {
        async { self.get(key).await?.map(read).transpose() }
    }

    /// Writes an account's record over the version `was`, as [`ByteStore::put`] does; `due_at` is when it has to be looked at
    /// again.
    fn save(
        &self,
        key: &Key,
        record: &Record,
        due_at: Option<Timestamp>,
        was: Option<&Version>,
    ) -> impl Future<Output = Result<Version, StoreError>> + Send {
        async move {
            let tag = Some(record.state().as_str().to_owned());
            let meta = Meta { generation: record.generation, due_at, tag };
            self.put(key, &written(key, record), &meta, was).await
        }
    }
}

impl<S: ByteStore> RecordStore for S {}

fn read(there: Value) -> Result<Stored, StoreError> {
    let Value { bytes, version, .. } = there;
    match Record::from_json(&bytes) {
        Ok(record) => Ok(Stored { record, version }),
        Err(err) => Err(StoreError::from(err).at(version)),
    }
}

impl From<CorruptRecord> for StoreError {
    fn from(err: CorruptRecord) -> Self {
        Self::Corrupt(err.to_string().into()).because(err)
    }
}

/// The record as it is stored: without the largest of what the provider's answer holds beside the tokens, where all of it is
/// too long.
fn written(key: &Key, record: &Record) -> Bytes {
    let json = record.to_json();
    let (Some(excess), Some(tokens)) = (json.len().checked_sub(LONGEST + 1), &record.tokens) else { return json };
    let size = serde_json::to_vec(&tokens.answer).map_or(0, |json| json.len());
    let (answer, dropped) = tokens.answer.within(size.saturating_sub(excess + 1));
    let mut tokens = tokens.clone();
    tokens.answer = answer;
    let (some, longest) = SHOWN;
    let names: Vec<String> = dropped.iter().take(some).map(|name| text::cut(name, longest)).collect();
    tracing::warn!(
        account = key.name(),
        dropped = dropped.len(),
        fields = names.join(", "),
        "the provider's answer is too long for the store: its largest fields are not kept"
    );
    Record { tokens: Some(tokens), ..record.clone() }.to_json()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        store::Memory,
        token::{Secret, Tokens},
    };

    fn record() -> Record {
        let tokens = Tokens::bare(Some(Secret::new("marker")), None);
        Record { generation: 3, tokens: Some(tokens), ..Record::default() }
    }

    async fn kept(record: &Record) -> (usize, Record) {
        let (memory, key) = (Memory::default(), Key::default());
        memory.save(&key, record, None, None).await.unwrap();
        let value = memory.get(&key).await.unwrap().unwrap();
        (value.bytes.len(), memory.load(&key).await.unwrap().unwrap().record)
    }

    #[tokio::test]
    async fn s17_an_answer_of_many_unknown_fields_is_cut_to_what_every_store_takes() {
        let unknown = |n: usize| (format!("unknown-{n}"), serde_json::Value::from("x".repeat(9_000)));
        let small = ("instance_url".to_owned(), serde_json::Value::from("https://acme.example"));
        let mut record = record();
        record.tokens.as_mut().unwrap().answer =
            (0..100).map(unknown).chain([small]).collect::<serde_json::Map<_, _>>().into();
        let (size, read) = kept(&record).await;
        assert!(size <= LONGEST, "{size}");
        let tokens = read.tokens.unwrap();
        assert_eq!(tokens.access_token.expose(), "marker");
        assert_eq!(tokens.answer.get("instance_url"), Some("https://acme.example".into()));
        assert!(tokens.answer.fields().len() > 20, "no more than need be");
        // One field of any size, and a name of any size.
        for (name, value) in [("x".to_owned(), "y".repeat(900_000)), ("n".repeat(900_000), "z".to_owned())] {
            record.tokens.as_mut().unwrap().answer = serde_json::Map::from_iter([(name, value.into())]).into();
            assert!(kept(&record).await.0 < 1000);
        }
    }

    #[tokio::test]
    async fn b5_a_damaged_record_is_an_error_that_names_its_version() {
        let (memory, key) = (Memory::default(), Key::default());
        let mut was = None;
        for damaged in ["", "{", "[]", "null", r#"{"tokens":{}}"#] {
            was = Some(memory.put(&key, damaged.as_bytes(), &Meta::default(), was.as_ref()).await.unwrap());
            let Err(StoreError::Damaged { why, version }) = memory.load(&key).await else {
                panic!("{damaged} is read")
            };
            assert!(matches!(*why, StoreError::Corrupt(_)), "{why}");
            assert_eq!(Some(version), was);
        }
    }
}
