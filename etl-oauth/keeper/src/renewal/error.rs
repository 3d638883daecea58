use crate::token::Failure;

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeeperError {
    /// Nobody has authorised the account, or it was revoked.
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
