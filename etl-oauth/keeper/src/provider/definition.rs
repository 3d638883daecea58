//! A provider's definition, as its TOML file has it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    also::AlsoToken,
    api_spec::ApiFacts,
    device::Device,
    grant::{AssertionTerms, ExchangeTerms, Grant},
    lookup::Lookup,
    param::{Param, Params},
    redirect::{Authorize, Callback},
    request_spec::{Call, ClientAuth},
    variable::{Source, Variable, placeholders},
};
use crate::token::AnswerShape;

/// Whether a code challenge goes along with an authorization request (RFC 7636).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Pkce {
    /// A challenge, hashed.
    #[default]
    S256,
    /// None: the provider refuses it, or does not know it.
    #[serde(rename = "off")]
    Off,
}

/// A provider as a TOML file has it. Every field may be left out; what is out is RFC 6749's own way, or not known.
///
/// URLs may hold variables, `https://{subdomain}.example.com/authorize` for one. Lifetimes count seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Definition {
    /// The name for people.
    pub title: Option<String>,
    /// The issuer identifier, compared with `iss` of the callback (RFC 9207).
    pub issuer: Option<String>,
    /// Where a person is asked (RFC 6749 §3.1).
    pub authorize_url: Option<String>,
    /// Where codes become tokens (RFC 6749 §3.2).
    pub token_url: Option<String>,
    /// Where refresh tokens become tokens, where that is not `token_url`.
    pub refresh_url: Option<String>,
    /// Where tokens are revoked (RFC 7009, or the provider's own way). Its path may hold `{client_id}`.
    pub revoke_url: Option<String>,
    /// Where a token's expiry is asked for (RFC 7662 §2), where neither the answer nor the token itself has it.
    pub introspect_url: Option<String>,
    /// Where a fresh access token is exchanged once more, before it is of use: for one that lives longer, for a session.
    pub second_url: Option<String>,
    /// Where a GET identifies the account that a token belongs to: a URL, or a path below `api_url`.
    pub userinfo_url: Option<String>,
    /// Where that answer has the identifier of the account that never changes: a JSON pointer (RFC 6901).
    pub userinfo_id: Option<String>,
    /// Where that answer has the account's name for people: a JSON pointer (RFC 6901).
    pub userinfo_name: Option<String>,
    /// Where more of an account is asked for with its new token, for variables with `from = "lookup"`: a URL, or a path below
    /// `api_url`; `userinfo_url` where nothing is said.
    pub lookup_url: Option<String>,
    /// The API, up to its version.
    pub api_url: Option<String>,
    /// The variables of the URLs, parameters and headers.
    pub variables: BTreeMap<String, Variable>,
    /// The scopes to ask for.
    pub scope: Vec<String>,
    /// What stands between two scopes.
    pub scope_separator: String,
    /// How the client proves who it is.
    pub client_auth: ClientAuth,
    /// Whether a code challenge goes along (RFC 7636).
    pub pkce: Pkce,
    /// How an account gets its first token, and its next.
    pub grant: Grant,
    /// Where a device gets its codes (RFC 8628 §3.1).
    pub device_url: Option<String>,
    /// The device flow, as far as it is the provider's own.
    pub device: Device,
    /// Where authorization requests are pushed (RFC 9126 §2).
    pub par_url: Option<String>,
    /// What tokens are for (RFC 8707 §2), as absolute URIs.
    pub resource: Vec<String>,
    /// Whether tokens are bound to a key of the account's (RFC 9449).
    pub dpop: bool,
    /// What signed statements say (RFC 7523 §3).
    pub assertion: AssertionTerms,
    /// What is changed for a token (RFC 8693 §2.1).
    pub exchange: ExchangeTerms,
    /// The authorization request.
    pub authorize: Authorize,
    /// The redirect that brings a person back.
    pub callback: Callback,
    /// Whether the client's certificate is shown on every connection to the provider and to the API: where the API wants one, or
    /// binds tokens to it (RFC 8705 §3). The secrets `oauth2-client-certificate` and `oauth2-private-key` hold it and its key.
    pub client_certificate: bool,
    /// The code exchange.
    pub token: Call,
    /// A renewal; what it leaves open is as in `token`, but for the parameters.
    pub refresh: Call,
    /// Whether a renewal's answer without a token prolongs the one that there is.
    pub renewal_keeps_token: bool,
    /// The exchange at `second_url`.
    pub second: Call,
    /// Whether renewals are followed by the second exchange, too, and not only the code's.
    pub second_on_renewal: bool,
    /// A revocation.
    pub revoke: Call,
    /// The question for a token's end at `introspect_url`.
    pub introspect: Call,
    /// The request at `lookup_url`, and what of its answer counts.
    pub lookup: Lookup,
    /// What is revoked, in this order.
    pub revoke_tokens: Vec<TokenKind>,
    /// Where the token answer has its fields, and its signs of errors and limits.
    pub answer: AnswerShape,
    /// Further tokens of the answer to a consent, each an account of its own.
    pub also: BTreeMap<String, AlsoToken>,
    /// Error codes, beside `invalid_grant`, that mean that the grant itself is refused.
    pub grant_errors: Vec<String>,
    /// Error codes that mean that a limit is reached.
    pub limit_errors: Vec<String>,
    /// How long an access token lives where no answer says so.
    pub lifetime: Option<u64>,
    /// With how much of its life left an access token is renewed, where the provider refuses a renewal that comes earlier; a
    /// minute, or a tenth of a short life, where nothing is said.
    pub renew_before: Option<u64>,
    /// How long a refresh token lives from the answer that brought it, where no answer says so.
    pub refresh_lifetime: Option<u64>,
    /// How long a grant lives from the person's consent, whatever is renewed.
    pub grant_lifetime: Option<u64>,
    /// After how long without a renewal a refresh token lapses.
    pub refresh_idle: Option<u64>,
    /// Whether a renewal ends the refresh token that it spent. Unknown counts as yes.
    pub rotates: Option<bool>,
    /// For how long a refresh token may be sent again after an unanswered renewal.
    pub replay_window: Option<u64>,
    /// Whether the spent refresh token works until the new access token was used.
    pub previous_until_used: bool,
    /// What a person can do when an authorisation brought no refresh token.
    pub refresh_token_remedy: Option<String>,
    /// The API.
    pub api: ApiFacts,
}

