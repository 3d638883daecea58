//! One seed: replicas with clocks of their own, a network that loses and delays, a store, a provider, and people.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::Duration,
};

use etl_oauth::{
    grant::RawAnswer,
    keeper::{Event, Need, Outcome, Policy, Renewal, Step},
    provider::{Definition, Overrides, Provider},
    store::{Acquired, Stored, Version},
    token::{AnswerShape, Class, Health, Record, Secret, State},
};
use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};

use crate::{
    judge::{Fate, Judge},
    provider::{Grants, Habit},
    store::{Broken, Slot},
};

mod network;

use network::{Luck, Op, Trouble};

/// When a world begins, in Unix milliseconds.
const START: i64 = 1_700_000_000_000;
/// No two clocks are further apart than twice this.
const SKEW: i64 = 4_000;
/// Faults happen for so long; after that everybody is well, and the accounts must recover.
const TROUBLE: i64 = 20 * 60_000;
const END: i64 = TROUBLE + 4 * 3_600_000;

pub fn model_provider() -> Provider {
    let definition = Definition { token_url: Some("https://p.example/token".into()), ..Definition::default() };
    Provider::new("custom", definition, Overrides::default()).expect("an absolute https URL")
}

pub fn answer(status: u16, body: &str) -> RawAnswer {
    let status = http::StatusCode::from_u16(status).expect("a status");
    RawAnswer { status, headers: http::HeaderMap::new(), body: body.into(), at: Timestamp::UNIX_EPOCH }
}

/// Which renewal of which replica an event is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct To {
    replica: usize,
    account: usize,
    flight: u64,
}

#[derive(Debug)]
enum Happening {
    Poll { replica: usize, account: usize, life: u32 },
    Effect(To, Op, Luck, i64),
    Deliver(To, Box<Event>),
    Prolong(To),
    Release { account: usize, owner: String },
    Crash(usize),
    Restart(usize),
    Person(usize),
}

struct Flight {
    id: u64,
    need: Need,
    machine: Renewal,
    leased: bool,
}

#[derive(Default)]
struct Desk {
    known: Option<Stored>,
    flight: Option<Flight>,
    /// A flight ends when its lease is given back.
    landed_at: i64,
}

impl Desk {
    fn is_free(&self, now: i64) -> bool {
        self.flight.is_none() && self.landed_at <= now
    }
}

struct Replica {
    owner: String,
    life: u32,
    up: bool,
    skew: i64,
    asleep_until: i64,
    desks: Vec<Desk>,
}

struct Entry(i64, u64, Happening);

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// What a seed came to.
#[derive(Debug, Default)]
pub struct Report {
    pub events: u64,
    pub calls: usize,
    pub reuses: u32,
    pub crashes: u32,
    pub fault: Option<String>,
    pub trace: VecDeque<String>,
}

pub struct World {
    rng: Rng,
    now: i64,
    sequence: u64,
    queue: BinaryHeap<Reverse<Entry>>,
    trouble: Trouble,
    provider: Provider,
    policy: Policy,
    lifetime: u32,
    replicas: Vec<Replica>,
    slots: Vec<Slot>,
    grants: Vec<Grants>,
    judges: Vec<Judge>,
    store_away_until: i64,
    flights: u64,
    tracing: bool,
    report: Report,
}

/// Runs one seed.
pub fn run(seed: u64, broken: Broken, tracing: bool) -> Report {
    World::new(seed, broken, tracing).play()
}

