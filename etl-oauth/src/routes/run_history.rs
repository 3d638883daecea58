//! The last runs and renewals of each account: of this replica, and of those before it where the store can be read back.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    job::{JobError, JobState},
    pages::{RenewalRow, RunRow},
};
use token_keeper::store::{Key, Store};

/// How many runs, and how many renewals, of an account are remembered.
const KEPT: usize = 50;
/// The name of the notes beside the job's own.
const NOTES: &str = "etl-oauth.history";
/// So long does an answer wait for its run to be written down; a store that takes longer is waited for in the background.
const PATIENCE: Duration = Duration::from_millis(50);

/// What is remembered of an account, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct History {
    pub(super) runs: Vec<RunRow>,
    pub(super) renewals: Vec<RenewalRow>,
}

impl History {
    /// Takes in what another history knows.
    fn merge(&mut self, other: Self) {
        merge(&mut self.runs, other.runs, |run| run.at);
        merge(&mut self.renewals, other.renewals, |renewal| renewal.at);
    }
}

/// Adds what is missing, newest first, and forgets the oldest.
fn merge<T: PartialEq>(all: &mut Vec<T>, more: Vec<T>, at: impl Fn(&T) -> Timestamp) {
    for one in more {
        if !all.contains(&one) {
            all.push(one);
        }
    }
    all.sort_by_key(|one| std::cmp::Reverse(at(one)));
    all.truncate(KEPT);
}

/// The histories of all accounts of a connection. Clones are one.
#[derive(Clone, Debug)]
pub(super) struct Histories {
    connection: Arc<str>,
    known: Arc<Mutex<BTreeMap<String, History>>>,
    store: Arc<Store>,
}

impl Histories {
    /// Histories that are kept beside what the job remembers.
    pub(super) fn new(connection: &str, store: Arc<Store>) -> Self {
        Self { connection: connection.into(), known: Arc::default(), store }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, History>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what happened to an account.
    pub(super) fn add(&self, account: &str, more: History) {
        self.known().entry(account.to_owned()).or_default().merge(more);
    }

    /// Writes down what is known of an account, for the replicas to come.
    pub(super) async fn save(&self, account: &str) {
        if matches!(*self.store, Store::Memory(_)) {
            return;
        }
        let (this, account) = (self.clone(), account.to_owned());
        let writing = tokio::spawn(async move {
            if let Err(err) = this.write(&account).await {
                tracing::debug!(connection = &*this.connection, account, error = %err, "failed to store the history of the last runs");
            }
        });
        let _ = tokio::time::timeout(PATIENCE, writing).await;
    }

    async fn write(&self, account: &str) -> Result<(), JobError> {
        let state = JobState::new(Arc::clone(&self.store), &Key::token(&self.connection, account)?);
        loop {
            let mut entry = state.read::<History>(NOTES).await?;
            entry.notes.merge(self.known().get(account).cloned().unwrap_or_default());
            match state.write(NOTES, entry).await {
                Err(JobError::Overtaken) => {}
                result => return result.map(|_| ()),
            }
        }
    }

    async fn read(&self, account: &str) -> Result<History, JobError> {
        let state = JobState::new(Arc::clone(&self.store), &Key::token(&self.connection, account)?);
        Ok(state.read::<History>(NOTES).await?.notes)
    }

    /// What is known of an account. A store that cannot be read leaves this replica's part.
    pub(super) async fn of(&self, account: &str) -> History {
        if !matches!(*self.store, Store::Memory(_)) {
            match self.read(account).await {
                Ok(history) => self.add(account, history),
                Err(err) => {
                    tracing::debug!(connection = &*self.connection, account, error = %err, "failed to read the history of the last runs")
                }
            }
        }
        self.known().get(account).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(minute: u32, outcome: &str) -> RunRow {
        RunRow {
            at: format!("2026-11-21T12:{minute:02}:00Z").parse().unwrap(),
            outcome: outcome.into(),
            duration_ms: 5,
        }
    }

    #[test]
    fn two_histories_become_one_newest_first_and_nothing_stands_twice() {
        let mut ours = History { runs: vec![run(3, "ok"), run(1, "ok")], ..History::default() };
        ours.merge(History { runs: vec![run(2, "busy"), run(1, "ok")], ..History::default() });
        assert_eq!(ours.runs, [run(3, "ok"), run(2, "busy"), run(1, "ok")]);
        ours.merge(History { runs: (0..59).map(|minute| run(minute, "api_error")).collect(), ..History::default() });
        assert_eq!((ours.runs.len(), &ours.runs[0]), (KEPT, &run(58, "api_error")));
    }
}
