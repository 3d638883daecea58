//! Leases as they stand in the bucket.

use async_nats::HeaderMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Inner;
use crate::store::StoreError;

/// A lease as it stands in the bucket; nobody's where the owner is empty.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Lease {
    pub(super) owner: String,
    pub(super) renewed: Timestamp,
    pub(super) length_ms: u64,
}

impl Lease {
    /// It in the hands of `owner`: prolonged where they had it, and never shortened.
    pub(super) fn taken(self, owner: &str, now: Timestamp, length_ms: u64) -> Self {
        if self.owner == owner {
            return Self { renewed: self.renewed.max(now), length_ms: length_ms.max(self.length_ms), ..self };
        }
        Self { owner: owner.to_owned(), renewed: now, length_ms }
    }
}

impl Inner {
    /// The lease as it stands, and its revision.
    pub(super) async fn lease(&self, key: &str) -> Result<(Lease, Option<u64>), StoreError> {
        let Some(entry) = self.get(key).await? else { return Ok((Lease::default(), None)) };
        // One that cannot be read holds nobody back.
        Ok((serde_json::from_slice(&entry.value).unwrap_or_default(), Some(entry.revision)))
    }

    /// Writes a lease, unless somebody else has written there since.
    pub(super) async fn put_lease(&self, key: &str, lease: Lease, was: Option<u64>) -> Result<bool, StoreError> {
        let value = serde_json::to_vec(&lease).map_err(|err| StoreError::config(err.to_string()).because(err))?;
        let revision = match self.put(key, value, was, HeaderMap::new()).await {
            Ok(revision) => revision,
            Err(StoreError::Conflict) => return Ok(false),
            Err(err) => return Err(err),
        };
        if !lease.owner.is_empty() {
            self.held().insert(key.to_owned(), (lease, revision));
        }
        Ok(true)
    }

    /// The lease at `key` as `owner` wrote it last, if it did. A write compares, so that it may be out of date; it is
    /// forgotten here, and known again when that write has succeeded.
    pub(super) fn take_held(&self, key: &str, owner: &str) -> Option<(Lease, u64)> {
        let mut held = self.held();
        if held.get(key).is_some_and(|(lease, _)| lease.owner == owner) { held.remove(key) } else { None }
    }
}