/// One of the two tokens of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "they are called so")]
pub enum TokenKind {
    RefreshToken,
    AccessToken,
}

impl TokenKind {
    /// The name that RFC 7009 §2.1 gives it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RefreshToken => "refresh_token",
            Self::AccessToken => "access_token",
        }
    }
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
            introspect_url: None,
            second_url: None,
            userinfo_url: None,
            userinfo_id: None,
            userinfo_name: None,
            lookup_url: None,
            api_url: None,
            variables: BTreeMap::new(),
            scope: Vec::new(),
            scope_separator: " ".into(),
            client_auth: ClientAuth::default(),
            pkce: Pkce::default(),
            grant: Grant::default(),
            device_url: None,
            device: Device::default(),
            par_url: None,
            resource: Vec::new(),
            dpop: false,
            assertion: AssertionTerms::default(),
            exchange: ExchangeTerms::default(),
            authorize: Authorize::default(),
            callback: Callback::default(),
            client_certificate: false,
            token: Call::default(),
            refresh: Call::default(),
            renewal_keeps_token: false,
            second: Call::default(),
            second_on_renewal: false,
            revoke: Call::default(),
            introspect: Call::default(),
            lookup: Lookup::default(),
            // The refresh token first: with it goes the grant (RFC 7009 §2.1).
            revoke_tokens: vec![TokenKind::RefreshToken, TokenKind::AccessToken],
            answer: AnswerShape::default(),
            also: BTreeMap::new(),
            grant_errors: Vec::new(),
            limit_errors: Vec::new(),
            lifetime: None,
            renew_before: None,
            refresh_lifetime: None,
            grant_lifetime: None,
            refresh_idle: None,
            rotates: None,
            replay_window: None,
            previous_until_used: false,
            refresh_token_remedy: None,
            api: ApiFacts::default(),
        }
    }
}

impl Definition {
    /// The wanted scopes as the provider wants them written.
    #[must_use]
    pub fn scope_text(&self) -> String {
        self.scope.join(&self.scope_separator)
    }

    /// Whether a request names the client: by the standard parameter, unless the definition takes it away, or by
    /// `{client_id}` in a place of its own.
    #[must_use]
    pub fn names_client(&self) -> bool {
        let kept_away = |call: &Call| call.params.get("client_id").is_some_and(Param::is_empty);
        let in_a_place = self.templates().iter().any(|(_, text)| placeholders(text).any(|name| name == "client_id"));
        let asks_person = !self.grant.asks_again();
        asks_person || in_a_place || !kept_away(&self.token)
    }

    /// Whether a client asks for itself with nothing that proves who it is: neither its own secrets, nor a user and a password.
    #[must_use]
    pub fn proves_nothing(&self) -> bool {
        let shows_secret = self.variables.values().any(|variable| variable.from == Source::Secret);
        self.grant == Grant::ClientCredentials
            && self.client_auth == ClientAuth::None
            && !self.client_certificate
            && !shows_secret
    }

