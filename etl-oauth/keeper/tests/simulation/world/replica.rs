//! One replica: what its keepers do with the steps of the state machine, and what befalls it.

use jiff::Timestamp;
use token_keeper::{
    renewal::{Action, Event, Outcome, Reason, RenewalMachine, Stored},
    store::{Acquired, Version},
};

use super::{
    Happening, Op, SKEW, TROUBLE, To, World, stamp,
    words::{ended, shown},
};
use crate::{judge::Fate, provider::Habit};

struct Flight {
    id: u64,
    need: Reason,
    machine: RenewalMachine,
    leased: bool,
}

/// Where one account is kept.
#[derive(Default)]
pub(super) struct Desk {
    pub(super) known: Option<Stored>,
    flight: Option<Flight>,
    /// A flight ends when its lease is given back.
    landed_at: i64,
}

impl Desk {
    pub(super) fn is_free(&self, now: i64) -> bool {
        self.flight.is_none() && self.landed_at <= now
    }
}

pub(super) struct Replica {
    pub(super) owner: String,
    life: u32,
    pub(super) up: bool,
    pub(super) skew: i64,
    pub(super) asleep_until: i64,
    pub(super) desks: Vec<Desk>,
}

impl Replica {
    pub(super) fn new(n: usize, skew: i64, accounts: usize) -> Self {
        let desks = (0..accounts).map(|_| Desk::default()).collect();
        Self { owner: format!("replica {n}"), life: 0, up: true, skew, asleep_until: 0, desks }
    }
}

impl World {
    /// A caller wants a token.
    pub(super) fn poll(&mut self, replica: usize, account: usize, life: u32) {
        let it = &self.replicas[replica];
        if !it.up || it.life != life {
            return;
        }
        if it.asleep_until > self.now {
            let wait = it.asleep_until - self.now;
            return self.after(wait, Happening::Poll { replica, account, life });
        }
        let now = self.clock(replica);
        let desk = &self.replicas[replica].desks[account];
        let mut next = 1000 * self.rng.i64(1..20);
        if desk.is_free(self.now) {
            let known = desk.known.as_ref().map(|stored| &stored.record);
            let fresh = known.filter(|record| self.policy.is_fresh(record, now));
            let need = match fresh {
                None => Some(if self.rng.f64() < 0.3 { Reason::Due } else { Reason::Expiry }),
                Some(record) => {
                    let generation = record.generation;
                    let access = record.tokens.as_ref().map(|tokens| tokens.access_token.expose().to_owned());
                    if self.rng.bool() {
                        self.grants[account].use_access(&access.unwrap_or_default());
                    }
                    let idle = self.policy.idle_at(record).is_some_and(|at| at <= now);
                    if self.now < TROUBLE && self.rng.f64() < self.trouble.unauthorised {
                        Some(Reason::Refused { generation, worked: self.rng.bool() })
                    } else if idle {
                        Some(if self.rng.bool() { Reason::Idle } else { Reason::Due })
                    } else if self.rng.f64() < self.runs {
                        Some(Reason::Run { generation })
                    } else {
                        None
                    }
                }
            };
            // Everybody wakes up when a token ends, and so they race.
            if let Some(due) = fresh.and_then(|record| self.policy.due_at(record)) {
                let jitter = if self.rng.bool() { 50 } else { 20_000 };
                next = (due.as_millisecond() - now.as_millisecond()).max(0) + self.rng.i64(1..=jitter);
            }
            let wait = known.and_then(|record| record.health.next_try_at).filter(|at| *at > now);
            if let Some(wait) = wait.filter(|_| self.rng.bool()) {
                next = wait.as_millisecond() - now.as_millisecond() + self.rng.i64(1..1000);
            }
            if self.now > TROUBLE {
                next = next.max(60_000);
            }
            if let Some(need) = need {
                self.start(replica, account, need);
            }
        }
        self.after(next, Happening::Poll { replica, account, life });
    }

