//! The network between replicas, store and provider, and what it does to each request.

use fastrand::Rng;
use jiff::Timestamp;
use token_keeper::{
    grant::{HttpResponse, SendError, judge_token, unattended},
    renewal::Event,
    store::{Acquired, StoreError, Version},
    token::Record,
};

use super::{Happening, SKEW, TROUBLE, To, World, answer, millis, noted};
use crate::provider::{Grants, Habit};

/// How likely each trouble is in this seed: many are off in each, so that no trouble always hides behind another.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) crash: f64,
    pub(super) nap: f64,
    slow: f64,
    store_error: f64,
    store_outage: f64,
    touch: f64,
    not_sent: f64,
    lost_request: f64,
    lost_answer: f64,
    late_request: f64,
    late_answer: f64,
    refusal: f64,
    malformed: f64,
    pub(super) unauthorised: f64,
    ended: f64,
    barred: f64,
}

impl Trouble {
    pub(super) fn new(rng: &mut Rng) -> Self {
        let mut some = |often: f64| if rng.bool() { 0.0 } else { rng.f64() * often };
        Self {
            crash: some(0.04),
            nap: some(0.04),
            slow: some(0.04),
            store_error: some(0.2),
            store_outage: some(0.01),
            touch: some(0.1),
            not_sent: some(0.2),
            lost_request: some(0.2),
            lost_answer: some(0.2),
            late_request: some(0.1),
            late_answer: some(0.1),
            refusal: some(0.2),
            malformed: some(0.1),
            unauthorised: some(0.1),
            ended: some(0.01),
            barred: some(0.05),
        }
    }
}

#[derive(Debug)]
pub(super) enum Op {
    Acquire(Timestamp),
    Load,
    Save(Box<Record>, Option<Version>),
    Send(String),
    Ask,
}

/// What the network and the far side do to one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Luck {
    Good,
    /// It never arrives.
    Lost,
    /// It is done, and nobody hears of it.
    Unheard,
    /// It is refused for a reason that passes.
    Refused(u16),
    /// It is done, and the answer is noise.
    Noise,
}

impl World {
    pub(super) fn request(&mut self, to: To, op: Op) {
        let mut out = self.rng.i64(1..40);
        let mut back = self.rng.i64(1..40);
        let mut luck = Luck::Good;
        let calm = self.now >= TROUBLE;
        let timeout = self.policy.token_timeout.as_millis() as i64;
        if !calm && self.chance(self.trouble.slow) {
            *if self.rng.bool() { &mut out } else { &mut back } = self.rng.i64(40..60_000);
            let is_slow = matches!(op, Op::Save(..)) && out + back > self.policy.lease.as_millis() as i64;
            self.report.tally.slow_writes += u64::from(is_slow);
        }
        if let Op::Send(_) | Op::Ask = op {
            let dice = &self.trouble;
            let ways = [
                (dice.not_sent, 0),
                (dice.lost_request, 1),
                (dice.lost_answer, 2),
                (dice.late_request, 3),
                (dice.late_answer, 4),
                (dice.refusal, 5),
                (dice.malformed, 6),
            ];
            let way = ways.into_iter().find(|(chance, _)| !calm && self.rng.f64() < *chance).map(|(_, way)| way);
            (out, back) = (out.min(1000), back.min(1000));
            self.report.tally.slow_calls += u64::from(matches!(way, Some(3 | 4)));
            self.report.tally.losses += u64::from(matches!(way, Some(1 | 2)));
            match way {
                None => {}
                Some(0) => {
                    let failure = SendError::NotSent.into_failure();
                    return self.after(out, Happening::Deliver(to, Box::new(Event::Answered(Err(failure)))));
                }
                Some(1) => luck = Luck::Lost,
                Some(2) => luck = Luck::Unheard,
                // The caller gives up, and the request arrives all the same.
                Some(3) => (luck, out) = (Luck::Unheard, self.rng.i64(timeout..90_000)),
                // No time limit cut it off: the lease is what must last.
                Some(4) => back = self.rng.i64(timeout..90_000),
                Some(5) => {
                    // Who asks for himself is refused like one whose grant has ended, where his rights have not spread yet.
                    let ways = [429, 500, 503, 401, if self.habit == Habit::Asks { 400 } else { 502 }];
                    luck = Luck::Refused(ways[self.rng.usize(0..ways.len())]);
                }
                Some(_) => luck = if self.rng.bool() { Luck::Noise } else { Luck::Refused(200) },
            }
            if matches!(luck, Luck::Lost | Luck::Unheard) {
                let failure = SendError::Ambiguous.into_failure();
                self.after(timeout, Happening::Deliver(to, Box::new(Event::Answered(Err(failure)))));
            }
        } else if self.store_fails() {
            self.report.tally.store_errors += 1;
            // An error may come before the write takes effect, after it, or instead of it.
            luck = if self.rng.bool() { Luck::Lost } else { Luck::Unheard };
            let error = || StoreError::unavailable("out of reach");
            let event = match op {
                Op::Acquire(_) => Event::Lease(Err(error())),
                Op::Load => Event::Loaded(Err(error())),
                _ => Event::Saved(Err(error())),
            };
            self.after(back, Happening::Deliver(to, Box::new(event)));
        }
        if luck != Luck::Lost {
            self.after(out, Happening::Effect(to, op, luck, back));
        }
    }

