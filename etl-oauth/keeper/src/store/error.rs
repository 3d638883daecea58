use std::{error::Error, fmt, ops::Deref, sync::Arc};

use super::Version;
use crate::seal::OpenError;

/// Why a store did not do what it was asked. Its [`source`](Error::source) is the client library's or the system's error,
/// where there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreError {
    /// Another writer wrote in between: read again.
    Conflict,
    /// Out of reach, or refusing for now.
    Unavailable(Trouble),
    /// It answers, and does not let us.
    Refused(Trouble),
    /// What is stored cannot be understood.
    Corrupt(Trouble),
    /// What is stored does not open with the keys that are mounted.
    Sealed(OpenError),
    /// The record belongs to another OAuth client.
    Foreign {
        /// The client that the record names.
        theirs: String,
        /// The client that is configured.
        ours: String,
    },
    /// What is stored at this version cannot be read, for that reason. A write that names the version replaces it.
    Damaged {
        /// [`StoreError::Corrupt`] or [`StoreError::Sealed`].
        why: Box<StoreError>,
        /// The version of what is stored.
        version: Version,
    },
    /// Wrongly configured: no try will help until that is changed.
    Config(Trouble),
    /// Not part of this build.
    Disabled {
        /// The feature, which has the store's name.
        kind: &'static str,
    },
}

/// What failed, in words that show no secret, and the error that it comes from.
#[derive(Clone)]
pub struct Trouble {
    what: Box<str>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl Trouble {
    /// The same with its cause.
    #[must_use]
    pub fn because(self, cause: impl Error + Send + Sync + 'static) -> Self {
        Self { source: Some(Arc::new(cause)), ..self }
    }
}

impl StoreError {
    /// [`StoreError::Unavailable`] for this reason.
    pub fn unavailable(what: impl Into<Trouble>) -> Self {
        Self::Unavailable(what.into())
    }

    /// [`StoreError::Refused`] for this reason.
    pub fn refused(what: impl Into<Trouble>) -> Self {
        Self::Refused(what.into())
    }

    /// [`StoreError::Config`] for this reason.
    pub fn config(what: impl Into<Trouble>) -> Self {
        Self::Config(what.into())
    }

    /// The same with the error that it comes from, where it is of a kind that has one.
    #[must_use]
    pub fn because(self, cause: impl Error + Send + Sync + 'static) -> Self {
        match self {
            Self::Unavailable(what) => Self::Unavailable(what.because(cause)),
            Self::Refused(what) => Self::Refused(what.because(cause)),
            Self::Corrupt(what) => Self::Corrupt(what.because(cause)),
            Self::Config(what) => Self::Config(what.because(cause)),
            other => other,
        }
    }

    /// The error of a value that was read at `version` and cannot be understood.
    #[must_use]
    pub fn at(self, version: Version) -> Self {
        match self {
            why @ (Self::Corrupt(_) | Self::Sealed(_)) => Self::Damaged { why: Box::new(why), version },
            other => other,
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict => f.write_str("the record was changed by another writer"),
            Self::Unavailable(what) => write!(f, "the store cannot be reached: {what}"),
            Self::Refused(what) => write!(f, "the store refuses: {what}"),
            Self::Corrupt(what) | Self::Config(what) => what.fmt(f),
            Self::Sealed(err) => err.fmt(f),
            Self::Foreign { theirs, ours } => write!(
                f,
                "the stored record belongs to {theirs}, and this function is {ours}: give each function a secret_prefix of \
                 its own; if this function has changed its client, revoke the account and authorise again"
            ),
            Self::Damaged { why, .. } => write!(f, "the record is damaged: {why}"),
            Self::Disabled { kind } => write!(f, "store={kind} is not built in: build with the cargo feature {kind}"),
        }
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unavailable(what) | Self::Refused(what) | Self::Corrupt(what) | Self::Config(what) => {
                what.source.as_deref().map(|source| source as &(dyn Error + 'static))
            }
            Self::Damaged { why, .. } => why.source(),
            _ => None,
        }
    }
}

impl From<OpenError> for StoreError {
    fn from(err: OpenError) -> Self {
        Self::Sealed(err)
    }
}

impl Deref for Trouble {
    type Target = str;

    fn deref(&self) -> &str {
        &self.what
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl fmt::Debug for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.what, f)
    }
}

/// By what they say: an error is compared to tell news from what is known.
impl PartialEq for Trouble {
    fn eq(&self, other: &Self) -> bool {
        self.what == other.what
    }
}

impl Eq for Trouble {}

impl From<&str> for Trouble {
    fn from(what: &str) -> Self {
        Self { what: what.into(), source: None }
    }
}

impl From<String> for Trouble {
    fn from(what: String) -> Self {
        Self { what: what.into(), source: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_its_source_and_says_it_once() {
        let cause = std::io::Error::other("no route");
        let err = StoreError::unavailable("NATS: no route").because(cause);
        assert_eq!(err.to_string(), "the store cannot be reached: NATS: no route");
        assert_eq!(err.source().map(ToString::to_string).as_deref(), Some("no route"));
        assert_eq!(err, StoreError::unavailable("NATS: no route"));
        let damaged = StoreError::Corrupt("x".into()).because(std::fmt::Error).at(Version::new(7));
        assert!(damaged.source().is_some_and(|source| source.is::<std::fmt::Error>()), "{damaged}");
    }
}
