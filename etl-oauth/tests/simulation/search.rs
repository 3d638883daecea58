//! Every interleaving of two replicas that renew one account, with so many crashes, lost answers, writers from elsewhere and
//! holders that sleep through their lease: breadth first, over the production state machine.
//!
//! Where a holder may sleep, a write and a call to the provider are two steps each, the effect on the far side and the news
//! of it, and everything else may happen in between. Elsewhere they are one step, for that is the same as hearing late. For
//! the same reason a crash is one that leaves a write or a call under way (which arrives at any time or never), and a writer
//! from elsewhere comes when a write is under way.

use std::{
    collections::{HashSet, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
};

use etl_oauth::{
    grant::{SendError, judge_token},
    keeper::{Event, Need, Outcome, Policy, Renewal, Step},
    provider::Provider,
    store::{Acquired, Stored, Version},
    token::{AnswerShape, Record, Secret, State},
};

use crate::{
    judge::{Fate, Judge},
    provider::{Grants, Habit},
    store::{Broken, Slot},
    world::{answer, model_provider, noted, stamp},
};

const LEASE: i64 = 30_000;
/// The tokens of the account end here, and the search begins.
const EXPIRY: i64 = 3_600_000;

#[derive(Clone)]
enum Request {
    Acquire,
    Load,
    Save(Box<Record>, Option<Version>),
    Send(String),
}

#[derive(Clone)]
enum Stage {
    /// The request is under way.
    Asked(Request),
    /// The answer is.
    Told(Box<Stored>, Heard),
    Waiting,
    /// The renewal is over; it may be tried again when its failure says so.
    Over,
}

/// What an answer says, where events themselves cannot be copied.
#[derive(Clone)]
enum Heard {
    Lease(Acquired),
    Loaded,
    Saved(Result<Version, ()>),
    Tokens(String),
    Refused,
}

#[derive(Clone)]
struct Replica {
    machine: Option<Renewal>,
    stage: Stage,
    flight: u64,
    flights: u32,
    leased: bool,
    slept: bool,
    known: Option<Record>,
    owner: String,
    /// Its fingerprint, made anew when it does something: printing is what the search spends its time on.
    print: u64,
}

/// One state of everything.
#[derive(Clone)]
struct Everything {
    now: i64,
    replicas: Vec<Replica>,
    /// Requests of the dead, still under way.
    orphans: Vec<(String, u64, Request)>,
    slot: Slot,
    slot_print: u64,
    grants: Grants,
    judge: Judge,
    left: Budget,
    /// Something happened that an answer may be missing for.
    trouble: bool,
    waited: bool,
    /// Naps were in the budget.
    sleepy: bool,
    path: Vec<&'static str>,
}

pub struct Found {
    pub states: usize,
    pub ends: usize,
    pub fault: Option<String>,
}

/// How often each trouble may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Budget {
    pub crashes: u8,
    pub losses: u8,
    pub touches: u8,
    pub naps: u8,
}

pub fn run(habit: Habit, broken: Broken, budget: Budget) -> Found {
    let provider = model_provider();
    let mut policy = Policy::of(&provider);
    policy.rotates = true;
    if let Habit::Window(window) = habit {
        policy.replay_window = std::time::Duration::from_millis(window.unsigned_abs());
    }
    let search = Search { provider, policy };
    let mut seen = HashSet::new();
    let mut queue = VecDeque::from([Everything::new(habit, broken, budget)]);
    let (mut ends, mut fault) = (0, None);
    while let Some(state) = queue.pop_front() {
        let mut next = Vec::new();
        if let Err(why) = search.successors(&state, &mut next) {
            fault = Some(format!("{why}\n  after {}", state.path.join(", ")));
            break;
        }
        if next.is_empty() {
            ends += 1;
            if let Err(why) = search.ending(&state) {
                fault = Some(format!("{why}\n  after {}", state.path.join(", ")));
                break;
            }
        }
        for state in next {
            if seen.insert(state.fingerprint()) {
                queue.push_back(state);
            }
        }
    }
    Found { states: seen.len(), ends, fault }
}

