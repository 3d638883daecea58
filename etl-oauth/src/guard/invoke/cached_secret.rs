//! What callers are checked with, as it was read last.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use token_keeper::{
    secrets::{SecretError, Secrets},
    token::Secret,
};

/// For how long a secret that was read is good.
const FRESH: SignedDuration = SignedDuration::from_secs(1);

/// A mounted secret, read anew once a second at most: a caller's every call would open, measure, read and close the file,
/// which takes longer than to judge the caller.
#[derive(Debug)]
pub(super) struct Kept {
    secrets: Secrets,
    name: &'static str,
    last: Mutex<Option<(Timestamp, Arc<Secret>)>>,
}

impl Kept {
    pub(super) fn new(secrets: Secrets, name: &'static str) -> Self {
        Self { secrets, name, last: Mutex::default() }
    }

    pub(super) fn get(&self, now: Timestamp) -> Result<Arc<Secret>, SecretError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // By a clock that was set back it was read in the future.
        if let Some((at, secret)) = &*last
            && (*at..*at + FRESH).contains(&now)
        {
            return Ok(Arc::clone(secret));
        }
        // What cannot be read is not good any more, either.
        *last = None;
        let secret = Arc::new(self.secrets.require(self.name)?);
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
        let kept = Kept::new(Secrets::new(folder.path(), ""), "word");
        let at =
            |millis: i64| kept.get(Timestamp::from_millisecond(millis).unwrap()).map(|it| it.expose().to_owned()).ok();
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
