//! What a provider is: its endpoints, and where it leaves the RFCs. A provider is data, never code.

mod definition;
mod discovery;
mod endpoint;
mod grant;

pub use definition::{ClientAuth, Definition, Pkce};
pub use discovery::{Metadata, MetadataError, well_known};
pub use endpoint::{EndpointError, checked_url, is_loopback};
pub use grant::{AssertionTerms, ExchangeTerms, Grant};

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
    /// Where codes become tokens (RFC 6749 §3.2); `None` until the server has told it, or where the grant needs none.
    pub token_url: Option<Url>,
    /// Where refresh tokens become tokens, where that is not the token endpoint.
    pub refresh_url: Option<Url>,
    /// Where a device gets its codes (RFC 8628 §3.1).
    pub device_url: Option<Url>,
    /// Where authorization requests are pushed (RFC 9126 §2).
    pub par_url: Option<Url>,
    /// Whether an authorization request that was not pushed is refused.
    pub par_required: bool,
    /// Whether an answer to an authorization request without `iss` is refused (RFC 9207 §2.4).
    pub iss_required: bool,
    /// How an account gets its first token, and its next.
    pub grant: Grant,
    /// What tokens are for (RFC 8707 §2), as absolute URIs.
    pub resource: Vec<String>,
    /// Whether tokens are bound to a key of the account's (RFC 9449).
    pub dpop: bool,
    /// What signed statements say.
    pub assertion: AssertionTerms,
    /// What is changed for a token.
    pub exchange: ExchangeTerms,
    /// Where tokens are revoked (RFC 7009).
    pub revoke_url: Option<Url>,
    /// The API, up to its version.
    pub api_url: Option<Url>,
    /// The scopes to ask for.
    pub scope: Vec<String>,
    /// What stands between two scopes.
    pub scope_separator: String,
    /// How the client proves who it is, where somebody said so.
    pub client_auth: Option<ClientAuth>,
    /// Whether a code challenge goes along (RFC 7636), where somebody said so.
    pub pkce: Option<Pkce>,
    /// Whether the server is asked for its metadata.
    pub discovers: bool,
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
    pub device_url: Option<Url>,
    pub par_url: Option<Url>,
    pub scope: Option<Vec<String>>,
    pub client_auth: Option<ClientAuth>,
    pub pkce: Option<Pkce>,
    pub grant: Option<Grant>,
    pub resource: Option<Vec<String>>,
    pub dpop: Option<bool>,
    pub assertion: AssertionTerms,
    pub subject_token_file: Option<String>,
    pub subject_token_type: Option<String>,
    pub audience: Option<Vec<String>>,
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
        let device_url = url("device_url", overrides.device_url, definition.device_url);
        let par_url = url("par_url", overrides.par_url, definition.par_url);
        let grant = overrides.grant.unwrap_or(definition.grant);
        let whole = token_url.is_some()
            && match grant {
                Grant::AuthorizationCode => authorize_url.is_some(),
                Grant::DeviceCode => device_url.is_some(),
                _ => true,
            };
        let discovers =
            grant.uses_token_endpoint() && (overrides.issuer.is_some() || (definition.issuer.is_some() && !whole));
        if grant.uses_token_endpoint() && token_url.is_none() && !discovers && wrong.is_empty() {
            wrong.push(format!("provider {name} has no token endpoint: set the variable token_url, or issuer"));
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let exchange = ExchangeTerms {
            subject_token_file: overrides.subject_token_file.unwrap_or(definition.exchange.subject_token_file),
            subject_token_type: overrides.subject_token_type.unwrap_or(definition.exchange.subject_token_type),
            audience: overrides.audience.unwrap_or(definition.exchange.audience),
        };
        Ok(Self {
            title: definition.title.unwrap_or_else(|| name.to_owned()),
            name: name.to_owned(),
            issuer: overrides.issuer.or(definition.issuer),
            authorize_url,
            refresh_url,
            token_url,
            device_url,
            par_url,
            par_required: false,
            iss_required: false,
            grant,
            discovers,
            resource: overrides.resource.unwrap_or(definition.resource),
            dpop: overrides.dpop.unwrap_or(definition.dpop),
            assertion: overrides.assertion.over(definition.assertion),
            exchange,
            revoke_url,
            api_url,
            scope: overrides.scope.unwrap_or(definition.scope),
            scope_separator: definition.scope_separator,
            client_auth: overrides.client_auth.or(definition.client_auth),
            pkce: overrides.pkce.or(definition.pkce),
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

    /// How the client proves who it is: as was said, else by Basic.
    #[must_use]
    pub fn client_auth(&self) -> ClientAuth {
        self.client_auth.unwrap_or_default()
    }

    /// Whether a code challenge goes along: unless somebody said otherwise.
    #[must_use]
    pub fn pkce(&self) -> Pkce {
        self.pkce.unwrap_or_default()
    }

    /// For whom a signed statement is: as was said, else the issuer, else the token endpoint (RFC 7523 §3).
    #[must_use]
    pub fn assertion_audience(&self) -> Option<&str> {
        let said = self.assertion.audience.as_deref().or(self.issuer.as_deref());
        said.or_else(|| self.token_url.as_ref().map(Url::as_str))
    }

    /// The provider with what its server tells: what was said here stays. Of the ways to prove who the client is, the first
    /// one that is `usable` with the secrets that there are.
    #[must_use]
    pub fn learned(&self, told: &Metadata, usable: impl Fn(ClientAuth) -> bool) -> Self {
        let or = |said: &Option<Url>, told: &Option<Url>| said.clone().or_else(|| told.clone());
        Self {
            authorize_url: or(&self.authorize_url, &told.authorize_url),
            token_url: or(&self.token_url, &told.token_url),
            revoke_url: or(&self.revoke_url, &told.revoke_url),
            device_url: or(&self.device_url, &told.device_url),
            par_url: or(&self.par_url, &told.par_url),
            par_required: told.par_required,
            iss_required: told.iss_in_answers,
            client_auth: self.client_auth.or_else(|| told.client_auth.iter().copied().find(|auth| usable(*auth))),
            pkce: self.pkce.or_else(|| (told.s256 == Some(false)).then_some(Pkce::Off)),
            ..self.clone()
        }
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
        assert_eq!(provider.token_url.as_ref().unwrap().as_str(), "http://127.0.0.1:1/t");
        assert_eq!(provider.refresh_url, None);
        assert_eq!(provider.authorize_url.as_ref().unwrap().as_str(), "https://gumroad.com/oauth/authorize");
        assert_eq!(provider.client_auth(), ClientAuth::Post);
    }

    #[test]
    fn what_a_server_tells_fills_the_gaps_and_overrides_nothing() {
        let definition = Definition { issuer: Some("https://a.example".into()), ..Definition::default() };
        let overrides = Overrides { token_url: checked_url("https://mine.example/t").ok(), ..Overrides::default() };
        let provider = Provider::new("custom", definition.clone(), overrides).unwrap();
        assert!(provider.discovers, "the authorization endpoint is missing");
        let document = br#"{"issuer":"https://a.example","token_endpoint":"https://a.example/t",
            "authorization_endpoint":"https://a.example/a","code_challenge_methods_supported":["plain"],
            "token_endpoint_auth_methods_supported":["client_secret_post","private_key_jwt","none"]}"#;
        let told = Metadata::read("https://a.example", document).unwrap();
        let learned = provider.learned(&told, |auth| auth != ClientAuth::PrivateKeyJwt);
        assert_eq!(learned.token_url.as_ref().unwrap().as_str(), "https://mine.example/t");
        assert_eq!(learned.authorize_url.as_ref().unwrap().as_str(), "https://a.example/a");
        assert_eq!((learned.client_auth(), learned.pkce()), (ClientAuth::Post, Pkce::Off));
        let said =
            Overrides { client_auth: Some(ClientAuth::BasicRaw), pkce: Some(Pkce::S256), ..Overrides::default() };
        let learned = Provider::new("custom", definition, said).unwrap().learned(&told, |_| true);
        assert_eq!((learned.client_auth(), learned.pkce()), (ClientAuth::BasicRaw, Pkce::S256));
    }

    #[test]
    fn a_provider_without_a_token_endpoint_names_the_variable() {
        let wrong = Provider::new("custom", Definition::default(), Overrides::default()).unwrap_err();
        assert_eq!(wrong, ["provider custom has no token endpoint: set the variable token_url, or issuer"]);
        let fixed = Overrides { grant: Some(Grant::Static), ..Overrides::default() };
        assert!(
            Provider::new("custom", Definition::default(), fixed).is_ok(),
            "a token made by hand needs no endpoint"
        );
    }
}
