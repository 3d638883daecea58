use std::fmt;

use jiff::Timestamp;
use secrecy::zeroize::Zeroizing;

/// A value's version in its store: made by the store, compared and never read.
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

/// The bytes of a value, wiped when dropped.
pub type Bytes = Zeroizing<Vec<u8>>;

/// A value as it was read, with the version that the next write must name.
#[derive(Clone)]
pub struct Value {
    /// The bytes that were put.
    pub bytes: Bytes,
    /// Their version.
    pub version: Version,
    /// What the store knows of them without reading them.
    pub meta: Meta,
}

impl fmt::Debug for Value {
    /// Without the bytes, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Value").field("version", &self.version).field("meta", &self.meta).finish_non_exhaustive()
    }
}

/// What a store knows of a value without reading it: the entry in its index.
///
/// It is a hint, written together with the value and not sealed with it. A value that was written without one (by version
/// 0.1, or by another program) has no tag; the index answers that such a value is due at once, so that its owner looks at it
/// and writes the entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// How often the value was replaced, as its writer counts. Authenticated where the value is sealed.
    pub generation: u64,
    /// When the value has to be looked at again; `None` for never.
    pub due_at: Option<Timestamp>,
    /// The value's state in a word, to count and to filter by.
    pub tag: Option<String>,
}

/// What a store can do; the rest is missing from the renewal protocol, and a start-up warning says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a capability of its own")]
pub struct Capabilities {
    /// What is written can be read back from the store itself.
    pub read_back: bool,
    /// A write that names an old version is refused.
    pub compare_and_swap: bool,
    /// A lease holds between replicas.
    pub lease: bool,
    /// More than one key.
    pub accounts: bool,
    /// [`ByteStore::due`](super::ByteStore::due) and [`ByteStore::claim`](super::ByteStore::claim) answer.
    pub index: bool,
}

/// The answer to a request for a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// It is ours until then.
    Until(Timestamp),
    /// Another owner has it.
    Busy,
}