impl Everything {
    fn new(habit: Habit, broken: Broken, left: Budget) -> Self {
        let (mut slot, mut grants, mut judge) = (Slot::new(broken), Grants::new(habit, 0), Judge::new(habit));
        let body = grants.consent(3600);
        let tokens = AnswerShape::default().read(body.as_bytes()).expect("a token answer");
        let record = Record::default().authorised(tokens, stamp(0), None);
        slot.save(&record, None).expect("nothing is stored");
        judge.written(None, &record, &grants, 0, true).expect("a first record");
        let replica = |n: u64| Replica {
            machine: None,
            stage: Stage::Over,
            flight: n,
            flights: 0,
            leased: false,
            slept: false,
            known: Some(record.clone()),
            owner: format!("replica {n}"),
            print: 0,
        };
        Self {
            now: EXPIRY,
            replicas: vec![replica(1), replica(2)],
            orphans: Vec::new(),
            slot,
            slot_print: 0,
            grants,
            judge,
            left,
            trouble: false,
            waited: false,
            sleepy: left.naps > 0,
            path: Vec::new(),
        }
    }

    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.now, self.left, self.trouble, self.waited).hash(&mut hasher);
        (self.replicas[0].print, self.replicas[1].print, self.slot_print, &self.grants, &self.judge).hash(&mut hasher);
        for (owner, flight, request) in &self.orphans {
            (owner, flight, request.fingerprint()).hash(&mut hasher);
        }
        hasher.finish()
    }
}

impl Replica {
    /// Tokens are hidden from `Debug`, and told apart by the serial in the answer that brought them.
    fn fingerprint(&self) -> u64 {
        let stage = match &self.stage {
            Stage::Asked(request) => format!("asked {}", request.fingerprint()),
            Stage::Told(stored, heard) => format!("{stored:?}{}", heard.fingerprint()),
            Stage::Waiting => "waiting".into(),
            Stage::Over => "over".into(),
        };
        let known = self.known.as_ref().map(|known| (known.generation, &known.health));
        print(&(&self.machine, stage, self.flight, self.flights, self.leased, self.slept, known))
    }
}

fn print(thing: &impl std::fmt::Debug) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{thing:?}").hash(&mut hasher);
    hasher.finish()
}

impl Request {
    fn fingerprint(&self) -> String {
        match self {
            Self::Acquire => "acquire".into(),
            Self::Load => "load".into(),
            Self::Save(record, was) => format!("save {record:?}{was:?}"),
            Self::Send(token) => format!("send {token}"),
        }
    }
}

impl Heard {
    fn fingerprint(&self) -> String {
        match self {
            Self::Lease(lease) => format!("{lease:?}"),
            Self::Loaded => "loaded".into(),
            Self::Saved(result) => format!("{result:?}"),
            Self::Tokens(body) => body.clone(),
            Self::Refused => "refused".into(),
        }
    }
}

struct Search {
    provider: Provider,
    policy: Policy,
}

type Judged<T = ()> = Result<T, String>;

