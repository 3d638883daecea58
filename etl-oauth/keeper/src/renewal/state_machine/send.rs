//! The call to the provider: what has to be written before it, and the lease that has to outlast it.

use jiff::Timestamp;

use super::{DETOURS, Phase, RenewalMachine, failed, next_refusal, store_failure, unanswered};
use crate::{
    renewal::Stored,
    renewal::{
        policy::after,
        protocol::{Action, Reason},
    },
    store::{StoreError, Version},
    token::{Failure, FailureKind, Intent, Record},
};

impl RenewalMachine {
    /// Asks anew. Nothing is spent by it and an answer that is lost costs nothing, so there is no intent to write down; that
    /// somebody asks too often is all that the lease prevents.
    pub(super) fn ask(&mut self, stored: Stored, now: Timestamp) -> Action {
        if !self.lease_outlasts_a_call(now) {
            return self.over_again(stored);
        }
        let mut stored = stored;
        if let Reason::Refused { worked, .. } = self.need {
            let refused = stored.record.health.refused.take();
            stored.record.health.refused = Some(next_refusal(refused.filter(|_| !worked), now));
        }
        self.sent_at = now;
        self.go(Phase::Sending(stored), Action::Ask)
    }

    pub(super) fn on_founded(&mut self, result: Result<Version, StoreError>, now: Timestamp) -> Action {
        match result {
            Ok(version) => self.decide(Some(Stored { record: Record::default(), version }), now),
            Err(StoreError::Conflict | StoreError::Unavailable(_)) if self.detours < DETOURS => {
                self.detours += 1;
                self.go(Phase::Deciding, Action::Load)
            }
            Err(err) => failed(store_failure(&err), None),
        }
    }

    pub(super) fn on_intent(&mut self, stored: Stored, result: Result<Version, StoreError>, now: Timestamp) -> Action {
        match result {
            Ok(version) => self.send(Stored { version, ..stored }, now),
            // Another writer's, or our own that arrived although its answer did not.
            Err(StoreError::Conflict | StoreError::Unavailable(_)) if self.detours < DETOURS => {
                self.detours += 1;
                self.go(Phase::Deciding, Action::Load)
            }
            // Nothing was sent, and without the intent nothing will be.
            Err(err) => failed(store_failure(&err), None),
        }
    }

    pub(super) fn lease_outlasts_a_call(&self, now: Timestamp) -> bool {
        after(now, self.policy.token_timeout).is_some_and(|end| end <= self.lease_until)
    }

    /// Back to the lease, and then to the record: a holder that slept through its lease must not act on what it read
    /// under it, for somebody else may have had the lease since.
    pub(super) fn over_again(&mut self, stored: Stored) -> Action {
        if self.detours >= DETOURS {
            let failure = Failure::new(FailureKind::StoreUnavailable, "the store's leases end before a call could");
            return failed(failure, Some(stored));
        }
        self.detours += 1;
        self.go(Phase::Waiting, Action::Acquire)
    }

    /// Sends, if the lease outlasts the call.
    pub(super) fn send(&mut self, stored: Stored, now: Timestamp) -> Action {
        if !self.lease_outlasts_a_call(now) {
            return self.over_again(stored);
        }
        let is_bound = !self.sent_previous && !matches!(self.need, Reason::Asked { .. });
        let intent = stored.record.intent.as_ref().filter(|intent| is_bound && intent.attempt > 1);
        let earlier_at = self.earlier_at;
        let earlier = intent.map(|intent| Intent {
            attempt: intent.attempt - 1,
            at: earlier_at.unwrap_or(intent.at),
            ..intent.clone()
        });
        if let Some(earlier) = earlier.filter(|earlier| !self.policy.may_replay(earlier, now)) {
            // Writing the intent took what was left of the replay window.
            let record = Record { intent: Some(earlier), ..stored.record };
            return self.note(Stored { record, ..stored }, unanswered(), now);
        }
        let tokens = stored.record.tokens.as_ref();
        let token = tokens.and_then(|tokens| {
            if self.sent_previous { tokens.previous_refresh_token.clone() } else { tokens.refresh_token.clone() }
        });
        let Some(token) = token else {
            return failed(Failure::new(FailureKind::Config, "there is no refresh token to send"), Some(stored));
        };
        self.sent_at = now;
        self.go(Phase::Sending(stored), Action::Send(token))
    }
}
