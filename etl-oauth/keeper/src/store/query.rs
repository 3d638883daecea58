use std::{collections::HashSet, time::Duration};

use jiff::Timestamp;

use super::{Key, Kind};

/// A question for a page of keys, in the order of [`Key`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// The kind of keys.
    pub kind: Kind,
    /// Of this connection only.
    pub connection: Option<String>,
    /// Whose names begin so.
    pub prefix: String,
    /// Whose value has this tag.
    pub tag: Option<String>,
    /// That come after this key.
    pub after: Option<Key>,
    /// No more than so many.
    pub limit: usize,
}

impl Scan {
    /// The first `limit` keys of a kind.
    #[must_use]
    pub fn of(kind: Kind, limit: usize) -> Self {
        Self { kind, connection: None, prefix: String::new(), tag: None, after: None, limit }
    }
}

/// Keys, as many as were asked for or all that are left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The keys, in order.
    pub keys: Vec<Key>,
    /// Where the next page begins ([`Scan::after`]); `None` at the end.
    pub next: Option<Key>,
}

impl Page {
    /// The page of a scan, from one key more than it asked for where there are so many.
    pub(super) fn of(mut keys: Vec<Key>, limit: usize) -> Self {
        let more = keys.len() > limit;
        keys.truncate(limit);
        let next = keys.last().filter(|_| more).cloned();
        Self { keys, next }
    }
}

/// A key whose value is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The key.
    pub key: Key,
    /// Since when, [`Meta::due_at`](super::Meta::due_at); [`Timestamp::MIN`] for a value without an index entry.
    pub at: Timestamp,
}

/// A question for work: keys that are due, with their leases.
#[derive(Clone, Debug)]
pub struct Claim<'a> {
    /// The kind of keys.
    pub kind: Kind,
    /// Their connection.
    pub connection: &'a str,
    /// Those that are due by then.
    pub before: Timestamp,
    /// No more than so many.
    pub limit: usize,
    /// The holder of the leases.
    pub owner: &'a str,
    /// Keys that the owner has claimed and is at work on.
    pub except: &'a HashSet<Key>,
    /// How long the holder may be silent.
    pub ttl: Duration,
    /// The time by the replica's clock.
    pub now: Timestamp,
}
