//! The invariants, judged by somebody who sees everything.
//!
//! A renewal is *one send of one refresh token*. It is allowed at the moment when its intent is written, and there the
//! earlier sends of the same token are looked at:
//!
//! - A send that got a definite answer which spends nothing (never sent, 5xx, 429, an OAuth error) does not count.
//! - A send is *ambiguous* when its sender crashed before the new tokens were stored, gave up without an answer (time limit,
//!   answer lost, answer unreadable), or was silent for longer than its lease.
//! - A send that is neither (its sender still waits under a living lease, or its tokens are stored) forbids another one.
//! - After one ambiguous send the token may be sent once more, whatever the provider: without that no crash could ever be
//!   recovered from. After two, within the provider's replay window, counted by true time from the first of them, or because
//!   a person asked; else only at growing distance from the last of them: a minute, doubling up to an hour.
//! - An account is never held without an end (H16): a record that failed says when the next try is, or that a person is
//!   needed.
//!
//! An intent allows one send. When it happens, no other sender of the same token may wait under a living lease.
//!
//! Where tokens are had by *asking*, nothing is spent, and the invariant is one call a need: nobody asks while another
//! holder of the lease waits for its answer, nor for what was stored before it got its lease.
//!
//! Of both: new tokens are never thrown away while nothing newer is stored, and what the store says of a next try holds for
//! everybody who has got the lease since.

use std::collections::BTreeMap;

use token_keeper::{
    renewal::Reason,
    token::{Record, Secret},
};

use crate::{
    provider::{Grants, Habit},
    world::{SKEW, millis},
};

/// What became of a send, as its sender sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    Waiting,
    /// New tokens came; they are not stored.
    Answered,
    /// New tokens came and are stored.
    Stored,
    Ambiguous,
    Settled,
}

#[derive(Clone, Debug, Hash)]
struct Sent {
    flight: u64,
    token: String,
    at: i64,
    /// The generation that new tokens take the place of: of a refresh token's own record, or what was stored when it was asked.
    over: u64,
    fate: Fate,
}

#[derive(Clone, Debug, Hash)]
struct Leave {
    token: String,
    generation: u64,
    refused: Option<&'static str>,
    spent: bool,
}

/// What is known of the sends of one account.
#[derive(Clone, Debug, Hash)]
pub struct Judge {
    habit: Habit,
    sent: Vec<Sent>,
    leaves: BTreeMap<u64, Leave>,
    /// Since when each flight has had a lease, and until when it stands beyond doubt, in true time.
    leased: BTreeMap<u64, (i64, i64)>,
    generation: u64,
    /// When that was written.
    generation_at: i64,
    /// When the stored record was noted to be left alone, and until when, by the earliest of clocks.
    alone: Option<(i64, i64)>,
    /// A stored verdict forbids all sends until a person acts.
    closed: bool,
    sends: Vec<i64>,
}

pub type Verdict = Result<(), String>;

/// No try is further away than this: an hour, and a quarter of it for jitter.
const LONGEST_WAIT: i64 = 75 * 60_000;

/// How far a send is from the last of so many unanswered ones, at the least: half of what the protocol says, for the intent
/// bears the time before it was written, by its writer's clock.
fn distance(unanswered: usize) -> i64 {
    (60_000 << unanswered.saturating_sub(2).min(6)).min(3_600_000) / 2 - 2 * SKEW
}

impl Judge {
    pub fn new(habit: Habit) -> Self {
        Self {
            habit,
            sent: Vec::new(),
            leaves: BTreeMap::new(),
            leased: BTreeMap::new(),
            generation: 0,
            generation_at: i64::MIN,
            alone: None,
            closed: false,
            sends: Vec::new(),
        }
    }

    /// A flight got its lease, or prolonged it.
    pub fn leased(&mut self, flight: u64, now: i64, until: i64) {
        self.leased.entry(flight).or_insert((now, until)).1 = until;
    }

