use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::watch;

/// Starts at most one anonymous run in an interval: other calls join it, or share its outcome. A scheduler cannot
/// authenticate, and a flood of calls must not become a flood of calls to the provider.
///
/// Each replica coalesces its own runs.
#[derive(Debug)]
pub struct Coalesce<T> {
    interval: Duration,
    last: Mutex<Option<Run<T>>>,
}

#[derive(Debug)]
struct Run<T> {
    started_at: Timestamp,
    /// For how long from its start its outcome is shared.
    shared_for: Duration,
    landing: watch::Receiver<Option<Landed<T>>>,
}

/// What came of a run, and when.
#[derive(Debug)]
pub struct Landed<T> {
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// What came of it.
    pub outcome: Arc<T>,
}

impl<T> Clone for Landed<T> {
    fn clone(&self) -> Self {
        Self { outcome: Arc::clone(&self.outcome), ..*self }
    }
}

/// What a request is to do.
#[derive(Debug)]
pub enum Place<T> {
    /// Run, and tell the others.
    Run(watch::Sender<Option<Landed<T>>>),
    /// Take what came of this run, which has ended or is under way.
    Share(watch::Receiver<Option<Landed<T>>>),
}

impl<T> Coalesce<T> {
    /// A floor of `interval`; zero is none.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        Self { interval, last: Mutex::new(None) }
    }

    fn last(&self) -> MutexGuard<'_, Option<Run<T>>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place of a request at `now`. A caller that `proved` its identity always runs, and others share that run.
    pub fn enter(&self, proved: bool, now: Timestamp) -> Place<T> {
        let mut last = self.last();
        if let Some(run) = &*last
            && !proved
        {
            let since = now.duration_since(run.started_at);
            // A clock that was set back must not make a run last for ever.
            let recent = !since.is_negative() && Duration::try_from(since).is_ok_and(|since| since < run.shared_for);
            let under_way = run.landing.borrow().is_none() && run.landing.has_changed().is_ok();
            if recent || (under_way && !self.interval.is_zero()) {
                return Place::Share(run.landing.clone());
            }
        }
        let (landed, landing) = watch::channel(None);
        *last = Some(Run { started_at: now, shared_for: self.interval, landing });
        Place::Run(landed)
    }

    /// The outcome of the last run is not shared for longer than that from its start: it may soon be another one, but a
    /// flood of calls must not find that out call by call.
    pub fn share_for(&self, limit: Duration) {
        if let Some(run) = &mut *self.last() {
            run.shared_for = run.shared_for.min(limit);
        }
    }

    /// Forgets the last run: the next one begins anew, because something has changed that it would find out.
    pub fn forget(&self) {
        *self.last() = None;
    }
}

impl<T> Landed<T> {
    /// Waits for what comes of a run; `None` when it ends without an outcome, by a panic or for lack of time.
    pub async fn wait(mut landing: watch::Receiver<Option<Self>>) -> Option<Self> {
        landing.wait_for(Option::is_some).await.ok()?.clone()
    }

    /// For how many seconds the outcome has been there (RFC 9111 §5.1).
    #[must_use]
    pub fn age(&self, now: Timestamp) -> u64 {
        u64::try_from(now.duration_since(self.ended_at).as_secs()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn runs<T>(place: &Place<T>) -> bool {
        matches!(place, Place::Run(_))
    }

    fn land(place: Place<u32>, outcome: u32, ended_at: Timestamp) {
        let Place::Run(landed) = place else { panic!("it does not run") };
        landed.send_replace(Some(Landed { started_at: ended_at, ended_at, outcome: Arc::new(outcome) }));
    }

    async fn shared(place: Place<u32>) -> Option<Landed<u32>> {
        let Place::Share(landing) = place else { panic!("it runs") };
        Landed::wait(landing).await
    }

    #[tokio::test]
    async fn within_the_interval_of_a_runs_start_its_outcome_is_shared() {
        let floor = Coalesce::new(Duration::from_secs(10));
        land(floor.enter(false, at(0)), 1, at(3));
        let landed = shared(floor.enter(false, at(9))).await.unwrap();
        assert_eq!((*landed.outcome, landed.age(at(9))), (1, 6));
        assert!(runs(&floor.enter(false, at(10))));
    }

    #[tokio::test]
    async fn a_run_under_way_is_joined_however_long_it_takes() {
        let floor = Coalesce::new(Duration::from_secs(10));
        let first = floor.enter(false, at(0));
        let joined = tokio::spawn(shared(floor.enter(false, at(60))));
        land(first, 7, at(61));
        assert_eq!(*joined.await.unwrap().unwrap().outcome, 7);
    }

    #[tokio::test]
    async fn who_proved_who_he_is_runs_at_once_and_the_others_share_that() {
        let floor = Coalesce::new(Duration::from_secs(10));
        land(floor.enter(false, at(0)), 1, at(0));
        land(floor.enter(true, at(5)), 2, at(5));
        assert_eq!(*shared(floor.enter(false, at(14))).await.unwrap().outcome, 2);
        assert!(runs(&floor.enter(false, at(15))));
    }

    #[tokio::test]
    async fn a_run_that_never_lands_is_told_and_not_repeated_before_its_time() {
        let floor = Coalesce::<u32>::new(Duration::from_secs(10));
        drop(floor.enter(false, at(0)));
        assert!(shared(floor.enter(false, at(1))).await.is_none());
        assert!(runs(&floor.enter(false, at(10))));
    }

    #[tokio::test]
    async fn s2_an_outcome_that_may_soon_change_is_shared_for_a_moment() {
        let floor = Coalesce::new(Duration::from_secs(10));
        let place = floor.enter(false, at(0));
        floor.share_for(Duration::from_secs(1));
        land(place, 1, at(0));
        assert_eq!(*shared(floor.enter(false, at(0))).await.unwrap().outcome, 1);
        let place = floor.enter(false, at(1));
        floor.share_for(Duration::from_secs(60));
        land(place, 2, at(1));
        assert_eq!(*shared(floor.enter(false, at(10))).await.unwrap().outcome, 2);
        assert!(runs(&floor.enter(false, at(11))), "no longer than the interval");
    }

    #[test]
    fn without_an_interval_after_a_change_and_with_a_clock_set_back_everyone_runs() {
        let off = Coalesce::<u32>::new(Duration::ZERO);
        let under_way = off.enter(false, at(0));
        assert!(runs(&under_way) && runs(&off.enter(false, at(0))));
        let floor = Coalesce::new(Duration::from_secs(10));
        land(floor.enter(false, at(100)), 1, at(100));
        floor.forget();
        let again = floor.enter(false, at(101));
        assert!(runs(&again));
        land(again, 2, at(101));
        assert!(runs(&floor.enter(false, at(50))));
    }
}
