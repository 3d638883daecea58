//! Errors of building, authorising and exchanging.

use crate::{store::StoreError, token::Failure};

/// Why there is no keeper.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// No definition of that name is built in.
    #[error(
        "there is no built-in provider {0}: Definition::names lists them, and Builder::definition takes one of your own"
    )]
    UnknownProvider(String),
    /// The provider is not whole, or contradicts itself: a sentence for each mistake.
    #[error("{}", .0.join("; "))]
    Provider(Vec<String>),
    /// Neither [`Builder::client`](super::Builder::client) nor [`Builder::secrets`](super::Builder::secrets) was called.
    #[error("the client is not known: call client() or secrets()")]
    NoClient,
    /// The keys that seal sessions.
    #[error("the secret etl-oauth-seal-keys {0}")]
    Keys(String),
    /// The system has no randomness.
    #[error("the system has no randomness")]
    NoRandomness,
    /// The TLS library does not start.
    #[error("the TLS library does not start")]
    NoTls,
    /// Called outside of a tokio runtime.
    #[error("a keeper needs a tokio runtime: call build() in one")]
    NoRuntime,
}

/// Why an authorisation does not begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorizeError {
    /// The account's name, or the store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The client's secrets, the provider's metadata, or a pushed request (RFC 9126).
    #[error(transparent)]
    Provider(#[from] Failure),
    /// The provider has no authorization endpoint.
    #[error("the provider has no authorization endpoint: set authorize_url")]
    NoEndpoint,
    /// The system has no randomness.
    #[error("the system has no randomness")]
    NoRandomness,
}

/// Why a redirect brings no tokens. Nothing of the redirect is shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// The session was not begun by this keeper, or its key is gone.
    #[error("the session is not one of this keeper's: begin again")]
    Session,
    /// The person took longer than ten minutes.
    #[error("the authorisation took too long: begin again")]
    Expired,
    /// The session was used before.
    #[error("the authorisation was completed before")]
    Used,
    /// The redirect does not answer this authorisation (RFC 6749 §4.1.2, §10.12; RFC 9207).
    #[error("the redirect is not taken: {0}")]
    Callback(&'static str),
    /// The provider, or the person, refused (RFC 6749 §4.1.2.1).
    #[error("{0}")]
    Refused(Failure),
    /// The code brought no tokens (RFC 6749 §5.2).
    #[error(transparent)]
    Provider(#[from] Failure),
    /// Another person has granted this account: revoke it first, or use another name.
    #[error("account {account} belongs to another person: revoke it first, or choose another name")]
    OtherPerson {
        /// The account.
        account: String,
    },
    /// The store could not be used before the code was sent.
    #[error(transparent)]
    Store(#[from] StoreError),
}
