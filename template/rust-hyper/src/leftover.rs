//! Work that a function goes on with after it has answered.

use std::{
    any::Any,
    sync::{Mutex, PoisonError, Weak},
    time::Duration,
};

/// What a function lays into the extensions of its response: alive as long as the work is. Types of the standard library
/// alone, so that a function need not depend on this crate.
pub(crate) type Work = Weak<dyn Any + Send + Sync>;

/// How often the end of the work is looked for. Only while draining, when milliseconds do not count.
const LOOK: Duration = Duration::from_millis(10);

/// The work that is to be finished before the process ends.
#[derive(Debug, Default)]
pub(crate) struct Leftovers(Mutex<Vec<Work>>);

impl Leftovers {
    pub(crate) fn add(&self, work: Work) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A function that renews a token in the background says so with many answers.
        all.retain(|other| other.strong_count() > 0 && !other.ptr_eq(&work));
        all.push(work);
    }

    fn is_done(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().all(|work| work.strong_count() == 0)
    }

    /// Waits until all of it is finished.
    pub(crate) async fn done(&self) {
        while !self.is_done() {
            tokio::time::sleep(LOOK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn the_end_waits_for_work_that_is_alive() {
        let leftovers = Leftovers::default();
        leftovers.done().await;
        let work: Arc<dyn Any + Send + Sync> = Arc::new(());
        leftovers.add(Arc::downgrade(&work));
        leftovers.add(Arc::downgrade(&work));
        assert_eq!(leftovers.0.lock().unwrap().len(), 1);
        assert!(!leftovers.is_done());
        drop(work);
        leftovers.done().await;
    }
}
