//! Where records live. One contract, several back ends; which one is a string in the configuration.

mod gateway;
mod gateway_api;
mod memory;
mod mounted;

pub use gateway::{Gateway, Layout};
pub use gateway_api::GatewayApi;
pub use memory::Memory;

use std::time::Duration;

use jiff::Timestamp;

use crate::token::{CorruptRecord, Record};

/// The account of a function that has but one.
pub const DEFAULT_ACCOUNT: &str = "default";

/// A record's version in its store: made by the store, compared and never read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(String);

impl Version {
    /// A version from the store's own name for it.
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
    /// What is stored cannot be read.
    #[error("{0}; restore it, or authorise again")]
    Corrupt(#[from] CorruptRecord),
    /// Not part of this build.
    #[error("store={kind} is not built in: build with the cargo feature {kind}")]
    Disabled {
        /// The feature, which has the store's name.
        kind: &'static str,
    },
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
}

/// The stores that are built in. A closed set: the configuration names one.
#[derive(Debug)]
#[non_exhaustive]
pub enum Store {
    /// The gateway's REST API.
    Gateway(Gateway),
    /// This process's memory, for tests.
    Memory(Memory),
}

macro_rules! dispatch {
    ($self:expr, $store:ident => $call:expr) => {
        match $self {
            Self::Gateway($store) => $call,
            Self::Memory($store) => $call,
        }
    };
}

impl Store {
    /// The name in configuration, JSON and metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Gateway(_) => "gateway",
            Self::Memory(_) => "memory",
        }
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
}
