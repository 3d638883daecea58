//! A device authorisation that is under way (RFC 8628).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use url::Url;

use super::Secret;

/// A device authorisation that is under way (RFC 8628): what a person types, and what is asked with until they have. It is
/// kept with the account, so that it outlives the replica that began it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Device {
    /// What the provider is asked with. The record writes it out, and nothing else does.
    #[serde(skip_serializing)]
    pub device_code: Secret,
    /// What the person types.
    pub user_code: String,
    /// Where the person types it.
    pub verification_uri: Url,
    /// The same with the code in it.
    #[serde(default)]
    pub verification_uri_complete: Option<Url>,
    /// When both codes lapse.
    pub ends_at: Timestamp,
    /// Seconds between two questions: the provider lengthens them.
    pub interval: u64,
    /// The replica that asks, one for all.
    pub asker: String,
    /// Until then it is taken to be alive.
    pub asked_until: Timestamp,
    /// Why it brought nothing, once that is known.
    #[serde(default)]
    pub failure: Option<String>,
}

impl Device {
    /// Whether both are the same authorisation.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.device_code.same(&other.device_code)
    }

    /// Whether the code can still be typed.
    #[must_use]
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.failure.is_none() && now < self.ends_at
    }
}
