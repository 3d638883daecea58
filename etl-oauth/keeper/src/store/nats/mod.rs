//! Values in a JetStream key-value bucket.

mod index;
mod lease;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_nats::{
    ConnectOptions, HeaderMap, header,
    jetstream::{
        self,
        context::PublishErrorKind,
        kv::{self, Operation},
    },
};
use futures_util::StreamExt;
use index::Indexes;
use jiff::Timestamp;
use lease::Lease;
use tokio::sync::OnceCell;

use super::{
    Acquired, ByteStore, Capabilities, Changes, Codec, Due, Key, Kind, Meta, Page, Scan, StoreError, StoreOptions,
    Value, Version,
    entry::{entry, with_entry},
    lease_expiry::LeaseExpiry,
    watch::{Told, follow},
};
use crate::{secrets::Secrets, token::Secret};

const URL: &str = "etl-oauth-nats-url";
/// Of one operation, the connection before it included.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sealed values in a bucket, the keys `FUNCTION.record.PATH` ([`Key::path`]), and beside them leases,
/// `FUNCTION.lease.PATH`. Kinds other than tokens have `FUNCTION.KIND` for `FUNCTION`. The version is the key's revision, which JetStream compares when it writes; a lease is taken by the same comparison.
///
/// A client that has connected once connects again by itself. What it was asked to write while it was away may be written
/// when it is back, under the same comparison.
///
/// JetStream finds a message by its subject and nothing else, and streams the last message of every subject fast. So the
/// index of what is due is in the memory of each replica: every write carries its index entry in the headers, a replica
/// reads the headers of all keys once, and from then on those that are written. The entry is in the same message as the
/// value, so that the two never disagree; a second key for each due time would be a second write that may fail alone, and
/// message schedules exist in new servers only. A question to the index first waits for what was written before it.
#[derive(Clone, Debug)]
pub struct Nats(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    url: String,
    bucket: String,
    secrets: Secrets,
    codec: Codec,
    observed: LeaseExpiry,
    /// The leases that are held, as they were written last: they are prolonged and given back without being read before.
    held: Mutex<HashMap<String, (Lease, u64)>>,
    jetstream: OnceCell<jetstream::Context>,
    kv: Mutex<Option<kv::Store>>,
    indexes: Indexes,
}

impl Nats {
    /// The store in the bucket `nats_bucket`, made when it is missing, at `nats_url` or at what the secret
    /// `etl-oauth-nats-url` holds: a URL with a password in it belongs there.
    ///
    /// # Errors
    /// [`StoreError::Config`] when the URL makes no sense, or there are no keys to seal with.
    pub fn open(options: &StoreOptions) -> Result<Self, StoreError> {
        let inner = Inner {
            url: options.nats_url.clone(),
            bucket: options.nats_bucket.clone(),
            secrets: options.secrets.clone(),
            codec: Codec::sealed(&options.function, options.secrets.clone())?,
            observed: LeaseExpiry::default(),
            held: Mutex::default(),
            jetstream: OnceCell::new(),
            kv: Mutex::default(),
            indexes: Indexes::default(),
        };
        inner.servers()?;
        Ok(Self(Arc::new(inner)))
    }
}

impl Inner {
    fn servers(&self) -> Result<Vec<async_nats::ServerAddr>, StoreError> {
        let secret = self.secrets.read(URL).map_err(|err| StoreError::config(err.to_string()).because(err))?;
        let named = if secret.is_some() { "the secret etl-oauth-nats-url" } else { "nats_url" };
        let urls = secret.unwrap_or_else(|| Secret::new(&self.url));
        let servers: Result<Vec<_>, _> = urls.expose().split(',').map(|url| url.trim().parse()).collect();
        servers.map_err(|_| StoreError::config(format!("{named} is not a NATS URL like nats://HOST:4222")))
    }

    async fn jetstream(&self) -> Result<&jetstream::Context, StoreError> {
        let connect = || async {
            let options = ConnectOptions::new().name("etl-oauth").connection_timeout(PATIENCE / 2);
            let client = options.connect(self.servers()?).await.map_err(|err| self.unavailable(err))?;
            Ok(jetstream::new(client))
        };
        self.jetstream.get_or_try_init(connect).await
    }

