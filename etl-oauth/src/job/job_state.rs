use std::sync::{Arc, Once};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::JobError;
use token_keeper::store::{
    self, ByteStore, Bytes, Cell, Key, KeyCell, Kind, Meta, Store, StoreError, StoreOptions, Updated, Version,
};

/// What a job remembers of an account between its runs: where it got to, what it may still ask for. It is a value of its
/// own in the store of the tokens, sealed like them, of the kind [`Kind::JOB`].
#[derive(Clone, Debug)]
pub struct JobState {
    pub(super) store: Arc<Store>,
    pub(super) key: Key,
}

/// What was read, for the write that names it.
#[derive(Clone, Debug, Default)]
pub struct Entry<T> {
    /// The job's own notes.
    pub notes: T,
    /// The notes as they were stored.
    read: Option<Value>,
}

/// All that is remembered of an account, by name. Version 0.2 wrote it as the notes of a token record without tokens, in
/// which the same fields have the same names: each reads what the other wrote.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Memory {
    /// Counts the writes.
    generation: u64,
    notes: Map<String, Value>,
}

/// Opens the store of what the jobs of `function` remember, where that is another store than the one of the tokens.
///
/// # Errors
/// As [`Store::open`] and [`check`].
pub async fn open(kind: &str, tokens: &StoreOptions, function: &str) -> Result<Store, StoreError> {
    let mut options = tokens.clone();
    options.function = function.to_owned();
    // Losing what a job remembers loses no grant.
    options.rotates = false;
    let store = Store::open(kind, &options).await?;
    check(&store).map(|()| store)
}

/// Whether `store` can hold what jobs remember.
///
/// # Errors
/// [`StoreError::Config`] when it cannot compare and swap.
pub fn check(store: &Store) -> Result<(), StoreError> {
    let can = store.capabilities();
    if can.read_back && can.compare_and_swap {
        return Ok(());
    }
    Err(StoreError::config(format!(
        "store={} can't be read back, and this job has to remember where it got to: choose kubernetes, nats, postgres or \
         file",
        store.kind()
    )))
}

impl JobState {
    /// What is remembered of the account at this key of tokens.
    #[must_use]
    pub fn new(store: Arc<Store>, account: &Key) -> Self {
        Self { store, key: account.of_kind(Kind::JOB) }
    }

    /// Reads the notes under `name`; defaults where there are none.
    ///
    /// # Errors
    /// When the store fails, or holds something else there.
    pub async fn read<T: DeserializeOwned + Default>(&self, name: &str) -> Result<Entry<T>, JobError> {
        let there = self.cell().load().await?;
        let read = there.and_then(|(mut memory, _)| memory.notes.remove(name));
        let notes = match &read {
            Some(notes) => serde_json::from_value(notes.clone())
                .map_err(|err| StoreError::refused(format!("the notes of {name} are not this job's")).because(err))?,
            None => T::default(),
        };
        Ok(Entry { notes, read })
    }

    /// Writes the notes under `name` if they are still as they were when `was` was read. Notes under other names stay as
    /// they are.
    ///
    /// # Errors
    /// [`JobError::Overtaken`] where they changed; else when the store fails.
    pub async fn write<T: Serialize>(&self, name: &str, was: Entry<T>) -> Result<Entry<T>, JobError> {
        // Within a process it is of use, so that this is no error; a user who needs more learns it before a restart.
        if matches!(*self.store, Store::Memory(_)) {
            static WARNED: Once = Once::new();
            WARNED.call_once(|| {
                tracing::warn!(
                    "what the job remembers ends with this process: choose a store that can be read back, such as kubernetes"
                );
            });
        }
        let notes = serde_json::to_value(&was.notes).map_err(|err| JobError::Failed(err.to_string()))?;
        let cell = self.cell();
        let updated = store::update(&cell, |there| {
            let mut memory = there.cloned().unwrap_or_default();
            if memory.notes.get(name) != was.read.as_ref() {
                return Ok(None);
            }
            memory.generation += 1;
            memory.notes.insert(name.to_owned(), notes.clone());
            Ok(Some(memory))
        });
        match updated.await? {
            Updated::Written { .. } => Ok(Entry { notes: was.notes, read: Some(notes) }),
            Updated::Left(_) => Err(JobError::Overtaken),
        }
    }

    fn cell(&self) -> MemoryCell<'_> {
        MemoryCell(KeyCell { store: &self.store, key: &self.key })
    }
}

/// Where what is remembered stands.
struct MemoryCell<'a>(KeyCell<'a, Store>);

