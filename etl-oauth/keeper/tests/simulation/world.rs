//! One seed: replicas with clocks of their own, a network that loses and delays, a store, a provider, and people.

use std::{collections::VecDeque, time::Duration};

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use token_keeper::{
    grant::HttpResponse,
    provider::{Definition, Grant, Overrides, Provider},
    renewal::{Event, Policy},
    token::{Secret, State},
};

use crate::{
    judge::Judge,
    provider::{Grants, Habit},
    store::{Broken, Slot},
    tally::Tally,
};

mod network;
mod people;
mod queue;
mod replica;
mod words;

use network::{Luck, Op, Trouble};
use queue::Queue;
use replica::Replica;
pub use words::noted;

/// When a world begins, in Unix milliseconds.
const START: i64 = 1_700_000_000_000;
/// No two clocks are further apart than twice this.
pub const SKEW: i64 = 4_000;
/// Faults happen for so long; after that everybody is well, and the accounts must recover.
const TROUBLE: i64 = 20 * 60_000;
const END: i64 = TROUBLE + 4 * 3_600_000;

pub fn model_provider(habit: Habit) -> Provider {
    let grant = if habit == Habit::Asks { Grant::ClientCredentials } else { Grant::AuthorizationCode };
    let definition = Definition { token_url: Some("https://p.example/token".into()), grant, ..Definition::default() };
    Provider::new("custom", definition, Overrides::default()).expect("an absolute https URL")
}

pub fn answer(status: u16, body: &str) -> HttpResponse {
    let status = http::StatusCode::from_u16(status).expect("a status");
    HttpResponse { status, headers: http::HeaderMap::new(), body: body.into(), at: Timestamp::UNIX_EPOCH }
}

/// Which worlds are made of seeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Any,
    /// Those where tokens are had by asking for them.
    Unattended,
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

/// What a seed came to.
#[derive(Debug, Default)]
pub struct Report {
    pub tally: Tally,
    pub fault: Option<String>,
    pub trace: VecDeque<String>,
}

pub struct World {
    rng: Rng,
    now: i64,
    queue: Queue<Happening>,
    trouble: Trouble,
    provider: Provider,
    policy: Policy,
    habit: Habit,
    /// How often a caller is a run that renews first.
    runs: f64,
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
pub fn run(seed: u64, kind: Kind, broken: Broken, tracing: bool) -> Report {
    World::new(seed, kind, broken, tracing).play()
}

impl World {
    fn new(seed: u64, kind: Kind, broken: Broken, tracing: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let trouble = Trouble::new(&mut rng);
        let habit = match rng.u8(0..10) {
            _ if kind == Kind::Unattended => Habit::Asks,
            0..4 => Habit::Strict,
            4..6 => Habit::Window(1000 * rng.i64(20..600)),
            6 => Habit::UntilUsed,
            7 => Habit::Still,
            _ => Habit::Asks,
        };
        let provider = model_provider(habit);
        let mut policy = Policy::of(&provider);
        policy.rotates = !matches!(habit, Habit::Still | Habit::Asks);
        policy.previous_until_used = habit == Habit::UntilUsed;
        if let Habit::Window(window) = habit {
            policy.replay_window = Duration::from_millis(window.unsigned_abs());
        }
        if rng.u8(0..4) == 0 {
            policy.refresh_idle = Some(Duration::from_secs(rng.u64(60..600)));
        }
        let runs = if rng.u8(0..4) == 0 { 0.3 } else { 0.0 };
        let (replicas, accounts) = (rng.usize(1..=4), rng.usize(1..=2));
        let lifetime = [40, 120, 400][rng.usize(0..3)];
        let replicas: Vec<_> = (0..replicas).map(|n| Replica::new(n, rng.i64(-SKEW..=SKEW), accounts)).collect();
        let skews = || replicas.iter().map(|replica| replica.skew);
        let skewed = skews().max().unwrap_or(0) - skews().min().unwrap_or(0) > SKEW / 2;
        let tally = Tally { skewed: u64::from(skewed), asking: u64::from(habit == Habit::Asks), ..Tally::default() };
        Self {
            rng,
            now: 0,
            queue: Queue::default(),
            trouble,
            provider,
            policy,
            habit,
            runs,
            lifetime,
            replicas,
            slots: (0..accounts).map(|_| Slot::new(broken)).collect(),
            grants: (0..accounts).map(|account| Grants::new(habit, account)).collect(),
            judges: (0..accounts).map(|_| Judge::new(habit)).collect(),
            store_away_until: 0,
            flights: 0,
            tracing,
            report: Report { tally, ..Report::default() },
        }
    }

    fn play(mut self) -> Report {
        self.trace(|it| format!("{:?} {:?} lifetime {} s", it.trouble, it.policy, it.lifetime));
        for account in 0..self.slots.len() {
            if self.habit != Habit::Asks {
                self.authorise(account);
            }
            self.after(1000, Happening::Person(account));
            for replica in 0..self.replicas.len() {
                self.after(0, Happening::Poll { replica, account, life: 0 });
            }
        }
        while let Some((at, happening)) = self.queue.next() {
            if at >= END || self.report.fault.is_some() {
                break;
            }
            self.now = at;
            self.report.tally.events += 1;
            self.happens(happening);
        }
        if self.report.fault.is_none() {
            self.report.fault = self.unwell();
        }
        self.report.tally.calls = self.judges.iter().map(|judge| judge.calls() as u64).sum();
        self.report.tally.reuses = self.grants.iter().map(|grants| u64::from(grants.reuses)).sum();
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
            Happening::Restart(replica) => self.restart(replica),
            Happening::Person(account) => self.person(account),
        }
    }

    /// After hours without trouble every replica must have a living token, and the same.
    fn unwell(&self) -> Option<String> {
        for (account, slot) in self.slots.iter().enumerate() {
            let Some(record) = slot.record() else { return Some(format!("account {account} has no record")) };
            if record.state() != State::Enabled {
                return Some(format!("account {account} never recovered: {}", noted(record)));
            }
            let token = record.tokens.as_ref().and_then(|tokens| tokens.refresh_token.as_ref()).map(Secret::expose);
            let lives = token.is_some_and(|token| self.grants[account].lives(token, self.now));
            if !lives && self.habit != Habit::Asks {
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

    fn after(&mut self, wait: i64, happening: Happening) {
        self.queue.put(self.now + wait.max(0), happening);
    }

    /// In the end tokens outlast the world, so that whoever has none then has had hours to get one.
    fn lifetime(&self) -> u32 {
        match self.now {
            ..TROUBLE => self.lifetime,
            now if now < END - 2 * 3_600_000 => 3600,
            _ => 86_400,
        }
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

/// The other way round.
pub fn millis(at: Timestamp) -> i64 {
    at.as_millisecond() - START
}
