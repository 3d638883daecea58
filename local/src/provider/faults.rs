//! Switches for the faults of real providers.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How often a fault happens: `true` always, `false` never, a number the next so many times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Times {
    /// Always or never.
    Switch(bool),
    /// The next so many times.
    Next(u32),
}

impl Times {
    const NEVER: Self = Self::Switch(false);

    fn always() -> Self {
        Self::Switch(true)
    }

    fn is_on(self) -> bool {
        !matches!(self, Self::Switch(false) | Self::Next(0))
    }

    /// Whether it happens now; counts down if it does.
    pub(super) fn take(&mut self) -> bool {
        let on = self.is_on();
        if let Self::Next(left) = self {
            *left = left.saturating_sub(1);
        }
        on
    }
}

/// The faults and settings of the sandbox. Durations are in seconds and may be fractions.
///
/// `PUT /admin/faults` takes a part of this as JSON and merges it (RFC 7396); `null` puts a switch back to its default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Faults {
    /// `expires_in` of access tokens.
    pub token_lifetime: f64,
    /// How long a refresh token stays valid unused; `null` means for ever.
    pub refresh_idle: Option<f64>,
    /// How long an authorization code is valid.
    pub code_lifetime: f64,
    /// Each renewal spends the refresh token and issues a new one.
    pub rotation: bool,
    /// Reuse of a spent refresh token revokes the whole grant.
    pub reuse_detection: bool,
    /// A spent refresh token is accepted again for this long after its renewal.
    pub replay_window: f64,
    /// A spent refresh token is accepted again until the access token that was issued for it has been used.
    pub replay_until_used: bool,
    /// A renewal revokes the previous access token.
    pub revoke_previous_access: bool,
    /// Access tokens expire this long after their issue, whatever `expires_in` says.
    pub early_revocation: Option<f64>,
    /// Responses without `refresh_token`; a renewal leaves the old one valid.
    pub omit_refresh_token: Times,
    /// Responses without `expires_in`.
    pub omit_expires_in: Times,
    /// How long a device code is valid.
    pub device_lifetime: f64,
    /// The shortest interval between two polls of a device.
    pub device_interval: f64,
    /// Proofs of possession must contain a nonce of the server.
    pub dpop_nonce: bool,
    /// Further fields of answers that issue tokens, such as Salesforce's `instance_url`.
    pub answer: Map<String, Value>,
    /// Slow responses of the token endpoint.
    pub delay: Option<Delay>,
    /// The connection closes before a token request takes effect.
    pub lose_request: Times,
    /// The connection closes after a token request took effect (of those that issue tokens).
    pub lose_answer: Times,
    /// The response to token requests, which take no effect.
    pub status: Option<Status>,
    /// Token requests that take effect, and whose response is corrupted (of those that issue tokens).
    pub malformed: Option<Malformed>,
    /// API requests with a valid token that are answered 401.
    pub api_unauthorized: Times,
    /// The response to API requests.
    pub api_status: Option<Status>,
    /// Slow responses of the API.
    pub api_delay: Option<Delay>,
    /// Corrupted responses of the API.
    pub api_malformed: Option<Malformed>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            token_lifetime: 3600.0,
            refresh_idle: None,
            code_lifetime: 600.0,
            rotation: true,
            reuse_detection: true,
            replay_window: 0.0,
            replay_until_used: false,
            revoke_previous_access: false,
            early_revocation: None,
            omit_refresh_token: Times::NEVER,
            omit_expires_in: Times::NEVER,
            device_lifetime: 600.0,
            device_interval: 5.0,
            dpop_nonce: false,
            answer: Map::new(),
            delay: None,
            lose_request: Times::NEVER,
            lose_answer: Times::NEVER,
            status: None,
            malformed: None,
            api_unauthorized: Times::NEVER,
            api_status: None,
            api_delay: None,
            api_malformed: None,
        }
    }
}

/// A slow response.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delay {
    /// Seconds before the request takes effect.
    #[serde(default)]
    pub before: f64,
    /// Seconds between the effect and the response.
    #[serde(default)]
    pub after: f64,
    /// How often.
    #[serde(default = "Times::always")]
    pub times: Times,
}

