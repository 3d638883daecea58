//! The secret that callers are checked with, read and parsed at most once a second.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp};

use super::Caller;
use token_keeper::{secrets::Secrets, token::Secret};

/// For how long a secret that was read is good.
const FRESH: SignedDuration = SignedDuration::from_secs(1);

/// A mounted secret as `T`, read and parsed anew once a second at most: reading the file and parsing keys on every call
/// takes longer than judging the caller, and strangers can make any number of calls.
pub(super) struct CachedSecret<T> {
    secrets: Secrets,
    name: &'static str,
    parse: fn(&Secret) -> Option<T>,
    last: Mutex<Option<(Timestamp, Arc<T>)>>,
}

impl<T> fmt::Debug for CachedSecret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedSecret").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<T> CachedSecret<T> {
    pub(super) fn new(secrets: Secrets, name: &'static str, parse: fn(&Secret) -> Option<T>) -> Self {
        Self { secrets, name, parse, last: Mutex::default() }
    }

    /// The parsed secret.
    ///
    /// # Errors
    /// [`Caller::Unavailable`] where it cannot be read, or does not parse.
    pub(super) fn get(&self, now: Timestamp) -> Result<Arc<T>, Caller> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // After a clock was set back, the last read lies in the future.
        if let Some((at, secret)) = &*last
            && (*at..*at + FRESH).contains(&now)
        {
            return Ok(Arc::clone(secret));
        }
        // A secret that cannot be read any more is not good any more.
        *last = None;
        let secret = self.secrets.require(self.name).map_err(|_| Caller::Unavailable)?;
        let secret = Arc::new((self.parse)(&secret).ok_or(Caller::Unavailable)?);
        *last = Some((now, Arc::clone(&secret)));
        Ok(secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_anew_after_a_second_and_a_missing_one_is_not_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let cached = CachedSecret::new(Secrets::new(folder.path(), ""), "word", |it| Some(it.expose().to_owned()));
        let at = |millis: i64| cached.get(Timestamp::from_millisecond(millis).unwrap()).ok().map(|it| it.to_string());
        let write = |value: &str| std::fs::write(folder.path().join("word"), value).unwrap();
        assert_eq!(at(0), None);
        write("one");
        assert_eq!(at(0).as_deref(), Some("one"));
        write("two");
        assert_eq!(at(999).as_deref(), Some("one"));
        assert_eq!(at(1000).as_deref(), Some("two"));
        write("three");
        assert_eq!(at(10).as_deref(), Some("three"), "the clock was set back");
        std::fs::remove_file(folder.path().join("word")).unwrap();
        assert_eq!((at(500).as_deref(), at(1010)), (Some("three"), None));
        write("four");
        assert_eq!(at(1011).as_deref(), Some("four"));
    }
}
