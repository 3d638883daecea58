use std::fmt;

use aws_lc_rs::{constant_time, digest};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

/// A value that must not be seen: a token, a client secret, a password.
///
/// Wiped from memory when dropped; `Debug` shows nothing of it. It has no `PartialEq`, so that nobody compares two in a
/// time that tells how much of them agrees: use [`Secret::same`]. It is written out by [`Record`](super::Record) alone.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Takes a value as it is.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self(SecretString::from(value.into()))
    }

    /// The value itself, for the one header or body that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Whether the two are equal, in a time that tells neither where they differ nor how long the other one is.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        let digest = |secret: &Self| digest::digest(&digest::SHA256, secret.expose().as_bytes());
        constant_time::verify_slices_are_equal(digest(self).as_ref(), digest(other).as_ref()).is_ok()
    }

    /// The first 16 hexadecimal digits of the SHA-256 of the value: names a token in a record or a log without showing it.
    #[must_use]
    pub fn digest(&self) -> String {
        let digest = digest::digest(&digest::SHA256, self.expose().as_bytes());
        digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_the_value() {
        assert_eq!(format!("{:?}", Some(Secret::new("marker"))), "Some(Secret(..))");
    }

    #[test]
    fn equal_values_have_equal_digests_and_others_do_not() {
        assert_eq!(Secret::new("a").digest(), Secret::new("a").digest());
        assert_ne!(Secret::new("a").digest(), Secret::new("b").digest());
        assert_eq!(Secret::new("abc").digest(), "ba7816bf8f01cfea");
        assert!(Secret::new("a").same(&Secret::new("a")) && !Secret::new("a").same(&Secret::new("ab")));
    }
}
