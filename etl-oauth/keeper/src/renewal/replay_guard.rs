//! What may be done once, by whichever replica: kept in the account's record.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::{Keeper, account_store::Updated};
use crate::store::{Acquired, ByteStore, StoreError};

/// How many names a record keeps; those that end soonest go first.
const KEPT: usize = 50;
const PAUSE: Duration = Duration::from_millis(50);

impl Keeper {
    /// Uses `name` up for all replicas, until it would have ended anyway; `false` when one has used it before. Where the
    /// store cannot compare and lock, each replica has to remember for itself, and this is always `true`.
    ///
    /// The account's lease is held meanwhile: a write between a renewal's reading and its writing would cost the renewal's
    /// tokens.
    ///
    /// # Errors
    /// When the store cannot be used, or another replica holds the lease for too long.
    pub async fn use_up(&self, name: &str, until: Timestamp) -> Result<bool, StoreError> {
        let parts = &self.0.parts;
        let can = parts.store.capabilities();
        if !(can.read_back && can.compare_and_swap && can.lease) {
            return Ok(true);
        }
        // Not the name under which this replica renews: its own renewals have to wait, too.
        let owner = format!("{}-once", parts.owner);
        let deadline = Instant::now() + parts.policy.lease + parts.policy.token_timeout;
        while parts.store.acquire(self.key(), &owner, parts.policy.lease, self.now()).await? == Acquired::Busy {
            if Instant::now() >= deadline {
                return Err(StoreError::unavailable("another replica holds the lease"));
            }
            tokio::time::sleep(PAUSE).await;
        }
        let used = self.write_used(name, until).await;
        // A release that does not arrive costs the others the rest of the lease, no more.
        let _ = parts.store.release(self.key(), &owner).await;
        used
    }

    async fn write_used(&self, name: &str, until: Timestamp) -> Result<bool, StoreError> {
        let updated = self.update(|there| {
            let (mut record, now) = (there.cloned().unwrap_or_default(), self.now());
            record.used.retain(|_, until| *until > now);
            if record.used.contains_key(name) {
                return None;
            }
            while record.used.len() >= KEPT
                && let Some(first) = record.used.iter().min_by_key(|(_, until)| **until).map(|(name, _)| name.clone())
            {
                record.used.remove(&first);
            }
            record.used.insert(name.to_owned(), until);
            Some(record)
        });
        Ok(matches!(updated.await?, Updated::Written(..)))
    }
}
