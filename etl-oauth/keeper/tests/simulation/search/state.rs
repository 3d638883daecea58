//! One state of everything, and what tells it from others.

use std::hash::{DefaultHasher, Hash, Hasher};

use token_keeper::{
    renewal::{RenewalMachine, Stored},
    store::{Acquired, Version},
    token::{AnswerShape, Record},
};

use super::{Budget, Case, EXPIRY};
use crate::{
    judge::Judge,
    provider::{Grants, Habit},
    store::Slot,
    world::stamp,
};

#[derive(Clone)]
pub(super) enum Request {
    Acquire,
    Load,
    Save(Box<Record>, Option<Version>),
    Send(String),
    Ask,
}

#[derive(Clone)]
pub(super) enum Stage {
    /// The request is under way.
    Asked(Request),
    /// The answer is.
    Told(Option<Box<Stored>>, Heard),
    Waiting,
    /// The renewal is over; it may be tried again when its failure says so.
    Over,
}

/// What an answer says, where events themselves cannot be copied.
#[derive(Clone)]
pub(super) enum Heard {
    Lease(Acquired),
    Loaded,
    Saved(Result<Version, ()>),
    Tokens(String),
    Refused,
}

#[derive(Clone)]
pub(super) struct Replica {
    pub(super) machine: Option<RenewalMachine>,
    pub(super) stage: Stage,
    pub(super) flight: u64,
    pub(super) flights: u32,
    pub(super) leased: bool,
    pub(super) slept: bool,
    pub(super) known: Option<Record>,
    pub(super) owner: String,
    /// Its fingerprint, made anew when it does something: printing is what the search spends its time on.
    pub(super) print: u64,
}

/// One state of everything.
#[derive(Clone)]
pub(super) struct Everything {
    pub(super) now: i64,
    pub(super) replicas: Vec<Replica>,
    /// Requests of the dead, still under way.
    pub(super) orphans: Vec<(String, u64, Request)>,
    pub(super) slot: Slot,
    pub(super) slot_print: u64,
    pub(super) grants: Grants,
    pub(super) judge: Judge,
    pub(super) left: Budget,
    /// What it began with.
    pub(super) case: Case,
    /// Something happened that an answer may be missing for.
    pub(super) trouble: bool,
    pub(super) waited: bool,
    /// Naps were in the budget.
    pub(super) sleepy: bool,
    pub(super) path: Vec<&'static str>,
}

impl Everything {
    pub(super) fn new(case: Case) -> Self {
        let Case { habit, is_new, broken, budget: left } = case;
        let (mut slot, mut grants, mut judge) = (Slot::new(broken), Grants::new(habit, 0), Judge::new(habit));
        let body = if habit == Habit::Asks { grants.ask(3600) } else { grants.consent(3600) };
        let mut answer = AnswerShape::default().read(body.as_bytes()).expect("a token answer");
        if habit == Habit::Asks {
            answer.refresh_token = None;
        }
        let record = (!is_new).then(|| Record::default().authorised(answer, stamp(0), None));
        if let Some(record) = &record {
            slot.save(record, None).expect("nothing is stored");
            judge.written(None, record, &grants, 0, true).expect("a first record");
        }
        let replica = |n: u64| Replica {
            machine: None,
            stage: Stage::Over,
            flight: n,
            flights: 0,
            leased: false,
            slept: false,
            known: record.clone(),
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
            case,
            trouble: false,
            waited: false,
            sleepy: left.naps > 0,
            path: Vec::new(),
        }
    }

    pub(super) fn fingerprint(&self) -> u64 {
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
    pub(super) fn fingerprint(&self) -> u64 {
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

pub(super) fn print(thing: &impl std::fmt::Debug) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{thing:?}").hash(&mut hasher);
    hasher.finish()
}

impl Request {
    pub(super) fn fingerprint(&self) -> String {
        match self {
            Self::Acquire => "acquire".into(),
            Self::Load => "load".into(),
            Self::Save(record, was) => format!("save {record:?}{was:?}"),
            Self::Send(token) => format!("send {token}"),
            Self::Ask => "ask".into(),
        }
    }
}

impl Heard {
    pub(super) fn fingerprint(&self) -> String {
        match self {
            Self::Lease(lease) => format!("{lease:?}"),
            Self::Loaded => "loaded".into(),
            Self::Saved(result) => format!("{result:?}"),
            Self::Tokens(body) => body.clone(),
            Self::Refused => "refused".into(),
        }
    }
}
