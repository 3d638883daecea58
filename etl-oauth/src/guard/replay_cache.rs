use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;

/// Remembers what was used up until it would have ended anyway. Bounded; a full cache says so, and evicts nothing.
#[derive(Debug)]
pub struct ReplayCache {
    used: Mutex<HashMap<String, Entry>>,
    limit: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    until: Timestamp,
    done: bool,
}

/// What a use of a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// The first one.
    First,
    /// It was used before; whether what it was used for has been done.
    Again {
        /// [`ReplayCache::done`] was called.
        done: bool,
    },
    /// It is not known as used, and there is no room to remember it.
    NoRoom,
}

impl ReplayCache {
    /// Room for `limit` names at a time.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { used: Mutex::default(), limit }
    }

    fn used(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `name` is remembered as used.
    pub fn is_used(&self, name: &str) -> bool {
        self.used().contains_key(name)
    }

    /// Uses `name` up.
    pub fn consume(&self, name: &str, until: Timestamp, now: Timestamp) -> Use {
        let mut used = self.used();
        if let Some(entry) = used.get(name) {
            return Use::Again { done: entry.done };
        }
        if used.len() >= self.limit {
            used.retain(|_, entry| entry.until > now);
        }
        if used.len() >= self.limit {
            return Use::NoRoom;
        }
        used.insert(name.to_owned(), Entry { until, done: false });
        Use::First
    }

    /// What `name` was used for has been done.
    pub fn done(&self, name: &str) {
        if let Some(entry) = self.used().get_mut(name) {
            entry.done = true;
        }
    }

    /// Forgets `name`: what it was used for was not done.
    pub fn release(&self, name: &str) {
        self.used().remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_good_once_and_the_memory_is_bounded() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let cache = ReplayCache::new(2);
        assert_eq!(cache.consume("a", at(10), at(0)), Use::First);
        assert_eq!(cache.consume("a", at(10), at(1)), Use::Again { done: false });
        cache.done("a");
        assert_eq!(cache.consume("b", at(20), at(1)), Use::First);
        assert_eq!(cache.consume("c", at(20), at(2)), Use::NoRoom);
        assert_eq!(cache.consume("a", at(20), at(2)), Use::Again { done: true }, "a full cache still knows its names");
        assert_eq!(cache.consume("c", at(20), at(10)), Use::First);
        cache.release("c");
        assert_eq!(cache.consume("c", at(20), at(10)), Use::First);
    }
}
