//! A definition's description of a device or PIN flow that is not RFC 8628's own.

use serde::{Deserialize, Serialize};

use super::Call;
use crate::token::{Mark, Unit};

/// The device flow (RFC 8628), as far as it is the provider's own: the request for codes, the names of its answer, the question
/// whether the person has decided, and the signs in its answers beside the standard's codes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Device {
    /// The request for codes at `device_url`.
    pub request: Call,
    /// Where it is asked whether the person has decided; `token_url` where nothing is said. Its path may hold `{device_code}`.
    pub poll_url: Option<String>,
    /// That question; what it leaves open is as in `token`, but for the parameters.
    pub poll: Call,
    /// The field of what the device asks with.
    pub device_code: Vec<String>,
    /// The field of what the person types.
    pub user_code: Vec<String>,
    /// The field of the address where the person types it.
    pub verification_uri: Vec<String>,
    /// The field of that address with the code in it.
    pub verification_uri_complete: Vec<String>,
    /// The field of how long both are good for.
    pub expires_in: Vec<String>,
    /// What that counts.
    pub unit: Unit,
    /// How long both are good for, in seconds, where the answer does not say so.
    pub lifetime: Option<u64>,
    /// The field of how long to wait between two questions, in seconds.
    pub interval: Vec<String>,
    /// The address where the person types the code, where the answer has none.
    pub page: Option<String>,
    /// The signs that the person has not decided yet, beside `authorization_pending`.
    pub pending: Vec<Mark>,
    /// The signs that the questions come too fast, beside `slow_down`.
    pub slow_down: Vec<Mark>,
    /// The signs that the person has refused, beside `access_denied`.
    pub denied: Vec<Mark>,
    /// The signs that the codes have ended, beside `expired_token`.
    pub expired: Vec<Mark>,
}

impl Default for Device {
    fn default() -> Self {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            request: Call::default(),
            poll_url: None,
            poll: Call::default(),
            device_code: names(&["device_code"]),
            user_code: names(&["user_code"]),
            // The name that it had in drafts lives on.
            verification_uri: names(&["verification_uri", "verification_url"]),
            verification_uri_complete: names(&["verification_uri_complete"]),
            expires_in: names(&["expires_in"]),
            unit: Unit::default(),
            lifetime: None,
            interval: names(&["interval"]),
            page: None,
            pending: Vec::new(),
            slow_down: Vec::new(),
            denied: Vec::new(),
            expired: Vec::new(),
        }
    }
}
