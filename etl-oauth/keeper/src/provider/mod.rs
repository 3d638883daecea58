//! What a provider is: its endpoints, and where it leaves the RFCs. A provider is data, never code: see the files in
//! `providers/`, and [`Definition`] for the format.

mod also;
mod api_spec;
mod check;
mod definition;
mod device;
mod discovery;
mod endpoint;
mod grant;
mod load;
mod lookup;
mod overrides;
mod param;
mod protected_resource;
mod redirect;
mod request_spec;
mod sample;
mod suggest;
mod url_template;
mod variable;

pub use also::AlsoToken;
pub use api_spec::{ApiFacts, Limits, Paging, ResetUnit};
pub use definition::{Definition, Pkce, TokenKind};
pub use device::Device;
pub use discovery::{Metadata, MetadataError, well_known};
pub use endpoint::{EndpointError, checked_beside, checked_url, is_loopback};
pub use grant::{AssertionTerms, ExchangeTerms, Grant, KeyText, RsaAlgorithm};
pub use lookup::{Lookup, Several};
pub use overrides::Overrides;
pub use param::{Param, Params};
pub use protected_resource::{ProtectedResource, named_in_challenge, resource_well_known};
pub use redirect::{Authorize, Callback, Registered};
pub use request_spec::{BasicPair, Call, ClientAuth, Encoding, Format, Hash, Sign, Verb};
pub(crate) use url_template::{CLIENT_ID, DEVICE_CODE};
pub use variable::{Kind, Source, Values, Variable};
pub(crate) use variable::{fill, placeholders};

/// The JSON Schema of definitions, for editors.
pub const SCHEMA: &str = include_str!("../../providers/schema.json");

use std::{borrow::Cow, ops::Deref, sync::Arc, time::Duration};

use url::Url;

use overrides::{check_values, overlay, sound, take_choices, with_defaults};
use url_template::{nowhere, resolve, token_url_needs};

/// One provider, ready to use: a definition with the overrides of the configuration, checked. What had to be worked out
/// stands in fields; everything else is read through to the definition.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Provider {
    /// The name in configuration, JSON and metrics.
    pub name: String,
    /// The name for people.
    pub title: String,
    /// Where a person is asked (RFC 6749 §3.1).
    pub authorize_url: Option<Url>,
    /// Where codes become tokens (RFC 6749 §3.2). Until metadata names it, and where the grant needs none, this is
    /// `https://unknown.invalid/`, which can never exist (RFC 2606 §2).
    pub token_url: Url,
    /// Where refresh tokens become tokens; most often the token endpoint.
    pub refresh_url: Url,
    /// Where tokens are revoked.
    pub revoke_url: Option<Url>,
    /// Where a fresh access token is exchanged once more.
    pub second_url: Option<Url>,
    /// The endpoint that identifies the account of a token.
    pub userinfo_url: Option<Url>,
    /// Where more of an account is asked for, with its new token.
    pub lookup_url: Option<Url>,
    /// The API, up to its version.
    pub api_url: Option<Url>,
    /// Where a device gets its codes (RFC 8628 §3.1).
    pub device_url: Option<Url>,
    /// Where it is asked whether a person has decided at a device flow's page, where that is not the token endpoint.
    pub device_poll_url: Option<Url>,
    /// Where authorization requests are pushed (RFC 9126 §2).
    pub par_url: Option<Url>,
    /// Where a token's end is asked for (RFC 7662 §2).
    pub introspect_url: Option<Url>,
    /// How an RSA key signs the client's own statement.
    pub rsa_algorithm: RsaAlgorithm,
    /// Whether an authorization request that was not pushed is refused.
    pub par_required: bool,
    /// Whether an answer to an authorization request without `iss` is refused (RFC 9207 §2.4).
    pub iss_required: bool,
    /// Whether the server is asked for its metadata.
    pub discovers: bool,
    /// Whether the endpoints are there without metadata.
    pub whole: bool,
    /// How long an access token lives where no answer says so.
    pub lifetime: Option<Duration>,
    /// Whether a renewal ends the refresh token that it spent. Unknown counts as yes.
    pub rotates: bool,
    /// For how long a refresh token may be sent again after an unanswered renewal.
    pub replay_window: Duration,
    /// After how long without a renewal a refresh token lapses.
    pub refresh_idle: Option<Duration>,
    /// With how much left an access token is renewed, where the provider wants that otherwise than usual.
    pub renew_before: Option<Duration>,
    /// The values of the variables that are known, and the redirect URI.
    values: Values,
    /// Which of several entries of a lookup are meant.
    choices: Values,
    platform: Option<Url>,
    definition: Arc<Definition>,
    said: Said,
}

