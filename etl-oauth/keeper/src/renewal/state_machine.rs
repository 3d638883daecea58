//! One renewal as a state machine that does no IO: it is told what happened and says what to do next. So the very code
//! that runs in production runs in a simulation of replicas, crashes and lost answers.

mod backoff;
mod commit;
mod send;

use std::time::Duration;

use jiff::Timestamp;

use super::{
    error::RECORD_DAMAGED,
    policy::{Policy, after},
    protocol::{Action, Event, Outcome, Reason},
};
use crate::{
    renewal::Stored,
    store::{Acquired, StoreError},
    token::{Failure, FailureKind, Intent, Record, State, Tokens},
};
use backoff::{next_refusal, standing, unanswered};
use commit::Fresh;
pub(super) use commit::UNSAVED;

/// What the machine waits for.
#[derive(Clone, Debug)]
enum Phase {
    Begun,
    /// Another replica has the lease: look whether it is done, else ask again.
    Waiting,
    Deciding,
    /// The first record of an account that needs no person: what is done with it is then written over something.
    Founding,
    SavingIntent(Stored),
    Sending(Stored),
    /// New tokens are to be stored over this record.
    Storing(Box<Fresh>),
    /// A write of new tokens met another writer's.
    Merging(Box<Fresh>),
    /// The provider refused the grant: has somebody else renewed?
    Rereading(Stored, Failure),
    /// A failure is to be written down.
    Noting(Stored, Failure),
    /// Whether it was, nobody said.
    Checking(Stored, Failure),
    /// It was not, for somebody else wrote.
    Renoting(Stored, Failure),
}

/// One renewal. Clones let a search try every next event on the same state.
#[derive(Clone, Debug)]
pub struct RenewalMachine {
    need: Reason,
    policy: Policy,
    owner: String,
    jitter: f64,
    phase: Phase,
    lease_until: Timestamp,
    give_up_at: Timestamp,
    sent_at: Timestamp,
    /// The intents that this renewal wrote, or tried to, before anything was sent: in the record they are no earlier try.
    written: Vec<Intent>,
    /// How often it went back to the lease or to the record.
    detours: u32,
    sent_previous: bool,
    /// When the refresh token was sent before, where that send was not answered.
    earlier_at: Option<Timestamp>,
    /// The state of the record as it was read last, and the failure that it came from.
    seen: (State, Option<FailureKind>),
    changed: Option<(State, State)>,
    /// When the renewal of the record that was read last was due.
    due_at: Option<Timestamp>,
}

/// A renewal that goes back more often than this is up against a store that cannot make up its mind.
const DETOURS: u32 = 6;

impl RenewalMachine {
    /// A renewal for `need` by `owner`, begun at `now`. `jitter` is a random number between 0 and 1.
    #[must_use]
    pub fn new(need: Reason, policy: Policy, owner: impl Into<String>, jitter: f64, now: Timestamp) -> Self {
        // Long enough for a holder's lease to run out and for one call after that.
        let patience = policy.lease + policy.lease + policy.token_timeout;
        Self {
            need,
            give_up_at: after(now, patience).unwrap_or(Timestamp::MAX),
            policy,
            owner: owner.into(),
            jitter,
            phase: Phase::Begun,
            lease_until: Timestamp::MIN,
            sent_at: now,
            written: Vec::new(),
            detours: 0,
            sent_previous: false,
            earlier_at: None,
            seen: (State::Disabled, None),
            changed: None,
            due_at: None,
        }
    }

    /// The account's state before and after, where a write of this renewal made news ([`Record::is_news_after`]).
    #[must_use]
    pub fn changed(&self) -> Option<(State, State)> {
        self.changed
    }

    /// When the renewal was due by itself, where that is known.
    #[must_use]
    pub fn due_at(&self) -> Option<Timestamp> {
        self.due_at
    }

    fn wrote(&mut self, record: &Record) {
        self.changed = record.is_news_after(self.seen).then_some((self.seen.0, record.state()));
    }

    /// The tokens that are being renewed, while the provider is asked.
    #[must_use]
    pub fn renewing(&self) -> Option<&Tokens> {
        match &self.phase {
            Phase::Sending(stored) => stored.record.tokens.as_ref(),
            _ => None,
        }
    }

