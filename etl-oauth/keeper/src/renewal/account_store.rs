//! The account's record in the store: where it is read and written, and what the store's answers say of the store.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
};

use jiff::Timestamp;

use super::{Keeper, mark::KnownMark, token_cache::DAMAGED};
use crate::{
    renewal::{RecordStore, Stored},
    store::{self, Acquired, ByteStore, Cell, StoreError, Version},
    token::{Failure, FailureKind, Record, State},
};

/// How long a store that failed is left alone, in milliseconds.
const AGAIN: i64 = 1000;

/// What the last calls say of the store. Reads and writes are judged apart: a full disk can still be read.
#[derive(Debug)]
pub(super) struct StoreHealth {
    reads: AtomicBool,
    writes: AtomicBool,
    problem: Mutex<Option<StoreError>>,
    /// Unix milliseconds before which a store that failed is left alone.
    again_at: AtomicI64,
    /// Counts the writes that succeeded.
    writes_done: AtomicU64,
    /// The newest generation that was read, written or marked.
    pub(super) newest: AtomicU64,
    /// What stands beside the record.
    pub(super) mark: KnownMark,
    /// The generation of the last record that was older than that.
    rolled_back: AtomicU64,
}

impl Default for StoreHealth {
    fn default() -> Self {
        Self {
            reads: AtomicBool::new(true),
            writes: AtomicBool::new(true),
            problem: Mutex::default(),
            again_at: AtomicI64::new(i64::MIN),
            writes_done: AtomicU64::new(0),
            newest: AtomicU64::new(0),
            mark: KnownMark::default(),
            rolled_back: AtomicU64::new(u64::MAX),
        }
    }
}

impl StoreHealth {
    pub(super) fn is_ok(&self) -> bool {
        self.reads.load(Ordering::Acquire) && self.writes.load(Ordering::Acquire)
    }

    /// How many writes of this replica have succeeded.
    pub(super) fn writes(&self) -> u64 {
        self.writes_done.load(Ordering::Acquire)
    }

    /// Whether a store that failed is left alone for now.
    pub(super) fn waits(&self, now: Timestamp) -> bool {
        now.as_millisecond() < self.again_at.load(Ordering::Acquire)
    }

    pub(super) fn problem(&self) -> Option<StoreError> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone().filter(|_| !self.is_ok())
    }

    /// The generation of the last record that was older than one before it.
    #[cfg(test)]
    pub(super) fn noticed(&self) -> Option<u64> {
        Some(self.rolled_back.load(Ordering::Acquire)).filter(|generation| *generation != u64::MAX)
    }

    /// Takes note of a call of `kind`; gives whether that kind changed between working and failing.
    fn note(&self, kind: &AtomicBool, err: Option<&StoreError>, now: Timestamp) -> bool {
        // In both cases the store works; it is the record that is not as expected.
        let is_trouble = |err: &&StoreError| !matches!(err, StoreError::Conflict | StoreError::Damaged { .. });
        let Some(err) = err.filter(is_trouble) else {
            let recovers = !kind.swap(true, Ordering::AcqRel);
            // An outage of the whole store explains the writes that failed in it: the next one tells.
            if recovers && std::ptr::eq(kind, &self.reads) {
                self.writes.store(true, Ordering::Release);
            }
            return recovers;
        };
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = Some(err.clone());
        self.again_at.store(now.as_millisecond().saturating_add(AGAIN), Ordering::Release);
        kind.swap(false, Ordering::AcqRel)
    }
}

/// What an update came to.
pub(super) enum Updated {
    /// Nothing was to be changed; what is stored.
    Left(Option<Stored>),
    /// Written; what was there before.
    Written(Box<Record>, Stored),
}

/// The record of an account, where its client is as `check` wants it.
struct RecordCell<'a, C> {
    keeper: &'a Keeper,
    check: C,
}

impl<C: Fn(&Record) -> Result<(), StoreError> + Sync> Cell for RecordCell<'_, C> {
    type Value = Record;

    async fn load(&self) -> Result<Option<(Record, Version)>, StoreError> {
        let there = self.keeper.load_where(&self.check).await?;
        Ok(there.map(|Stored { record, version }| (record, version)))
    }

    async fn save(&self, record: &Record, was: Option<&Version>) -> Result<Version, StoreError> {
        self.keeper.save(record, was).await
    }
}

impl Keeper {
    /// Why the store cannot be used, as far as the last calls tell.
    #[must_use]
    pub fn store_problem(&self) -> Option<StoreError> {
        self.0.store.problem()
    }

    /// Whether the last read of the store succeeded: a damaged record is no account without one.
    #[must_use]
    pub fn is_store_readable(&self) -> bool {
        self.0.store.reads.load(Ordering::Acquire) && self.damage().is_none()
    }

    /// Reads the account's record.
    ///
    /// # Errors
    /// Those of the store; [`StoreError::Foreign`] for the record of another OAuth client.
    pub(super) async fn load(&self) -> Result<Option<Stored>, StoreError> {
        self.load_where(|record| self.check_client(record)).await
    }

    async fn load_where(
        &self,
        check: impl FnOnce(&Record) -> Result<(), StoreError>,
    ) -> Result<Option<Stored>, StoreError> {
        // Before the record: one that is written in between is newer than its mark.
        let bounds = self.bounds().await;
        let any_type = self.0.parts.policy.any_type;
        let result = self.0.parts.store.load(self.key()).await.and_then(|stored| match stored {
            Some(mut stored) => {
                stored.record.release(any_type);
                bounds.check(&stored).and_then(|()| check(&stored.record)).map(|()| Some(stored))
            }
            None => Ok(None),
        });
        self.note_read(result.as_ref().err());
        self.note_damage(result.as_ref().err());
        if let Ok(Some(stored)) = &result {
            self.note_generation(stored.record.generation, bounds.newest);
        }
        result
    }