    /// The bucket. The first use connects, and makes it where it is missing; so does the first use after a failure, for a
    /// server may have come back without it.
    async fn kv(&self) -> Result<kv::Store, StoreError> {
        if let Some(kv) = self.known() {
            return Ok(kv);
        }
        let jetstream = self.jetstream().await?;
        let kv = match jetstream.get_key_value(&self.bucket).await {
            Ok(kv) => kv,
            Err(_) => {
                let config = kv::Config {
                    bucket: self.bucket.clone(),
                    description: "OAuth tokens, sealed, and their leases".into(),
                    history: 1,
                    ..kv::Config::default()
                };
                jetstream.create_key_value(config).await.map_err(|err| {
                    StoreError::unavailable(format!("the NATS bucket {} cannot be made: {err}", self.bucket))
                        .because(err)
                })?
            }
        };
        *self.kv.lock().unwrap_or_else(PoisonError::into_inner) = Some(kv.clone());
        Ok(kv)
    }

    fn known(&self) -> Option<kv::Store> {
        self.kv.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, (Lease, u64)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unavailable(&self, err: impl std::error::Error + Send + Sync + 'static) -> StoreError {
        *self.kv.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // A new bucket counts its revisions from the beginning.
        self.held().clear();
        StoreError::unavailable(format!("NATS: {err}")).because(err)
    }

    fn key(&self, what: &str, key: &Key) -> String {
        format!("{}.{what}.{}", key.kind().space(self.codec.function()), key.path())
    }

    /// What the bucket's keys of the values of a kind begin with.
    fn prefix(&self, kind: Kind) -> String {
        format!("{}.record.", kind.space(self.codec.function()))
    }

    async fn entry(&self, key: &str) -> Result<Option<kv::Entry>, StoreError> {
        self.kv().await?.entry(key).await.map_err(|err| self.unavailable(err))
    }

    async fn get(&self, key: &str) -> Result<Option<kv::Entry>, StoreError> {
        Ok(self.entry(key).await?.filter(|entry| entry.operation == Operation::Put))
    }

    /// Writes where the key's revision is `was`, or where there is none.
    async fn put(&self, key: &str, value: Vec<u8>, was: Option<u64>, headers: HeaderMap) -> Result<u64, StoreError> {
        let value = bytes::Bytes::from(value);
        let conflict = match self.publish(key, value.clone(), was.unwrap_or(0), headers.clone()).await {
            Err(conflict @ StoreError::Conflict) if was.is_none() => conflict,
            other => return other,
        };
        // Perhaps there is the mark of a value that was deleted.
        match self.entry(key).await? {
            Some(entry) if entry.operation != Operation::Put => self.publish(key, value, entry.revision, headers).await,
            _ => Err(conflict),
        }
    }

    async fn publish(
        &self,
        key: &str,
        value: bytes::Bytes,
        was: u64,
        mut headers: HeaderMap,
    ) -> Result<u64, StoreError> {
        let kv = self.kv().await?;
        headers.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, was.to_string());
        // As the client's own key-value store does it, which has no way for headers.
        let prefix = kv.put_prefix.as_ref().unwrap_or(&kv.prefix);
        let sent = self.jetstream().await?.publish_with_headers(format!("{prefix}{key}"), headers, value).await;
        let acknowledged = match sent {
            Ok(sent) => sent.await,
            Err(err) => Err(err),
        };
        acknowledged.map(|ack| ack.sequence).map_err(|err| match err.kind() {
            PublishErrorKind::WrongLastSequence => StoreError::Conflict,
            _ => self.unavailable(err),
        })
    }

