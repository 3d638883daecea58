//! What happened in how many worlds: a simulation that injects nothing shows nothing.

use std::{fmt, ops::AddAssign};

/// Counts; the worlds' own ones are 0 or 1 in each world.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub events: u64,
    pub calls: u64,
    pub reuses: u64,
    /// Worlds where tokens are had by asking.
    pub asking: u64,
    /// Worlds whose clocks are more than two seconds apart.
    pub skewed: u64,
    pub crashes: u64,
    /// Replicas that slept for longer than a lease.
    pub naps: u64,
    /// Writes that were under way for longer than a lease.
    pub slow_writes: u64,
    /// Calls to the provider that were under way for longer than their time limit.
    pub slow_calls: u64,
    /// Calls, or their answers, that were lost.
    pub losses: u64,
    pub store_errors: u64,
    pub conflicts: u64,
}

impl Tally {
    fn named(&self) -> [(&'static str, u64); 12] {
        [
            ("events", self.events),
            ("calls to the provider", self.calls),
            ("reuses that ambiguity explains", self.reuses),
            ("worlds where tokens are had by asking", self.asking),
            ("worlds with clocks apart", self.skewed),
            ("crashes", self.crashes),
            ("naps beyond the lease", self.naps),
            ("writes slower than the lease", self.slow_writes),
            ("calls slower than their time limit", self.slow_calls),
            ("calls or answers lost", self.losses),
            ("store errors", self.store_errors),
            ("conflicts", self.conflicts),
        ]
    }

    /// What never happened.
    pub fn missing(&self) -> Vec<&'static str> {
        self.named().into_iter().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect()
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.calls += other.calls;
        self.reuses += other.reuses;
        self.asking += other.asking;
        self.skewed += other.skewed;
        self.crashes += other.crashes;
        self.naps += other.naps;
        self.slow_writes += other.slow_writes;
        self.slow_calls += other.slow_calls;
        self.losses += other.losses;
        self.store_errors += other.store_errors;
        self.conflicts += other.conflicts;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.named().iter().map(|(name, count)| format!("{count} {name}")).collect();
        f.write_str(&words.join(", "))
    }
}
