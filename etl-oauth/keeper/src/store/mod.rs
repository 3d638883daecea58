//! Where records live. One contract, several back ends; which one is a string in the configuration.

mod codec;
#[cfg(feature = "file")]
mod file;
#[cfg(feature = "gateway")]
mod gateway;
#[cfg(feature = "gateway")]
mod gateway_api;
mod key;
#[cfg(feature = "kubernetes")]
mod kubernetes;
#[cfg(any(feature = "kubernetes", feature = "nats"))]
mod lease_expiry;
mod memory;
#[cfg(feature = "gateway")]
mod mounted_secret;
#[cfg(feature = "nats")]
mod nats;
mod options;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "kubernetes", feature = "nats", feature = "postgres"))]
mod watch;

pub use codec::Codec;
#[cfg(feature = "file")]
pub use file::Files;
#[cfg(feature = "gateway")]
pub use gateway::{Gateway, Layout};
#[cfg(feature = "gateway")]
pub use gateway_api::GatewayApi;
pub use key::{Key, Kind};
#[cfg(feature = "kubernetes")]
pub use kubernetes::Kubernetes;
pub use memory::Memory;
#[cfg(feature = "nats")]
pub use nats::Nats;
pub use options::StoreOptions;
#[cfg(feature = "postgres")]
pub use postgres::Postgres;

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::{
    seal::OpenError,
    token::{ClientRef, CorruptRecord, Record},
};

/// The account of a function that has but one.
pub const DEFAULT_ACCOUNT: &str = "default";

/// The connection that has no name: the only one of a program that is configured with one OAuth client.
pub const DEFAULT_CONNECTION: &str = "default";

/// A record's version in its store: made by the store, compared and never read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(String);

impl Version {
    /// A version from the store's own name for it.
    #[allow(clippy::needless_pass_by_value, reason = "a number is as good a name as a string")]
    pub fn new(name: impl ToString) -> Self {
        Self(name.to_string())
    }

    /// The store's own name for it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A record as it was read or written, with the version that the next write must name.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The record.
    pub record: Record,
    /// Its version.
    pub version: Version,
}

/// What a store can do; the rest is missing from the renewal protocol, and a start-up warning says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// What is written can be read back from the store itself.
    pub read_back: bool,
    /// A write that names an old version is refused, whoever wrote in between.
    pub compare_and_swap: bool,
    /// A lease holds between replicas.
    pub lease: bool,
    /// More than one account.
    pub accounts: bool,
}

/// Why a store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Somebody else wrote in between: read again.
    #[error("the record was changed by another writer")]
    Conflict,
    /// Out of reach, or refusing for now.
    #[error("the store cannot be reached: {0}")]
    Unavailable(String),
    /// It answers, and does not let us.
    #[error("the store refuses: {0}")]
    Refused(String),
    /// What is stored is no record.
    #[error("{0}")]
    Corrupt(#[from] CorruptRecord),
    /// What is stored does not open with the keys that are mounted.
    #[error("{0}")]
    Sealed(#[from] OpenError),
    /// The record belongs to another OAuth client.
    #[error(
        "the stored record belongs to {theirs}, and this function is {ours}: give each function a secret_prefix of its own; \
         if this function has changed its client, revoke the account and authorise again"
    )]
    Foreign {
        /// The client that the record names.
        theirs: ClientRef,
        /// The client that is configured.
        ours: ClientRef,
    },
    /// What is stored at this version cannot be read, for that reason. A write that names the version replaces it.
    #[error("the record is damaged: {why}")]
    Damaged {
        /// [`StoreError::Corrupt`] or [`StoreError::Sealed`].
        why: Box<StoreError>,
        /// The version of what is stored.
        version: Version,
    },
    /// Wrongly configured: no try will help until that is changed.
    #[error("{0}")]
    Config(String),
    /// Not part of this build.
    #[error("store={kind} is not built in: build with the cargo feature {kind}")]
    Disabled {
        /// The feature, which has the store's name.
        kind: &'static str,
    },
}

impl StoreError {
    /// The error of a record that was read at `version` and cannot be decoded.
    fn at(self, version: Version) -> Self {
        match self {
            why @ (Self::Corrupt(_) | Self::Sealed(_)) => Self::Damaged { why: Box::new(why), version },
            other => other,
        }
    }
}

