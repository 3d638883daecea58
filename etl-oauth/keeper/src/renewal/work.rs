use std::{
    any::Any,
    sync::{Arc, Mutex, PoisonError, Weak},
};

/// Work that must not be cut off: a renewal, or tokens on their way into the store. Alive while any of it is.
#[derive(Debug, Default)]
pub(super) struct Work(Mutex<Option<Weak<dyn Any + Send + Sync>>>);

impl Work {
    /// Begins some; it lasts until what this gives is dropped.
    pub(super) fn begin(&self) -> Arc<dyn Any + Send + Sync> {
        let mut work = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(alive) = work.as_ref().and_then(Weak::upgrade) {
            return alive;
        }
        // Not of size zero, so that its address is its own.
        let fresh: Arc<dyn Any + Send + Sync> = Arc::new(0_u8);
        *work = Some(Arc::downgrade(&fresh));
        fresh
    }

    /// What is alive while the work is; `None` when there is none.
    pub(super) fn unfinished(&self) -> Option<Weak<dyn Any + Send + Sync>> {
        let work = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        work.clone().filter(|work| work.strong_count() > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_unfinished_until_the_last_of_it_ends() {
        let work = Work::default();
        assert!(work.unfinished().is_none());
        let (one, two) = (work.begin(), work.begin());
        drop(one);
        let seen = work.unfinished().unwrap();
        drop(two);
        assert!(work.unfinished().is_none() && seen.strong_count() == 0);
        let _again = work.begin();
        assert!(work.unfinished().is_some());
    }
}
