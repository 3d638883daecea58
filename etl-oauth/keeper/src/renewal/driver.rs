//! One renewal at a time in a process, in a task of its own.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use jiff::Timestamp;

use super::{
    Keeper, KeeperError, Policy,
    protocol::{Action, Event, Outcome, Reason},
    single_flight::{Flight, Landing},
    state_machine::RenewalMachine,
};
use crate::{
    renewal::Stored,
    store::{Acquired, ByteStore, Version},
    token::{LastRenewal, State},
};

/// How many renewals are remembered for the status page.
const HISTORY: usize = 50;

/// Ends a flight, also where its task goes without a word: the runtime is shutting down.
struct Ending {
    keeper: Keeper,
    flight: Arc<Flight>,
}

impl Drop for Ending {
    /// Whoever comes from here on begins the next one.
    fn drop(&mut self) {
        self.keeper.0.flights.end(&self.flight);
        self.flight.end(self.keeper.landed(Err(self.keeper.disabled())));
    }
}

impl Keeper {
    /// Renews for `need`, or waits for the renewal that is under way and looks again.
    pub(super) async fn renew(&self, need: Reason) -> Result<(), KeeperError> {
        self.landing_for(need).await.result
    }

    /// The same, with the token where that is fresh.
    pub(super) async fn landing_for(&self, need: Reason) -> Landing {
        loop {
            // The store holds what the authorisation replaces.
            if self.is_authorisation_pending()
                && let Some(err) = self.standing()
            {
                return self.landed(Err(err));
            }
            let (flight, ours) = self.board(need);
            // One that landed before served others: what was fresh for them may have ended since.
            let late = !ours && flight.has_landed();
            let landing = flight.landing().await;
            let fresh = landing.fresh.as_ref().filter(|_| need == Reason::Expiry && !late);
            let told = !late && (fresh.is_some() || ours || landing.result.is_err());
            // Somebody else's renewal may have been for something else.
            if told || !self.still_wants(need) || !self.is_saved() {
                return Landing { result: landing.result.clone(), fresh: fresh.cloned() };
            }
            flight.over().await;
        }
    }

    fn landed(&self, result: Result<(), KeeperError>) -> Landing {
        Landing { result, fresh: self.fresh() }
    }

    fn still_wants(&self, need: Reason) -> bool {
        let Some(current) = &*self.0.cache.load() else { return false };
        let (stored, policy) = (&current.stored, &self.0.parts.policy);
        match need {
            Reason::Expiry => self.now() >= current.fresh_until,
            Reason::Idle => policy.idle_at(&stored.record).is_some_and(|at| at <= self.now()),
            Reason::Due => policy.renewal_due(&stored.record).is_some_and(|at| at <= self.now()),
            Reason::Refused { generation, .. } | Reason::Run { generation } | Reason::Asked { generation } => {
                stored.record.generation <= generation
            }
        }
    }

    /// Joins the renewal that is under way, or starts one in a task that no caller's leaving can cancel.
    pub(super) fn board(&self, need: Reason) -> (Arc<Flight>, bool) {
        let (flight, begins) = self.0.flights.join();
        if !begins {
            return (flight, false);
        }
        let ending = Ending { keeper: self.clone(), flight: Arc::clone(&flight) };
        let work = self.0.work.token();
        tokio::spawn(crate::trace_context::carry(async move {
            let _unfinished = work;
            ending.keeper.fly(need, &ending.flight).await;
            drop(ending);
        }));
        (flight, true)
    }

    async fn fly(&self, need: Reason, flight: &Flight) {
        let started = self.now();
        let (outcome, changed, due_at) = tokio::select! {
            landed = self.drive(need, flight) => landed,
            () = self.prolong() => unreachable!("a lease is prolonged for ever"),
        };
        let now = self.now();
        // Where nobody has authorised anything, nothing was renewed, and nothing failed.
        if !matches!(outcome, Outcome::Disabled(_)) {
            let last = outcome.as_last_renewal(now);
            let connection = self.connection().to_owned();
            metrics::counter!("etl_oauth_renewals_total", "connection" => connection, "outcome" => last.outcome.clone())
                .increment(1);
            metrics::histogram!("etl_oauth_renewal_duration_seconds").record(now.duration_since(started).as_secs_f64());
            self.0.parts.announcer.renewed(self.account(), &last);
            self.remember(last);
        }
        if let (Outcome::Renewed(_), Some(late)) = (&outcome, due_at.map(|at| now.duration_since(at).as_secs_f64()))
            && late >= 0.0
        {
            metrics::histogram!("etl_oauth_renewal_lateness_seconds").record(late);
        }
        if self.0.unsaved.swap(false, Ordering::AcqRel) {
            self.announce_trouble(None);
        }
        let before = self.current();
        if let Some(stored) = outcome.stored() {
            self.publish(stored.clone());
        }
        if let (Some((from, _)), Some(stored)) = (changed, outcome.stored()) {
            self.announce((from, None), &stored.record);
        }
        // Before the lease goes back: nobody waits for that.
        flight.land(self.landed(self.result_of(outcome, before.as_deref(), now)));
        if self.0.leased.swap(false, Ordering::AcqRel) {
            // A release that does not arrive costs the others the rest of the lease, no more.
            let _ = self.0.parts.store.release(self.key(), &self.0.parts.owner).await;
        }
    }

