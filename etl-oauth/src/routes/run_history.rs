use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;

use crate::pages::Run;

/// How many runs of an account are remembered.
const KEPT: usize = 50;

/// The last runs of the job in this replica, by account, newest first.
#[derive(Debug, Default)]
pub(super) struct Runs(Mutex<BTreeMap<String, VecDeque<Run>>>);

impl Runs {
    pub(super) fn add(&self, account: &str, at: Timestamp, now: Timestamp, outcome: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let runs = all.entry(account.to_owned()).or_default();
        runs.truncate(KEPT - 1);
        let duration_ms = u64::try_from(now.duration_since(at).as_millis()).unwrap_or(0);
        runs.push_front(Run { at, outcome: outcome.to_owned(), duration_ms });
    }

    pub(super) fn of(&self, account: &str) -> Vec<Run> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(account).map(|runs| runs.iter().cloned().collect()).unwrap_or_default()
    }
}
