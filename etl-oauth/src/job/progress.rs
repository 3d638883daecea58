use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde::Serialize;

/// How far the runs of this replica have got, by account and by what they read. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Mutex<BTreeMap<String, BTreeMap<String, Step>>>>);

/// How far one list has got in the newest run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Records that are safe.
    pub records: u64,
    /// Files, objects or batches that are safe.
    pub parts: u64,
    /// Whether the run is through with it.
    pub done: bool,
}

impl Progress {
    pub(super) fn set(&self, account: &str, resource: &str, step: Step) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(account.to_owned()).or_default().insert(resource.to_owned(), step);
    }

    /// What is known of an account.
    #[must_use]
    pub fn of(&self, account: &str) -> BTreeMap<String, Step> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(account).cloned().unwrap_or_default()
    }
}
