//! New tokens, from the provider's answer until they are stored or somebody else's are newer.

use std::time::Duration;

use jiff::Timestamp;

use super::{Phase, RenewalMachine, adopted, failed};
use crate::{
    backoff::Backoff,
    renewal::Stored,
    renewal::protocol::{Action, Outcome},
    store::{StoreError, Version},
    token::{Failure, Record, Secret, TokenResponse},
};

/// Between tries to write new tokens.
pub(in crate::renewal) const UNSAVED: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(30));

/// New tokens on their way into the store.
#[derive(Clone, Debug)]
pub(super) struct Fresh {
    pub(super) record: Record,
    was: Version,
    /// Digest of the refresh token that they cost.
    spent: String,
    tries: u32,
    /// Why there is a refresh token and no access token.
    unfinished: Option<Failure>,
}

impl RenewalMachine {
    pub(super) fn on_answer(&mut self, stored: Stored, answer: TokenResponse, now: Timestamp) -> Action {
        let spent = stored.record.tokens.as_ref().and_then(|tokens| tokens.refresh_token.as_ref()).map(Secret::digest);
        let unfinished = answer.unfinished.clone();
        let mut record = stored.record.renewed(answer, self.sent_at, self.policy.lifetime);
        if let Some(failure) = &unfinished {
            // There is a refresh token to keep and no access token to use: as a renewal it has failed, and it waits like one.
            record.health = self.policy.after_failure(&stored.record, failure, now, self.jitter);
        }
        let record = record.over(&stored.record, self.policy.tells, now);
        self.store(Fresh { record, was: stored.version, spent: spent.unwrap_or_default(), tries: 0, unfinished })
    }

    pub(super) fn store(&mut self, fresh: Fresh) -> Action {
        let step = Action::Save(Box::new(fresh.record.clone()), Some(fresh.was.clone()));
        self.go(Phase::Storing(Box::new(fresh)), step)
    }

    pub(super) fn on_stored(&mut self, mut fresh: Fresh, result: Result<Version, StoreError>) -> Action {
        match result {
            Ok(version) => {
                self.wrote(&fresh.record);
                let stored = Stored { record: fresh.record, version };
                match fresh.unfinished {
                    Some(failure) => failed(failure, Some(stored)),
                    None => Action::Done(Box::new(Outcome::Renewed(stored))),
                }
            }
            Err(StoreError::Conflict) => self.go(Phase::Merging(Box::new(fresh)), Action::Load),
            // The refresh token is spent: its successor is all there is, so this goes on until it is written.
            Err(_) => {
                fresh.tries = fresh.tries.saturating_add(1);
                let pause = UNSAVED.spread(fresh.tries, self.jitter);
                self.go(Phase::Storing(Box::new(fresh)), Action::Wait(pause))
            }
        }
    }

    /// Another writer was there first: whose tokens are the living ones?
    pub(super) fn merge(
        &mut self,
        mut fresh: Fresh,
        result: Result<Option<Stored>, StoreError>,
        now: Timestamp,
    ) -> Action {
        let stored = match result {
            Ok(Some(stored)) => stored,
            // Deleted: a person has ended it, and ours end with it.
            Ok(None) => return Action::Done(Box::new(Outcome::Disabled(None))),
            Err(_) => {
                fresh.tries += 1;
                return self.go(Phase::Merging(Box::new(fresh)), Action::Wait(Duration::from_secs(1)));
            }
        };
        let older = stored.record.generation < fresh.record.generation;
        let Some(theirs) = &stored.record.tokens else {
            if self.policy.asks_again && older {
                fresh.was = stored.version;
                return self.store(fresh);
            }
            return Action::Done(Box::new(Outcome::Disabled(Some(stored))));
        };
        // An earlier try of ours arrived although its answer did not. The tokens alone do not tell: some providers hand out
        // the same ones again with more time to live.
        let arrived = stored.record.generation == fresh.record.generation
            && fresh.record.tokens.as_ref().is_some_and(|ours| ours.same(theirs));
        if arrived {
            self.wrote(&stored.record);
            return Action::Done(Box::new(Outcome::Renewed(stored)));
        }
        let unspent =
            self.policy.asks_again || theirs.refresh_token.as_ref().is_some_and(|token| token.digest() == fresh.spent);
        if older && unspent {
            // Only something beside the tokens was written: a fresh refresh token is never dropped for that (case A7).
            self.seen = stored.record.condition();
            fresh.record = fresh.record.over(&stored.record, self.policy.tells, now);
            fresh.record.device = stored.record.device;
            fresh.record.used = stored.record.used;
            fresh.was = stored.version;
            return self.store(fresh);
        }
        adopted(stored)
    }
}
