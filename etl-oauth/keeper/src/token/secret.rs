//! A value that is wiped when dropped and never shown.

use std::fmt;

use aws_lc_rs::{constant_time, digest};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

/// A value that must not be seen: a token, a client secret, a password.
///
/// Wiped from memory when dropped; `Debug` shows nothing of it. It has no `PartialEq`: comparing two takes
/// constant time, by [`Secret::same`]. It is written out by [`Record`](super::Record) alone.
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

    /// Compares in constant time: neither the place of a difference nor the other one's length shows.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        let digest = |secret: &Self| digest::digest(&digest::SHA256, secret.expose().as_bytes());
        constant_time::verify_slices_are_equal(digest(self).as_ref(), digest(other).as_ref()).is_ok()
    }

    /// The first 16 hexadecimal digits of the SHA-256 of the value: names a token in a record or a log without showing it.
    #[must_use]
    pub fn digest(&self) -> String {
        let digest = digest::digest(&digest::SHA256, self.expose().as_bytes());
        let mut digits = hex::encode(digest);
        digits.truncate(16);
        digits
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