impl Cell for MemoryCell<'_> {
    type Value = Memory;

    async fn load(&self) -> Result<Option<(Memory, Version)>, StoreError> {
        let Some(((bytes, _), version)) = self.0.load().await? else { return Ok(None) };
        match serde_json::from_slice(&bytes) {
            Ok(memory) => Ok(Some((memory, version))),
            Err(err) => Err(StoreError::Corrupt("what the job remembers is damaged".into()).because(err).at(version)),
        }
    }

    async fn save(&self, memory: &Memory, was: Option<&Version>) -> Result<Version, StoreError> {
        let json = serde_json::to_vec(memory).map_err(|err| StoreError::refused(err.to_string()).because(err))?;
        let meta = Meta { generation: memory.generation, due_at: None, tag: Some("job".into()) };
        self.0.save(&(Bytes::new(json), meta), was).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use token_keeper::{store, token::Record};

    fn key(account: &str) -> Key {
        Key::account(account).unwrap()
    }

    #[tokio::test]
    async fn notes_are_kept_by_name_and_written_by_one_of_two() {
        let store = Arc::new(Store::Memory(store::Memory::default()));
        let ledger = JobState::new(Arc::clone(&store), &key("default"));
        let mut one: Entry<Vec<u8>> = ledger.read("one").await.unwrap();
        let other: Entry<Vec<u8>> = ledger.read("one").await.unwrap();
        one.notes.push(7);
        let one = ledger.write("one", one).await.unwrap();
        assert!(matches!(ledger.write("one", other).await, Err(JobError::Overtaken)));
        // Notes under another name are no obstacle.
        let mut other: Entry<u32> = ledger.read("other").await.unwrap();
        other.notes = 3;
        let one = ledger.write("one", one).await.unwrap();
        ledger.write("other", other).await.unwrap();
        ledger.write("one", one).await.unwrap();
        assert_eq!(ledger.read::<u32>("other").await.unwrap().notes, 3);
        let two: Entry<String> = ledger.read("two").await.unwrap();
        ledger.write("two", two).await.unwrap();
        assert_eq!(ledger.read::<Vec<u8>>("one").await.unwrap().notes, [7]);
        assert!(ledger.read::<Vec<u8>>("two").await.is_err());
        assert!(JobState::new(store, &key("second")).read::<String>("one").await.unwrap().notes.is_empty());
    }

    /// Replicas of two versions share a store while one follows the other.
    #[tokio::test]
    async fn what_version_0_2_wrote_as_a_token_record_is_read_and_it_reads_what_is_written_now() {
        let store = Arc::new(Store::Memory(store::Memory::default()));
        let ledger = JobState::new(Arc::clone(&store), &key("default"));
        let notes = Map::from_iter([("one".to_owned(), Value::from(3)), ("two".to_owned(), Value::from("x"))]);
        let before = Record { generation: 4, notes, ..Record::default() };
        store.put(&ledger.key, &before.to_json(), &Meta::default(), None).await.unwrap();
        let mut one: Entry<u32> = ledger.read("one").await.unwrap();
        assert_eq!(one.notes, 3);
        one.notes = 5;
        ledger.write("one", one).await.unwrap();
        let written = store.get(&ledger.key).await.unwrap().unwrap();
        let read = Record::from_json(&written.bytes).unwrap();
        assert_eq!((read.generation, &read.notes["one"], &read.notes["two"]), (5, &Value::from(5), &Value::from("x")));
    }

    #[cfg(feature = "file")]
    #[tokio::test]
    async fn a_file_of_version_0_2_is_found_where_it_is() {
        use base64::Engine as _;
        let root = tempfile::tempdir().unwrap();
        let ring = format!("one:{}", base64::engine::general_purpose::STANDARD.encode([7; 32]));
        std::fs::write(root.path().join("etl-oauth-seal-keys"), ring).unwrap();
        let mut options = StoreOptions::new("etl", token_keeper::secrets::Secrets::new(root.path(), ""));
        (options.path, options.allow_ephemeral) = (Some(root.path().join("tokens")), true);
        let now = Arc::new(open("file", &options, "etl").await.unwrap());
        let ledger = JobState::new(Arc::clone(&now), &key("default"));
        // As 0.2 opened it: a store of its own in a folder of its own.
        options.path = Some(root.path().join("tokens/etl.job"));
        options.function = "etl.job".into();
        let then = Store::open("file", &options).await.unwrap();
        let before = Record { generation: 1, notes: Map::from_iter([("n".into(), 9.into())]), ..Record::default() };
        then.put(&key("default"), &before.to_json(), &Meta { generation: 1, ..Meta::default() }, None).await.unwrap();
        assert_eq!(ledger.read::<u32>("n").await.unwrap().notes, 9);
    }

    #[cfg(feature = "gateway")]
    #[tokio::test]
    async fn a_store_that_cannot_be_read_back_is_a_mistake_that_names_others() {
        let folder = tempfile::tempdir().unwrap();
        let mut options = StoreOptions::new("etl", token_keeper::secrets::Secrets::new(folder.path(), ""));
        options.gateway_url = Some("http://127.0.0.1:1".parse().unwrap());
        let err = open("gateway", &options, "etl").await.unwrap_err();
        assert!(err.to_string().contains("choose kubernetes"), "{err}");
    }
}
