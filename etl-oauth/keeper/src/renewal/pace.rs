//! How many accounts of a connection are renewed at once: as many as configured while that works, one after an outage.

use std::time::Duration;

use jiff::Timestamp;

use super::{policy::after, sweeper::Attended};
use crate::backoff::Backoff;

/// Between tries while provider or store are in trouble.
const PAUSES: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
/// One account may fail where others succeed; so many in a row are an outage.
const OUTAGE: u32 = 3;

/// After an outage it doubles with every round that succeeds, as TCP's slow start does: a provider that comes back is not
/// met by all that became due meanwhile.
#[derive(Debug)]
pub(super) struct Pace {
    most: usize,
    window: usize,
    /// Failures in a row.
    failures: u32,
    until: Timestamp,
}

impl Pace {
    pub(super) fn new(most: usize) -> Self {
        let most = most.max(1);
        Self { most, window: most, failures: 0, until: Timestamp::MIN }
    }

    /// How many may begin beside so many that are running.
    ///
    /// # Errors
    /// The time before which none may.
    pub(super) fn room(&self, running: usize, now: Timestamp) -> Result<usize, Timestamp> {
        if now < self.until { Err(self.until) } else { Ok(self.window.saturating_sub(running)) }
    }

    /// Takes note of what came of one.
    pub(super) fn note(&mut self, attended: &Attended, now: Timestamp, jitter: f64) {
        match attended {
            Attended::Fine => {
                self.failures = 0;
                self.window = self.most.min(self.window + 1);
            }
            Attended::Failed => {}
            Attended::Trouble(wish) => {
                self.failures = self.failures.saturating_add(1);
                if self.failures < OUTAGE {
                    return;
                }
                self.window = 1;
                // Those that were begun together fail together, and count once.
                if now >= self.until {
                    let pause = PAUSES.spread(self.failures - OUTAGE + 1, jitter).max(*wish);
                    self.until = after(now, pause).unwrap_or(Timestamp::MAX);
                } else {
                    self.failures = self.failures.saturating_sub(1).max(OUTAGE);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn one_account_that_fails_slows_no_other_down() {
        let mut pace = Pace::new(8);
        for _ in 0..100 {
            pace.note(&Attended::Trouble(Duration::ZERO), at(0), 0.0);
            pace.note(&Attended::Failed, at(0), 0.0);
            pace.note(&Attended::Fine, at(0), 0.0);
        }
        assert_eq!(pace.room(3, at(0)), Ok(5));
    }

    #[test]
    fn an_outage_is_probed_by_one_at_a_time_at_growing_distance_and_ends_step_by_step() {
        let (mut pace, mut now) = (Pace::new(8), 0);
        let mut pauses = Vec::new();
        // All eight that were begun fail.
        (0..8).for_each(|_| pace.note(&Attended::Trouble(Duration::ZERO), at(now), 0.0));
        for _ in 0..9 {
            let until = pace.room(0, at(now)).unwrap_err().as_second();
            pauses.push(until - now);
            now = until;
            assert_eq!(pace.room(0, at(now)), Ok(1));
            pace.note(&Attended::Trouble(Duration::ZERO), at(now), 0.0);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        now += 60;
        let mut windows = Vec::new();
        while windows.last() != Some(&8) {
            let begun = pace.room(0, at(now)).unwrap();
            windows.push(begun);
            (0..begun).for_each(|_| pace.note(&Attended::Fine, at(now), 0.0));
        }
        assert_eq!(windows, [1, 2, 4, 8]);
    }

    #[test]
    fn a_provider_that_asks_to_be_left_alone_is() {
        let mut pace = Pace::new(8);
        (0..3).for_each(|_| pace.note(&Attended::Trouble(Duration::from_secs(500)), at(0), 0.0));
        assert_eq!(pace.room(0, at(499)), Err(at(500)));
    }
}
