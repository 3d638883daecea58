//! The record of one account, written and replaced as a whole.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    ClientRef, Device, FailureKind, Health, LastRenewal, PendingNotification, State, Subject, TokenResponse, Tokens,
};

/// All that is stored of one account: its tokens, what is being done with them, and how it fares.
///
/// It is written and replaced as a whole, so that an access token never stands beside another one's refresh token.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Counts the token sets of this account: a renewal, an authorisation or a revocation adds one. It never goes back.
    pub generation: u64,
    /// The tokens; `None` before the first authorisation and after a revocation.
    pub tokens: Option<Tokens>,
    /// The renewal that is under way, or whose outcome is unknown.
    pub intent: Option<Intent>,
    /// How the account fares.
    pub health: Health,
    /// What a job remembers, by its own names. Records that hold this hold no tokens.
    pub notes: Map<String, Value>,
    /// Who granted the tokens, where the provider says.
    pub owner: Option<Subject>,
    /// Names that were used up, with the time until which they are kept: an answer to an authorisation is accepted once.
    pub used: BTreeMap<String, Timestamp>,
    /// A change of the account's state whose notification is not delivered yet.
    pub untold: Option<PendingNotification>,
    /// How often the account was authorised. A renewal does not count.
    pub authorisations: u32,
    /// A device authorisation that is under way, for whichever replica goes on with it.
    pub device: Option<Box<Device>>,
    /// The OAuth client that the tokens were issued to; records of 0.1 do not say.
    pub client: Option<ClientRef>,
    /// When a person last authorised or revoked the account: the later decision wins.
    pub decided_at: Option<Timestamp>,
}

/// A renewal that was begun: written before the provider is called, so that after a crash the next holder of the lease
/// knows that the refresh token may be spent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Digest of the refresh token that is about to be spent.
    pub digest: String,
    /// Who spends it.
    pub owner: String,
    /// When it was sent for the first time.
    pub first_at: Timestamp,
    /// When it was sent last.
    pub at: Timestamp,
    /// How often it has been sent without an answer.
    pub attempt: u32,
}

impl Record {
    /// The state that follows from the record.
    #[must_use]
    pub fn state(&self) -> State {
        match (&self.tokens, self.health.needs_authorisation, self.health.failures) {
            (None, _, _) => State::Disabled,
            (_, true, _) => State::NeedsAuthorisation,
            (_, _, 0) => State::Enabled,
            _ => State::Degraded,
        }
    }

    /// The record after an answer to a first authorisation: a new grant, nothing of the old one stays.
    #[must_use]
    pub fn authorised(&self, answer: TokenResponse, sent_at: Timestamp, default_lifetime: Option<Duration>) -> Self {
        let owner = answer.owner.clone();
        let health = match &answer.unfinished {
            None => Health {
                last_renewal: Some(LastRenewal { at: sent_at, outcome: "renewed".into() }),
                ..Health::default()
            },
            Some(failure) => Health::unfinished(failure, sent_at),
        };
        let tokens = Tokens::from_answer(answer, sent_at, None, default_lifetime);
        Self {
            generation: self.generation + 1,
            tokens: Some(tokens),
            intent: None,
            health,
            notes: self.notes.clone(),
            owner,
            used: self.used.clone(),
            untold: None,
            authorisations: self.authorisations.saturating_add(1),
            device: None,
            client: None,
            decided_at: Some(sent_at),
        }
    }

    /// The record after an answer to a renewal: what the answer leaves out stays as it was (RFC 6749 §6).
    #[must_use]
    pub fn renewed(&self, answer: TokenResponse, sent_at: Timestamp, default_lifetime: Option<Duration>) -> Self {
        let tokens = Tokens::from_answer(answer, sent_at, self.tokens.as_ref(), default_lifetime);
        let last_renewal = Some(LastRenewal { at: sent_at, outcome: "renewed".into() });
        Self {
            generation: self.generation + 1,
            tokens: Some(tokens),
            intent: None,
            health: Health { refused: self.health.refused.clone(), last_renewal, ..Health::default() },
            notes: self.notes.clone(),
            owner: self.owner.clone(),
            used: self.used.clone(),
            untold: None,
            authorisations: self.authorisations,
            device: self.device.clone(),
            client: self.client.clone(),
            decided_at: self.decided_at,
        }
    }

    /// Lets tokens of an unknown type be used, as [`Tokens::release`], and ends the failure that they stood for.
    pub fn release(&mut self, any_type: bool) {
        if self.tokens.as_mut().is_some_and(|tokens| tokens.release(any_type)) {
            self.health = Health { last_renewal: self.health.last_renewal.take(), ..Health::default() };
        }
    }

    /// The record after a revocation: no tokens, and a newer generation, by which other replicas learn of it.
    #[must_use]
    pub fn revoked(&self, now: Timestamp) -> Self {
        Self {
            generation: self.generation + 1,
            notes: self.notes.clone(),
            used: self.used.clone(),
            authorisations: self.authorisations,
            decided_at: Some(now),
            ..Self::default()
        }
    }

    /// The state, and the failure that it comes from.
    #[must_use]
    pub fn condition(&self) -> (State, Option<FailureKind>) {
        (self.state(), self.health.class)
    }

    /// Whether the change from `before` is announced: another state, or within `degraded` a cause that lasts until the
    /// operator acts.
    #[must_use]
    pub fn is_news_after(&self, before: (State, Option<FailureKind>)) -> bool {
        let (state, cause) = self.condition();
        let waits_for_operator = state == State::Degraded && cause.is_some_and(FailureKind::needs_operator);
        state != before.0 || (waits_for_operator && cause != before.1)
    }

    /// The record as it is to be written over `before`. A notification that is still to be delivered stays in it; where
    /// `tells`, the news of this change takes its place.
    #[must_use]
    pub fn over(mut self, before: &Self, tells: bool, now: Timestamp) -> Self {
        self.untold = if !self.is_news_after(before.condition()) {
            before.untold.clone()
        } else {
            tells.then(|| PendingNotification {
                from: before.state(),
                at: now,
                again_at: now + PendingNotification::PATIENCE,
                tries: 0,
            })
        };
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::samples::{answer, at, first};

    #[test]
    fn a_rotation_keeps_what_it_spent_for_one_generation() {
        let record = first().renewed(answer(r#"{"access_token":"a2","refresh_token":"r2"}"#), at(2000), None);
        assert_eq!(record.generation, 2);
        let tokens = record.tokens.unwrap();
        assert_eq!(tokens.refresh_token.unwrap().expose(), "r2");
        assert_eq!(tokens.previous_refresh_token.unwrap().expose(), "r1");
    }

    #[test]
    fn the_state_follows_from_the_record() {
        let mut record = first();
        assert_eq!(record.state(), State::Enabled);
        record.health.failures = 1;
        assert_eq!(record.state(), State::Degraded);
        record.health.needs_authorisation = true;
        assert_eq!(record.state(), State::NeedsAuthorisation);
        assert_eq!(record.revoked(at(0)).state(), State::Disabled);
        assert_eq!(Record::default().state(), State::Disabled);
    }
}
