//! What two replicas, and what is between them and the rest, can do next.

use token_keeper::{
    grant::{SendError, judge_token, unattended},
    renewal::{Action, Event, Outcome, Reason, RenewalMachine, Stored},
    store::{Acquired, StoreError},
    token::Record,
};

use super::{
    Judged, LEASE, Search,
    state::{Everything, Heard, Request, Stage},
};
use crate::{
    judge::Fate,
    provider::Habit,
    world::{answer, stamp},
};

impl Search {
    pub(super) fn begin(&self, it: &mut Everything, n: usize) -> Judged<bool> {
        let replica = &it.replicas[n];
        let known = replica.known.clone().unwrap_or_default();
        let health = &known.health;
        if self.policy.is_fresh(&known, stamp(it.now)) || health.needs_authorisation {
            return Ok(false);
        }
        // The two are alike, so the first to begin may as well be the first.
        if replica.flights >= 2 || (n == 1 && it.replicas[0].flight == 1) {
            return Ok(false);
        }
        // Its failure's wait is over.
        if let Some(at) = health.next_try_at {
            let at = at.as_millisecond() - stamp(0).as_millisecond();
            it.now = it.now.max(at);
        }
        let replica = &mut it.replicas[n];
        replica.flights += 1;
        replica.flight += 10;
        let mut machine = RenewalMachine::new(Reason::Expiry, self.policy.clone(), &replica.owner, 0.0, stamp(it.now));
        let step = machine.on(Event::Begin, stamp(it.now));
        replica.machine = Some(machine);
        self.take(it, n, step)?;
        Ok(true)
    }

    pub(super) fn pass(&self, it: &mut Everything, n: usize) -> Judged<bool> {
        self.arrive(it, n)?;
        self.hear(it, n).map(|()| true)
    }

    pub(super) fn arrive(&self, it: &mut Everything, n: usize) -> Judged<bool> {
        let replica = &it.replicas[n];
        let (owner, flight) = (replica.owner.clone(), replica.flight);
        let Stage::Asked(request) = replica.stage.clone() else { return Ok(false) };
        let known = replica.known.clone();
        let (stored, heard) = self.effect(it, &owner, flight, request, known.as_ref())?;
        it.replicas[n].stage = Stage::Told(stored.map(Box::new), heard);
        Ok(true)
    }

    pub(super) fn effect(
        &self,
        it: &mut Everything,
        owner: &str,
        flight: u64,
        request: Request,
        known: Option<&Record>,
    ) -> Judged<(Option<Stored>, Heard)> {
        Ok(match request {
            Request::Acquire => {
                let lease = it.slot.acquire(owner, self.policy.lease, stamp(it.now));
                if lease != Acquired::Busy {
                    it.judge.leased(flight, it.now, it.now + LEASE);
                }
                (None, Heard::Lease(lease))
            }
            Request::Load => (it.slot.load(known), Heard::Loaded),
            Request::Save(record, was) => {
                let result = it.slot.save(&record, was.as_ref());
                if result.is_ok() {
                    it.judge.written(Some(flight), &record, &it.grants, it.now, false)?;
                }
                (None, Heard::Saved(result.map_err(drop)))
            }
            Request::Send(token) => match it.grants.renew(&token, it.now, 3600) {
                Some(body) => (None, Heard::Tokens(body)),
                None => (None, Heard::Refused),
            },
            Request::Ask => (None, Heard::Tokens(it.grants.ask(3600))),
        })
    }

