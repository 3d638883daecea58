//! A definition's description of the authorization request and of the redirect that answers it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::request_spec::Sign;

/// The authorization request (RFC 6749 §4.1.1), as far as it is the provider's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Authorize {
    /// Further or other parameters, as in the other requests.
    pub params: BTreeMap<String, String>,
    /// Parameters whose values are written as they are, without encoding.
    pub raw: Vec<String>,
    /// The URL has a fragment, in which the parameters go.
    pub fragment: bool,
}

/// The redirect that brings a person back (RFC 6749 §4.1.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Callback {
    /// The parameter with the code.
    pub code: String,
    /// The parameter with the state.
    pub state: String,
    /// What the provider wants registered of the redirect URI.
    pub registered: Registered,
    /// A signature that the provider puts over all other parameters, each encoded as in a form. One that is missing or wrong
    /// makes the answer none.
    pub sign: Option<Sign>,
}

impl Default for Callback {
    fn default() -> Self {
        Self { code: "code".into(), state: "state".into(), registered: Registered::default(), sign: None }
    }
}

/// What a provider wants registered of the redirect URI, so that pages can say what to enter there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Registered {
    /// The whole URI, compared to the letter (RFC 9700 §2.1).
    #[default]
    Uri,
    /// Its host alone, as a callback domain.
    Domain,
    /// Its scheme, host and port, as an origin.
    Origin,
}

impl Callback {
    /// What is to be registered of this redirect URI, as the provider wants it.
    #[must_use]
    pub fn to_register(&self, redirect_uri: &url::Url) -> String {
        match self.registered {
            Registered::Uri => redirect_uri.to_string(),
            Registered::Domain => redirect_uri.host_str().unwrap_or_default().to_owned(),
            Registered::Origin => redirect_uri.origin().ascii_serialization(),
        }
    }
}
