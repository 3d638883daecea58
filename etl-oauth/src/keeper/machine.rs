//! One renewal as a state machine that does no IO: it is told what happened and says what to do next. So the very code
//! that runs in production runs in a simulation of replicas, crashes and lost answers.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    policy::{Policy, after},
    step::{Event, Need, Outcome, Step},
};
use crate::{
    store::{Acquired, StoreError, Stored, Version},
    token::{Answer, Class, Failure, Health, Intent, Record, Refused, Secret, State, Tokens},
};

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
}

/// New tokens on their way into the store.
#[derive(Clone, Debug)]
struct Fresh {
    record: Record,
    was: Version,
    /// Digest of the refresh token that they cost.
    spent: String,
    tries: u32,
    /// Why there is a refresh token and no access token.
    unfinished: Option<Failure>,
}

/// One renewal. Clones let a search try every next event on the same state.
#[derive(Clone, Debug)]
pub struct Renewal {
    need: Need,
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
    /// The state of the record as it was read last.
    state: State,
    changed: Option<(State, State)>,
}

/// A renewal that goes back more often than this is up against a store that cannot make up its mind.
const DETOURS: u32 = 6;

impl Renewal {
    /// A renewal for `need` by `owner`, begun at `now`. `jitter` is a random number between 0 and 1.
    #[must_use]
    pub fn new(need: Need, policy: Policy, owner: impl Into<String>, jitter: f64, now: Timestamp) -> Self {
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
            state: State::Disabled,
            changed: None,
        }
    }

    /// The account's state before and after, where a write of this renewal changed it.
    #[must_use]
    pub fn changed(&self) -> Option<(State, State)> {
        self.changed
    }

    fn wrote(&mut self, record: &Record) {
        let is = record.state();
        self.changed = (self.state != is).then_some((self.state, is));
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
    pub fn on(&mut self, event: Event, now: Timestamp) -> Step {
        let phase = std::mem::replace(&mut self.phase, Phase::Begun);
        match (phase, event) {
            (Phase::Begun, Event::Begin) => Step::Acquire,
            (Phase::Begun | Phase::Waiting, Event::Lease(lease)) => self.on_lease(lease, now),
            (Phase::Waiting, Event::Woke) => self.go(Phase::Waiting, Step::Load),
            (Phase::Waiting, Event::Loaded(Ok(Some(stored)))) if !self.wanted(&stored.record, now) => adopted(stored),
            (Phase::Waiting, Event::Loaded(Ok(_))) => self.go(Phase::Waiting, Step::Acquire),
            (Phase::Deciding, Event::Loaded(Ok(stored))) => self.decide(stored, now),
            (Phase::Waiting | Phase::Deciding, Event::Loaded(Err(err))) => failed(store_failure(&err), None),
            (Phase::Founding, Event::Saved(result)) => self.on_founded(result, now),
            (Phase::SavingIntent(stored), Event::Saved(result)) => self.on_intent(stored, result, now),
            (Phase::Sending(stored), Event::Answered(Ok(answer))) => self.on_answer(stored, answer, now),
            (Phase::Sending(stored), Event::Answered(Err(failure))) => self.on_refusal(stored, failure, now),
            (Phase::Storing(fresh), Event::Saved(result)) => self.on_stored(*fresh, result),
            (Phase::Storing(fresh), Event::Woke) => self.store(*fresh),
            (Phase::Merging(fresh), Event::Loaded(result)) => self.merge(*fresh, result, now),
            (Phase::Merging(fresh), Event::Woke) => self.go(Phase::Merging(fresh), Step::Load),
            (Phase::Rereading(stored, failure), Event::Loaded(result)) => self.reread(stored, failure, result, now),
            (Phase::Noting(stored, failure), Event::Saved(Ok(version))) => {
                self.wrote(&stored.record);
                failed(failure, Some(Stored { version, ..stored }))
            }
            // The write may have happened, and then it is ours to tell.
            (Phase::Noting(stored, failure), Event::Saved(Err(StoreError::Unavailable(_)))) => {
                self.go(Phase::Checking(stored, failure), Step::Load)
            }
            // Somebody else wrote: what they know is as good as what we would have noted.
            (Phase::Noting(stored, failure), Event::Saved(Err(_))) => failed(failure, Some(stored)),
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
                failed(Failure::new(Class::Config, "the renewal lost its way"), None)
            }
        }
    }

    fn go(&mut self, phase: Phase, step: Step) -> Step {
        self.phase = phase;
        step
    }

    fn on_lease(&mut self, lease: Result<Acquired, StoreError>, now: Timestamp) -> Step {
        match lease {
            Ok(Acquired::Until(until)) => {
                self.lease_until = until;
                self.go(Phase::Deciding, Step::Load)
            }
            // A waiter whose patience ends never renews without the lease (case A4).
            Ok(Acquired::Busy) if now >= self.give_up_at => {
                failed(Failure::new(Class::LostRace, "another replica has been renewing for too long"), None)
            }
            Ok(Acquired::Busy) => {
                let pause = (self.policy.lease / 60).clamp(Duration::from_millis(20), Duration::from_millis(500));
                self.go(Phase::Waiting, Step::Wait(pause.mul_f64(1.0 + self.jitter)))
            }
            Err(err) => failed(store_failure(&err), None),
        }
    }

    /// Whether the record still lacks what this renewal is for.
    fn wanted(&self, record: &Record, now: Timestamp) -> bool {
        match self.need {
            Need::Expiry => !self.policy.is_fresh(record, now),
            Need::Idle => self.policy.idle_at(record).is_some_and(|at| at <= now),
            Need::Refused { generation, .. } | Need::Run { generation } | Need::Asked { generation } => {
                record.generation <= generation
            }
        }
    }

    /// Under the lease, with the record as it stands now.
    fn decide(&mut self, stored: Option<Stored>, now: Timestamp) -> Step {
        let asked = matches!(self.need, Need::Asked { .. });
        let Some(stored) = stored else {
            if self.policy.asks_again {
                return self.go(Phase::Founding, Step::Save(Box::default(), None));
            }
            return Step::Done(Box::new(Outcome::Disabled(None)));
        };
        self.state = stored.record.state();
        let record = &stored.record;
        // Revoked stays revoked until somebody says otherwise; what never was is asked for.
        let begins = self.policy.asks_again && (record.generation == 0 || asked);
        if record.tokens.is_none() && !begins {
            return Step::Done(Box::new(Outcome::Disabled(Some(stored))));
        }
        if !self.wanted(record, now) {
            return adopted(stored);
        }
        if !asked && let Some(failure) = standing(&record.health, self.need, now) {
            return failed(failure, Some(stored));
        }
        if self.policy.asks_again {
            return self.ask(stored, now);
        }
        let Some(tokens) = &record.tokens else { return Step::Done(Box::new(Outcome::Disabled(Some(stored)))) };
        let Some(refresh_token) = &tokens.refresh_token else {
            if matches!(self.need, Need::Run { .. } | Need::Asked { .. }) && tokens.is_alive(now) {
                let failure = Failure::new(Class::Config, "the provider gave no refresh token to renew with");
                return failed(failure, Some(stored));
            }
            let failure = Failure::new(Class::InvalidGrant, "the access token has ended and there is no refresh token");
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
        let intent = Intent {
            digest,
            owner: self.owner.clone(),
            first_at: earlier.map_or(now, |earlier| earlier.first_at),
            at: now,
            attempt: earlier.map_or(0, |earlier| earlier.attempt) + 1,
        };
        let mut health = record.health.clone();
        if let Need::Refused { worked, .. } = self.need {
            health.refused = Some(next_refusal(health.refused.filter(|_| !worked), now));
        }
        self.written.push(intent.clone());
        let record = Record { intent: Some(intent), health, ..stored.record };
        let step = Step::Save(Box::new(record.clone()), Some(stored.version.clone()));
        self.go(Phase::SavingIntent(Stored { record, ..stored }), step)
    }

    /// Asks anew. Nothing is spent by it and an answer that is lost costs nothing, so there is no intent to write down; that
    /// somebody asks too often is all that the lease prevents.
    fn ask(&mut self, stored: Stored, now: Timestamp) -> Step {
        if !self.lease_outlasts_a_call(now) {
            return self.over_again(stored);
        }
        let mut stored = stored;
        if let Need::Refused { worked, .. } = self.need {
            let refused = stored.record.health.refused.take();
            stored.record.health.refused = Some(next_refusal(refused.filter(|_| !worked), now));
        }
        self.sent_at = now;
        self.go(Phase::Sending(stored), Step::Ask)
    }

    fn on_founded(&mut self, result: Result<Version, StoreError>, now: Timestamp) -> Step {
        match result {
            Ok(version) => self.decide(Some(Stored { record: Record::default(), version }), now),
            Err(StoreError::Conflict | StoreError::Unavailable(_)) if self.detours < DETOURS => {
                self.detours += 1;
                self.go(Phase::Deciding, Step::Load)
            }
            Err(err) => failed(store_failure(&err), None),
        }
    }

    fn on_intent(&mut self, stored: Stored, result: Result<Version, StoreError>, now: Timestamp) -> Step {
        match result {
            Ok(version) => self.send(Stored { version, ..stored }, now),
            // Another writer's, or our own that arrived although its answer did not.
            Err(StoreError::Conflict | StoreError::Unavailable(_)) if self.detours < DETOURS => {
                self.detours += 1;
                self.go(Phase::Deciding, Step::Load)
            }
            // Nothing was sent, and without the intent nothing will be.
            Err(err) => failed(store_failure(&err), None),
        }
    }

    fn lease_outlasts_a_call(&self, now: Timestamp) -> bool {
        after(now, self.policy.token_timeout).is_some_and(|end| end <= self.lease_until)
    }

    /// Back to the lease, and then to the record: a holder that slept through its lease must not act on what it read
    /// under it, for somebody else may have had the lease since.
    fn over_again(&mut self, stored: Stored) -> Step {
        if self.detours >= DETOURS {
            let failure = Failure::new(Class::StoreUnavailable, "the store's leases end before a call could");
            return failed(failure, Some(stored));
        }
        self.detours += 1;
        self.go(Phase::Waiting, Step::Acquire)
    }

    /// Sends, if the lease outlasts the call.
    fn send(&mut self, stored: Stored, now: Timestamp) -> Step {
        if !self.lease_outlasts_a_call(now) {
            return self.over_again(stored);
        }
        let is_bound = !self.sent_previous && !matches!(self.need, Need::Asked { .. });
        let intent = stored.record.intent.as_ref().filter(|intent| is_bound && intent.attempt > 1);
        let earlier = intent.map(|intent| Intent { attempt: intent.attempt - 1, ..intent.clone() });
        if let Some(earlier) = earlier.filter(|earlier| !self.policy.may_replay(earlier, now)) {
            // Writing the intent took what was left of the replay window.
            let record = Record { intent: Some(earlier), ..stored.record };
            return self.note(Stored { record, ..stored }, unanswered(), now);
        }
        let tokens = stored.record.tokens.as_ref();
        let token = tokens.and_then(|tokens| {
            if self.sent_previous { tokens.previous_refresh_token.clone() } else { tokens.refresh_token.clone() }
        });
        let Some(token) = token else {
            return failed(Failure::new(Class::Config, "there is no refresh token to send"), Some(stored));
        };
        self.sent_at = now;
        self.go(Phase::Sending(stored), Step::Send(token))
    }

    fn on_answer(&mut self, stored: Stored, answer: Answer, now: Timestamp) -> Step {
        let spent = stored.record.tokens.as_ref().and_then(|tokens| tokens.refresh_token.as_ref()).map(Secret::digest);
        let unfinished = answer.unfinished.clone();
        let mut record = stored.record.renewed(answer, self.sent_at, self.policy.lifetime);
        if let Some(failure) = &unfinished {
            // There is a refresh token to keep and no access token to use: as a renewal it has failed, and it waits like one.
            record.health = self.policy.after_failure(&stored.record, failure, now, self.jitter);
        }
        let record = record.over(&stored.record, self.policy.tells, now);
        self.store(Fresh { record, was: stored.version, spent: spent.unwrap_or_default(), tries: 0, unfinished })
    }

    fn store(&mut self, fresh: Fresh) -> Step {
        let step = Step::Save(Box::new(fresh.record.clone()), Some(fresh.was.clone()));
        self.go(Phase::Storing(Box::new(fresh)), step)
    }

    fn on_stored(&mut self, mut fresh: Fresh, result: Result<Version, StoreError>) -> Step {
        match result {
            Ok(version) => {
                self.wrote(&fresh.record);
                let stored = Stored { record: fresh.record, version };
                match fresh.unfinished {
                    Some(failure) => failed(failure, Some(stored)),
                    None => Step::Done(Box::new(Outcome::Renewed(stored))),
                }
            }
            Err(StoreError::Conflict) => self.go(Phase::Merging(Box::new(fresh)), Step::Load),
            // The refresh token is spent: its successor is all there is, so this goes on until it is written.
            Err(_) => {
                let pause =
                    Duration::from_millis(250).saturating_mul(1 << fresh.tries.min(7)).min(Duration::from_secs(30));
                fresh.tries += 1;
                self.go(Phase::Storing(Box::new(fresh)), Step::Wait(pause.mul_f64(1.0 + self.jitter / 4.0)))
            }
        }
    }

    /// Another writer was there first: whose tokens are the living ones?
    fn merge(&mut self, mut fresh: Fresh, result: Result<Option<Stored>, StoreError>, now: Timestamp) -> Step {
        let stored = match result {
            Ok(Some(stored)) => stored,
            // Deleted: a person has ended it, and ours end with it.
            Ok(None) => return Step::Done(Box::new(Outcome::Disabled(None))),
            Err(_) => {
                fresh.tries += 1;
                return self.go(Phase::Merging(Box::new(fresh)), Step::Wait(Duration::from_secs(1)));
            }
        };
        let older = stored.record.generation < fresh.record.generation;
        let Some(theirs) = &stored.record.tokens else {
            if self.policy.asks_again && older {
                fresh.was = stored.version;
                return self.store(fresh);
            }
            return Step::Done(Box::new(Outcome::Disabled(Some(stored))));
        };
        // An earlier try of ours arrived although its answer did not. The tokens alone do not tell: some providers hand out
        // the same ones again with more time to live.
        let arrived = stored.record.generation == fresh.record.generation
            && fresh.record.tokens.as_ref().is_some_and(|ours| ours.same(theirs));
        if arrived {
            self.wrote(&stored.record);
            return Step::Done(Box::new(Outcome::Renewed(stored)));
        }
        let unspent =
            self.policy.asks_again || theirs.refresh_token.as_ref().is_some_and(|token| token.digest() == fresh.spent);
        if older && unspent {
            // Only something beside the tokens was written: a fresh refresh token is never dropped for that (case A7).
            self.state = stored.record.state();
            fresh.record = fresh.record.over(&stored.record, self.policy.tells, now);
            fresh.record.device = stored.record.device;
            fresh.was = stored.version;
            return self.store(fresh);
        }
        adopted(stored)
    }

    fn on_refusal(&mut self, stored: Stored, failure: Failure, now: Timestamp) -> Step {
        match failure.class() {
            // A lost race until proven otherwise (cases A6, A11): somebody may have spent the token before us.
            Class::InvalidGrant | Class::InvalidClient | Class::Config => {
                self.go(Phase::Rereading(stored, failure), Step::Load)
            }
            _ => self.note(stored, failure, now),
        }
    }

    fn reread(
        &mut self,
        stored: Stored,
        failure: Failure,
        result: Result<Option<Stored>, StoreError>,
        now: Timestamp,
    ) -> Step {
        let newer = match result {
            Ok(Some(newer)) => newer,
            Ok(None) => return Step::Done(Box::new(Outcome::Disabled(None))),
            // Not proven: the next try will tell.
            Err(err) => return failed(store_failure(&err), Some(stored)),
        };
        if newer.record.generation != stored.record.generation {
            return adopted(newer);
        }
        self.state = newer.record.state();
        let previous = newer.record.tokens.as_ref().is_some_and(|tokens| tokens.previous_refresh_token.is_some());
        if failure.class() == Class::InvalidGrant && self.policy.previous_until_used && previous && !self.sent_previous
        {
            if !self.lease_outlasts_a_call(now) {
                // Whoever renews next asks both.
                return failed(failure, Some(newer));
            }
            self.sent_previous = true;
            return self.send(newer, now);
        }
        self.note(newer, failure, now)
    }

    /// Writes a failure down, for the other replicas and the status page.
    fn note(&mut self, stored: Stored, failure: Failure, now: Timestamp) -> Step {
        let record = &stored.record;
        let mut health = self.policy.after_failure(record, &failure, now, self.jitter);
        let intent = match (failure.class(), record.intent.clone()) {
            // Answered, or never sent: this attempt does not count. An earlier one without an answer still does.
            (class, Some(intent)) if !class.is_ambiguous() => {
                (intent.attempt > 1).then(|| Intent { attempt: intent.attempt - 1, ..intent })
            }
            (_, intent) => intent,
        };
        if failure.class().is_ambiguous()
            && let Some(intent) = &intent
            && !self.policy.may_replay(intent, health.next_try_at.unwrap_or(now))
        {
            health.held = true;
            health.next_try_at = None;
        }
        let noted = Record { health, intent, ..stored.record.clone() };
        let record = noted.over(&stored.record, self.policy.tells, now);
        let step = Step::Save(Box::new(record.clone()), Some(stored.version.clone()));
        self.go(Phase::Noting(Stored { record, ..stored }, failure), step)
    }
}