    pub(super) fn start(&mut self, replica: usize, account: usize, need: Reason) {
        self.flights += 1;
        let (id, now, jitter) = (self.flights, self.clock(replica), self.rng.f64());
        let owner = self.replicas[replica].owner.clone();
        let mut machine = RenewalMachine::new(need, self.policy.clone(), owner, jitter, now);
        let to = To { replica, account, flight: id };
        self.trace(|_| format!("{to:?} begins for {need:?}"));
        let step = machine.on(Event::Begin, now);
        self.replicas[replica].desks[account].flight = Some(Flight { id, need, machine, leased: false });
        self.after(self.policy.lease.as_millis() as i64 / 3, Happening::Prolong(to));
        self.take(to, step);
    }

    pub(super) fn deliver(&mut self, to: To, event: Event) {
        if self.nap(to.replica) {
            let wait = self.replicas[to.replica].asleep_until - self.now;
            if self.flight(to).is_some() {
                self.after(wait, Happening::Deliver(to, Box::new(event)));
            }
            return;
        }
        let now = self.clock(to.replica);
        self.trace(|it| match it.flight(to) {
            Some(_) => format!("{to:?} hears {}", shown(&event)),
            None => String::new(),
        });
        let fate = match &event {
            Event::Answered(Ok(_)) => Some(Fate::Answered),
            Event::Answered(Err(failure)) if failure.class().is_ambiguous() => Some(Fate::Ambiguous),
            Event::Answered(Err(_)) => Some(Fate::Settled),
            _ => None,
        };
        let Some(flight) = self.flight(to) else { return };
        if let Event::Lease(lease) = &event {
            flight.leased = matches!(lease, Ok(Acquired::Until(_)));
        }
        let step = flight.machine.on(event, now);
        if let Some(fate) = fate {
            self.judges[to.account].settle(to.flight, fate);
        }
        self.take(to, step);
    }

    /// Does what a driver does with a step.
    fn take(&mut self, to: To, step: Action) {
        let (replica, account) = (to.replica, to.account);
        if self.now < TROUBLE && self.chance(self.trouble.crash) {
            let soon = self.rng.i64(0..60);
            self.after(soon, Happening::Crash(replica));
        }
        match step {
            Action::Acquire => self.request(to, Op::Acquire(self.clock(replica))),
            Action::Load => self.request(to, Op::Load),
            Action::Save(record, was) => self.request(to, Op::Save(record, was)),
            Action::Send(token) => {
                let asked = self.asked(to);
                self.trace(|_| format!("{to:?} sends {}", token.expose()));
                let verdict = self.judges[account].sends(to.flight, token.expose(), self.now, asked);
                self.hold(verdict);
                self.request(to, Op::Send(token.expose().to_owned()));
            }
            Action::Ask if self.habit != Habit::Asks => self.hold(Err("a grant with refresh tokens asked anew".into())),
            Action::Ask => {
                let Some(need) = self.flight(to).map(|flight| flight.need) else { return };
                self.trace(|_| format!("{to:?} asks"));
                let latest = stamp(self.now + SKEW);
                let is_fresh = self.slots[account].record().is_some_and(|record| self.policy.is_fresh(record, latest));
                let verdict = self.judges[account].asks(to.flight, need, self.now, is_fresh);
                self.hold(verdict);
                self.request(to, Op::Ask);
            }
            Action::Wait(pause) => {
                let Some(flight) = self.flight(to) else { return };
                if let Some(record) = flight.machine.unsaved() {
                    let stored = Stored { record: record.clone(), version: Version::new("unsaved") };
                    self.publish(to, &stored);
                }
                self.after(pause.as_millis() as i64, Happening::Deliver(to, Box::new(Event::Woke)));
            }
            Action::Done(outcome) => self.land(to, &outcome),
        }
    }