    /// The new tokens, while they are not stored.
    #[must_use]
    pub fn unsaved(&self) -> Option<&Record> {
        match &self.phase {
            Phase::Storing(fresh) | Phase::Merging(fresh) => Some(&fresh.record),
            _ => None,
        }
    }

    /// Takes an event, and says what to do next.
    pub fn on(&mut self, event: Event, now: Timestamp) -> Action {
        let phase = std::mem::replace(&mut self.phase, Phase::Begun);
        match (phase, event) {
            (Phase::Begun, Event::Begin) => Action::Acquire,
            (Phase::Begun | Phase::Waiting, Event::Lease(lease)) => self.on_lease(lease, now),
            (Phase::Waiting, Event::Woke) => self.go(Phase::Waiting, Action::Load),
            (Phase::Waiting, Event::Loaded(Ok(Some(stored)))) if !self.wanted(&stored.record, now) => adopted(stored),
            (Phase::Waiting, Event::Loaded(Ok(_))) => self.go(Phase::Waiting, Action::Acquire),
            (Phase::Deciding, Event::Loaded(Ok(stored))) => self.decide(stored, now),
            (Phase::Waiting | Phase::Deciding, Event::Loaded(Err(err))) => failed(store_failure(&err), None),
            (Phase::Founding, Event::Saved(result)) => self.on_founded(result, now),
            (Phase::SavingIntent(stored), Event::Saved(result)) => self.on_intent(stored, result, now),
            (Phase::Sending(stored), Event::Answered(Ok(answer))) => self.on_answer(stored, answer, now),
            (Phase::Sending(stored), Event::Answered(Err(failure))) => self.on_refusal(stored, failure, now),
            (Phase::Storing(fresh), Event::Saved(result)) => self.on_stored(*fresh, result),
            (Phase::Storing(fresh), Event::Woke) => self.store(*fresh),
            (Phase::Merging(fresh), Event::Loaded(result)) => self.merge(*fresh, result, now),
            (Phase::Merging(fresh), Event::Woke) => self.go(Phase::Merging(fresh), Action::Load),
            (Phase::Rereading(stored, failure), Event::Loaded(result)) => self.reread(stored, failure, result, now),
            (Phase::Noting(stored, failure), Event::Saved(Ok(version))) => {
                self.wrote(&stored.record);
                failed(failure, Some(Stored { version, ..stored }))
            }
            // The write may have happened, and then it is ours to tell.
            (Phase::Noting(stored, failure), Event::Saved(Err(StoreError::Unavailable(_)))) => {
                self.go(Phase::Checking(stored, failure), Action::Load)
            }
            (Phase::Noting(stored, failure), Event::Saved(Err(StoreError::Conflict))) if self.detours < DETOURS => {
                self.detours += 1;
                self.go(Phase::Renoting(stored, failure), Action::Load)
            }
            (Phase::Noting(stored, failure), Event::Saved(Err(_))) => failed(failure, Some(stored)),
            (Phase::Renoting(stored, failure), Event::Loaded(result)) => self.renote(stored, failure, result, now),
            (Phase::Checking(stored, failure), Event::Loaded(result)) => {
                if let Ok(Some(there)) = result
                    && there.record.generation == stored.record.generation
                    && there.record.health == stored.record.health
                {
                    self.wrote(&there.record);
                }
                failed(failure, Some(stored))
            }
            (phase, event) => {
                debug_assert!(false, "{event:?} in {phase:?}");
                failed(Failure::new(FailureKind::Config, "the renewal lost its way"), None)
            }
        }
    }

    fn go(&mut self, phase: Phase, step: Action) -> Action {
        self.phase = phase;
        step
    }

    fn on_lease(&mut self, lease: Result<Acquired, StoreError>, now: Timestamp) -> Action {
        match lease {
            Ok(Acquired::Until(until)) => {
                self.lease_until = until;
                self.go(Phase::Deciding, Action::Load)
            }
            // A waiter whose patience ends never renews without the lease (case A4).
            Ok(Acquired::Busy) if now >= self.give_up_at => {
                failed(Failure::new(FailureKind::LostRace, "another replica has been renewing for too long"), None)
            }
            Ok(Acquired::Busy) => {
                let pause = (self.policy.lease / 60).clamp(Duration::from_millis(20), Duration::from_millis(500));
                self.go(Phase::Waiting, Action::Wait(pause.mul_f64(1.0 + self.jitter)))
            }
            Err(err) => failed(store_failure(&err), None),
        }
    }