    /// One watch, until it breaks. It begins with every value as it is.
    async fn watch(&self, kind: Kind, sender: &Told) -> Result<(), StoreError> {
        let prefix = self.prefix(kind);
        let kv = self.kv().await?;
        let mut watch = kv.watch_with_history(format!("{prefix}>")).await.map_err(|err| self.unavailable(err))?;
        while let Some(entry) = watch.next().await {
            let entry = entry.map_err(|err| self.unavailable(err))?;
            if let Some(key) = entry.key.strip_prefix(&prefix).and_then(|path| Key::from_path(kind, path).ok())
                && sender.send(key).await.is_err()
            {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// The client answers within its own time limits in most cases; in all cases this answers.
async fn within<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    // On the heap: the client's futures are large, and the stack of a thread is not.
    tokio::time::timeout(PATIENCE, Box::pin(work))
        .await
        .unwrap_or_else(|_| Err(StoreError::unavailable(format!("NATS did not answer in {} s", PATIENCE.as_secs()))))
}

/// A version that is no revision was never one of ours.
fn revision(version: &Version) -> Result<u64, StoreError> {
    version.as_str().parse().map_err(|_| StoreError::Conflict)
}

impl ByteStore for Nats {
    fn capabilities(&self) -> Capabilities {
        Capabilities { read_back: true, compare_and_swap: true, lease: true, accounts: true, index: true }
    }

    async fn get(&self, key: &Key) -> Result<Option<Value>, StoreError> {
        let Some(there) = within(self.0.get(&self.0.key("record", key))).await? else { return Ok(None) };
        let version = Version::new(there.revision);
        match self.0.codec.decode(key, &there.value) {
            Ok((generation, bytes)) => {
                Ok(Some(Value { bytes, version, meta: Meta { generation, ..entry(&there.value) } }))
            }
            Err(err) => Err(err.at(version)),
        }
    }

    async fn put(&self, key: &Key, bytes: &[u8], meta: &Meta, was: Option<&Version>) -> Result<Version, StoreError> {
        let value = with_entry(self.0.codec.encode(key, meta.generation, bytes)?, meta).to_vec();
        let was = was.map(revision).transpose()?;
        within(self.0.put(&self.0.key("record", key), value, was, index::headers(meta))).await.map(Version::new)
    }

    async fn delete(&self, key: &Key, was: &Version) -> Result<(), StoreError> {
        let was = revision(was)?;
        let mut headers = HeaderMap::new();
        headers.insert(index::OPERATION, "DEL");
        within(self.0.publish(&self.0.key("record", key), bytes::Bytes::new(), was, headers)).await.map(drop)
    }

    async fn list(&self, scan: &Scan) -> Result<Page, StoreError> {
        within(self.0.ask(scan.kind, |index| index.list(scan))).await
    }

    async fn counts(&self, kind: Kind, connection: Option<&str>) -> Result<BTreeMap<String, u64>, StoreError> {
        within(self.0.ask(kind, |index| index.counts(kind, connection))).await
    }

    async fn due(&self, kind: Kind, connection: &str, before: Timestamp, limit: usize) -> Result<Vec<Due>, StoreError> {
        within(self.0.ask(kind, |index| index.due(kind, connection, before, limit))).await
    }

    async fn acquire(&self, key: &Key, owner: &str, ttl: Duration, now: Timestamp) -> Result<Acquired, StoreError> {
        let key = self.0.key("lease", key);
        let length_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let until = Acquired::Until(now.checked_add(ttl).unwrap_or(Timestamp::MAX));
        within(async {
            if let Some((lease, revision)) = self.0.take_held(&key, owner)
                && self.0.put_lease(&key, lease.taken(owner, now, length_ms), Some(revision)).await?
            {
                return Ok(until);
            }
            let (lease, revision) = self.0.lease(&key).await?;
            if !lease.owner.is_empty() && lease.owner != owner {
                let length = Duration::from_millis(lease.length_ms);
                let seen = revision.unwrap_or_default().to_string();
                if !self.0.observed.is_over(&key, &seen, lease.renewed, length, now) {
                    return Ok(Acquired::Busy);
                }
            }
            // Where another replica was quicker, it has the lease.
            let taken = self.0.put_lease(&key, lease.taken(owner, now, length_ms), revision).await?;
            Ok(if taken { until } else { Acquired::Busy })
        })
        .await
    }

    async fn release(&self, key: &Key, owner: &str) -> Result<(), StoreError> {
        let key = self.0.key("lease", key);
        within(async {
            if let Some((_, revision)) = self.0.take_held(&key, owner)
                && self.0.put_lease(&key, Lease::default(), Some(revision)).await?
            {
                return Ok(());
            }
            let (lease, revision) = self.0.lease(&key).await?;
            if lease.owner == owner {
                // Not taken: another owner has it by now.
                self.0.put_lease(&key, Lease::default(), revision).await?;
            }
            Ok(())
        })
        .await
    }

    fn changes(&self, kind: Kind) -> Option<Changes> {
        let inner = Arc::clone(&self.0);
        Some(follow("the bucket", move |told| {
            let inner = Arc::clone(&inner);
            async move { inner.watch(kind, &told).await }
        }))
    }
}