    /// Writes the record, with the client that it belongs to.
    pub(super) async fn save(&self, record: &Record, was: Option<&Version>) -> Result<Version, StoreError> {
        let parts = &self.0.parts;
        let client = parts.authority.client_ref().or_else(|| record.client.clone());
        let due_at = parts.policy.look_at(record, parts.announcer.is_heard());
        let result = if client == record.client {
            parts.store.save(self.key(), record, due_at, was).await
        } else {
            let record = Record { client, ..record.clone() };
            parts.store.save(self.key(), &record, due_at, was).await
        };
        self.note_write(result.as_ref().err(), self.is_newer(record));
        if result.is_ok() {
            self.0.store.writes_done.fetch_add(1, Ordering::AcqRel);
            self.mark(record);
        }
        result
    }

    /// Writes what `change` makes of the stored record, and again where another writer was faster. `None` leaves it.
    pub(super) async fn update(
        &self,
        change: impl FnMut(Option<&Record>) -> Option<Record> + Send,
    ) -> Result<Updated, StoreError> {
        self.update_where(|record| self.check_client(record), change).await
    }

    /// The same over a record of any client: for what a person decides.
    pub(super) async fn update_any(
        &self,
        change: impl FnMut(Option<&Record>) -> Option<Record> + Send,
    ) -> Result<Updated, StoreError> {
        self.update_where(|_| Ok(()), change).await
    }

    async fn update_where(
        &self,
        check: impl Fn(&Record) -> Result<(), StoreError> + Sync,
        mut change: impl FnMut(Option<&Record>) -> Option<Record> + Send,
    ) -> Result<Updated, StoreError> {
        let cell = RecordCell { keeper: self, check };
        Ok(match store::update(&cell, |there| Ok(change(there))).await? {
            store::Updated::Left(there) => Updated::Left(there.map(|(record, version)| Stored { record, version })),
            store::Updated::Written { before, now, version } => {
                Updated::Written(Box::new(before.unwrap_or_default()), Stored { record: now, version })
            }
        })
    }

    pub(super) async fn acquire(&self) -> Result<Acquired, StoreError> {
        let parts = &self.0.parts;
        let result = parts.store.acquire(self.key(), &parts.owner, parts.policy.lease, self.now()).await;
        // A lease that is granted says nothing of the record, which may lie elsewhere.
        if let Err(err) = &result {
            self.note_write(Some(err), false);
        }
        result
    }

    /// Refuses the record of another client: its refresh token must not be sent to this one's provider. A client that the
    /// provider has refused may be replaced by another one of the same provider.
    pub(super) fn check_client(&self, record: &Record) -> Result<(), StoreError> {
        let (Some(theirs), Some(ours)) = (&record.client, self.0.parts.authority.client_ref()) else { return Ok(()) };
        let is_refused = record.health.class == Some(FailureKind::InvalidClient);
        if *theirs == ours || (is_refused && theirs.provider == ours.provider) || record.tokens.is_none() {
            return Ok(());
        }
        Err(StoreError::Foreign { theirs: theirs.to_string(), ours: ours.to_string() })
    }

    fn note_read(&self, err: Option<&StoreError>) {
        let health = &self.0.store;
        if health.note(&health.reads, err, self.now())
            && let Some(err) = err
        {
            tracing::warn!(account = self.account(), error = %err, "the store cannot be read; retrying");
        }
    }

    fn note_damage(&self, err: Option<&StoreError>) {
        match err {
            None => self.0.damage.store(None),
            Some(damage @ StoreError::Damaged { .. }) => {
                if self.0.damage.swap(Some(Arc::new(damage.clone()))).is_none() {
                    tracing::error!(account = self.account(), error = %damage, next = DAMAGED, "the account's record is damaged");
                }
            }
            Some(_) => {}
        }
    }

    /// Where new tokens could not be written, their own announcement follows ([`Keeper::announce_unsaved`]).
    fn note_write(&self, err: Option<&StoreError>, has_new_tokens: bool) {
        let health = &self.0.store;
        if !health.note(&health.writes, err, self.now()) {
            return;
        }
        match err {
            Some(err) => {
                tracing::warn!(account = self.account(), error = %err, "the store cannot be written; retrying");
                if has_new_tokens {
                    return;
                }
                self.announce_trouble(Some(Failure::new(FailureKind::StoreUnavailable, err.to_string())));
            }
            None => self.announce_trouble(None),
        }
    }

    /// Notices a record that is older than one that was stored before: put back from a backup, or by an intruder.
    fn note_generation(&self, generation: u64, known: u64) {
        self.0.store.newest.fetch_max(generation, Ordering::AcqRel);
        if generation >= known || self.0.store.rolled_back.swap(generation, Ordering::AcqRel) == generation {
            return;
        }
        let account = self.account();
        tracing::error!(
            account,
            generation,
            known,
            "the stored record is older than one that was stored before: it was put back, or the store lost a write"
        );
        let connection = self.connection().to_owned();
        metrics::counter!("etl_oauth_record_rollbacks_total", "connection" => connection, "account" => account.to_owned())
            .increment(1);
    }

    /// The newest generation that was ever stored, as far as is known.
    pub(super) fn newest_generation(&self) -> u64 {
        self.0.store.newest.load(Ordering::Acquire)
    }

    fn is_newer(&self, record: &Record) -> bool {
        self.current().is_none_or(|known| known.record.generation < record.generation)
    }

    /// Whether the account has something to lose by a store that fails.
    pub(super) fn has_tokens(&self) -> bool {
        self.current().is_some_and(|stored| stored.record.state() != State::Disabled)
    }
}