/// A response in place of the right one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// The HTTP status.
    pub status: u16,
    /// `error` of the JSON body; without it the body is a proxy's HTML page.
    #[serde(default)]
    pub error: Option<String>,
    /// The header `Retry-After` as it is: seconds, or a date.
    #[serde(default)]
    pub retry_after: Option<String>,
    /// How often.
    #[serde(default = "Times::always")]
    pub times: Times,
}

/// A corrupted response.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Malformed {
    /// The kind of corruption.
    pub kind: Corruption,
    /// How often.
    #[serde(default = "Times::always")]
    pub times: Times,
}

/// What is wrong with a corrupted response. Its status is the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Corruption {
    /// Half of the JSON, as if it were complete.
    Truncated,
    /// Half of the JSON, then the connection breaks.
    Broken,
    /// A page of HTML, with its content type.
    Html,
    /// Nothing.
    Empty,
    /// JSON whose members have wrong types.
    WrongType,
}

macro_rules! take {
    ($($fault:ty),*) => {$(
        impl $fault {
            /// The fault if it happens now; counts down if it does.
            pub(super) fn take(slot: &mut Option<Self>) -> Option<Self> {
                slot.as_mut().and_then(|fault| fault.times.take().then(|| fault.clone()))
            }
        }
    )*};
}
take!(Delay, Status, Malformed);

impl Faults {
    /// Merges `patch` into these; the error describes a wrong switch or value.
    pub(super) fn merged(&self, patch: &Value) -> Result<Self, String> {
        let mut value = serde_json::to_value(self).map_err(|error| error.to_string())?;
        merge(&mut value, patch);
        let merged: Self = serde_json::from_value(value).map_err(|error| error.to_string())?;
        merged.check()?;
        Ok(merged)
    }

    fn check(&self) -> Result<(), String> {
        let delays = [&self.delay, &self.api_delay].into_iter().flatten().flat_map(|delay| [delay.before, delay.after]);
        let own = [self.token_lifetime, self.code_lifetime, self.replay_window];
        let seconds = own.into_iter().chain([self.device_lifetime, self.device_interval]);
        let options = [self.refresh_idle, self.early_revocation].into_iter().flatten();
        if let Some(bad) = seconds.chain(options).chain(delays).find(|s| !(0.0..=1e9).contains(s)) {
            return Err(format!("a duration is a number of seconds from 0 to 1e9, not {bad}"));
        }
        let statuses = [&self.status, &self.api_status].into_iter().flatten();
        if let Some(bad) = statuses.into_iter().find(|status| !(200..=599).contains(&status.status)) {
            return Err(format!("a status is from 200 to 599, not {}", bad.status));
        }
        Ok(())
    }
}

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let (Value::Object(target), Value::Object(patch)) = (&mut *target, patch) else {
        *target = patch.clone();
        return;
    };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            merge(target.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_patch_changes_what_it_names_and_null_restores_the_default() {
        let faults = Faults::default()
            .merged(&json!({"token_lifetime": 2, "lose_answer": 1, "status": {"status": 503, "retry_after": "7"}}))
            .unwrap();
        assert_eq!(faults.token_lifetime, 2.0);
        assert_eq!(faults.lose_answer, Times::Next(1));
        assert!(faults.rotation);
        let faults = faults.merged(&json!({"token_lifetime": null, "status": {"retry_after": "9"}})).unwrap();
        assert_eq!(faults.token_lifetime, 3600.0);
        let status = faults.status.unwrap();
        assert_eq!((status.status, status.retry_after.as_deref()), (503, Some("9")));
    }

    #[test]
    fn a_switch_that_does_not_exist_is_an_error_that_names_it() {
        let error = Faults::default().merged(&json!({"lose_anser": 1})).unwrap_err();
        assert!(error.contains("lose_anser"), "{error}");
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        for patch in [
            json!({"token_lifetime": -1}),
            json!({"delay": {"before": -0.5}}),
            json!({"status": {"status": 100}}),
            json!({"malformed": {"kind": "odd"}}),
            json!(3),
        ] {
            assert!(Faults::default().merged(&patch).is_err(), "{patch}");
        }
    }

    #[test]
    fn a_counted_fault_happens_so_often_and_no_more() {
        let mut slot = Some(Malformed { kind: Corruption::Empty, times: Times::Next(2) });
        let happened = (0..4).filter(|_| Malformed::take(&mut slot).is_some()).count();
        assert_eq!(happened, 2);
        let mut always = Times::Switch(true);
        assert!((0..4).all(|_| always.take()));
    }
}
