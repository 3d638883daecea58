//! When a record has to be looked at again, whether or not anyone calls: what the store's index holds of it.

use jiff::{SignedDuration, Timestamp};

use super::Policy;
use crate::token::{Record, Tokens};

impl Policy {
    /// The earliest of: the next renewal or the next try after a failure, a notification that another replica has to
    /// deliver (where any receiver `is_heard`), a device authorisation that another replica has to go on with.
    #[must_use]
    pub fn look_at(&self, record: &Record, is_heard: bool) -> Option<Timestamp> {
        let notification = record.untold.as_ref().filter(|_| is_heard).map(|untold| untold.again_at);
        let device = record.device.as_ref().filter(|device| device.failure.is_none()).map(|device| device.asked_until);
        [self.renewal_due(record), notification, device].into_iter().flatten().min()
    }

    /// When the next renewal is due by itself; `None` where a person has to act first.
    #[must_use]
    pub fn next_renewal_at(&self, record: &Record) -> Option<Timestamp> {
        if record.health.needs_authorisation {
            return None;
        }
        record.health.next_try_at.or_else(|| self.due_at(record))
    }

    /// When the sweeper renews: at [`Policy::next_renewal_at`]; tokens that nothing can renew are looked at when they have
    /// ended, so that a person is asked in time and not before.
    #[must_use]
    pub fn renewal_due(&self, record: &Record) -> Option<Timestamp> {
        let tokens = record.tokens.as_ref()?;
        if tokens.refresh_token.is_none() && !self.asks_again && record.health.next_try_at.is_none() {
            return tokens.expires_at.filter(|_| !record.health.needs_authorisation);
        }
        self.next_renewal_at(record)
    }

    /// `at` moved earlier by up to the configured part of the time since `since`: another part for every token, and the same
    /// one in every replica.
    pub(super) fn spread_out(&self, tokens: &Tokens, at: Timestamp, since: Timestamp) -> Timestamp {
        if self.spread <= 0.0 {
            return at;
        }
        let digest = tokens.refresh_token.as_ref().unwrap_or(&tokens.access_token).digest();
        let part = u32::from_str_radix(digest.get(..8).unwrap_or_default(), 16).unwrap_or_default();
        let part = f64::from(part) / f64::from(u32::MAX) * self.spread.min(1.0);
        let span = at.duration_since(since).max(SignedDuration::ZERO);
        SignedDuration::try_from_secs_f64(span.as_secs_f64() * part)
            .ok()
            .and_then(|earlier| at.checked_sub(earlier).ok())
            .unwrap_or(at)
    }
}
