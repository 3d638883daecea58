use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

use super::{
    Acquired, ByteStore, Bytes, Capabilities, Due, Key, Kind, Meta, Page, Scan, StoreError, Value, Version,
    index::Index,
};

/// Values in memory, shared by its clones: the store of tests that need several replicas and no server.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    values: BTreeMap<Key, (Bytes, Meta, u64)>,
    index: Index,
    leases: BTreeMap<Key, (String, Timestamp)>,
    failing: bool,
    read_only: bool,
    lost_answers: u32,
    writes: u64,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("keys", &self.values.keys()).field("leases", &self.leases).finish_non_exhaustive()
    }
}

impl Memory {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes every call fail as if the store were out of reach, or ends that.
    pub fn fail(&self, failing: bool) {
        self.state().failing = failing;
    }

    /// Makes every write fail, as a full disk does; or ends that.
    pub fn fail_writes(&self, failing: bool) {
        self.state().read_only = failing;
    }

    /// Loses the answer to the `nth` write from now on: it is taken, and an error is returned.
    pub fn lose_answer(&self, nth: u32) {
        self.state().lost_answers = nth;
    }

    /// How many writes were taken.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.state().writes
    }

    fn reachable(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.state();
        if state.failing { Err(StoreError::unavailable("switched off")) } else { Ok(state) }
    }
}

impl State {
    /// Whether a write over `was` may be made now.
    fn check(&self, key: &Key, was: Option<&Version>) -> Result<(), StoreError> {
        if self.read_only {
            return Err(StoreError::unavailable("no space left"));
        }
        let there = self.values.get(key).map(|(_, _, version)| Version::new(version));
        if there.as_ref() == was { Ok(()) } else { Err(StoreError::Conflict) }
    }

    /// Counts a write that was taken; fails where its answer is to be lost.
    fn answer(&mut self) -> Result<(), StoreError> {
        if self.lost_answers > 0 {
            self.lost_answers -= 1;
            if self.lost_answers == 0 {
                return Err(StoreError::unavailable("the answer was lost"));
            }
        }
        Ok(())
    }
}

impl ByteStore for Memory {
    fn capabilities(&self) -> Capabilities {
        Capabilities { read_back: true, compare_and_swap: true, lease: true, accounts: true, index: true }
    }

    async fn get(&self, key: &Key) -> Result<Option<Value>, StoreError> {
        let state = self.reachable()?;
        let value = |(bytes, meta, version): &(Bytes, Meta, u64)| Value {
            bytes: bytes.clone(),
            version: Version::new(version),
            meta: meta.clone(),
        };
        Ok(state.values.get(key).map(value))
    }

    async fn put(&self, key: &Key, bytes: &[u8], meta: &Meta, was: Option<&Version>) -> Result<Version, StoreError> {
        let mut state = self.reachable()?;
        state.check(key, was)?;
        state.writes += 1;
        let version = state.writes;
        state.values.insert(key.clone(), (Bytes::new(bytes.to_vec()), meta.clone(), version));
        state.index.set(key, meta);
        state.answer().map(|()| Version::new(version))
    }

    async fn delete(&self, key: &Key, was: &Version) -> Result<(), StoreError> {
        let mut state = self.reachable()?;
        state.check(key, Some(was))?;
        state.writes += 1;
        state.values.remove(key);
        state.index.remove(key);
        state.answer()
    }

    async fn list(&self, scan: &Scan) -> Result<Page, StoreError> {
        Ok(self.reachable()?.index.list(scan))
    }

    async fn counts(&self, kind: Kind, connection: Option<&str>) -> Result<BTreeMap<String, u64>, StoreError> {
        Ok(self.reachable()?.index.counts(kind, connection))
    }

    async fn due(&self, kind: Kind, connection: &str, before: Timestamp, limit: usize) -> Result<Vec<Due>, StoreError> {
        Ok(self.reachable()?.index.due(kind, connection, before, limit))
    }

    async fn acquire(&self, key: &Key, owner: &str, ttl: Duration, now: Timestamp) -> Result<Acquired, StoreError> {
        let mut state = self.reachable()?;
        let mut until = now.checked_add(ttl).unwrap_or(Timestamp::MAX);
        match state.leases.get(key) {
            // A request that was long under way must not shorten what a later one was promised.
            Some((holder, end)) if holder == owner => until = until.max(*end),
            Some((_, end)) if *end > now => return Ok(Acquired::Busy),
            _ => {}
        }
        state.leases.insert(key.clone(), (owner.to_owned(), until));
        Ok(Acquired::Until(until))
    }

    async fn release(&self, key: &Key, owner: &str) -> Result<(), StoreError> {
        let mut state = self.reachable()?;
        if state.leases.get(key).is_some_and(|(holder, _)| holder == owner) {
            state.leases.remove(key);
        }
        Ok(())
    }
}
