//! A mark beside an account's record: the newest generation that was stored, and the one of the last revocation. An older
//! record that is put back, from a backup or by an intruder, is noticed by it, also in a process that never saw the newer one.
//! Tokens from before a revocation are refused.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Keeper, Stored};
use crate::{
    store::{self, ByteStore as _, Bytes, KeyCell, Kind, Meta, StoreError},
    token::Record,
};

const MARK: Kind = Kind::named("mark");
/// Marks of renewals are written no more often: each costs a read and a write. Decisions of people are marked at once.
const EVERY: SignedDuration = SignedDuration::from_mins(10);

/// The mark as it is stored. Its numbers never go back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    generation: u64,
    revoked: u64,
}

/// What is known of an account's mark in this process.
#[derive(Debug)]
pub(super) struct KnownMark {
    is_read: AtomicBool,
    /// The generation of the last revocation.
    revoked: AtomicU64,
    /// Unix milliseconds of the last write.
    written_at: AtomicI64,
}

impl Default for KnownMark {
    fn default() -> Self {
        Self { is_read: AtomicBool::new(false), revoked: AtomicU64::new(0), written_at: AtomicI64::new(i64::MIN) }
    }
}

/// What a record that is read must not be older than.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// An older one is reported.
    pub(super) newest: u64,
    /// Tokens of an older one are refused.
    revoked: u64,
}

impl Bounds {
    /// Refuses tokens from before a revocation.
    pub(super) fn check(self, stored: &Stored) -> Result<(), StoreError> {
        if stored.record.tokens.is_none() || stored.record.generation >= self.revoked {
            return Ok(());
        }
        let why = "its tokens are from before the account was revoked, and were put back";
        Err(StoreError::Corrupt(why.into()).at(stored.version.clone()))
    }
}

impl Keeper {
    /// The bounds of the record that is read next. The first time in this process the mark is read for them.
    pub(super) async fn bounds(&self) -> Bounds {
        let health = &self.0.store;
        if !health.mark.is_read.load(Ordering::Acquire) && self.holds_marks() {
            match self.read_mark().await {
                Ok(mark) => {
                    health.newest.fetch_max(mark.generation, Ordering::AcqRel);
                    health.mark.revoked.fetch_max(mark.revoked, Ordering::AcqRel);
                    health.mark.is_read.store(true, Ordering::Release);
                }
                Err(err) => {
                    tracing::debug!(account = self.account(), error = %err, "failed to read the account's mark")
                }
            }
        }
        let (newest, revoked) = (&health.newest, &health.mark.revoked);
        Bounds { newest: newest.load(Ordering::Acquire), revoked: revoked.load(Ordering::Acquire) }
    }

    /// Marks a record that was just stored.
    pub(super) fn mark(&self, record: &Record) {
        let (health, now) = (&self.0.store, self.now());
        let is_revoked = record.tokens.is_none() && record.generation > 0 && record.decided_at.is_some();
        let before = health.newest.fetch_max(record.generation, Ordering::AcqRel);
        if record.generation <= before {
            return;
        }
        if is_revoked {
            health.mark.revoked.fetch_max(record.generation, Ordering::AcqRel);
        }
        let last =
            Timestamp::from_millisecond(health.mark.written_at.load(Ordering::Acquire)).unwrap_or(Timestamp::MIN);
        let decided = record.tokens.as_ref().is_none_or(|tokens| Some(tokens.obtained_at) <= record.decided_at);
        if !self.holds_marks() || !(is_revoked || decided || now.duration_since(last) >= EVERY) {
            return;
        }
        health.mark.written_at.store(now.as_millisecond(), Ordering::Release);
        let revoked = if is_revoked { record.generation } else { 0 };
        let mark = Mark { generation: record.generation, revoked };
        let (keeper, work) = (self.clone(), self.0.work.token());
        tokio::spawn(async move {
            let _unfinished = work;
            if let Err(err) = keeper.write_mark(mark).await {
                tracing::debug!(account = keeper.account(), error = %err, "failed to store the account's mark");
            }
        });
    }

    /// Whether the store can hold a mark beside the record.
    fn holds_marks(&self) -> bool {
        let can = self.0.parts.store.capabilities();
        can.read_back && can.compare_and_swap && can.accounts
    }

    async fn read_mark(&self) -> Result<Mark, StoreError> {
        let key = self.key().of_kind(MARK);
        let there = self.0.parts.store.get(&key).await?;
        // One that cannot be read bounds nothing.
        Ok(there.and_then(|there| serde_json::from_slice(&there.bytes).ok()).unwrap_or_default())
    }

    async fn write_mark(&self, mark: Mark) -> Result<(), StoreError> {
        let key = self.key().of_kind(MARK);
        let cell = KeyCell { store: &*self.0.parts.store, key: &key };
        let updated = store::update(&cell, |there: Option<&(Bytes, Meta)>| {
            let read = |(bytes, _): &(Bytes, Meta)| serde_json::from_slice::<Mark>(bytes).ok();
            let before = there.and_then(read).unwrap_or_default();
            let after =
                Mark { generation: before.generation.max(mark.generation), revoked: before.revoked.max(mark.revoked) };
            if after == before {
                return Ok(None);
            }
            let json = serde_json::to_vec(&after).map_err(|err| StoreError::refused(err.to_string()).because(err))?;
            Ok(Some((Bytes::new(json), Meta { generation: after.generation, ..Meta::default() })))
        });
        updated.await.map(drop)
    }
}