impl Search {
    /// All that can happen next.
    fn successors(&self, state: &Everything, next: &mut Vec<Everything>) -> Judged {
        let mut add =
            |actor: Option<usize>, name: &'static str, act: &dyn Fn(&mut Everything) -> Judged<bool>| -> Judged {
                let mut after = state.clone();
                after.path.push(name);
                match act(&mut after) {
                    Ok(true) => {
                        if let Some(n) = actor {
                            after.replicas[n].print = after.replicas[n].fingerprint();
                        }
                        if after.slot.mark() != state.slot.mark() {
                            after.slot_print = print(&after.slot);
                        }
                        next.push(after);
                    }
                    Ok(false) => {}
                    Err(why) => return Err(format!("{why} ({name})")),
                }
                Ok(())
            };
        let names = [
            ["one begins", "one's request arrives", "one hears", "one wakes", "one crashes"],
            ["two begins", "two's request arrives", "two hears", "two wakes", "two crashes"],
        ];
        for (n, [begins, arrives, hears, wakes, crashes]) in names.into_iter().enumerate() {
            match &state.replicas[n].stage {
                Stage::Over => add(Some(n), begins, &|it| Ok(self.begin(it, n)? && self.pass(it, n)?))?,
                Stage::Asked(Request::Save(..) | Request::Send(_)) if state.sleepy => {
                    add(Some(n), arrives, &|it| self.arrive(it, n))?;
                }
                Stage::Asked(_) => add(Some(n), arrives, &|it| self.pass(it, n))?,
                Stage::Told(..) => add(Some(n), hears, &|it| self.hear(it, n).map(|()| true))?,
                Stage::Waiting => add(Some(n), wakes, &|it| self.wake(it, n))?,
            }
            let busy = state.replicas[n].machine.is_some();
            let under_way = matches!(&state.replicas[n].stage, Stage::Asked(Request::Save(..) | Request::Send(_)));
            if under_way && state.left.crashes > 0 {
                add(Some(n), crashes, &|it| {
                    crash(it, n);
                    Ok(true)
                })?;
            }
            if matches!(&state.replicas[n].stage, Stage::Asked(Request::Send(_))) && state.left.losses > 0 {
                add(Some(n), "a request is lost", &|it| self.lose(it, n).map(|()| true))?;
                add(Some(n), "an answer is lost", &|it| {
                    self.arrive(it, n)?;
                    self.lose(it, n).map(|()| true)
                })?;
            }
            // A holder that has not slept yet sleeps through the rest of its lease.
            if busy && state.left.naps > 0 && state.replicas[n].leased {
                add(Some(n), if n == 0 { "one falls asleep" } else { "two falls asleep" }, &|it| {
                    it.left.naps -= 1;
                    it.trouble = true;
                    it.replicas[n].slept = true;
                    it.now += LEASE + 1000;
                    Ok(true)
                })?;
            }
        }
        for n in 0..state.orphans.len() {
            add(None, "a dead one's request arrives", &|it| {
                let (owner, flight, request) = it.orphans.remove(n);
                self.effect(it, &owner, flight, request, None).map(|_| true)
            })?;
        }
        let writing = |it: &Replica| matches!(&it.stage, Stage::Asked(Request::Save(..)));
        if state.left.touches > 0 && state.replicas.iter().any(writing) {
            add(None, "somebody else writes", &|it| {
                it.left.touches -= 1;
                it.slot.touch();
                Ok(true)
            })?;
        }
        Ok(())
    }

    fn begin(&self, it: &mut Everything, n: usize) -> Judged<bool> {
        let replica = &it.replicas[n];
        let known = replica.known.clone().unwrap_or_default();
        let health = &known.health;
        if self.policy.is_fresh(&known, stamp(it.now)) || health.needs_authorisation || health.held {
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
        let mut machine = Renewal::new(Need::Expiry, self.policy.clone(), &replica.owner, 0.0, stamp(it.now));
        let step = machine.on(Event::Begin, stamp(it.now));
        replica.machine = Some(machine);
        self.take(it, n, step)?;
        Ok(true)
    }

    fn pass(&self, it: &mut Everything, n: usize) -> Judged<bool> {
        self.arrive(it, n)?;
        self.hear(it, n).map(|()| true)
    }

    fn arrive(&self, it: &mut Everything, n: usize) -> Judged<bool> {
        let replica = &it.replicas[n];
        let (owner, flight) = (replica.owner.clone(), replica.flight);
        let Stage::Asked(request) = replica.stage.clone() else { return Ok(false) };
        let known = replica.known.clone();
        let (stored, heard) = self.effect(it, &owner, flight, request, known.as_ref())?;
        let nothing = || Stored { record: Record::default(), version: Version::new("") };
        it.replicas[n].stage = Stage::Told(Box::new(stored.unwrap_or_else(nothing)), heard);
        Ok(true)
    }

    fn effect(
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
                    it.judge.leased(flight, it.now + LEASE);
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
        })
    }

    fn hear(&self, it: &mut Everything, n: usize) -> Judged {
        let Stage::Told(stored, heard) = it.replicas[n].stage.clone() else { return Ok(()) };
        let flight = it.replicas[n].flight;
        let judged = |status, body: &str| Event::Answered(judge_token(&self.provider, &answer(status, body)));
        let event = match heard {
            Heard::Lease(lease) => {
                it.replicas[n].leased = lease != Acquired::Busy;
                Event::Lease(Ok(lease))
            }
            Heard::Loaded => Event::Loaded(Ok(Some(*stored))),
            Heard::Saved(result) => Event::Saved(result.map_err(|()| etl_oauth::store::StoreError::Conflict)),
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
    fn wake(&self, it: &mut Everything, n: usize) -> Judged<bool> {
        let other = &it.replicas[1 - n];
        if other.leased && !other.slept {
            if std::mem::replace(&mut it.waited, true) {
                return Ok(false);
            }
            it.now += LEASE + 1000;
            if it.slot.acquire(&other.owner, self.policy.lease, stamp(it.now)) != Acquired::Busy {
                it.judge.leased(other.flight, it.now + LEASE);
            }
        } else if it.slot.is_leased(stamp(it.now)) {
            it.now += LEASE + 1000;
        }
        self.tell(it, n, Event::Woke)?;
        Ok(true)
    }

    /// Nobody answers within the time limit, whatever has happened there.
    fn lose(&self, it: &mut Everything, n: usize) -> Judged {
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

    fn take(&self, it: &mut Everything, n: usize, step: Step) -> Judged {
        it.replicas[n].stage = match step {
            Step::Acquire => Stage::Asked(Request::Acquire),
            Step::Load => Stage::Asked(Request::Load),
            Step::Save(record, was) => Stage::Asked(Request::Save(record, was)),
            Step::Send(token) => {
                it.judge.sends(it.replicas[n].flight, token.expose(), it.now, false)?;
                Stage::Asked(Request::Send(token.expose().to_owned()))
            }
            Step::Ask => return Err("a grant with refresh tokens asked anew".into()),
            Step::Wait(_) => Stage::Waiting,
            Step::Done(outcome) => {
                self.land(it, n, &outcome);
                Stage::Over
            }
        };
        Ok(())
    }

    fn land(&self, it: &mut Everything, n: usize, outcome: &Outcome) {
        let replica = &mut it.replicas[n];
        it.judge.ended(replica.flight);
        if std::mem::take(&mut replica.leased) {
            it.slot.release(&replica.owner);
        }
        replica.slept = false;
        replica.machine = None;
        if let Some(stored) = outcome.stored() {
            replica.known = Some(stored.record.clone());
        }
    }

    /// Nothing more can happen: all is well, or a person is asked for a reason.
    fn ending(&self, it: &Everything) -> Judged {
        let record = it.slot.record().ok_or("the record is gone")?;
        let token = record.tokens.as_ref().and_then(|tokens| tokens.refresh_token.as_ref()).map(Secret::expose);
        let lives = token.is_some_and(|token| it.grants.lives(token, it.now));
        let trouble = it.trouble;
        match record.state() {
            State::Enabled if record.generation > 1 && (lives || trouble) => {}
            State::NeedsAuthorisation if trouble && !lives => {}
            State::Degraded if trouble && record.health.held => {}
            // The verdict met the other writer's record, and the tries are over.
            State::Degraded if trouble && it.left.touches == 0 => {}
            // Two tries a life, and the trouble lasted.
            State::Enabled | State::Degraded if trouble && lives => {}
            state => return Err(format!("it ends {state:?}: {}", noted(record))),
        }
        if !trouble {
            if it.judge.calls() != 1 {
                return Err(format!("{} calls for one renewal", it.judge.calls()));
            }
            if it.replicas.iter().any(|one| one.known.as_ref().is_none_or(|known| known.generation != 2)) {
                return Err("a replica ends without the new tokens".into());
            }
        }
        Ok(())
    }
}

fn crash(it: &mut Everything, n: usize) {
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
