//! Which OAuth client a record's tokens were issued to.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Secret;

/// The OAuth client that a record belongs to: two functions that share a store by mistake tell each other's records by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientRef {
    /// The provider's name; for `custom` with its host.
    pub provider: String,
    /// Digest of provider and client id.
    pub digest: String,
}

impl ClientRef {
    /// The client of this id at `provider`.
    #[must_use]
    pub fn new(provider: &str, id: &str) -> Self {
        Self { provider: provider.to_owned(), digest: Secret::new(format!("{provider}\n{id}")).digest() }
    }
}

impl fmt::Display for ClientRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {} of provider {}", self.digest, self.provider)
    }
}
