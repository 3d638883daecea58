//! A change of state whose notification is not delivered yet.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::State;

/// A change of an account's state whose notification is not delivered yet. Where the replica that wrote it ends first, another
/// one delivers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingNotification {
    /// The state before.
    pub from: State,
    /// When it changed.
    pub at: Timestamp,
    /// Until then a replica is delivering it; afterwards another one may.
    pub again_at: Timestamp,
    /// How many have tried besides its writer.
    pub tries: u32,
}

impl PendingNotification {
    /// How long the writer may take for the delivery. A webhook is tried for half of it.
    pub(super) const PATIENCE: SignedDuration = SignedDuration::from_secs(60);

    /// The same change, taken over by another replica. While deliveries fail, the waits double up to an hour.
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