impl World {
    fn new(seed: u64, broken: Broken, tracing: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let trouble = Trouble::new(&mut rng);
        let habit = match rng.u8(0..8) {
            0..4 => Habit::Strict,
            4..6 => Habit::Window(1000 * rng.i64(20..600)),
            6 => Habit::UntilUsed,
            _ => Habit::Still,
        };
        let provider = model_provider();
        let mut policy = Policy::of(&provider);
        policy.rotates = habit != Habit::Still;
        policy.previous_until_used = habit == Habit::UntilUsed;
        if let Habit::Window(window) = habit {
            policy.replay_window = Duration::from_millis(window.unsigned_abs());
        }
        if rng.u8(0..4) == 0 {
            policy.refresh_idle = Some(Duration::from_secs(rng.u64(60..600)));
        }
        let (replicas, accounts) = (rng.usize(1..=4), rng.usize(1..=2));
        let lifetime = [40, 120, 400][rng.usize(0..3)];
        let replicas = (0..replicas)
            .map(|n| Replica {
                owner: format!("replica {n}"),
                life: 0,
                up: true,
                skew: rng.i64(-SKEW..=SKEW),
                asleep_until: 0,
                desks: (0..accounts).map(|_| Desk::default()).collect(),
            })
            .collect();
        Self {
            rng,
            now: 0,
            sequence: 0,
            queue: BinaryHeap::new(),
            trouble,
            provider,
            policy,
            lifetime,
            replicas,
            slots: (0..accounts).map(|_| Slot::new(broken)).collect(),
            grants: (0..accounts).map(|account| Grants::new(habit, account)).collect(),
            judges: (0..accounts).map(|_| Judge::new(habit)).collect(),
            store_away_until: 0,
            flights: 0,
            tracing,
            report: Report::default(),
        }
    }

    fn play(mut self) -> Report {
        self.trace(|it| format!("{:?} {:?} lifetime {} s", it.trouble, it.policy, it.lifetime));
        for account in 0..self.slots.len() {
            self.authorise(account);
            self.after(1000, Happening::Person(account));
            for replica in 0..self.replicas.len() {
                self.after(0, Happening::Poll { replica, account, life: 0 });
            }
        }
        while let Some(Reverse(Entry(at, _, happening))) = self.queue.pop() {
            if at >= END || self.report.fault.is_some() {
                break;
            }
            self.now = at;
            self.report.events += 1;
            self.happens(happening);
        }
        if self.report.fault.is_none() {
            self.report.fault = self.unwell();
        }
        self.report.calls = self.judges.iter().map(Judge::calls).sum();
        self.report.reuses = self.grants.iter().map(|grants| grants.reuses).sum();
        self.report
    }

