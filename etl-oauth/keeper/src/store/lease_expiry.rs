use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};

/// Judges the leases of other holders in a store that keeps them and knows no time.
///
/// A holder's own clock cannot be trusted to agree with ours. So a lease is over when it has stood unchanged for its whole
/// length since we first saw it; or when it ended so long ago by its holder's clock that no disagreement of clocks explains
/// it, and then nobody waits for a holder that died last night. The disagreement that is allowed is the lease's own length.
#[derive(Debug, Default)]
pub(super) struct LeaseExpiry(Mutex<HashMap<String, (String, Instant)>>);

impl LeaseExpiry {
    /// Whether the lease of `account`, which stands in the store as `revision`, is over: prolonged last at `renewed` by its
    /// holder's clock, for `length`.
    pub(super) fn is_over(
        &self,
        account: &str,
        revision: &str,
        renewed: Timestamp,
        length: Duration,
        now: Timestamp,
    ) -> bool {
        let age = now.duration_since(renewed);
        if age > SignedDuration::try_from(length.saturating_mul(2)).unwrap_or(SignedDuration::MAX) {
            return true;
        }
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, since) = seen.entry(account.to_owned()).or_insert_with(|| (revision.to_owned(), Instant::now()));
        if known != revision {
            (*known, *since) = (revision.to_owned(), Instant::now());
        }
        since.elapsed() >= length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_millis(40);

    fn wait_for(mut over: impl FnMut() -> bool) -> Duration {
        let start = Instant::now();
        while !over() {
            assert!(start.elapsed() < Duration::from_secs(10));
            std::thread::yield_now();
        }
        start.elapsed()
    }

    #[test]
    fn an_unchanged_lease_is_over_after_its_length_whatever_the_clocks_say() {
        for ahead in [0, 3600] {
            let observed = LeaseExpiry::default();
            let now = Timestamp::UNIX_EPOCH;
            let renewed = now + SignedDuration::from_secs(ahead);
            assert!(wait_for(|| observed.is_over("a", "1", renewed, LENGTH, now)) >= LENGTH);
        }
    }

    #[test]
    fn each_prolongation_counts_from_its_first_sight() {
        let observed = LeaseExpiry::default();
        let now = Timestamp::UNIX_EPOCH;
        assert!(!observed.is_over("a", "1", now, LENGTH, now));
        wait_for(|| observed.is_over("a", "1", now, LENGTH, now));
        assert!(!observed.is_over("a", "2", now, LENGTH, now));
    }

    #[test]
    fn a_lease_that_ended_long_ago_is_over_at_first_sight() {
        let observed = LeaseExpiry::default();
        let now = Timestamp::UNIX_EPOCH;
        let length = Duration::from_secs(30);
        assert!(!observed.is_over("a", "1", now, length, now + SignedDuration::from_secs(60)));
        assert!(observed.is_over("a", "1", now, length, now + SignedDuration::from_secs(61)));
    }
}
