//! Growing pauses between tries.

use std::time::Duration;

/// Pauses that double from the first to the longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// Pauses from `first` to `longest`.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }

    /// The pause after so many failures in a row, of which there is at least one.
    #[must_use]
    pub fn after(self, failures: u32) -> Duration {
        self.first.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(self.longest)
    }

    /// The same, longer by up to a quarter: `jitter` is a random number from 0 to 1, so that replicas do not try at the same
    /// moment.
    #[must_use]
    pub fn spread(self, failures: u32, jitter: f64) -> Duration {
        self.after(failures).mul_f64(1.0 + jitter.clamp(0.0, 1.0) / 4.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_jitter_only_lengthens_them() {
        let backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(300));
        let pauses = [0, 1, 2, 8, 9, u32::MAX].map(|failures| backoff.after(failures).as_secs());
        assert_eq!(pauses, [2, 2, 4, 256, 300, 300]);
        assert_eq!(backoff.spread(2, 0.0), backoff.after(2));
        assert_eq!(backoff.spread(2, 9.0), Duration::from_secs(5));
    }
}
