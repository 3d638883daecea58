//! What a provider is: its endpoints, and where it leaves the RFCs. A provider is data, never code.

mod definition;
mod endpoint;

pub use definition::{ClientAuth, Definition, Pkce};
pub use endpoint::{EndpointError, checked_url, is_loopback};

use std::{collections::BTreeMap, time::Duration};

use url::Url;

use crate::token::AnswerShape;

/// One provider, ready to use: a definition with the overrides of the configuration, checked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Provider {
    /// The name in configuration, JSON and metrics.
    pub name: String,
    /// The name for people.
    pub title: String,
    /// The issuer identifier, compared with `iss` of the callback (RFC 9207).
    pub issuer: Option<String>,
    /// Where a person is asked (RFC 6749 §3.1).
    pub authorize_url: Option<Url>,
    /// Where codes become tokens (RFC 6749 §3.2).
    pub token_url: Url,
    /// Where refresh tokens become tokens; most often the token endpoint.
    pub refresh_url: Url,
    /// Where tokens are revoked (RFC 7009).
    pub revoke_url: Option<Url>,
    /// The API, up to its version.
    pub api_url: Option<Url>,
    /// The scopes to ask for.
    pub scope: Vec<String>,
    /// What stands between two scopes.
    pub scope_separator: String,
    /// How the client proves who it is.
    pub client_auth: ClientAuth,
    /// Whether a code challenge goes along (RFC 7636).
    pub pkce: Pkce,
    /// Further parameters of the authorization request.
    pub authorize_params: BTreeMap<String, String>,
    /// Further parameters of the code exchange.
    pub token_params: BTreeMap<String, String>,
    /// Further parameters of a renewal.
    pub refresh_params: BTreeMap<String, String>,
    /// Where the token answer keeps its fields.
    pub answer: AnswerShape,
    /// Error codes, beside `invalid_grant`, that mean that the grant itself is refused.
    pub grant_errors: Vec<String>,
    /// How long an access token lives where no answer says so.
    pub lifetime: Option<Duration>,
    /// Whether a renewal ends the refresh token that it spent. Unknown counts as yes.
    pub rotates: bool,
    /// For how long a refresh token may be sent again after an unanswered renewal.
    pub replay_window: Duration,
    /// Whether the spent refresh token works until the new access token was used.
    pub previous_until_used: bool,
    /// After how long without a renewal a refresh token lapses.
    pub refresh_idle: Option<Duration>,
}

/// What the configuration lays over a definition; `None` leaves the definition's word.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "each is the Provider field of the same name")]
pub struct Overrides {
    pub issuer: Option<String>,
    pub authorize_url: Option<Url>,
    pub token_url: Option<Url>,
    pub refresh_url: Option<Url>,
    pub revoke_url: Option<Url>,
    pub api_url: Option<Url>,
    pub scope: Option<Vec<String>>,
    pub client_auth: Option<ClientAuth>,
    pub pkce: Option<Pkce>,
    pub replay_window: Option<Duration>,
    pub refresh_idle: Option<Duration>,
}

impl Provider {
    /// Lays `overrides` over `definition`.
    ///
    /// # Errors
    /// A sentence for each URL that is missing or unsafe, with the variable that would set it.
    pub fn new(name: &str, definition: Definition, overrides: Overrides) -> Result<Self, Vec<String>> {
        let mut wrong = Vec::new();
        let mut url = |variable: &str, over: Option<Url>, text: Option<String>| match (over, text) {
            (Some(url), _) => Some(url),
            (None, Some(text)) => match checked_url(&text) {
                Ok(url) => Some(url),
                Err(err) => {
                    wrong.push(format!("provider {name}: {variable}: {err}"));
                    None
                }
            },
            (None, None) => None,
        };
        let authorize_url = url("authorize_url", overrides.authorize_url, definition.authorize_url);
        let token_url = url("token_url", overrides.token_url, definition.token_url);
        let refresh_url = url("refresh_url", overrides.refresh_url, definition.refresh_url);
        let revoke_url = url("revoke_url", overrides.revoke_url, definition.revoke_url);
        let api_url = url("api_url", overrides.api_url, definition.api_url);
        if token_url.is_none() && wrong.is_empty() {
            wrong.push(format!("provider {name} has no token endpoint: set the variable token_url"));
        }
        let Some(token_url) = token_url.filter(|_| wrong.is_empty()) else { return Err(wrong) };
        Ok(Self {
            title: definition.title.unwrap_or_else(|| name.to_owned()),
            name: name.to_owned(),
            issuer: overrides.issuer.or(definition.issuer),
            authorize_url,
            refresh_url: refresh_url.unwrap_or_else(|| token_url.clone()),
            token_url,
            revoke_url,
            api_url,
            scope: overrides.scope.unwrap_or(definition.scope),
            scope_separator: definition.scope_separator,
            client_auth: overrides.client_auth.unwrap_or(definition.client_auth),
            pkce: overrides.pkce.unwrap_or(definition.pkce),
            authorize_params: definition.authorize_params,
            token_params: definition.token_params,
            refresh_params: definition.refresh_params,
            answer: definition.answer,
            grant_errors: definition.grant_errors,
            lifetime: definition.lifetime.map(Duration::from_secs),
            rotates: definition.rotates.unwrap_or(true),
            replay_window: overrides
                .replay_window
                .or(definition.replay_window.map(Duration::from_secs))
                .unwrap_or_default(),
            previous_until_used: definition.previous_until_used,
            refresh_idle: overrides.refresh_idle.or(definition.refresh_idle.map(Duration::from_secs)),
        })
    }

    /// The wanted scopes as the provider wants them written.
    #[must_use]
    pub fn scope_text(&self) -> String {
        self.scope.join(&self.scope_separator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_override_wins_and_the_rest_stays() {
        let overrides = Overrides { token_url: Some("http://127.0.0.1:1/t".parse().unwrap()), ..Overrides::default() };
        let provider = Provider::new("gumroad", Definition::builtin("gumroad").unwrap(), overrides).unwrap();
        assert_eq!(provider.token_url.as_str(), "http://127.0.0.1:1/t");
        assert_eq!(provider.refresh_url, provider.token_url);
        assert_eq!(provider.authorize_url.unwrap().as_str(), "https://gumroad.com/oauth/authorize");
        assert_eq!(provider.client_auth, ClientAuth::Post);
    }

    #[test]
    fn a_provider_without_a_token_endpoint_names_the_variable() {
        let wrong = Provider::new("custom", Definition::default(), Overrides::default()).unwrap_err();
        assert_eq!(wrong, ["provider custom has no token endpoint: set the variable token_url"]);
    }
}
