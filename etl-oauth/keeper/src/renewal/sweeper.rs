//! Renews what is due, whether or not anyone calls, and shares that work with the other replicas through the store.

use std::{
    collections::HashSet,
    convert::Infallible,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;

use super::{Keeper, KeeperError, Keepers, driver::jitter, pace::Pace, protocol::Reason};
use crate::{
    store::{ByteStore, Claim, DEFAULT_ACCOUNT, Due, Key, Kind, Meta, StoreError, Value},
    token::{FailureKind, Record, State},
};

/// Between two looks at work that other replicas have claimed.
const CLAIMED: Duration = Duration::from_secs(1);
/// Counting all accounts may take a twentieth of the time between two counts.
const COUNTING: u32 = 20;

/// How a replica sweeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepOptions {
    /// The longest pause between two looks at what is due.
    pub interval: Duration,
    /// How many renewals of the connection go on at once.
    pub concurrency: usize,
    /// A safeguard that is taken away, so that a test shows what it is for.
    #[cfg(test)]
    pub(super) without: Without,
}

#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Without {
    Nothing,
    Claim,
    Ramp,
}

impl Default for SweepOptions {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(30),
            concurrency: 8,
            #[cfg(test)]
            without: Without::Nothing,
        }
    }
}

/// What came of looking after one account.
pub(super) enum Attended {
    /// It is renewed, or needed nothing.
    Fine,
    /// Provider or store are in trouble, and others would fare alike; the provider asks to be left alone for so long.
    Trouble(Duration),
    /// It failed for a reason of its own.
    Failed,
}

impl Keepers {
    /// Renews what is due, keeps idle refresh tokens alive, delivers notifications and goes on with device authorisations
    /// that other replicas left behind. Runs for ever; replicas share the work by claims in the store, so that a dead one's
    /// is taken over when its lease has run out.
    ///
    /// After failures of provider or store it goes on with one account at a time, and takes as many at once as before only
    /// after as many have succeeded.
    pub async fn sweep(&self, options: SweepOptions) -> Infallible {
        let mut sweep = Sweep {
            keepers: self,
            options,
            running: JoinSet::new(),
            keys: HashSet::new(),
            pace: Pace::new(options.concurrency),
            count_at: None,
        };
        loop {
            sweep.count().await;
            let pause = sweep.begin().await.unwrap_or_else(|err| {
                tracing::debug!(connection = self.connection(), error = %err, "what is due is not known; trying again");
                sweep.pace.note(&Attended::Trouble(Duration::ZERO), self.now(), jitter());
                options.interval
            });
            sweep.wait(pause.min(options.interval)).await;
        }
    }
}

impl Keepers {
    /// Shows in the metrics how many accounts are in each state, where the store says.
    pub async fn show_counts(&self) {
        let Ok(counts) = self.counts().await else { return };
        for (state, count) in State::ALL.into_iter().zip(counts) {
            let labels = [("connection", self.connection().to_owned()), ("state", state.as_str().to_owned())];
            #[expect(clippy::cast_precision_loss, reason = "so many accounts are exact in a double")]
            metrics::gauge!("etl_oauth_accounts", &labels).set(count as f64);
        }
    }
}

struct Sweep<'a> {
    keepers: &'a Keepers,
    options: SweepOptions,
    running: JoinSet<(Key, Attended)>,
    keys: HashSet<Key>,
    pace: Pace,
    count_at: Option<Instant>,
}