    fn land(&mut self, to: To, outcome: &Outcome) {
        self.trace(|_| format!("{to:?} ends: {}", ended(outcome)));
        let owner = self.replicas[to.replica].owner.clone();
        let flight = self.replicas[to.replica].desks[to.account].flight.take();
        let verdict = self.judges[to.account].ended(to.flight);
        self.hold(verdict);
        if flight.is_some_and(|flight| flight.leased) {
            let soon = self.rng.i64(1..40);
            self.replicas[to.replica].desks[to.account].landed_at = self.now + soon;
            self.after(soon, Happening::Release { account: to.account, owner });
        }
        if self.habit == Habit::Asks && matches!(outcome, Outcome::Disabled(_)) {
            self.hold(Err("an account that nobody has to authorise counts as not authorised".into()));
        }
        if let Some(stored) = outcome.stored() {
            self.publish(to, stored);
        }
    }

    fn publish(&mut self, to: To, stored: &Stored) {
        let desk = &mut self.replicas[to.replica].desks[to.account];
        if desk.known.as_ref().is_none_or(|known| known.record.generation <= stored.record.generation) {
            desk.known = Some(stored.clone());
        }
    }

    pub(super) fn prolong(&mut self, to: To) {
        if self.flight(to).is_none() {
            return;
        }
        if !self.nap(to.replica) && self.flight(to).is_some_and(|flight| flight.leased) && !self.store_fails() {
            let (owner, now) = (self.replicas[to.replica].owner.clone(), self.clock(to.replica));
            if self.slots[to.account].acquire(&owner, self.policy.lease, now) != Acquired::Busy {
                self.note_lease(to, now);
            }
        }
        self.after(self.policy.lease.as_millis() as i64 / 3, Happening::Prolong(to));
    }

    /// Whether a replica sleeps, or falls asleep just now.
    fn nap(&mut self, replica: usize) -> bool {
        if self.replicas[replica].asleep_until <= self.now && self.now < TROUBLE && self.chance(self.trouble.nap) {
            let longest = if self.rng.bool() { 1000 } else { 90_000 };
            let length = self.rng.i64(1..longest);
            self.report.tally.naps += u64::from(length > self.policy.lease.as_millis() as i64);
            self.replicas[replica].asleep_until = self.now + length;
        }
        self.replicas[replica].asleep_until > self.now
    }

    pub(super) fn crash(&mut self, replica: usize) {
        let it = &mut self.replicas[replica];
        if !it.up {
            return;
        }
        (it.up, it.life) = (false, it.life + 1);
        self.report.tally.crashes += 1;
        for (account, desk) in it.desks.iter_mut().enumerate() {
            if let Some(flight) = desk.flight.take() {
                self.judges[account].settle(flight.id, Fate::Ambiguous);
            }
            desk.known = None;
        }
        self.trace(|_| format!("replica {replica} crashes"));
        let later = self.rng.i64(10..90_000);
        self.after(later, Happening::Restart(replica));
    }

    pub(super) fn restart(&mut self, replica: usize) {
        let it = &mut self.replicas[replica];
        (it.up, it.skew) = (true, self.rng.i64(-SKEW..=SKEW));
        // Some platforms give a replica that starts again its old name.
        if self.rng.bool() {
            it.owner = format!("replica {replica} life {}", it.life);
        }
        let life = it.life;
        for account in 0..self.slots.len() {
            self.after(10, Happening::Poll { replica, account, life });
        }
    }

    fn flight(&mut self, to: To) -> Option<&mut Flight> {
        self.replicas[to.replica].desks[to.account].flight.as_mut().filter(|flight| flight.id == to.flight)
    }

    pub(super) fn asked(&mut self, to: To) -> bool {
        self.flight(to).is_some_and(|flight| matches!(flight.need, Reason::Asked { .. }))
    }

    pub(super) fn clock(&self, replica: usize) -> Timestamp {
        stamp(self.now + self.replicas[replica].skew)
    }
}
