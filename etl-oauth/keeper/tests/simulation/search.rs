//! Every interleaving of two replicas that renew one account, with so many crashes, lost answers, writers from elsewhere and
//! holders that sleep through their lease: breadth first, over the production state machine.
//!
//! Where a holder may sleep, a write and a call to the provider are two steps each, the effect on the far side and the news
//! of it, and everything else may happen in between. Elsewhere they are one step, for that is the same as hearing late. For
//! the same reason a crash is one that leaves a write or a call under way (which arrives at any time or never), and a writer
//! from elsewhere comes when a write is under way.

mod moves;
mod state;

use std::collections::{HashSet, VecDeque};

use moves::crash;
use state::{Everything, Replica, Request, Stage, print};
use token_keeper::{
    provider::Provider,
    renewal::Policy,
    token::{Secret, State},
};

use crate::{
    provider::Habit,
    store::Broken,
    world::{model_provider, noted},
};

const LEASE: i64 = 30_000;
/// The tokens of the account end here, and the search begins.
const EXPIRY: i64 = 3_600_000;

/// How often each trouble may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Budget {
    pub crashes: u8,
    pub losses: u8,
    pub touches: u8,
    pub naps: u8,
}

/// What a search begins with.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub habit: Habit,
    /// Nothing is stored yet.
    pub is_new: bool,
    pub broken: Broken,
    pub budget: Budget,
}

pub struct Found {
    pub states: usize,
    pub ends: usize,
    pub fault: Option<String>,
}

pub fn run(case: Case) -> Found {
    let provider = model_provider(case.habit);
    let mut policy = Policy::of(&provider);
    policy.rotates = case.habit != Habit::Asks;
    if let Habit::Window(window) = case.habit {
        policy.replay_window = std::time::Duration::from_millis(window.unsigned_abs());
    }
    let search = Search { provider, policy };
    let mut seen = HashSet::new();
    let mut queue = VecDeque::from([Everything::new(case)]);
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
                Stage::Asked(Request::Save(..) | Request::Send(_) | Request::Ask) if state.sleepy => {
                    add(Some(n), arrives, &|it| self.arrive(it, n))?;
                }
                Stage::Asked(_) => add(Some(n), arrives, &|it| self.pass(it, n))?,
                Stage::Told(..) => add(Some(n), hears, &|it| self.hear(it, n).map(|()| true))?,
                Stage::Waiting => add(Some(n), wakes, &|it| self.wake(it, n))?,
            }
            let busy = state.replicas[n].machine.is_some();
            let under_way =
                matches!(&state.replicas[n].stage, Stage::Asked(Request::Save(..) | Request::Send(_) | Request::Ask));
            if under_way && state.left.crashes > 0 {
                add(Some(n), crashes, &|it| {
                    crash(it, n);
                    Ok(true)
                })?;
            }
            if matches!(&state.replicas[n].stage, Stage::Asked(Request::Send(_) | Request::Ask))
                && state.left.losses > 0
            {
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

    /// From wherever the trouble ends, a few tries without trouble tell: the account works, or a person is asked. None is held
    /// without an end (H16).
    fn recovers(&self, it: &Everything) -> Judged {
        let mut it = it.clone();
        for _ in 0..4 {
            it.replicas[0].flights = 0;
            it.replicas[0].known = it.slot.record().cloned();
            if !self.begin(&mut it, 0)? {
                break;
            }
            loop {
                match it.replicas[0].stage {
                    Stage::Over => break,
                    Stage::Waiting => _ = self.wake(&mut it, 0)?,
                    Stage::Asked(_) | Stage::Told(..) => _ = self.pass(&mut it, 0)?,
                }
            }
        }
        match it.slot.record() {
            Some(record) if matches!(record.state(), State::Enabled | State::NeedsAuthorisation) => Ok(()),
            record => Err(format!("it never recovers: {:?}", record.map(noted))),
        }
    }

    /// Nothing more can happen: all is well, or a person is asked for a reason.
    fn ending(&self, it: &Everything) -> Judged {
        let record = it.slot.record().ok_or("the record is gone")?;
        let token = record.tokens.as_ref().and_then(|tokens| tokens.refresh_token.as_ref()).map(Secret::expose);
        let lives = token.is_some_and(|token| it.grants.lives(token, it.now));
        let trouble = it.trouble;
        let asks = it.case.habit == Habit::Asks;
        let newest = if it.case.is_new { 1 } else { 2 };
        if asks {
            // What is lost costs a call more, and nothing else does.
            let (had, left) = (it.case.budget, it.left);
            let lost = had.crashes - left.crashes + had.losses - left.losses + had.naps - left.naps;
            if it.judge.calls() > 1 + usize::from(lost) {
                return Err(format!("{} calls for one need, and {lost} were lost", it.judge.calls()));
            }
        }
        match record.state() {
            State::Enabled if record.generation >= newest && (lives || trouble || asks) => {}
            State::Disabled | State::Degraded if trouble && asks => {}
            State::NeedsAuthorisation if trouble && !lives => {}
            // Two tries a life, and the trouble lasted.
            State::Degraded if trouble => {}
            State::Enabled if trouble && lives => {}
            state => return Err(format!("it ends {state:?}: {}", noted(record))),
        }
        self.recovers(it)?;
        if !trouble {
            if it.judge.calls() != 1 {
                return Err(format!("{} calls for one renewal", it.judge.calls()));
            }
            if it.replicas.iter().any(|one| one.known.as_ref().is_none_or(|known| known.generation != newest)) {
                return Err("a replica ends without the new tokens".into());
            }
        }
        Ok(())
    }
}