    /// Whether the record still lacks what this renewal is for.
    fn wanted(&self, record: &Record, now: Timestamp) -> bool {
        match self.need {
            Reason::Expiry => !self.policy.is_fresh(record, now),
            Reason::Idle => self.policy.idle_at(record).is_some_and(|at| at <= now),
            Reason::Due => self.policy.renewal_due(record).is_some_and(|at| at <= now),
            Reason::Refused { generation, .. } | Reason::Run { generation } | Reason::Asked { generation } => {
                record.generation <= generation
            }
        }
    }

    /// Under the lease, with the record as it stands now.
    fn decide(&mut self, stored: Option<Stored>, now: Timestamp) -> Action {
        let asked = matches!(self.need, Reason::Asked { .. });
        let Some(stored) = stored else {
            if self.policy.asks_again {
                return self.go(Phase::Founding, Action::Save(Box::default(), None));
            }
            return Action::Done(Box::new(Outcome::Disabled(None)));
        };
        self.seen = stored.record.condition();
        let record = &stored.record;
        self.due_at = self.policy.renewal_due(record);
        // Revoked stays revoked until somebody says otherwise; what never was is asked for.
        let begins = self.policy.asks_again && (record.generation == 0 || asked);
        if record.tokens.is_none() && !begins {
            return Action::Done(Box::new(Outcome::Disabled(Some(stored))));
        }
        if !self.wanted(record, now) {
            return adopted(stored);
        }
        if !asked && let Some(failure) = standing(&record.health, self.need, self.policy.client.as_deref(), now) {
            return failed(failure, Some(stored));
        }
        if self.policy.asks_again {
            return self.ask(stored, now);
        }
        let Some(tokens) = &record.tokens else { return Action::Done(Box::new(Outcome::Disabled(Some(stored)))) };
        let Some(refresh_token) = &tokens.refresh_token else {
            if let Some(why) = &tokens.withheld {
                let failure = Failure::new(FailureKind::Config, why.clone());
                return self.note(stored, failure, now);
            }
            if matches!(self.need, Reason::Run { .. } | Reason::Asked { .. }) && tokens.is_alive(now) {
                let failure = Failure::new(FailureKind::Config, "the provider gave no refresh token to renew with");
                return failed(failure, Some(stored));
            }
            let failure =
                Failure::new(FailureKind::InvalidGrant, "the access token has ended and there is no refresh token");
            return self.note(stored, failure, now);
        };
        if !self.lease_outlasts_a_call(now) {
            return self.over_again(stored);
        }
        if record.intent.as_ref().is_some_and(|intent| self.written.contains(intent)) {
            return self.send(stored, now);
        }
        let digest = refresh_token.digest();
        let earlier = record.intent.as_ref().filter(|intent| intent.digest == digest);
        if let Some(earlier) = earlier
            && !asked
            && !self.policy.may_replay(earlier, now)
        {
            return self.note(stored, unanswered(), now);
        }
        self.earlier_at = earlier.map(|earlier| earlier.at);
        let intent = Intent {
            digest,
            owner: self.owner.clone(),
            first_at: earlier.map_or(now, |earlier| earlier.first_at),
            at: now,
            attempt: earlier.map_or(0, |earlier| earlier.attempt) + 1,
        };
        let mut health = record.health.clone();
        if let Reason::Refused { worked, .. } = self.need {
            health.refused = Some(next_refusal(health.refused.filter(|_| !worked), now));
        }
        self.written.push(intent.clone());
        let record = Record { intent: Some(intent), health, ..stored.record };
        let step = Action::Save(Box::new(record.clone()), Some(stored.version.clone()));
        self.go(Phase::SavingIntent(Stored { record, ..stored }), step)
    }
}

pub(super) fn store_failure(err: &StoreError) -> Failure {
    let failure = Failure::new(FailureKind::StoreUnavailable, err.to_string());
    match err {
        StoreError::Damaged { .. } => failure.with_code(RECORD_DAMAGED),
        _ => failure,
    }
}

fn adopted(stored: Stored) -> Action {
    Action::Done(Box::new(Outcome::Adopted(stored)))
}

fn failed(failure: Failure, stored: Option<Stored>) -> Action {
    Action::Done(Box::new(Outcome::Failed(failure, stored)))
}