    /// A flight is over: it waits for nothing any more, and what it got is stored, or something newer is.
    pub fn ended(&mut self, flight: u64) -> Verdict {
        self.leased.remove(&flight);
        self.leaves.remove(&flight);
        let lost = |sent: &Sent| sent.flight == flight && sent.fate == Fate::Answered && self.generation <= sent.over;
        if self.sent.iter().any(lost) { Err("new tokens were thrown away".into()) } else { Ok(()) }
    }

    /// A person authorised, or asked for a renewal: all that was ambiguous is his to decide.
    pub fn person(&mut self) {
        self.sent.retain(|sent| matches!(sent.fate, Fate::Waiting | Fate::Answered));
        self.closed = false;
    }

    /// A record was written. `flight` is its writer, where that is a renewal.
    pub fn written(&mut self, flight: Option<u64>, record: &Record, grants: &Grants, now: i64, asked: bool) -> Verdict {
        if record.generation < self.generation {
            return Err(format!("the stored generation went back from {} to {}", self.generation, record.generation));
        }
        let token = record.tokens.as_ref().and_then(|tokens| tokens.refresh_token.as_ref()).map(Secret::expose);
        let newer = record.generation > self.generation;
        if newer {
            self.generation_at = now;
        }
        self.generation = record.generation;
        let alone = record.health.next_try_at.map(|at| millis(at) - SKEW);
        if self.alone.map(|(_, until)| until) != alone {
            self.alone = alone.map(|until| (now, until));
        }
        if let Some(flight) = flight {
            if newer {
                self.settle(flight, Fate::Stored);
            } else if let (Some(intent), Some(token)) = (&record.intent, token)
                && self.sent.iter().all(|sent| sent.flight != flight || sent.token != token)
                && intent.digest == Secret::new(token).digest()
            {
                let refused = if asked { None } else { self.refusal(token, now) };
                self.leaves.insert(
                    flight,
                    Leave { token: token.to_owned(), generation: record.generation, refused, spent: false },
                );
            }
        }
        if self.habit == Habit::Asks && (record.health.needs_authorisation || token.is_some()) {
            return Err("an account that nobody authorises waits for a person, or for a refresh token".into());
        }
        if record.health.needs_authorisation
            && let Some(token) = token.filter(|token| grants.lives(token, now))
        {
            return Err(format!("needs_authorisation was stored while the grant of {token} lives"));
        }
        let failed = record.health.failures > 0 && !record.health.needs_authorisation;
        let next = record.health.next_try_at.map_or(i64::MAX, millis);
        if failed && next > now + LONGEST_WAIT + SKEW {
            return Err(format!("the account is held without an end: {:?}", record.health));
        }
        self.closed = record.health.needs_authorisation;
        Ok(())
    }

    /// A flight sends a refresh token.
    pub fn sends(&mut self, flight: u64, token: &str, now: i64, asked: bool) -> Verdict {
        if self.closed && !asked {
            return Err(format!("{token} is sent although the account waits for a person"));
        }
        self.is_let(flight, now, asked)?;
        // A provider that honours the previous token until the new one has worked is asked for that as a last resort.
        let resort = self.habit == Habit::UntilUsed
            && self.sent.iter().any(|sent| sent.flight == flight && sent.token != token && sent.fate == Fate::Settled);
        let leave = self.leaves.get_mut(&flight);
        let Some(leave) = leave.filter(|leave| if leave.token == token { !leave.spent } else { resort }) else {
            return Err(format!("{token} is sent and no intent of this renewal says so"));
        };
        leave.spent = true;
        // Another answer to the same token may have been stored since, late: one of the two siblings is enough.
        let over = leave.generation;
        if let Some(why) = leave.refused {
            return Err(format!("{token} is sent again although {why}"));
        }
        let waiting =
            |sent: &Sent| sent.token == token && sent.fate == Fate::Waiting && self.is_leased(sent.flight, now);
        if self.sent.iter().any(waiting) {
            return Err(format!("{token} is sent while another holder of the lease waits for its answer"));
        }
        self.calls_with(flight, token, over, now)
    }