    fn happens(&mut self, happening: Happening) {
        match happening {
            Happening::Poll { replica, account, life } => self.poll(replica, account, life),
            Happening::Effect(to, op, luck, back) => self.effect(to, op, luck, back),
            Happening::Deliver(to, event) => self.deliver(to, *event),
            Happening::Prolong(to) => self.prolong(to),
            Happening::Release { account, owner } => {
                if !self.store_fails() {
                    self.slots[account].release(&owner);
                }
            }
            Happening::Crash(replica) => self.crash(replica),
            Happening::Restart(replica) => {
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
            Happening::Person(account) => self.person(account),
        }
    }

    // --- what replicas do ---

    /// A caller wants a token.
    fn poll(&mut self, replica: usize, account: usize, life: u32) {
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
                None => Some(Need::Expiry),
                Some(record) => {
                    let generation = record.generation;
                    let access = record.tokens.as_ref().map(|tokens| tokens.access_token.expose().to_owned());
                    if self.rng.bool() {
                        self.grants[account].use_access(&access.unwrap_or_default());
                    }
                    let idle = self.policy.idle_at(record).is_some_and(|at| at <= now);
                    if self.now < TROUBLE && self.rng.f64() < self.trouble.unauthorised {
                        Some(Need::Refused { generation, worked: self.rng.bool() })
                    } else if idle {
                        Some(Need::Idle)
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

    fn start(&mut self, replica: usize, account: usize, need: Need) {
        self.flights += 1;
        let (id, now, jitter) = (self.flights, self.clock(replica), self.rng.f64());
        let owner = self.replicas[replica].owner.clone();
        let mut machine = Renewal::new(need, self.policy.clone(), owner, jitter, now);
        let to = To { replica, account, flight: id };
        self.trace(|_| format!("{to:?} begins for {need:?}"));
        let step = machine.on(Event::Begin, now);
        self.replicas[replica].desks[account].flight = Some(Flight { id, need, machine, leased: false });
        self.after(self.policy.lease.as_millis() as i64 / 3, Happening::Prolong(to));
        self.take(to, step);
    }

    fn deliver(&mut self, to: To, event: Event) {
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
    fn take(&mut self, to: To, step: Step) {
        let (replica, account) = (to.replica, to.account);
        if self.now < TROUBLE && self.chance(self.trouble.crash) {
            let soon = self.rng.i64(0..60);
            self.after(soon, Happening::Crash(replica));
        }
        match step {
            Step::Acquire => self.request(to, Op::Acquire(self.clock(replica))),
            Step::Load => self.request(to, Op::Load),
            Step::Save(record, was) => self.request(to, Op::Save(record, was)),
            Step::Send(token) => {
                let asked = self.asked(to);
                self.trace(|_| format!("{to:?} sends {}", token.expose()));
                let verdict = self.judges[account].sends(to.flight, token.expose(), self.now, asked);
                self.hold(verdict);
                self.request(to, Op::Send(token.expose().to_owned()));
            }
            Step::Ask => self.hold(Err("a grant with refresh tokens asked anew".into())),
            Step::Wait(pause) => {
                let Some(flight) = self.flight(to) else { return };
                if let Some(record) = flight.machine.unsaved() {
                    let stored = Stored { record: record.clone(), version: Version::new("unsaved") };
                    self.publish(to, &stored);
                }
                self.after(pause.as_millis() as i64, Happening::Deliver(to, Box::new(Event::Woke)));
            }
            Step::Done(outcome) => self.land(to, &outcome),
        }
    }

    fn land(&mut self, to: To, outcome: &Outcome) {
        self.trace(|_| format!("{to:?} ends: {}", ended(outcome)));
        let owner = self.replicas[to.replica].owner.clone();
        let flight = self.replicas[to.replica].desks[to.account].flight.take();
        self.judges[to.account].ended(to.flight);
        if flight.is_some_and(|flight| flight.leased) {
            let soon = self.rng.i64(1..40);
            self.replicas[to.replica].desks[to.account].landed_at = self.now + soon;
            self.after(soon, Happening::Release { account: to.account, owner });
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

    fn prolong(&mut self, to: To) {
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

    // --- what befalls replicas ---

    /// Whether a replica sleeps, or falls asleep just now.
    fn nap(&mut self, replica: usize) -> bool {
        if self.replicas[replica].asleep_until <= self.now && self.now < TROUBLE && self.chance(self.trouble.nap) {
            let length = if self.rng.bool() { 1000 } else { 90_000 };
            self.replicas[replica].asleep_until = self.now + self.rng.i64(1..length);
        }
        self.replicas[replica].asleep_until > self.now
    }

    fn crash(&mut self, replica: usize) {
        let it = &mut self.replicas[replica];
        if !it.up {
            return;
        }
        (it.up, it.life) = (false, it.life + 1);
        self.report.crashes += 1;
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

    // --- people ---

    fn authorise(&mut self, account: usize) {
        let lifetime = self.lifetime();
        let body = self.grants[account].consent(lifetime);
        let answer = AnswerShape::default().read(body.as_bytes()).expect("a token answer");
        let stored = self.slots[account].load(None);
        let base = stored.as_ref().map(|stored| stored.record.clone()).unwrap_or_default();
        let record = base.authorised(answer, stamp(self.now), None);
        let was = stored.map(|stored| stored.version);
        self.slots[account].save(&record, was.as_ref()).expect("read and written at once");
        self.judges[account].person();
        let verdict = self.judges[account].written(None, &record, &self.grants[account], self.now, true);
        self.hold(verdict);
        self.trace(|_| format!("a person authorises account {account}: {body}"));
    }

    /// Looks now and then whether somebody is wanted.
    fn person(&mut self, account: usize) {
        let health = self.slots[account].record().map(|record| record.health.clone()).unwrap_or_default();
        let Health { needs_authorisation, held, .. } = health;
        if needs_authorisation {
            self.authorise(account);
        } else if held {
            let replica = self.rng.usize(0..self.replicas.len());
            let now = self.now;
            let it = &self.replicas[replica];
            if it.up && it.asleep_until <= now && it.desks[account].is_free(now) {
                let generation = self.slots[account].record().map_or(0, |record| record.generation);
                self.judges[account].person();
                self.start(replica, account, Need::Asked { generation });
            }
        }
        let later = if self.now < TROUBLE { 60_000..300_000 } else { 300_000..600_000 };
        let later = self.rng.i64(later);
        self.after(later, Happening::Person(account));
    }

    // --- the end ---

    /// After hours without trouble every replica must have a living token, and the same.
    fn unwell(&self) -> Option<String> {
        for (account, slot) in self.slots.iter().enumerate() {
            let record = slot.record()?;
            if record.state() != State::Enabled {
                return Some(format!("account {account} never recovered: {}", noted(record)));
            }
            let token = record.tokens.as_ref().and_then(|tokens| tokens.refresh_token.as_ref()).map(Secret::expose);
            if !token.is_some_and(|token| self.grants[account].lives(token, self.now)) {
                return Some(format!("account {account} holds a dead refresh token: {}", noted(record)));
            }
            for (replica, it) in self.replicas.iter().enumerate() {
                let known = it.desks[account].known.as_ref().map(|stored| &stored.record);
                if !known.is_some_and(|known| self.policy.is_fresh(known, self.clock(replica))) {
                    return Some(format!("replica {replica} has no living token of account {account}"));
                }
            }
        }
        None
    }

    // --- helpers ---

    fn after(&mut self, wait: i64, happening: Happening) {
        self.sequence += 1;
        self.queue.push(Reverse(Entry(self.now + wait.max(0), self.sequence, happening)));
    }

    fn flight(&mut self, to: To) -> Option<&mut Flight> {
        self.replicas[to.replica].desks[to.account].flight.as_mut().filter(|flight| flight.id == to.flight)
    }

    fn asked(&mut self, to: To) -> bool {
        self.flight(to).is_some_and(|flight| matches!(flight.need, Need::Asked { .. }))
    }

    /// In the end tokens outlast the world, so that whoever has none then has had hours to get one.
    fn lifetime(&self) -> u32 {
        match self.now {
            ..TROUBLE => self.lifetime,
            now if now < END - 2 * 3_600_000 => 3600,
            _ => 86_400,
        }
    }

    fn clock(&self, replica: usize) -> Timestamp {
        stamp(self.now + self.replicas[replica].skew)
    }

    fn chance(&mut self, chance: f64) -> bool {
        chance > 0.0 && self.rng.f64() < chance
    }

    fn hold(&mut self, verdict: Result<(), String>) {
        if let Err(fault) = verdict {
            self.trace(|_| format!("FAULT: {fault}"));
            self.report.fault.get_or_insert(fault);
        }
    }

    fn trace(&mut self, line: impl FnOnce(&mut Self) -> String) {
        if self.tracing {
            let line = line(self);
            if line.is_empty() {
                return;
            }
            let at = format!("{:>9.3} ", SignedDuration::from_millis(self.now).as_secs_f64());
            self.report.trace.push_back(at + &line);
        }
    }
}

pub fn stamp(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(START + millis).expect("within the calendar")
}

/// A record in a line.
pub fn noted(record: &Record) -> String {
    let token = record.tokens.as_ref().and_then(|tokens| tokens.refresh_token.as_ref()).map_or("-", Secret::expose);
    let intent = record.intent.as_ref().map(|intent| format!("{} #{}", intent.owner, intent.attempt));
    let health = &record.health;
    let (class, held, dead) = (health.class.map(Class::as_str), health.held, health.needs_authorisation);
    format!("g{} {token} intent {intent:?} {class:?} held {held} dead {dead}", record.generation)
}

fn shown(event: &Event) -> String {
    match event {
        Event::Loaded(Ok(Some(stored))) => format!("{} at {}", noted(&stored.record), stored.version.as_str()),
        Event::Answered(Ok(answer)) => format!("new tokens {}", answer.access_token.expose()),
        event => format!("{event:?}"),
    }
}

fn ended(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Renewed(stored) => format!("renewed {}", noted(&stored.record)),
        Outcome::Adopted(stored) => format!("adopted {}", noted(&stored.record)),
        Outcome::Disabled(_) => "disabled".into(),
        Outcome::Failed(failure, _) => format!("failed: {} {failure}", failure.class()),
    }
}
