use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;

use crate::pages::Run;

/// How many runs are remembered.
const KEPT: usize = 50;

/// The last runs of the job in this replica, newest first.
#[derive(Debug, Default)]
pub(super) struct Runs(Mutex<VecDeque<Run>>);

impl Runs {
    pub(super) fn add(&self, at: Timestamp, now: Timestamp, outcome: &str) {
        let mut runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        runs.truncate(KEPT - 1);
        let duration_ms = u64::try_from(now.duration_since(at).as_millis()).unwrap_or(0);
        runs.push_front(Run { at, outcome: outcome.to_owned(), duration_ms });
    }

    pub(super) fn list(&self) -> Vec<Run> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
