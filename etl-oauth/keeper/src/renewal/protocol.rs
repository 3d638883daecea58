//! What a renewal is told, and what it says to do next.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    renewal::Stored,
    store::{Acquired, StoreError, Version},
    token::{Failure, LastRenewal, Record, Secret, TokenResponse},
};

/// Why a renewal is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The access token ends soon, or has ended.
    Expiry,
    /// The refresh token has been idle for long.
    Idle,
    /// The API refused the access token of this generation; `worked` when it had taken it before.
    Refused {
        /// The generation that was refused.
        generation: u64,
        /// Whether a call with it had succeeded.
        worked: bool,
    },
    /// The sweeper found that it is due, which may be earlier than a caller needs it.
    Due,
    /// Every run renews: any newer generation will do.
    Run {
        /// The generation when the run began.
        generation: u64,
    },
    /// An operator asks: waits and latches do not hold.
    Asked {
        /// The generation when he asked.
        generation: u64,
    },
}

/// What happened.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one at a time, handed over at once")]
pub enum Event {
    /// The renewal begins.
    Begin,
    /// The lease was asked for.
    Lease(Result<Acquired, StoreError>),
    /// The record was read.
    Loaded(Result<Option<Stored>, StoreError>),
    /// The record was written.
    Saved(Result<Version, StoreError>),
    /// The provider answered, or did not.
    Answered(Result<TokenResponse, Failure>),
    /// The wait is over.
    Woke,
}

/// What to do next.
#[derive(Debug)]
pub enum Action {
    /// Take the lease, or prolong it.
    Acquire,
    /// Read the record.
    Load,
    /// Write the record over the version.
    Save(Box<Record>, Option<Version>),
    /// Send this refresh token to the provider, under a time limit.
    Send(Secret),
    /// Ask the provider anew, under a time limit: nothing is spent by it, so that it can be asked as often as one likes.
    Ask,
    /// Wait.
    Wait(Duration),
    /// It is over; give the lease back.
    Done(Box<Outcome>),
}

/// What came of a renewal.
#[derive(Debug)]
pub enum Outcome {
    /// New tokens, stored.
    Renewed(Stored),
    /// Somebody else had renewed, or nothing needed to be done.
    Adopted(Stored),
    /// There is nothing to renew.
    Disabled(Option<Stored>),
    /// No new tokens; the record as it stands, where it is known.
    Failed(Failure, Option<Stored>),
}

impl Outcome {
    /// The record as it stands after the renewal, where it is known.
    #[must_use]
    pub fn stored(&self) -> Option<&Stored> {
        match self {
            Self::Renewed(stored) | Self::Adopted(stored) => Some(stored),
            Self::Disabled(stored) | Self::Failed(_, stored) => stored.as_ref(),
        }
    }

    /// The last renewal as the status page has it.
    #[must_use]
    pub fn as_last_renewal(&self, now: Timestamp) -> LastRenewal {
        let outcome = match self {
            Self::Renewed(_) => "renewed",
            Self::Adopted(_) => "adopted",
            Self::Disabled(_) => "disabled",
            Self::Failed(failure, _) => failure.class().as_str(),
        };
        LastRenewal { at: now, outcome: outcome.into() }
    }
}
