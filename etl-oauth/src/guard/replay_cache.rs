use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;

/// Remembers what was used up until it would have ended anyway. Bounded, and only what was proven genuine gets in.
#[derive(Debug)]
pub struct Once {
    used: Mutex<HashMap<String, Timestamp>>,
    limit: usize,
}

impl Once {
    /// Room for `limit` names at a time.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { used: Mutex::default(), limit }
    }

    /// Whether `name` is remembered as used.
    pub fn is_used(&self, name: &str) -> bool {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).contains_key(name)
    }

    /// Uses `name` up; `false` when it was used before, or when there is no room to remember it.
    pub fn consume(&self, name: &str, until: Timestamp, now: Timestamp) -> bool {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() >= self.limit {
            used.retain(|_, until| *until > now);
        }
        if used.len() >= self.limit || used.contains_key(name) {
            return false;
        }
        used.insert(name.to_owned(), until);
        true
    }

    /// Forgets `name`: what it was used for was not done.
    pub fn release(&self, name: &str) {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_good_once_and_the_memory_is_bounded() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let once = Once::new(2);
        assert!(once.consume("a", at(10), at(0)) && !once.consume("a", at(10), at(1)));
        assert!(once.consume("b", at(20), at(1)) && !once.consume("c", at(20), at(2)));
        assert!(once.consume("c", at(20), at(10)));
    }
}
