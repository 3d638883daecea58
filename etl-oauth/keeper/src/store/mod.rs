//! Versioned bytes under a key, with a lease, a watch and an index of what is due. One contract, several back ends; which
//! one is a string in the configuration. A store knows nothing of what the bytes mean.

mod codec;
#[cfg(any(feature = "file", feature = "nats"))]
mod entry;
mod error;
#[cfg(feature = "file")]
mod file;
#[cfg(feature = "gateway")]
mod gateway;
#[cfg(feature = "gateway")]
mod gateway_api;
mod index;
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
mod query;
mod select;
mod update;
mod value;
#[cfg(any(feature = "kubernetes", feature = "nats", feature = "postgres"))]
mod watch;

pub use codec::Codec;
pub use error::{StoreError, Trouble};
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
#[cfg(feature = "postgres")]
#[doc(hidden)]
pub use postgres::connect_postgres;
pub use query::{Claim, Due, Page, Scan};
pub use select::Store;
pub use update::{Cell, KeyCell, Updated, update};
pub use value::{Acquired, Bytes, Capabilities, Meta, Value, Version};

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use tokio::sync::mpsc;

/// The account of a function that has but one.
pub const DEFAULT_ACCOUNT: &str = "default";

/// The connection that has no name: the only one of a program that is configured with one OAuth client.
pub const DEFAULT_CONNECTION: &str = "default";

/// Keys whose value may have changed.
pub type Changes = mpsc::Receiver<Key>;

/// What every store does. The same test suite runs against each.
///
/// `now` is the replica's clock; a store with a clock of its own may prefer that one.
pub trait ByteStore: Send + Sync {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Reads a value; `None` where there is none.
    fn get(&self, key: &Key) -> impl Future<Output = Result<Option<Value>, StoreError>> + Send;

    /// Writes a value and its index entry, if what is stored still has the version `was` (`None`: if nothing is stored),
    /// else [`StoreError::Conflict`]. After any other error the write may have happened.
    fn put(
        &self,
        key: &Key,
        bytes: &[u8],
        meta: &Meta,
        was: Option<&Version>,
    ) -> impl Future<Output = Result<Version, StoreError>> + Send;

    /// Deletes a value that still has the version `was`, else [`StoreError::Conflict`].
    fn delete(&self, key: &Key, was: &Version) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// A page of keys, in their order.
    fn list(&self, scan: &Scan) -> impl Future<Output = Result<Page, StoreError>> + Send;

    /// How many values have each tag ([`Meta::tag`]; the empty text for none), of one connection or of all.
    fn counts(
        &self,
        kind: Kind,
        connection: Option<&str>,
    ) -> impl Future<Output = Result<BTreeMap<String, u64>, StoreError>> + Send;

    /// The keys of a connection that are due by `before`, the earliest first, `limit` at most.
    fn due(
        &self,
        kind: Kind,
        connection: &str,
        before: Timestamp,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Due>, StoreError>> + Send;

    /// Takes the leases of keys that are due and that no other owner has. Of claims at the same moment no two get the same
    /// key; one that a dead owner had is free after its lease.
    fn claim(&self, claim: &Claim<'_>) -> impl Future<Output = Result<Vec<Due>, StoreError>> + Send {
        claim_one_by_one(self, claim)
    }

    /// Takes the key's lease for `owner`, or prolongs it where `owner` has it; it is never shortened.
    fn acquire(
        &self,
        key: &Key,
        owner: &str,
        ttl: Duration,
        now: Timestamp,
    ) -> impl Future<Output = Result<Acquired, StoreError>> + Send;

    /// Gives the lease back if it is still `owner`'s.
    fn release(&self, key: &Key, owner: &str) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The keys that are written, by whatever replica, to be looked at again. After a gap all of them are named, so a key
    /// says "look", not "it changed". `None` where the store cannot say. The watch ends when the receiver is dropped.
    fn changes(&self, kind: Kind) -> Option<Changes> {
        let _ = kind;
        None
    }
}

/// How many keys of others a claim passes over for each that it may take.
const PASSED: usize = 16;

/// A claim where the store has leases and an index and no statement that joins them.
async fn claim_one_by_one<S: ByteStore + ?Sized>(store: &S, claim: &Claim<'_>) -> Result<Vec<Due>, StoreError> {
    let mut claimed = Vec::new();
    for due in store.due(claim.kind, claim.connection, claim.before, claim.limit.saturating_mul(PASSED)).await? {
        if claimed.len() >= claim.limit {
            break;
        }
        if claim.except.contains(&due.key) {
            continue;
        }
        if matches!(store.acquire(&due.key, claim.owner, claim.ttl, claim.now).await?, Acquired::Until(_)) {
            claimed.push(due);
        }
    }
    Ok(claimed)
}

/// Whether `account` can be the name of an account or a connection: lower-case letters, digits and `-`, a letter or digit at
/// both ends, no more than 63. Such a name is the same in a URL, a file name, a Kubernetes label and a NATS subject.
///
/// # Errors
/// [`StoreError::Refused`] says this.
pub fn check_account(account: &str) -> Result<(), StoreError> {
    if key::is_name(account) {
        return Ok(());
    }
    Err(StoreError::refused(
        "an account's name has lower-case letters, digits and `-` between them, 63 at most; choose another one",
    ))
}
