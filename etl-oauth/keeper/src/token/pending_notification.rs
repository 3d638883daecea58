use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::State;

/// A change of an account's state, from its write until those have heard of it who are to be told: should its writer die in
/// between, another replica tells them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingNotification {
    /// The state before.
    pub from: State,
    /// When it changed.
    pub at: Timestamp,
    /// Until then somebody is telling.
    pub again_at: Timestamp,
    /// How many have tried besides its writer.
    pub tries: u32,
}

impl PendingNotification {
    /// How long a writer may take to tell. A webhook is tried for half of it.
    pub(super) const PATIENCE: SignedDuration = SignedDuration::from_secs(60);

    /// The same change, taken over by somebody else: while nobody listens, the waits double up to an hour.
    #[must_use]
    pub fn taken_over(&self, now: Timestamp) -> Self {
        let tries = self.tries.saturating_add(1);
        Self { again_at: now + Self::PATIENCE * (1 << tries.min(6)), tries, ..self.clone() }
    }

    /// Whether both are the same change.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        (self.from, self.at) == (other.from, other.at)
    }
}