/// What an earlier failure says of another try now.
fn standing(health: &Health, need: Need, now: Timestamp) -> Option<Failure> {
    let class = health.class.unwrap_or(Class::ProviderUnavailable);
    let detail = health.detail.clone().unwrap_or_default();
    if health.needs_authorisation || health.held || health.next_try_at.is_some_and(|at| now < at) {
        return Some(Failure::new(class, detail));
    }
    if let (Need::Refused { worked: false, .. }, Some(refused)) = (need, &health.refused)
        && now < refused.next_at
    {
        return Some(Failure::new(Class::Config, "the API refuses tokens that were just renewed"));
    }
    None
}

/// After a forced renewal the next one waits: 60 s, doubling, until some token has worked.
fn next_refusal(earlier: Option<Refused>, now: Timestamp) -> Refused {
    let count = earlier.map_or(0, |earlier| earlier.count) + 1;
    let wait = Duration::from_secs(60).saturating_mul(1 << (count - 1).min(10));
    Refused { count, next_at: after(now, wait).unwrap_or(Timestamp::MAX) }
}

fn unanswered() -> Failure {
    Failure::new(
        Class::NetworkAmbiguous,
        "a renewal was sent and not answered, and sending the refresh token once more could end the grant",
    )
}

fn store_failure(err: &StoreError) -> Failure {
    Failure::new(Class::StoreUnavailable, err.to_string())
}

fn adopted(stored: Stored) -> Step {
    Step::Done(Box::new(Outcome::Adopted(stored)))
}

fn failed(failure: Failure, stored: Option<Stored>) -> Step {
    Step::Done(Box::new(Outcome::Failed(failure, stored)))
}
