use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

#[cfg(feature = "file")]
use super::Files;
#[cfg(feature = "gateway")]
use super::Gateway;
#[cfg(feature = "kubernetes")]
use super::Kubernetes;
#[cfg(feature = "nats")]
use super::Nats;
#[cfg(feature = "postgres")]
use super::Postgres;
use super::{
    Acquired, ByteStore, Capabilities, Changes, Claim, Due, Key, Kind, Memory, Meta, Page, Scan, StoreError, Value,
    Version,
};

/// How many keys are resealed between two looks at which there are.
const BATCH: usize = 500;

/// The stores that are built in. A closed set: the configuration names one.
#[derive(Debug)]
#[non_exhaustive]
#[allow(clippy::large_enum_variant, reason = "there is one for the whole process")]
pub enum Store {
    /// Sealed files of one host.
    #[cfg(feature = "file")]
    File(Files),
    /// The gateway's REST API.
    #[cfg(feature = "gateway")]
    Gateway(Gateway),
    /// Secrets of the Kubernetes API.
    #[cfg(feature = "kubernetes")]
    Kubernetes(Kubernetes),
    /// This process's memory, for tests.
    Memory(Memory),
    /// A JetStream bucket.
    #[cfg(feature = "nats")]
    Nats(Nats),
    /// A PostgreSQL database.
    #[cfg(feature = "postgres")]
    Postgres(Postgres),
}

macro_rules! dispatch {
    ($self:expr, $store:ident => $call:expr) => {
        match $self {
            #[cfg(feature = "file")]
            Self::File($store) => $call,
            #[cfg(feature = "gateway")]
            Self::Gateway($store) => $call,
            #[cfg(feature = "kubernetes")]
            Self::Kubernetes($store) => $call,
            Self::Memory($store) => $call,
            #[cfg(feature = "nats")]
            Self::Nats($store) => $call,
            #[cfg(feature = "postgres")]
            Self::Postgres($store) => $call,
        }
    };
}

impl Store {
    /// The name in configuration, JSON and metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            #[cfg(feature = "file")]
            Self::File(_) => "file",
            #[cfg(feature = "gateway")]
            Self::Gateway(_) => "gateway",
            #[cfg(feature = "kubernetes")]
            Self::Kubernetes(_) => "kubernetes",
            Self::Memory(_) => "memory",
            #[cfg(feature = "nats")]
            Self::Nats(_) => "nats",
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => "postgres",
        }
    }

    /// Writes every value of a kind anew, sealed with the key that is now the first: how many were written. Values that
    /// other replicas write meanwhile are sealed with it by that.
    ///
    /// # Errors
    /// When the store fails; what was written until then stays so, and it can be asked again.
    pub async fn reseal(&self, kind: Kind) -> Result<usize, StoreError> {
        let (mut written, mut scan) = (0, Scan::of(kind, BATCH));
        loop {
            let page = self.list(&scan).await?;
            for key in page.keys {
                // Another replica may write in between, and with the keys of before: its mount is changed at its own time.
                while let Some(there) = self.get(&key).await? {
                    match self.put(&key, &there.bytes, &there.meta, Some(&there.version)).await {
                        Ok(_) => {
                            written += 1;
                            break;
                        }
                        Err(StoreError::Conflict) => {}
                        Err(err) => return Err(err),
                    }
                }
            }
            if page.next.is_none() {
                return Ok(written);
            }
            scan.after = page.next;
        }
    }
}

impl ByteStore for Store {
    fn capabilities(&self) -> Capabilities {
        dispatch!(self, store => store.capabilities())
    }

    async fn get(&self, key: &Key) -> Result<Option<Value>, StoreError> {
        dispatch!(self, store => store.get(key).await)
    }

    async fn put(&self, key: &Key, bytes: &[u8], meta: &Meta, was: Option<&Version>) -> Result<Version, StoreError> {
        let result = dispatch!(self, store => store.put(key, bytes, meta, was).await);
        let outcome = match &result {
            Ok(_) => "ok",
            Err(StoreError::Conflict) => "conflict",
            Err(_) => "error",
        };
        metrics::counter!("etl_oauth_store_writes_total", "store" => self.kind(), "outcome" => outcome).increment(1);
        result
    }

    async fn delete(&self, key: &Key, was: &Version) -> Result<(), StoreError> {
        dispatch!(self, store => store.delete(key, was).await)
    }

    async fn list(&self, scan: &Scan) -> Result<Page, StoreError> {
        dispatch!(self, store => store.list(scan).await)
    }

    async fn counts(&self, kind: Kind, connection: Option<&str>) -> Result<BTreeMap<String, u64>, StoreError> {
        dispatch!(self, store => store.counts(kind, connection).await)
    }

    async fn due(&self, kind: Kind, connection: &str, before: Timestamp, limit: usize) -> Result<Vec<Due>, StoreError> {
        dispatch!(self, store => store.due(kind, connection, before, limit).await)
    }

    async fn claim(&self, claim: &Claim<'_>) -> Result<Vec<Due>, StoreError> {
        dispatch!(self, store => store.claim(claim).await)
    }

    async fn acquire(&self, key: &Key, owner: &str, ttl: Duration, now: Timestamp) -> Result<Acquired, StoreError> {
        dispatch!(self, store => store.acquire(key, owner, ttl, now).await)
    }

    async fn release(&self, key: &Key, owner: &str) -> Result<(), StoreError> {
        dispatch!(self, store => store.release(key, owner).await)
    }

    fn changes(&self, kind: Kind) -> Option<Changes> {
        dispatch!(self, store => store.changes(kind))
    }
}
