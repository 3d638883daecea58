//! The health of an account: failures in a row, the next try, the state that follows.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Failure, FailureKind};

/// How an account fares: shared between replicas, so that one's failure spares the others a try.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// Failed renewals in a row.
    pub failures: u32,
    /// What the last one failed of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<FailureKind>,
    /// One sentence on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The provider's own reason, from the fields that its definition lets through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// No try before this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_try_at: Option<Timestamp>,
    /// Only a new authorisation helps.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub needs_authorisation: bool,
    /// Tokens that the API refused although they were just renewed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
    /// Since when the provider has refused every renewal without an OAuth error code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denied_since: Option<Timestamp>,
    /// Digest of the client's credentials that the provider refused: with other ones the wait is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The last renewal, whatever came of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_renewal: Option<LastRenewal>,
}

impl Health {
    /// Whether a wait stands before the next try. That for other client credentials ends when they are there: `client` is the
    /// digest of those in use.
    #[must_use]
    pub fn waits(&self, client: Option<&str>, now: Timestamp) -> bool {
        let replaced = client.zip(self.client.as_deref()).is_some_and(|(ours, refused)| ours != refused);
        !replaced && self.next_try_at.is_some_and(|at| now < at)
    }

    /// The failure that the account fares by, as far as it is written down.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        let detail = self.detail.clone().unwrap_or_default();
        Some(Failure::new(self.class?, detail).with_reason(self.reason.clone()))
    }

    /// After an authorisation that brought tokens and no access token to use: the grant is there, and a renewal may end it.
    pub(super) fn unfinished(failure: &Failure, at: Timestamp) -> Self {
        let wait = failure.class().backoff().after(1);
        Self {
            failures: 1,
            class: Some(failure.class()),
            detail: Some(failure.to_string()),
            reason: failure.reason().map(str::to_owned),
            next_try_at: at.checked_add(wait).ok(),
            last_renewal: Some(LastRenewal { at, outcome: failure.class().as_str().into() }),
            ..Self::default()
        }
    }
}

/// New tokens that the API would not take: forced renewals are spaced out until some token works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Forced renewals in a row that did not help.
    pub count: u32,
    /// No forced renewal before this.
    pub next_at: Timestamp,
}

/// When a renewal was, and its outcome: `renewed`, `adopted` or a failure class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRenewal {
    /// When it ended.
    pub at: Timestamp,
    /// What came of it.
    pub outcome: String,
}

/// What an account's record amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Never authorised, or revoked.
    Disabled,
    /// It has tokens, and the last renewal went well.
    Enabled,
    /// It has tokens, and something is wrong that may pass.
    Degraded,
    /// Its grant is gone: a person must authorise again.
    NeedsAuthorisation,
}

impl State {
    /// Every state, for metrics that show one gauge for each.
    pub const ALL: [Self; 4] = [Self::Disabled, Self::Enabled, Self::Degraded, Self::NeedsAuthorisation];

    /// The name in JSON, metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Enabled => "enabled",
            Self::Degraded => "degraded",
            Self::NeedsAuthorisation => "needs_authorisation",
        }
    }
}
