use super::token_cache::DAMAGED;
use crate::token::Failure;

/// The code of a [`Failure`] whose account has a record in the store that cannot be read.
pub const RECORD_DAMAGED: &str = "record_damaged";

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeeperError {
    /// The account is not authorised, or it was revoked.
    #[error("account {account} is not authorised")]
    Disabled {
        /// The account.
        account: String,
    },
    /// The grant is gone, and a person must authorise again.
    #[error("account {account} must be authorised again: {failure}")]
    NeedsAuthorisation {
        /// The account.
        account: String,
        /// What the provider said.
        failure: Failure,
    },
    /// The account is healthy, and there is nothing to renew it with.
    #[error("account {account} has no refresh token: its access token cannot be renewed, and is good until it ends")]
    NoRefreshToken {
        /// The account.
        account: String,
    },
    /// There is no token just now.
    #[error("account {account} has no usable token just now: {failure}")]
    Failed {
        /// The account.
        account: String,
        /// Why not.
        failure: Failure,
    },
}

impl KeeperError {
    /// Whether the account's stored record cannot be read.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Failed { failure, .. } if failure.code() == Some(RECORD_DAMAGED))
    }

    /// What a person should do about it.
    #[must_use]
    pub fn next_step(&self) -> &'static str {
        match self {
            Self::Disabled { .. } | Self::NeedsAuthorisation { .. } => "Authorise at the enable page.",
            Self::NoRefreshToken { .. } => "Nothing now: authorise again when the access token has ended.",
            Self::Failed { .. } if self.is_damage() => DAMAGED,
            Self::Failed { failure, .. } => failure.class().next_step(),
        }
    }
}
