use std::sync::{Arc, Once};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::JobError;
use token_keeper::{
    store::{Store, StoreError, StoreOptions, Stored, TokenStore, Version},
    token::Record,
};

/// What a job remembers of an account between its runs: where it got to, what it may still ask for. It lives in the same
/// kind of store as the tokens, sealed like them, under a name of its own: `FUNCTION.job`.
#[derive(Clone, Debug)]
pub struct JobState {
    pub(super) store: Arc<Store>,
    pub(super) account: String,
}

/// What was read, for the write that names it.
#[derive(Clone, Debug, Default)]
pub struct Entry<T> {
    /// The job's own notes.
    pub notes: T,
    /// The notes as they were stored.
    read: Option<Value>,
    stored: Option<(Record, Version)>,
}

/// How often a write gives way to writes of notes under other names.
const TRIES: u32 = 8;

/// The options of the store of ledgers, for the function whose tokens live in a store with these.
#[must_use]
pub fn options(options: &StoreOptions, function: &str) -> StoreOptions {
    let mut options = options.clone();
    // No function has a dot in its name.
    options.function = format!("{function}.job");
    options.path = options.path.map(|path| path.join(&options.function));
    // Losing a ledger loses no grant.
    options.rotates = false;
    options
}

/// Opens the store of ledgers beside the store of tokens.
///
/// # Errors
/// As [`Store::open`], and when the store can't compare and swap.
pub async fn open(kind: &str, tokens: &StoreOptions, function: &str) -> Result<Store, StoreError> {
    let store = Store::open(kind, &options(tokens, function)).await?;
    let can = store.capabilities();
    if can.read_back && can.compare_and_swap {
        return Ok(store);
    }
    Err(StoreError::Config(format!(
        "store={kind} can't be read back, and this job has to remember where it got to: choose kubernetes, nats, postgres \
         or file"
    )))
}

impl JobState {
    /// The ledger of an account.
    #[must_use]
    pub fn new(store: Arc<Store>, account: &str) -> Self {
        Self { store, account: account.to_owned() }
    }

    /// Reads the notes under `name`; defaults where there are none.
    ///
    /// # Errors
    /// When the store fails, or holds something else there.
    pub async fn read<T: DeserializeOwned + Default>(&self, name: &str) -> Result<Entry<T>, JobError> {
        let Some(Stored { record, version }) = self.store.load(&self.account).await? else {
            return Ok(Entry { notes: T::default(), read: None, stored: None });
        };
        let read = record.notes.get(name).cloned();
        let notes = match &read {
            Some(notes) => serde_json::from_value(notes.clone())
                .map_err(|_| StoreError::Refused(format!("the notes of {name} are not this job's")))?,
            None => T::default(),
        };
        Ok(Entry { notes, read, stored: Some((record, version)) })
    }

    /// Writes the notes under `name` if they are still as they were when `was` was read. Notes under other names stay as
    /// they are.
    ///
    /// # Errors
    /// [`JobError::Overtaken`] where they changed; else when the store fails.
    pub async fn write<T: Serialize>(&self, name: &str, was: Entry<T>) -> Result<Entry<T>, JobError> {
        // Within a process it is of use, so that this is no error; who needs more finds out before a restart shows it.
        if matches!(*self.store, Store::Memory(_)) {
            static WARNED: Once = Once::new();
            WARNED.call_once(|| {
                tracing::warn!(
                    "what the job remembers ends with this process: choose a store that can be read back, such as kubernetes"
                );
            });
        }
        let notes = serde_json::to_value(&was.notes).map_err(|err| JobError::Failed(err.to_string()))?;
        let mut stored = was.stored;
        for _ in 0..TRIES {
            let (mut record, version) = stored.unzip();
            let mut record = record.take().unwrap_or_default();
            record.generation += 1;
            record.notes.insert(name.to_owned(), notes.clone());
            match self.store.save(&self.account, &record, version.as_ref()).await {
                Ok(version) => {
                    return Ok(Entry { notes: was.notes, read: Some(notes), stored: Some((record, version)) });
                }
                Err(StoreError::Conflict) => {}
                Err(err) => return Err(err.into()),
            }
            let there = self.store.load(&self.account).await?;
            if there.as_ref().and_then(|there| there.record.notes.get(name)) != was.read.as_ref() {
                break;
            }
            stored = there.map(|there| (there.record, there.version));
        }
        Err(JobError::Overtaken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use token_keeper::store::Memory;

    #[tokio::test]
    async fn notes_are_kept_by_name_and_written_by_one_of_two() {
        let store = Arc::new(Store::Memory(Memory::default()));
        let ledger = JobState::new(Arc::clone(&store), "default");
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
        assert!(JobState::new(store, "second").read::<String>("one").await.unwrap().notes.is_empty());
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