    /// A flight asks anew, for `need`; `is_fresh` where by any clock the stored access token needs no renewal.
    pub fn asks(&mut self, flight: u64, need: Reason, now: i64, is_fresh: bool) -> Verdict {
        self.is_let(flight, now, matches!(need, Reason::Asked { .. }))?;
        let others = |sent: &&Sent| sent.flight != flight && self.is_leased(sent.flight, now);
        if self.sent.iter().filter(others).any(|sent| matches!(sent.fate, Fate::Waiting | Fate::Answered)) {
            return Err("the provider is asked while another holder of the lease waits for it, or stores".into());
        }
        let is_met = match need {
            Reason::Expiry | Reason::Idle => is_fresh,
            // A failure is tried again when it says so, however long the access token lives.
            Reason::Due => is_fresh && self.alone.is_none(),
            Reason::Refused { generation, .. } | Reason::Run { generation } | Reason::Asked { generation } => {
                self.generation > generation
            }
        };
        if is_met && self.has_had_lease_since(flight, self.generation_at) {
            return Err(format!("the provider is asked for {need:?}, which generation {} has met", self.generation));
        }
        // What was stored since it got its lease it may not have read.
        let has_read = self.has_had_lease_since(flight, self.generation_at);
        let over = if has_read { self.generation } else { self.generation.saturating_sub(1) };
        self.calls_with(flight, "", over, now)
    }

    fn calls_with(&mut self, flight: u64, token: &str, over: u64, now: i64) -> Verdict {
        self.sent.push(Sent { flight, token: token.to_owned(), at: now, over, fate: Fate::Waiting });
        self.sends.push(now);
        // A cascade of crashes and of lost writes may cost a call each; a storm is something else.
        let last_minute = self.sends.iter().rev().take_while(|at| now - **at < 60_000).count();
        if last_minute > 8 {
            return Err(format!("{last_minute} calls to the provider within a minute"));
        }
        Ok(())
    }

    /// Whoever has got the lease since a failure was written down waits as long as that says.
    fn is_let(&self, flight: u64, now: i64, asked: bool) -> Verdict {
        match self.alone {
            Some((noted, until)) if !asked && now < until && self.has_had_lease_since(flight, noted) => {
                Err(format!("the provider is called {} ms before it may be", until - now))
            }
            _ => Ok(()),
        }
    }

    fn has_had_lease_since(&self, flight: u64, at: i64) -> bool {
        self.leased.get(&flight).is_some_and(|(since, _)| at <= *since)
    }

    /// What the sender of a flight now knows of its send.
    pub fn settle(&mut self, flight: u64, fate: Fate) {
        if let Some(sent) = self.sent.iter_mut().rfind(|sent| sent.flight == flight) {
            sent.fate = match (sent.fate, fate) {
                (Fate::Stored | Fate::Settled, _) => sent.fate,
                (_, fate) => fate,
            };
        }
    }

    /// How often the provider was called.
    pub fn calls(&self) -> usize {
        self.sends.len()
    }

    fn is_leased(&self, flight: u64, now: i64) -> bool {
        self.leased.get(&flight).is_some_and(|(_, until)| now < *until)
    }

    fn refusal(&self, token: &str, now: i64) -> Option<&'static str> {
        let mut ambiguous = Vec::new();
        for sent in self.sent.iter().filter(|sent| sent.token == token) {
            match sent.fate {
                Fate::Settled => {}
                Fate::Ambiguous => ambiguous.push(sent.at),
                Fate::Stored if self.habit == Habit::Still => {}
                Fate::Stored => return Some("its successor is stored"),
                Fate::Waiting | Fate::Answered if self.is_leased(sent.flight, now) => {
                    return Some("its first sender is alive and has the lease");
                }
                Fate::Waiting | Fate::Answered => ambiguous.push(sent.at),
            }
        }
        match (self.habit, ambiguous.as_slice()) {
            (Habit::Still, _) | (_, [] | [_]) => None,
            (Habit::Window(window), [first, ..]) if now < first + window => None,
            (_, [.., last]) if now >= last + distance(ambiguous.len()) => None,
            _ => Some("two renewals with it are unanswered, and it is too early for another"),
        }
    }
}