/// What was said, so that the server's word on it does not count.
#[derive(Clone, Copy, Debug)]
struct Said {
    client_auth: bool,
    pkce: bool,
    token_url: bool,
    refresh_url: bool,
}

impl Deref for Provider {
    type Target = Definition;

    fn deref(&self) -> &Definition {
        &self.definition
    }
}

impl Provider {
    /// The name that records give their provider: `custom` may be any, and is told by its host.
    #[must_use]
    pub fn identity(&self) -> String {
        let issuer = self.issuer.as_deref().and_then(|issuer| issuer.parse::<Url>().ok());
        let own = self.api_url.as_ref().filter(|_| self.is_self_signed()).unwrap_or(&self.token_url);
        let host = issuer.as_ref().unwrap_or(own).host_str().unwrap_or_default();
        if self.name == "custom" { format!("custom {host}") } else { self.name.clone() }
    }

    /// Lays `overrides` over `definition`.
    ///
    /// # Errors
    /// A sentence for each URL or variable that is missing or unsafe, with the variable that would set it.
    pub fn new(name: &str, definition: Definition, overrides: Overrides) -> Result<Self, Vec<String>> {
        let asked = overrides.issuer.is_some();
        let said = Said {
            // A definition that says what is the rule anyway says nothing.
            client_auth: overrides.client_auth.is_some() || definition.client_auth != ClientAuth::default(),
            pkce: overrides.pkce.is_some() || definition.pkce != Pkce::default(),
            token_url: overrides.token_url.is_some() || definition.token_url.is_some(),
            refresh_url: overrides.refresh_url.is_some() || definition.refresh_url.is_some(),
        };
        let platform = overrides.platform.clone();
        let given = overrides.urls_with_variables();
        let (mut definition, mut values) = overlay(definition, overrides);
        let choices = take_choices(&definition, &mut values);
        let mut wrong = check_values(name, &definition, &values);
        wrong.extend(check::given_urls(&definition, &given));
        // A wrong value is reported as such, not as a wrong URL.
        let values = with_defaults(&definition, sound(&definition, values));
        let issuer = definition.issuer.take();
        definition.issuer = issuer.and_then(|issuer| fill(&issuer, |name| values.get(name).map(String::as_str)));
        let mut url = |key: &str, text: Option<&str>| match resolve(&definition, text?, &values, platform.as_ref()) {
            Ok(url) => url,
            Err(why) => {
                wrong.push(format!("provider {name}: {key}: {why}"));
                None
            }
        };
        let [
            authorize_url,
            token_url,
            refresh_url,
            revoke_url,
            second_url,
            userinfo_url,
            api_url,
            device_url,
            par_url,
            introspect_url,
            lookup_url,
            device_poll_url,
        ] = definition.urls().map(|(key, text)| url(key, text));
        let late = !token_url_needs(&definition).is_empty();
        let whole = (token_url.is_some() || late)
            && match definition.grant {
                Grant::AuthorizationCode => authorize_url.is_some(),
                Grant::DeviceCode => device_url.is_some(),
                _ => true,
            };
        let needed = definition.asks_token_endpoint();
        let discovers = needed && (asked || (definition.issuer.is_some() && !whole));
        if needed && token_url.is_none() && !late && !discovers && wrong.is_empty() {
            wrong.push(format!("provider {name} has no token endpoint: set the variable token_url, or issuer"));
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let token_url = token_url.unwrap_or_else(nowhere);
        Ok(Self {
            title: definition.title.clone().unwrap_or_else(|| name.to_owned()),
            name: name.to_owned(),
            authorize_url,
            refresh_url: refresh_url.unwrap_or_else(|| token_url.clone()),
            token_url,
            revoke_url,
            second_url,
            userinfo_url,
            lookup_url,
            api_url,
            device_url,
            device_poll_url,
            par_url,
            introspect_url,
            rsa_algorithm: definition.assertion.algorithm.unwrap_or_default(),
            par_required: false,
            iss_required: false,
            discovers,
            whole,
            lifetime: definition.lifetime.map(Duration::from_secs),
            rotates: definition.rotates.unwrap_or(true),
            replay_window: definition.replay_window.map(Duration::from_secs).unwrap_or_default(),
            refresh_idle: definition.refresh_idle.map(Duration::from_secs),
            renew_before: definition.renew_before.map(Duration::from_secs),
            values,
            choices,
            platform,
            definition: Arc::new(definition),
            said,
        })
    }

    /// What the grant cannot do without and nothing names: an endpoint, or a proof of the client. A sentence each, with the
    /// variable that would set it.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        let endpoint = match self.grant {
            Grant::AuthorizationCode if self.authorize_url.is_none() => {
                Some(("authorization endpoint", "authorize_url"))
            }
            Grant::DeviceCode if self.device_url.is_none() => Some(("device authorization endpoint", "device_url")),
            _ => None,
        };
        if let Some((what, variable)) = endpoint.filter(|_| !self.discovers) {
            missing.push(format!("provider {} has no {what}: set the variable {variable}, or issuer", self.name));
        }
        if self.proves_nothing() {
            missing.push(
                "grant=client_credentials needs a client that proves who it is: client_auth=none does not".to_owned(),
            );
        }
        missing
    }

    /// How the client proves who it is; `None` where the server's metadata decides.
    #[must_use]
    pub fn said_client_auth(&self) -> Option<ClientAuth> {
        (self.said.client_auth || !self.discovers).then_some(self.client_auth)
    }

    /// The audience of a signed statement: as configured, with the provider's variables filled in, else the issuer, else the token
    /// endpoint (RFC 7523 §3).
    #[must_use]
    pub fn assertion_audience(&self) -> Cow<'_, str> {
        if let Some(said) = &self.assertion.audience {
            return fill(said, |name| self.value(name)).map_or(Cow::Borrowed(said), Cow::Owned);
        }
        Cow::Borrowed(self.issuer.as_deref().unwrap_or(self.token_url.as_str()))
    }

    /// The provider completed by its server's metadata; what is configured stays. Of the ways to prove who the client is, the first
    /// one that is `usable` with the secrets that there are.
    ///
    /// # Errors
    /// The name, in the metadata, of an endpoint that the grant needs and the server does not have.
    pub fn learned(&self, told: &Metadata, usable: impl Fn(ClientAuth) -> bool) -> Result<Self, &'static str> {
        let or = |said: &Option<Url>, told: &Option<Url>| said.clone().or_else(|| told.clone());
        let mut definition = (*self.definition).clone();
        if let (false, Some(auth)) = (self.said.client_auth, told.client_auth.iter().find(|auth| usable(**auth))) {
            definition.client_auth = *auth;
        }
        if !self.said.pkce && told.s256 == Some(false) {
            definition.pkce = Pkce::Off;
        }
        let told = if definition.client_auth == ClientAuth::TlsClientAuth { &told.by_certificate() } else { told };
        let said = Some(&self.token_url).filter(|_| self.said.token_url);
        let token_url = said.or(told.token_url.as_ref()).ok_or("token_endpoint")?.clone();
        let it = Self {
            authorize_url: or(&self.authorize_url, &told.authorize_url),
            refresh_url: if self.said.refresh_url { self.refresh_url.clone() } else { token_url.clone() },
            token_url,
            revoke_url: or(&self.revoke_url, &told.revoke_url),
            device_url: or(&self.device_url, &told.device_url),
            par_url: or(&self.par_url, &told.par_url),
            introspect_url: or(&self.introspect_url, &told.introspect_url),
            rsa_algorithm: self.assertion.algorithm.or(told.rsa_algorithm).unwrap_or_default(),
            par_required: told.par_required,
            iss_required: told.iss_in_answers,
            definition: Arc::new(definition),
            ..self.clone()
        };
        match it.grant {
            Grant::AuthorizationCode if it.authorize_url.is_none() => Err("authorization_endpoint"),
            Grant::DeviceCode if it.device_url.is_none() => Err("device_authorization_endpoint"),
            _ => Ok(it),
        }
    }

    /// The variables of the token endpoint's URL that the redirect must bring (RFC 6749 §4.1.2): a tenant, for one. A
    /// default does not do: it would send the code and the client's secret to another tenant.
    #[must_use]
    pub fn redirect_must_bring(&self) -> Vec<&str> {
        if self.said.token_url { token_url_needs(&self.definition) } else { Vec::new() }
    }

    /// The effective definition: what it says after the configuration was laid over it.
    #[must_use]
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// Whether the lookup is needed for an account with these values: one of them is missing, or the configuration has
    /// chosen another one since.
    #[must_use]
    pub fn wants_lookup(&self, known: &Values) -> bool {
        self.variables.iter().filter(|(_, variable)| variable.from == Source::Lookup).any(|(name, _)| {
            known.get(name).is_none_or(|value| self.choices.get(name).is_some_and(|choice| choice != value))
        })
    }

    /// What the configuration chooses among several entries of a lookup, by the names of variables.
    #[must_use]
    pub fn choices(&self) -> &Values {
        &self.choices
    }

    /// The value of a variable, as far as it is known.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// The provider as one account sees it: with the values that were kept from its redirect and its token answers in the
    /// places of their variables.
    #[must_use]
    pub fn with(&self, kept: &Values) -> Cow<'_, Self> {
        let known =
            |name: &String| self.variables.get(name).is_some_and(|variable| variable.from != Source::Configuration);
        if !kept.keys().any(known) {
            return Cow::Borrowed(self);
        }
        let mut it = self.clone();
        // They were checked when they were kept; a record may be older than the definition.
        it.values.extend(
            kept.iter()
                .filter(|(name, _)| known(name))
                .filter_map(|(name, value)| Some((name.clone(), self.variables[name].accept(value).ok()?))),
        );
        let again = |text: &Option<String>| -> Option<Url> {
            let text = text.as_deref().filter(|text| placeholders(text).any(|name| kept.contains_key(name)))?;
            resolve(&self.definition, text, &it.values, self.platform.as_ref()).ok().flatten()
        };
        let definition = &self.definition;
        let token_url = again(&definition.token_url);
        if definition.refresh_url.is_none() {
            it.refresh_url = token_url.clone().unwrap_or(it.refresh_url);
        } else {
            it.refresh_url = again(&definition.refresh_url).unwrap_or(it.refresh_url);
        }
        it.token_url = token_url.unwrap_or(it.token_url);
        it.revoke_url = again(&definition.revoke_url).or(it.revoke_url);
        it.introspect_url = again(&definition.introspect_url).or(it.introspect_url);
        it.second_url = again(&definition.second_url).or(it.second_url);
        it.userinfo_url = again(&definition.userinfo_url).or(it.userinfo_url);
        it.lookup_url = again(&definition.lookup_url).or(it.lookup_url);
        it.api_url = again(&definition.api_url).or(it.api_url);
        Cow::Owned(it)
    }
}

#[cfg(test)]
mod tests;
