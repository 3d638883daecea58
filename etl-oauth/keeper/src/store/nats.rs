//! Records in a JetStream key-value bucket.

mod lease;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_nats::{
    ConnectOptions,
    jetstream::{
        self,
        kv::{self, CreateErrorKind, Operation, UpdateErrorKind},
    },
};
use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use lease::Lease;
use tokio::sync::OnceCell;

use super::{
    Acquired, Capabilities, Changes, Codec, StoreError, StoreOptions, Stored, TokenStore, Version, check_account,
    lease_expiry::LeaseExpiry,
    watch::{Told, follow},
};
use crate::{
    secrets::Secrets,
    token::{Record, Secret},
};

const URL: &str = "etl-oauth-nats-url";
/// Of one operation, the connection before it included.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sealed records in a bucket, the keys `FUNCTION.record.ACCOUNT`, and beside them leases, `FUNCTION.lease.ACCOUNT`. The
/// version is the key's revision, which JetStream compares when it writes; a lease is taken by the same comparison.
///
/// A client that has connected once connects again by itself. What it was asked to write while it was away may be written
/// when it is back, under the same comparison.
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
        };
        inner.servers()?;
        Ok(Self(Arc::new(inner)))
    }
}

impl Inner {
    fn servers(&self) -> Result<Vec<async_nats::ServerAddr>, StoreError> {
        let secret = self.secrets.read(URL).map_err(|err| StoreError::Config(err.to_string()))?;
        let named = if secret.is_some() { "the secret etl-oauth-nats-url" } else { "nats_url" };
        let urls = secret.unwrap_or_else(|| Secret::new(&self.url));
        let servers: Result<Vec<_>, _> = urls.expose().split(',').map(|url| url.trim().parse()).collect();
        servers.map_err(|_| StoreError::Config(format!("{named} is not a NATS URL like nats://HOST:4222")))
    }

    async fn jetstream(&self) -> Result<&jetstream::Context, StoreError> {
        let connect = || async {
            let options = ConnectOptions::new().name("etl-oauth").connection_timeout(PATIENCE / 2);
            let client = options.connect(self.servers()?).await.map_err(|err| self.unavailable(&err))?;
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
                    StoreError::Unavailable(format!("the NATS bucket {} cannot be made: {err}", self.bucket))
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

    fn unavailable(&self, err: &dyn std::error::Error) -> StoreError {
        *self.kv.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // A new bucket counts its revisions from the beginning.
        self.held().clear();
        StoreError::Unavailable(format!("NATS: {err}"))
    }

    fn key(&self, what: &str, account: &str) -> Result<String, StoreError> {
        check_account(account)?;
        Ok(format!("{}.{what}.{account}", self.codec.function()))
    }

    async fn get(&self, key: &str) -> Result<Option<kv::Entry>, StoreError> {
        let entry = self.kv().await?.entry(key).await.map_err(|err| self.unavailable(&err))?;
        Ok(entry.filter(|entry| entry.operation == Operation::Put))
    }

    /// Writes where the key's revision is `was`, or where there is none.
    async fn put(&self, key: &str, value: Vec<u8>, was: Option<u64>) -> Result<u64, StoreError> {
        let kv = self.kv().await?;
        match was {
            None => kv.create(key, value.into()).await.map_err(|err| match err.kind() {
                CreateErrorKind::AlreadyExists => StoreError::Conflict,
                _ => self.unavailable(&err),
            }),
            Some(was) => kv.update(key, value.into(), was).await.map_err(|err| match err.kind() {
                UpdateErrorKind::WrongLastRevision => StoreError::Conflict,
                _ => self.unavailable(&err),
            }),
        }
    }

    async fn accounts(&self) -> Result<Vec<String>, StoreError> {
        let prefix = format!("{}.record.", self.codec.function());
        let keys = self.kv().await?.keys().await.map_err(|err| self.unavailable(&err))?;
        let keys: Vec<String> = keys.try_collect().await.map_err(|err| self.unavailable(&err))?;
        Ok(keys.iter().filter_map(|key| key.strip_prefix(&prefix)).map(str::to_owned).collect())
    }

    /// One watch, until it breaks. It begins with every record as it is.
    async fn watch(&self, sender: &Told) -> Result<(), StoreError> {
        let prefix = format!("{}.record.", self.codec.function());
        let kv = self.kv().await?;
        let mut watch = kv.watch_with_history(format!("{prefix}*")).await.map_err(|err| self.unavailable(&err))?;
        while let Some(entry) = watch.next().await {
            let entry = entry.map_err(|err| self.unavailable(&err))?;
            if let Some(account) = entry.key.strip_prefix(&prefix)
                && sender.send(account.to_owned()).await.is_err()
            {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// The client answers within its own time limits in most cases; in all cases this answers.
async fn within<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::time::timeout(PATIENCE, work)
        .await
        .unwrap_or_else(|_| Err(StoreError::Unavailable(format!("NATS did not answer in {} s", PATIENCE.as_secs()))))
}

impl TokenStore for Nats {
    fn capabilities(&self) -> Capabilities {
        Capabilities { read_back: true, compare_and_swap: true, lease: true, accounts: true }
    }

    async fn load(&self, account: &str) -> Result<Option<Stored>, StoreError> {
        let key = self.0.key("record", account)?;
        let Some(entry) = within(self.0.get(&key)).await? else { return Ok(None) };
        let version = Version::new(entry.revision);
        match self.0.codec.decode(account, &entry.value) {
            Ok(record) => Ok(Some(Stored { record, version })),
            Err(err) => Err(err.at(version)),
        }
    }

    async fn save(&self, account: &str, record: &Record, was: Option<&Version>) -> Result<Version, StoreError> {
        let key = self.0.key("record", account)?;
        let value = self.0.codec.encode(account, record)?.to_vec();
        // A version that is no revision was never one of ours.
        let was = was.map(|was| was.as_str().parse().map_err(|_| StoreError::Conflict)).transpose()?;
        within(self.0.put(&key, value, was)).await.map(Version::new)
    }

    async fn accounts(&self) -> Result<Vec<String>, StoreError> {
        within(self.0.accounts()).await
    }

    async fn acquire(&self, account: &str, owner: &str, ttl: Duration, now: Timestamp) -> Result<Acquired, StoreError> {
        let key = self.0.key("lease", account)?;
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
                if !self.0.observed.is_over(account, &seen, lease.renewed, length, now) {
                    return Ok(Acquired::Busy);
                }
            }
            // Where another replica was quicker, it has the lease.
            let taken = self.0.put_lease(&key, lease.taken(owner, now, length_ms), revision).await?;
            Ok(if taken { until } else { Acquired::Busy })
        })
        .await
    }

    async fn release(&self, account: &str, owner: &str) -> Result<(), StoreError> {
        let key = self.0.key("lease", account)?;
        within(async {
            if let Some((_, revision)) = self.0.take_held(&key, owner)
                && self.0.put_lease(&key, Lease::default(), Some(revision)).await?
            {
                return Ok(());
            }
            let (lease, revision) = self.0.lease(&key).await?;
            if lease.owner == owner {
                // Not taken: somebody else has it by now.
                self.0.put_lease(&key, Lease::default(), revision).await?;
            }
            Ok(())
        })
        .await
    }

    fn changes(&self) -> Option<Changes> {
        let inner = Arc::clone(&self.0);
        Some(follow("the bucket", move |told| {
            let inner = Arc::clone(&inner);
            async move { inner.watch(&told).await }
        }))
    }
}
