use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// SHA-256 in hex, which stands for a token where the token itself must not appear.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Digest(String);

impl Digest {
    pub(super) fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// A prefix that is long enough to tell tokens apart.
    pub(super) fn short(&self) -> &str {
        &self.0[..16]
    }
}