impl Sweep<'_> {
    /// Begins as much of what is due as the pace lets; how long to wait before the next look.
    async fn begin(&mut self) -> Result<Duration, StoreError> {
        let (parts, now) = (self.keepers.parts(), self.keepers.now());
        if self.keepers.is_ending() {
            return Ok(self.options.interval);
        }
        let room = match self.pace.room(self.running.len(), now) {
            Ok(room) => room,
            Err(until) => return Ok(between(now, until)),
        };
        if !parts.store.capabilities().index {
            return self.begin_without_index(now).await;
        }
        if room == 0 {
            return Ok(self.options.interval);
        }
        let claim = Claim {
            kind: Kind::TOKEN,
            connection: self.keepers.connection(),
            before: now,
            limit: room,
            owner: &parts.owner,
            except: &self.keys,
            ttl: parts.policy.lease,
            now,
        };
        let claimed = parts.store.claim(&claim).await?;
        #[cfg(test)]
        let claimed =
            if self.options.without == Without::Claim { self.unclaimed(claimed, now).await? } else { claimed };
        let is_all = claimed.len() < room;
        for due in claimed {
            self.start(due.key);
        }
        if !is_all {
            return Ok(Duration::ZERO);
        }
        let soonest = parts
            .store
            .due(Kind::TOKEN, self.keepers.connection(), Timestamp::MAX, self.keys.len() + 1)
            .await?
            .into_iter()
            .find(|due| !self.keys.contains(&due.key));
        Ok(match soonest {
            Some(Due { at, .. }) if at > now => between(now, at),
            Some(_) => CLAIMED,
            None => self.options.interval,
        })
    }

    /// What a replica would begin with that knows of no other.
    #[cfg(test)]
    async fn unclaimed(&self, claimed: Vec<Due>, now: Timestamp) -> Result<Vec<Due>, StoreError> {
        let (parts, room) = (self.keepers.parts(), claimed.len().max(1));
        for due in claimed {
            parts.store.release(&due.key, &parts.owner).await?;
        }
        let due = parts.store.due(Kind::TOKEN, self.keepers.connection(), now, room + self.keys.len()).await?;
        Ok(due.into_iter().filter(|due| !self.keys.contains(&due.key)).take(room).collect())
    }

    /// A store without an index holds one account.
    async fn begin_without_index(&mut self, now: Timestamp) -> Result<Duration, StoreError> {
        let keeper = self.keepers.get(DEFAULT_ACCOUNT)?;
        keeper.sync().await;
        let policy = &self.keepers.parts().policy;
        let due_at = keeper.current().and_then(|stored| policy.renewal_due(&stored.record));
        Ok(match due_at {
            Some(at) if at > now => between(now, at),
            Some(_) if !self.keys.contains(keeper.key()) => {
                self.start(keeper.key().clone());
                self.options.interval
            }
            _ => self.options.interval,
        })
    }

    fn start(&mut self, key: Key) {
        let Ok(keeper) = self.keepers.get(key.name()) else { return };
        let interval = self.options.interval;
        if self.keys.insert(key.clone()) {
            self.running.spawn(async move { (key, keeper.attend(interval).await) });
        }
    }

    /// Waits for so long, or until there is room for more.
    async fn wait(&mut self, pause: Duration) {
        tokio::select! {
            Some(ended) = self.running.join_next() => {
                self.end(ended);
                while let Some(ended) = self.running.try_join_next() {
                    self.end(ended);
                }
            }
            () = tokio::time::sleep(pause) => {}
        }
    }

    fn end(&mut self, ended: Result<(Key, Attended), tokio::task::JoinError>) {
        match ended {
            Ok((key, attended)) => {
                self.keys.remove(&key);
                #[cfg(test)]
                if self.options.without == Without::Ramp {
                    return;
                }
                self.pace.note(&attended, self.keepers.now(), jitter());
            }
            // A panic: the log has it. Whose it was is not known; its lease runs out.
            Err(_) => self.keys.clear(),
        }
    }

    /// Shows how many accounts are in each state.
    async fn count(&mut self) {
        let begun = Instant::now();
        if self.count_at.is_some_and(|at| begun < at) {
            return;
        }
        self.keepers.show_counts().await;
        self.count_at = Some(Instant::now() + self.options.interval.max(begun.elapsed() * COUNTING));
    }
}

fn between(now: Timestamp, at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default()
}

impl Keeper {
    /// Renews where that is due. Whatever comes of it, the index says afterwards when to look again.
    pub(super) async fn attend(&self, interval: Duration) -> Attended {
        let before = self.0.store.writes();
        let result = self.renew(Reason::Due).await;
        if self.0.store.writes() == before
            && let Err(err) = self.put_off(interval).await
        {
            tracing::debug!(account = self.account(), error = %err, "the account stays due");
        }
        match result {
            Ok(()) => Attended::Fine,
            Err(KeeperError::Failed { failure, .. }) => match failure.class() {
                FailureKind::NetworkNotSent
                | FailureKind::NetworkAmbiguous
                | FailureKind::ProviderUnavailable
                | FailureKind::RateLimited => Attended::Trouble(failure.retry_after().unwrap_or_default()),
                FailureKind::StoreUnavailable if self.damage().is_none() => Attended::Trouble(Duration::ZERO),
                _ => Attended::Failed,
            },
            Err(_) => Attended::Failed,
        }
    }

    /// Nothing was written, so that the index says what it said before: it has no entry of the record, or an old one, or
    /// what is due cannot be done now.
    async fn put_off(&self, interval: Duration) -> Result<(), StoreError> {
        let (parts, key, now) = (&self.0.parts, self.key(), self.now());
        let soonest = now.checked_add(SignedDuration::try_from(interval).unwrap_or(SignedDuration::MAX));
        let soonest = soonest.unwrap_or(Timestamp::MAX);
        let read = match parts.store.get(key).await {
            Ok(None) => return Ok(()),
            Ok(Some(there)) => self.readable(&there).map(|record| (there, record)),
            Err(err) => Err(err),
        };
        let (there, record) = match read {
            Ok(read) => read,
            // What cannot be read, or is another client's, is not written over. An unused lease keeps it out of the
            // claims for a while.
            Err(err) => {
                let owner = format!("{}-put-off", parts.owner);
                parts.store.acquire(key, &owner, interval, now).await?;
                return Err(err);
            }
        };
        let is_due = there.meta.due_at.is_some_and(|at| at <= now) || there.meta.tag.is_none();
        if !is_due || !parts.store.capabilities().index {
            return Ok(());
        }
        let due_at = parts.policy.look_at(&record, parts.announcer.is_heard()).map(|at| at.max(soonest));
        let tag = Some(record.state().as_str().to_owned());
        let meta = Meta { generation: record.generation, due_at, tag };
        match parts.store.put(key, &there.bytes, &meta, Some(&there.version)).await {
            // Another writer knows better.
            Ok(_) | Err(StoreError::Conflict) => Ok(()),
            Err(err) => Err(err),
        }
    }

    /// The record, where it is one of ours.
    fn readable(&self, there: &Value) -> Result<Record, StoreError> {
        let record = Record::from_json(&there.bytes)?;
        self.check_client(&record).map(|()| record)
    }
}