    /// Whether the signed statement is the API's token itself: a grant by one without a token endpoint.
    #[must_use]
    pub fn is_self_signed(&self) -> bool {
        self.grant == Grant::JwtBearer && self.token_url.is_none() && self.issuer.is_none()
    }

    /// Whether a token endpoint is asked at all: else the credentials are the token, or a statement is.
    #[must_use]
    pub fn asks_token_endpoint(&self) -> bool {
        self.grant.uses_token_endpoint() && !self.is_self_signed()
    }

    /// Whether the signed statement or a header of the API names the client, so that its id is needed.
    #[must_use]
    pub fn names_client_in_statement(&self) -> bool {
        let terms = &self.assertion;
        let own_issuer = terms.issuer.is_some() || terms.claims.get("iss").is_some_and(Param::is_empty);
        let texts =
            self.templates().into_iter().filter(|(key, _)| key.starts_with("assertion.") || key.starts_with("api."));
        !own_issuer || texts.into_iter().any(|(_, text)| placeholders(text).any(|name| name == "client_id"))
    }

    /// The URLs, with their keys.
    pub(super) fn urls(&self) -> [(&'static str, Option<&str>); 12] {
        [
            ("authorize_url", self.authorize_url.as_deref()),
            ("token_url", self.token_url.as_deref()),
            ("refresh_url", self.refresh_url.as_deref()),
            ("revoke_url", self.revoke_url.as_deref()),
            ("second_url", self.second_url.as_deref()),
            ("userinfo_url", self.userinfo_url.as_deref()),
            ("api_url", self.api_url.as_deref()),
            ("device_url", self.device_url.as_deref()),
            ("par_url", self.par_url.as_deref()),
            ("introspect_url", self.introspect_url.as_deref()),
            ("lookup_url", self.lookup_url.as_deref()),
            ("device.poll_url", self.device.poll_url.as_deref()),
        ]
    }

    /// The requests that are not the authorization request, with their keys.
    pub(super) fn calls(&self) -> [(&'static str, &Call); 7] {
        [
            ("token", &self.token),
            ("refresh", &self.refresh),
            ("second", &self.second),
            ("revoke", &self.revoke),
            ("introspect", &self.introspect),
            ("device.request", &self.device.request),
            ("device.poll", &self.device.poll),
        ]
    }

    /// Every text that may hold a placeholder, with its key.
    pub(super) fn templates(&self) -> Vec<(String, &str)> {
        let urls = self.urls().into_iter().filter_map(|(key, url)| Some((key.to_owned(), url?)));
        let params =
            self.authorize.params.iter().map(|(name, value)| (format!("authorize.params.{name}"), value.as_str()));
        let mut all: Vec<(String, &str)> = urls.chain(params).collect();
        all.extend(self.issuer.as_deref().map(|issuer| ("issuer".to_owned(), issuer)));
        let said = &self.assertion;
        for (key, text) in [
            ("audience", &said.audience),
            ("issuer", &said.issuer),
            ("subject", &said.subject),
            ("key_id", &said.key_id),
        ] {
            all.extend(text.as_deref().map(|text| (format!("assertion.{key}"), text)));
        }
        all.extend(texts("assertion.claims", &said.claims));
        for (key, call) in self.calls() {
            all.extend(texts(&format!("{key}.params"), &call.params));
            if let Some(sign) = &call.sign {
                let text = sign.text.as_deref().map(|text| ("text", text));
                let parts = [("key", &*sign.key), ("before", &sign.before), ("value", &sign.value)];
                all.extend(parts.into_iter().chain(text).map(|(name, text)| (format!("{key}.sign.{name}"), text)));
            }
            if let Some(pair) = &call.basic {
                all.push((format!("{key}.basic.user"), &pair.user));
                all.push((format!("{key}.basic.password"), &pair.password));
            }
            all.extend(call.headers.iter().map(|(name, value)| (format!("{key}.headers.{name}"), value.as_str())));
        }
        all.extend(self.callback.sign.iter().map(|sign| ("callback.sign.key".to_owned(), sign.key.as_str())));
        for (key, texts) in [
            ("api.headers", &self.api.headers),
            ("api.params", &self.api.params),
            ("lookup.headers", &self.lookup.headers),
        ] {
            all.extend(texts.iter().map(|(name, value)| (format!("{key}.{name}"), value.as_str())));
        }
        all.extend(texts("lookup.params", &self.lookup.params));
        all
    }
}

/// The texts of parameters, with their keys.
fn texts<'a>(key: &str, params: &'a Params) -> Vec<(String, &'a str)> {
    let of = |(name, param): (&String, &'a Param)| {
        let key = format!("{key}.{name}");
        param.texts().into_iter().map(move |text| (key.clone(), text)).collect::<Vec<_>>()
    };
    params.iter().flat_map(of).collect()
}
