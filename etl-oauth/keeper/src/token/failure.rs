//! Failures of renewals and authorisations: a closed set of kinds, each with its backoff and next step.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::backoff::Backoff;

/// Why a renewal, or an authorisation, did not bring a token. A closed set, so that callers can match all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// Another replica holds the lease, or renewed with the same refresh token before us.
    LostRace,
    /// The provider refused the grant itself (RFC 6749 §5.2), and no other replica has renewed since.
    InvalidGrant,
    /// The provider does not know this client, or its secret.
    InvalidClient,
    /// The provider asks for patience (429, or 503 with `Retry-After`).
    RateLimited,
    /// The provider answered that it cannot answer (5xx, 408, 425).
    ProviderUnavailable,
    /// The request never left: name not resolved, connection refused, TLS refused.
    NetworkNotSent,
    /// The request was sent and no answer came: the provider may have acted on it.
    NetworkAmbiguous,
    /// An answer came that is no token answer; the provider may have acted on the request.
    MalformedAnswer,
    /// The store could not be read or written.
    StoreUnavailable,
    /// The provider refuses what is configured: the scope, the grant type, the request.
    Config,
}

impl FailureKind {
    /// Every class.
    pub const ALL: [Self; 10] = [
        Self::LostRace,
        Self::InvalidGrant,
        Self::InvalidClient,
        Self::RateLimited,
        Self::ProviderUnavailable,
        Self::NetworkNotSent,
        Self::NetworkAmbiguous,
        Self::MalformedAnswer,
        Self::StoreUnavailable,
        Self::Config,
    ];

    /// Whether only a person can end it, so that no further try is made by itself.
    #[must_use]
    pub fn needs_person(self) -> bool {
        matches!(self, Self::InvalidGrant)
    }

    /// Whether it lasts until the operator changes something: the client's credentials, or the configuration.
    #[must_use]
    pub fn needs_operator(self) -> bool {
        matches!(self, Self::InvalidClient | Self::Config)
    }

    /// Whether the provider may have spent the refresh token although we have no answer to show for it.
    #[must_use]
    pub fn is_ambiguous(self) -> bool {
        matches!(self, Self::NetworkAmbiguous | Self::MalformedAnswer)
    }

    /// The pauses before the next try.
    #[must_use]
    pub fn backoff(self) -> Backoff {
        let (first, last) = match self {
            Self::LostRace | Self::StoreUnavailable => (1, 30),
            Self::NetworkNotSent | Self::NetworkAmbiguous | Self::MalformedAnswer => (2, 300),
            Self::RateLimited | Self::ProviderUnavailable => (15, 900),
            Self::InvalidGrant | Self::InvalidClient | Self::Config => (60, 3600),
        };
        Backoff::new(Duration::from_secs(first), Duration::from_secs(last))
    }

    /// What a person should do about it.
    #[must_use]
    pub fn next_step(self) -> &'static str {
        match self {
            Self::LostRace => "Nothing: another replica is renewing the token.",
            Self::InvalidGrant => "Authorise again at the enable page.",
            Self::InvalidClient => {
                "Compare the secrets oauth2-client-id and oauth2-client-secret, and the variable client_auth, with what the \
                 provider shows for this client."
            }
            Self::RateLimited => "Nothing: the next try waits as long as the provider asked for.",
            Self::ProviderUnavailable => "Nothing, unless it lasts: the provider has an outage.",
            Self::NetworkNotSent => "Check that the function can reach the provider: DNS, proxy, egress rules, TLS.",
            Self::NetworkAmbiguous => {
                "Nothing: the provider is asked again at growing intervals, until its answer tells whether the grant is alive."
            }
            Self::MalformedAnswer => "Check token_url: what answers there does not speak OAuth 2.0.",
            Self::StoreUnavailable => {
                "Check the store: its address, its credentials, and what the function may do there."
            }
            Self::Config => "Compare scope, grant and client_auth with what the provider allows this client.",
        }
    }

    /// The name of the class as it stands in JSON, metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LostRace => "lost_race",
            Self::InvalidGrant => "invalid_grant",
            Self::InvalidClient => "invalid_client",
            Self::RateLimited => "rate_limited",
            Self::ProviderUnavailable => "provider_unavailable",
            Self::NetworkNotSent => "network_not_sent",
            Self::NetworkAmbiguous => "network_ambiguous",
            Self::MalformedAnswer => "malformed_answer",
            Self::StoreUnavailable => "store_unavailable",
            Self::Config => "config",
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One failure: its class, and what is known of it that may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    class: FailureKind,
    // Boxed, so that errors that hold a failure stay small.
    code: Option<Box<str>>,
    reason: Option<Box<str>>,
    detail: Box<str>,
    retry_after: Option<Duration>,
    denial: bool,
}

impl Failure {
    /// A failure with a sentence on what happened. The sentence is shown to people: no secret, no URL with a query.
    #[must_use]
    pub fn new(class: FailureKind, detail: impl Into<String>) -> Self {
        Self {
            class,
            code: None,
            reason: None,
            detail: detail.into().into_boxed_str(),
            retry_after: None,
            denial: false,
        }
    }

    /// Adds the OAuth error code, cut to what RFC 6749 §5.2 allows in one (printable ASCII) and to 64 characters.
    #[must_use]
    pub fn with_code(mut self, code: &str) -> Self {
        let clean: String =
            code.chars().filter(|c| matches!(c, ' '..='~') && *c != '"' && *c != '\\').take(64).collect();
        self.code = (!clean.is_empty()).then(|| clean.into());
        self
    }

    /// Adds the provider's own reason, from the fields that its definition names. It is shown to people.
    #[must_use]
    pub fn with_reason(mut self, reason: Option<String>) -> Self {
        self.reason = reason.map(String::into_boxed_str);
        self
    }

    /// Adds how long the provider wants to be left alone.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    /// Marks the answer as a refusal (4xx) that names no OAuth error code (RFC 6749 §5.2): nothing tells a dead grant from a
    /// firewall, but how long it lasts.
    #[must_use]
    pub fn as_denial(mut self) -> Self {
        self.denial = true;
        self
    }

    /// Whether it is a refusal without an OAuth error code.
    #[must_use]
    pub fn is_denial(&self) -> bool {
        self.denial
    }

    /// The class.
    #[must_use]
    pub fn class(&self) -> FailureKind {
        self.class
    }

    /// The provider's OAuth error code, when it sent one.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// The provider's own reason, where its definition names the fields that may be shown.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// One sentence on what happened.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// How long the provider wants to be left alone.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A failure that was stored has both in its sentence already.
        let reason = self.reason.as_deref().filter(|reason| !self.detail.contains(*reason));
        match (self.code.as_deref(), reason) {
            (Some(code), Some(reason)) => write!(f, "{} ({code}: {reason})", self.detail),
            (Some(shown), None) | (None, Some(shown)) => write!(f, "{} ({shown})", self.detail),
            (None, None) => f.write_str(&self.detail),
        }
    }
}

impl std::error::Error for Failure {}