    /// What came of a renewal, as the log and its callers hear it.
    fn result_of(&self, outcome: Outcome, before: Option<&Stored>, now: Timestamp) -> Result<(), KeeperError> {
        let account = self.account();
        match outcome {
            Outcome::Renewed(stored) => {
                tracing::info!(account, generation = stored.record.generation, "renewed the token");
                let before = before.filter(|before| before.record.generation < stored.record.generation);
                if let (Some(tokens), Some(before)) =
                    (&stored.record.tokens, before.and_then(|before| before.record.tokens.as_ref()))
                    && let Some(end) = tokens.final_end(before, now)
                {
                    tracing::warn!(account, %end, "the refresh token ends, and no renewal puts it off: authorise again before");
                }
                Ok(())
            }
            Outcome::Adopted(stored) => {
                tracing::info!(account, generation = stored.record.generation, "adopted a token renewed elsewhere");
                Ok(())
            }
            Outcome::Disabled(_) => Err(self.disabled()),
            Outcome::Failed(failure, _) => {
                let (class, next) = (failure.class().as_str(), failure.class().next_step());
                let reason = failure.reason();
                tracing::warn!(account, class, reason, next, error = %failure, "the token could not be renewed");
                Err(self.failed(failure))
            }
        }
    }

    fn remember(&self, last: LastRenewal) {
        let mut history = self.0.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.truncate(HISTORY - 1);
        history.push_front(last);
    }

    async fn drive(&self, need: Reason, flight: &Flight) -> (Outcome, Option<(State, State)>, Option<Timestamp>) {
        let parts = &self.0.parts;
        let client = Some(parts.authority.credentials_digest());
        let policy = Policy { tells: parts.announcer.is_heard(), client, ..parts.policy.clone() };
        let mut machine = RenewalMachine::new(need, policy, &parts.owner, jitter(), self.now());
        let mut step = machine.on(Event::Begin, self.now());
        loop {
            let event = match step {
                Action::Acquire => {
                    let lease = self.acquire().await;
                    self.0.leased.store(matches!(lease, Ok(Acquired::Until(_))), Ordering::Release);
                    Event::Lease(lease)
                }
                Action::Load => Event::Loaded(self.load().await),
                Action::Save(record, was) => Event::Saved(self.save(&record, was.as_ref()).await),
                Action::Send(token) => {
                    Event::Answered(parts.authority.refresh(&token, machine.renewing(), self.now()).await)
                }
                Action::Ask => Event::Answered(parts.authority.ask(machine.renewing(), self.now()).await),
                Action::Wait(pause) => {
                    if let Some(record) = machine.unsaved() {
                        // The callers need not wait for the store: memory is as good for them.
                        let is_news = !self.0.unsaved.swap(true, Ordering::AcqRel);
                        self.publish(Stored { record: record.clone(), version: Version::new("unsaved") });
                        if is_news {
                            self.announce_unsaved();
                        }
                        flight.land(self.landed(Ok(())));
                    }
                    tokio::time::sleep(pause).await;
                    Event::Woke
                }
                Action::Done(outcome) => return (*outcome, machine.changed(), machine.due_at()),
            };
            step = machine.on(event, self.now());
        }
    }

    /// Prolongs the lease while the renewal lasts: also while new tokens wait to be written, when another replica would
    /// still find the spent refresh token in the store.
    async fn prolong(&self) {
        let mut ticks = tokio::time::interval(prolong_every(self.0.parts.policy.lease));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.0.leased.load(Ordering::Acquire) {
                let _ = self.acquire().await;
            }
        }
    }
}

/// A random number from 0 to 1; on failure of the random source the jitter is zero.
pub(crate) fn jitter() -> f64 {
    let mut bytes = [0; 4];
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}

/// How often a lease is prolonged while a renewal lasts.
fn prolong_every(lease: Duration) -> Duration {
    (lease / 3).max(Duration::from_millis(10))
}
