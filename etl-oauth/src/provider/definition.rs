use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{AssertionTerms, ExchangeTerms, Grant};
use crate::token::AnswerShape;

/// How the client proves who it is at the token endpoint (RFC 6749 §2.3). Configured, never probed: a wrong try can spend
/// a code or a refresh token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// HTTP Basic of the form-encoded id and secret, as RFC 6749 §2.3.1 has it.
    #[default]
    Basic,
    /// HTTP Basic of id and secret as they are, as some servers have it.
    BasicRaw,
    /// `client_id` and `client_secret` in the body.
    Post,
    /// `client_id` in the body, and no secret: a public client.
    None,
    /// A statement that is signed with the client's private key (RFC 7523 §2.2).
    PrivateKeyJwt,
}

/// Whether a code challenge goes along with an authorization request (RFC 7636).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pkce {
    /// A challenge, hashed.
    #[default]
    S256,
    /// None: the provider refuses it.
    #[serde(rename = "off")]
    Off,
}

/// A provider as a TOML file has it. Every field may be left out; what is out is RFC 6749's own way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "each is the Provider field of the same name; lifetimes count seconds")]
pub struct Definition {
    pub title: Option<String>,
    pub issuer: Option<String>,
    pub authorize_url: Option<String>,
    pub token_url: Option<String>,
    pub refresh_url: Option<String>,
    pub revoke_url: Option<String>,
    pub api_url: Option<String>,
    pub scope: Vec<String>,
    pub scope_separator: String,
    pub client_auth: Option<ClientAuth>,
    pub pkce: Option<Pkce>,
    pub grant: Grant,
    pub device_url: Option<String>,
    pub par_url: Option<String>,
    pub resource: Vec<String>,
    pub dpop: bool,
    pub assertion: AssertionTerms,
    pub exchange: ExchangeTerms,
    pub authorize_params: BTreeMap<String, String>,
    pub token_params: BTreeMap<String, String>,
    pub refresh_params: BTreeMap<String, String>,
    pub answer: AnswerShape,
    pub grant_errors: Vec<String>,
    pub lifetime: Option<u64>,
    pub rotates: Option<bool>,
    pub replay_window: Option<u64>,
    pub previous_until_used: bool,
    pub refresh_idle: Option<u64>,
}

impl Default for Definition {
    fn default() -> Self {
        Self {
            title: None,
            issuer: None,
            authorize_url: None,
            token_url: None,
            refresh_url: None,
            revoke_url: None,
            api_url: None,
            scope: Vec::new(),
            scope_separator: " ".into(),
            client_auth: None,
            pkce: None,
            grant: Grant::default(),
            device_url: None,
            par_url: None,
            resource: Vec::new(),
            dpop: false,
            assertion: AssertionTerms::default(),
            exchange: ExchangeTerms::default(),
            authorize_params: BTreeMap::new(),
            token_params: BTreeMap::new(),
            refresh_params: BTreeMap::new(),
            answer: AnswerShape::default(),
            grant_errors: Vec::new(),
            lifetime: None,
            rotates: None,
            replay_window: None,
            previous_until_used: false,
            refresh_idle: None,
        }
    }
}

const BUILTIN: &[(&str, &str)] = &[("gumroad", include_str!("../../providers/gumroad.toml"))];

impl Definition {
    /// The definition that is built in under `name`. `custom` is an empty one: the configuration says it all.
    #[must_use]
    pub fn builtin(name: &str) -> Option<Self> {
        if name == "custom" {
            return Some(Self::default());
        }
        let (_, text) = BUILTIN.iter().find(|(builtin, _)| *builtin == name)?;
        // A test reads every built-in definition.
        toml::from_str(text).ok()
    }

    /// The names of the built-in definitions, and `custom`.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILTIN.iter().map(|(name, _)| *name).chain(["custom"])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_builtin_definition_reads() {
        for (name, text) in BUILTIN {
            let definition: Result<Definition, _> = toml::from_str(text);
            assert!(definition.is_ok(), "{name}: {definition:?}");
        }
        assert!(Definition::builtin("nobody").is_none());
        assert!(Definition::names().all(|name| Definition::builtin(name).is_some()));
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        let err = toml::from_str::<Definition>("tokenurl = 'https://a.example'").unwrap_err();
        assert!(err.message().contains("tokenurl"), "{err}");
    }
}
