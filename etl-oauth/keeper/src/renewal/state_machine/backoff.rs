//! What a failure leaves behind for the next try, here and in the other replicas.

use std::time::Duration;

use jiff::Timestamp;

use super::{Phase, RenewalMachine, adopted, failed, store_failure};
use crate::{
    backoff::Backoff,
    renewal::Stored,
    renewal::{
        policy::after,
        protocol::{Action, Outcome, Reason},
    },
    store::StoreError,
    token::{Failure, FailureKind, Health, Intent, Record, Refused},
};

/// Between forced renewals whose tokens the API refuses.
const FORCED: Backoff = Backoff::new(Duration::from_secs(60), Duration::from_hours(1));

impl RenewalMachine {
    pub(super) fn on_refusal(&mut self, stored: Stored, failure: Failure, now: Timestamp) -> Action {
        match failure.class() {
            // A lost race until proven otherwise (cases A6, A11): somebody may have spent the token before us.
            FailureKind::InvalidGrant | FailureKind::InvalidClient | FailureKind::Config => {
                self.go(Phase::Rereading(stored, failure), Action::Load)
            }
            _ => self.note(stored, failure, now),
        }
    }

    pub(super) fn reread(
        &mut self,
        stored: Stored,
        failure: Failure,
        result: Result<Option<Stored>, StoreError>,
        now: Timestamp,
    ) -> Action {
        let newer = match result {
            Ok(Some(newer)) => newer,
            Ok(None) => return Action::Done(Box::new(Outcome::Disabled(None))),
            // Not proven: the next try will tell.
            Err(err) => return failed(store_failure(&err), Some(stored)),
        };
        if newer.record.generation != stored.record.generation {
            return adopted(newer);
        }
        self.seen = newer.record.condition();
        let previous = newer.record.tokens.as_ref().is_some_and(|tokens| tokens.previous_refresh_token.is_some());
        if failure.class() == FailureKind::InvalidGrant
            && self.policy.previous_until_used
            && previous
            && !self.sent_previous
        {
            if !self.lease_outlasts_a_call(now) {
                // Whoever renews next asks both.
                return failed(failure, Some(newer));
            }
            self.sent_previous = true;
            return self.send(newer, now);
        }
        self.note(newer, failure, now)
    }

    /// Writes a failure down, for the other replicas and the status page.
    pub(super) fn note(&mut self, stored: Stored, failure: Failure, now: Timestamp) -> Action {
        let record = &stored.record;
        let mut health = self.policy.after_failure(record, &failure, now, self.jitter);
        let intent = match (failure.class(), record.intent.clone()) {
            // Answered, or never sent: this attempt does not count. An earlier one without an answer still does.
            (class, Some(intent)) if !class.is_ambiguous() => {
                (intent.attempt > 1).then(|| Intent { attempt: intent.attempt - 1, ..intent })
            }
            (_, intent) => intent,
        };
        if failure.class().is_ambiguous()
            && let Some(intent) = &intent
            && !self.policy.may_replay(intent, health.next_try_at.unwrap_or(now))
        {
            let resend_at = self.policy.resend_at(intent);
            health.next_try_at = health.next_try_at.map_or(Some(resend_at), |at| Some(at.max(resend_at)));
        }
        let noted = Record { health, intent, ..stored.record.clone() };
        let record = noted.over(&stored.record, self.policy.tells, now);
        let step = Action::Save(Box::new(record.clone()), Some(stored.version.clone()));
        self.go(Phase::Noting(Stored { record, ..stored }, failure), step)
    }

    /// The same over what somebody else has written meanwhile, if that was beside the renewal: without the note the other
    /// replicas would not wait, and each would try at once.
    pub(super) fn renote(
        &mut self,
        stored: Stored,
        failure: Failure,
        result: Result<Option<Stored>, StoreError>,
        now: Timestamp,
    ) -> Action {
        let is_ours = |intent: &Intent| self.written.contains(intent);
        let is_beside = |there: &Record| {
            there.generation == stored.record.generation
                && there.health.failures < stored.record.health.failures
                && there.intent.as_ref().is_none_or(is_ours)
        };
        match result {
            Ok(Some(there)) if is_beside(&there.record) => {
                self.seen = there.record.condition();
                self.note(there, failure, now)
            }
            // Somebody has gone on from there: what they know is as good as what we would have noted.
            _ => failed(failure, Some(stored)),
        }
    }
}

/// What an earlier failure says of another try now.
pub(super) fn standing(health: &Health, need: Reason, client: Option<&str>, now: Timestamp) -> Option<Failure> {
    if health.needs_authorisation || health.waits(client, now) {
        return Some(health.failure().unwrap_or_else(|| Failure::new(FailureKind::ProviderUnavailable, "")));
    }
    if let (Reason::Refused { worked: false, .. }, Some(refused)) = (need, &health.refused)
        && now < refused.next_at
    {
        return Some(Failure::new(FailureKind::Config, "the API refuses tokens that were just renewed"));
    }
    None
}

/// After a forced renewal the next one waits: 60 s, doubling up to an hour, until some token has worked.
pub(super) fn next_refusal(earlier: Option<Refused>, now: Timestamp) -> Refused {
    let count = earlier.map_or(0, |earlier| earlier.count).saturating_add(1);
    Refused { count, next_at: after(now, FORCED.after(count)).unwrap_or(Timestamp::MAX) }
}

pub(super) fn unanswered() -> Failure {
    Failure::new(
        FailureKind::NetworkAmbiguous,
        "a renewal was sent and not answered, and sending the refresh token once more could end the grant",
    )
}