/// The answer to a request for a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// It is ours until then.
    Until(Timestamp),
    /// Another owner has it.
    Busy,
}

/// What every store does. The same test suite runs against each.
///
/// `now` is the replica's clock; a store with a clock of its own may prefer that one.
pub trait TokenStore: Send + Sync {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Reads an account's record; `None` where there is none.
    fn load(&self, account: &str) -> impl Future<Output = Result<Option<Stored>, StoreError>> + Send;

    /// Writes an account's record if what is stored still has the version `was` (`None`: if nothing is stored), else
    /// [`StoreError::Conflict`]. After any other error the write may have happened.
    fn save(
        &self,
        account: &str,
        record: &Record,
        was: Option<&Version>,
    ) -> impl Future<Output = Result<Version, StoreError>> + Send;

    /// The names of all accounts that have a record.
    fn accounts(&self) -> impl Future<Output = Result<Vec<String>, StoreError>> + Send;

    /// Takes the account's lease for `owner`, or prolongs it where `owner` has it; it is never shortened.
    fn acquire(
        &self,
        account: &str,
        owner: &str,
        ttl: Duration,
        now: Timestamp,
    ) -> impl Future<Output = Result<Acquired, StoreError>> + Send;

    /// Gives the lease back if it is still `owner`'s.
    fn release(&self, account: &str, owner: &str) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Tells of writes, by whatever replica: names of accounts to look at again. After a gap all of them are named, so a
    /// name says "look", not "it changed". `None` where the store cannot tell. The watch ends when the receiver is dropped.
    fn changes(&self) -> Option<Changes> {
        None
    }
}

/// Names of accounts whose record may have changed.
pub type Changes = mpsc::Receiver<String>;

/// Whether `account` can be the name of an account: lower-case letters, digits and `-`, a letter or digit at both ends, no
/// more than 63. Such a name is the same in a URL, a file name, a Kubernetes label and a NATS subject.
///
/// # Errors
/// [`StoreError::Refused`] says this.
pub fn check_account(account: &str) -> Result<(), StoreError> {
    if key::is_name(account) {
        return Ok(());
    }
    Err(StoreError::Refused(
        "an account's name has lower-case letters, digits and `-` between them, 63 at most; choose another one".into(),
    ))
}

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

    /// Writes every account's record anew, sealed with the key that is now the first: how many were written. Records that
    /// others write meanwhile are sealed with it by that.
    ///
    /// # Errors
    /// When the store fails; what was written until then stays so, and it can be asked again.
    pub async fn reseal(&self) -> Result<usize, StoreError> {
        let mut written = 0;
        for account in self.accounts().await? {
            // Another replica may write in between, and with the keys of before: its mount is changed at its own time.
            while let Some(stored) = self.load(&account).await? {
                match self.save(&account, &stored.record, Some(&stored.version)).await {
                    Ok(_) => {
                        written += 1;
                        break;
                    }
                    Err(StoreError::Conflict) => {}
                    Err(err) => return Err(err),
                }
            }
        }
        Ok(written)
    }
}

impl TokenStore for Store {
    fn capabilities(&self) -> Capabilities {
        dispatch!(self, store => store.capabilities())
    }

    async fn load(&self, account: &str) -> Result<Option<Stored>, StoreError> {
        dispatch!(self, store => store.load(account).await)
    }

    async fn save(&self, account: &str, record: &Record, was: Option<&Version>) -> Result<Version, StoreError> {
        let result = dispatch!(self, store => store.save(account, record, was).await);
        let outcome = match &result {
            Ok(_) => "ok",
            Err(StoreError::Conflict) => "conflict",
            Err(_) => "error",
        };
        metrics::counter!("etl_oauth_store_writes_total", "store" => self.kind(), "outcome" => outcome).increment(1);
        result
    }

    async fn accounts(&self) -> Result<Vec<String>, StoreError> {
        dispatch!(self, store => store.accounts().await)
    }

    async fn acquire(&self, account: &str, owner: &str, ttl: Duration, now: Timestamp) -> Result<Acquired, StoreError> {
        dispatch!(self, store => store.acquire(account, owner, ttl, now).await)
    }

    async fn release(&self, account: &str, owner: &str) -> Result<(), StoreError> {
        dispatch!(self, store => store.release(account, owner).await)
    }

    fn changes(&self) -> Option<Changes> {
        dispatch!(self, store => store.changes())
    }
}
