//! Leases as locks of files.

use std::{
    fs::{File, TryLockError},
    sync::{Arc, Weak},
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    Inner,
    disk::{failed, lock_file},
};
use crate::store::{Acquired, Key, StoreError};

/// A lease that this process holds.
#[derive(Debug)]
pub(super) struct Lease {
    owner: String,
    until: Instant,
    /// Closing it unlocks it.
    _lock: File,
}

impl Inner {
    // Opening and locking without waiting take no time worth a thread.
    pub(super) fn acquire(
        self: &Arc<Self>,
        key: &Key,
        owner: &str,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Acquired, StoreError> {
        let until = Instant::now() + ttl;
        let acquired = Acquired::Until(now.checked_add(ttl).unwrap_or(Timestamp::MAX));
        let mut leases = self.leases();
        if let Some(lease) = leases.get_mut(key) {
            if lease.owner == owner {
                lease.until = lease.until.max(until);
                return Ok(acquired);
            }
            if lease.until > Instant::now() {
                return Ok(Acquired::Busy);
            }
            leases.remove(key);
        }
        let path = self.beside(key, "lease")?;
        let lock = lock_file(&path)?;
        match lock.try_lock() {
            Ok(()) => {
                leases.insert(key.clone(), Lease { owner: owner.to_owned(), until, _lock: lock });
                tokio::spawn(end_when_silent(Arc::downgrade(self), key.clone(), until));
                Ok(acquired)
            }
            Err(TryLockError::WouldBlock) => Ok(Acquired::Busy),
            Err(TryLockError::Error(err)) => Err(failed(&path, &err)),
        }
    }

    pub(super) fn release(&self, key: &Key, owner: &str) {
        let mut leases = self.leases();
        if leases.get(key).is_some_and(|lease| lease.owner == owner) {
            leases.remove(key);
        }
    }
}

/// Drops the lease when its holder has let it run out: other processes see no time, only the lock.
async fn end_when_silent(inner: Weak<Inner>, key: Key, mut until: Instant) {
    loop {
        tokio::time::sleep_until(until).await;
        let Some(inner) = inner.upgrade() else { return };
        let mut leases = inner.leases();
        match leases.get(&key) {
            Some(lease) if lease.until > Instant::now() => until = lease.until,
            Some(_) => {
                leases.remove(&key);
                return;
            }
            None => return,
        }
    }
}