    pub(super) fn effect(&mut self, to: To, op: Op, luck: Luck, back: i64) {
        let account = to.account;
        if self.chance(self.trouble.touch) && self.now < TROUBLE {
            self.slots[account].touch();
        }
        let event = match op {
            Op::Acquire(now) => {
                let owner = self.replicas[to.replica].owner.clone();
                let lease = self.slots[account].acquire(&owner, self.policy.lease, now);
                if lease != Acquired::Busy {
                    self.note_lease(to, now);
                }
                Event::Lease(Ok(lease))
            }
            Op::Load => {
                let known = self.replicas[to.replica].desks[account].known.as_ref().map(|stored| &stored.record);
                Event::Loaded(Ok(self.slots[account].load(known)))
            }
            Op::Save(record, was) => {
                let result = self.slots[account].save(&record, was.as_ref());
                self.trace(|_| format!("{to:?} writes {} over {was:?}: {result:?}", noted(&record)));
                self.report.tally.conflicts += u64::from(result.is_err());
                if result.is_ok() {
                    let (asked, now) = (self.asked(to), self.now);
                    let flight = Some(to.flight);
                    let verdict = self.judges[account].written(flight, &record, &self.grants[account], now, asked);
                    self.hold(verdict);
                }
                Event::Saved(result)
            }
            Op::Send(token) => {
                if self.chance(self.trouble.ended) && self.now < TROUBLE {
                    self.grants[account].end(&token);
                }
                let (now, lifetime) = (self.now, self.lifetime());
                let raw = self.said(account, luck, |grants| grants.renew(&token, now, lifetime));
                self.trace(|_| format!("provider takes {token} of {to:?}: {}", String::from_utf8_lossy(&raw.body)));
                Event::Answered(judge_token(&self.provider, &raw))
            }
            Op::Ask => {
                let lifetime = self.lifetime();
                let raw = self.said(account, luck, |grants| Some(grants.ask(lifetime)));
                self.trace(|_| format!("provider is asked by {to:?}: {}", String::from_utf8_lossy(&raw.body)));
                Event::Answered(unattended(judge_token(&self.provider, &raw)))
            }
        };
        if luck != Luck::Unheard {
            self.after(back, Happening::Deliver(to, Box::new(event)));
        }
    }

    /// What the provider says to a client that it lets do `what`.
    fn said(&mut self, account: usize, luck: Luck, what: impl FnOnce(&mut Grants) -> Option<String>) -> HttpResponse {
        if self.now < TROUBLE && self.chance(self.trouble.barred) {
            let until = self.now + self.rng.i64(1000..300_000);
            self.grants[account].bar(until);
        }
        match luck {
            Luck::Refused(200) => answer(200, "<html>"),
            Luck::Refused(400) => answer(400, r#"{"error":"invalid_grant"}"#),
            Luck::Refused(status) => answer(status, ""),
            _ if self.grants[account].is_barred(self.now) => answer(401, r#"{"error":"invalid_client"}"#),
            _ => match what(&mut self.grants[account]) {
                Some(_) if luck == Luck::Noise => answer(200, "{\"access_tok"),
                Some(body) => answer(200, &body),
                None => answer(400, r#"{"error":"invalid_grant"}"#),
            },
        }
    }

    /// In true time, and with all doubt on the side of the lease's end.
    pub(super) fn note_lease(&mut self, to: To, now: Timestamp) {
        let lease = self.policy.lease.as_millis() as i64;
        self.trace(|_| format!("{to:?} has the lease"));
        let stamped = millis(now) - self.replicas[to.replica].skew;
        self.judges[to.account].leased(to.flight, self.now, stamped + lease - 2 * SKEW);
    }

    pub(super) fn store_fails(&mut self) -> bool {
        if self.now >= TROUBLE {
            return false;
        }
        if self.chance(self.trouble.store_outage) {
            self.store_away_until = self.now + self.rng.i64(1000..120_000);
        }
        self.store_away_until > self.now || self.chance(self.trouble.store_error)
    }
}
