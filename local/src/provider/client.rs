//! The applications that may request tokens.

use super::digest::Digest;
use super::key::Key;

/// A registered application.
#[derive(Clone)]
#[non_exhaustive]
pub struct Client {
    pub(super) id: String,
    secret: Option<String>,
    pub(super) key: Option<Key>,
}

impl Client {
    /// An application with a secret; its redirect URI may be any loopback address.
    pub fn new(id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self { secret: Some(secret.into()), ..Self::without_secret(id) }
    }

    /// An application that authenticates with a key, or not at all.
    pub fn without_secret(id: impl Into<String>) -> Self {
        Self { id: id.into(), secret: None, key: None }
    }

    /// The same with the public half of a private P-256 key in PEM, which its signatures are checked with. Keys of other
    /// kinds are ignored.
    #[must_use]
    pub fn with_key(self, private: &str) -> Self {
        Self { key: Key::of_private(private), ..self }
    }

    pub(super) fn has_secret(&self, secret: &str) -> bool {
        // Digests, so that the time of the comparison reveals nothing.
        self.secret.as_ref().is_some_and(|own| Digest::of(own) == Digest::of(secret))
    }

    pub(super) fn is_public(&self) -> bool {
        self.secret.is_none() && self.key.is_none()
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("id", &self.id).finish_non_exhaustive()
    }
}