    pub(super) fn hear(&self, it: &mut Everything, n: usize) -> Judged {
        let Stage::Told(stored, heard) = it.replicas[n].stage.clone() else { return Ok(()) };
        let flight = it.replicas[n].flight;
        let judged = |status, body: &str| {
            let judged = judge_token(&self.provider, &answer(status, body));
            Event::Answered(if it.case.habit == Habit::Asks { unattended(judged) } else { judged })
        };
        let event = match heard {
            Heard::Lease(lease) => {
                it.replicas[n].leased = lease != Acquired::Busy;
                Event::Lease(Ok(lease))
            }
            Heard::Loaded => Event::Loaded(Ok(stored.map(|stored| *stored))),
            Heard::Saved(result) => Event::Saved(result.map_err(|()| StoreError::Conflict)),
            Heard::Tokens(body) => {
                it.judge.settle(flight, Fate::Answered);
                judged(200, &body)
            }
            Heard::Refused => {
                it.judge.settle(flight, Fate::Settled);
                judged(400, r#"{"error":"invalid_grant"}"#)
            }
        };
        self.tell(it, n, event)
    }

    /// A waiter looks again: when the lease is free, when its holder is dead or asleep and it has lapsed, and once while
    /// its holder is slow and prolongs it.
    pub(super) fn wake(&self, it: &mut Everything, n: usize) -> Judged<bool> {
        let other = &it.replicas[1 - n];
        if other.leased && !other.slept {
            if std::mem::replace(&mut it.waited, true) {
                return Ok(false);
            }
            it.now += LEASE + 1000;
            if it.slot.acquire(&other.owner, self.policy.lease, stamp(it.now)) != Acquired::Busy {
                it.judge.leased(other.flight, it.now, it.now + LEASE);
            }
        } else if it.slot.is_leased(stamp(it.now)) {
            it.now += LEASE + 1000;
        }
        self.tell(it, n, Event::Woke)?;
        Ok(true)
    }

    /// Nobody answers within the time limit, whatever has happened there.
    pub(super) fn lose(&self, it: &mut Everything, n: usize) -> Judged {
        it.left.losses -= 1;
        it.trouble = true;
        it.judge.settle(it.replicas[n].flight, Fate::Ambiguous);
        self.tell(it, n, Event::Answered(Err(SendError::Ambiguous.into_failure())))
    }

    fn tell(&self, it: &mut Everything, n: usize, event: Event) -> Judged {
        let replica = &mut it.replicas[n];
        let Some(machine) = &mut replica.machine else { return Ok(()) };
        let step = machine.on(event, stamp(it.now));
        self.take(it, n, step)
    }

    fn take(&self, it: &mut Everything, n: usize, step: Action) -> Judged {
        it.replicas[n].stage = match step {
            Action::Acquire => Stage::Asked(Request::Acquire),
            Action::Load => Stage::Asked(Request::Load),
            Action::Save(record, was) => Stage::Asked(Request::Save(record, was)),
            Action::Send(token) => {
                it.judge.sends(it.replicas[n].flight, token.expose(), it.now, false)?;
                Stage::Asked(Request::Send(token.expose().to_owned()))
            }
            Action::Ask if it.case.habit != Habit::Asks => return Err("a grant with refresh tokens asked anew".into()),
            Action::Ask => {
                let is_fresh = it.slot.record().is_some_and(|record| self.policy.is_fresh(record, stamp(it.now)));
                it.judge.asks(it.replicas[n].flight, Reason::Expiry, it.now, is_fresh)?;
                Stage::Asked(Request::Ask)
            }
            Action::Wait(_) => Stage::Waiting,
            Action::Done(outcome) => {
                if it.case.habit == Habit::Asks && matches!(*outcome, Outcome::Disabled(_)) {
                    return Err("an account that nobody has to authorise counts as not authorised".into());
                }
                self.land(it, n, &outcome)?;
                Stage::Over
            }
        };
        Ok(())
    }

    fn land(&self, it: &mut Everything, n: usize, outcome: &Outcome) -> Judged {
        let replica = &mut it.replicas[n];
        it.judge.ended(replica.flight)?;
        if std::mem::take(&mut replica.leased) {
            it.slot.release(&replica.owner);
        }
        replica.slept = false;
        replica.machine = None;
        if let Some(stored) = outcome.stored() {
            replica.known = Some(stored.record.clone());
        }
        Ok(())
    }
}

pub(super) fn crash(it: &mut Everything, n: usize) {
    it.left.crashes -= 1;
    it.trouble = true;
    let replica = &mut it.replicas[n];
    it.judge.settle(replica.flight, Fate::Ambiguous);
    if let Stage::Asked(request) = &replica.stage {
        it.orphans.push((replica.owner.clone(), replica.flight, request.clone()));
    }
    replica.machine = None;
    replica.stage = Stage::Over;
    replica.leased = false;
    replica.slept = false;
    replica.flights = 1;
    replica.owner += " again";
}
