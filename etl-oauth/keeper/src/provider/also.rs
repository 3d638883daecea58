//! A definition's description of further tokens of one consent: a person's beside a bot's.

use serde::{Deserialize, Serialize};

/// Where the answer to a consent has a further token, which is kept and renewed as an account of its own, named
/// `ACCOUNT-NAME`. Each is a list of fields, as in `answer`; its renewals are those of the definition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct AlsoToken {
    /// Its access token; where the answer has none, there is no such account.
    pub access_token: Vec<String>,
    /// Its refresh token.
    pub refresh_token: Vec<String>,
    /// How long until the access token ends.
    pub expires_in: Vec<String>,
    /// Its granted scope.
    pub scope: Vec<String>,
}
