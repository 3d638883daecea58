use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

use super::{Acquired, Capabilities, StoreError, Stored, TokenStore, Version, check_account};
use crate::token::Record;

/// Records in memory, shared by its clones: the store of tests that need several replicas and no server.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    records: BTreeMap<String, (Record, u64)>,
    leases: BTreeMap<String, (String, Timestamp)>,
    failing: bool,
    read_only: bool,
    lost_answers: u32,
    writes: u64,
}

impl Memory {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes every call fail as if the store were out of reach, or ends that.
    pub fn fail(&self, failing: bool) {
        self.state().failing = failing;
    }

    /// Makes every write of a record fail, as a full disk does; or ends that.
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
        if state.failing { Err(StoreError::Unavailable("switched off".into())) } else { Ok(state) }
    }
}

impl TokenStore for Memory {
    fn capabilities(&self) -> Capabilities {
        Capabilities { read_back: true, compare_and_swap: true, lease: true, accounts: true }
    }

    async fn load(&self, account: &str) -> Result<Option<Stored>, StoreError> {
        check_account(account)?;
        let state = self.reachable()?;
        Ok(state
            .records
            .get(account)
            .map(|(record, version)| Stored { record: record.clone(), version: Version::new(version) }))
    }

    async fn save(&self, account: &str, record: &Record, was: Option<&Version>) -> Result<Version, StoreError> {
        check_account(account)?;
        let mut state = self.reachable()?;
        if state.read_only {
            return Err(StoreError::Unavailable("no space left".into()));
        }
        let now = state.records.get(account).map(|(_, version)| Version::new(version));
        if now.as_ref() != was {
            return Err(StoreError::Conflict);
        }
        state.writes += 1;
        let version = state.writes;
        state.records.insert(account.to_owned(), (record.clone(), version));
        if state.lost_answers > 0 {
            state.lost_answers -= 1;
            if state.lost_answers == 0 {
                return Err(StoreError::Unavailable("the answer was lost".into()));
            }
        }
        Ok(Version::new(version))
    }

    async fn accounts(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.reachable()?.records.keys().cloned().collect())
    }

    async fn acquire(&self, account: &str, owner: &str, ttl: Duration, now: Timestamp) -> Result<Acquired, StoreError> {
        check_account(account)?;
        let mut state = self.reachable()?;
        let mut until = now.checked_add(ttl).unwrap_or(Timestamp::MAX);
        match state.leases.get(account) {
            // A request that was long under way must not shorten what a later one was promised.
            Some((holder, end)) if holder == owner => until = until.max(*end),
            Some((_, end)) if *end > now => return Ok(Acquired::Busy),
            _ => {}
        }
        state.leases.insert(account.to_owned(), (owner.to_owned(), until));
        Ok(Acquired::Until(until))
    }

    async fn release(&self, account: &str, owner: &str) -> Result<(), StoreError> {
        let mut state = self.reachable()?;
        if state.leases.get(account).is_some_and(|(holder, _)| holder == owner) {
            state.leases.remove(account);
        }
        Ok(())
    }
}
