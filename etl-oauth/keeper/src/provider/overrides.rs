//! What the configuration lays over a definition.

use std::{mem::take, time::Duration};

use url::Url;

use super::{
    AssertionTerms, ClientAuth, Definition, Grant, Pkce, Source, Values, url_template::template, variable::placeholders,
};

/// What the configuration lays over a definition; `None` leaves the definition's word.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "each is the Definition field of the same name")]
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
    pub device_url: Option<Url>,
    pub par_url: Option<Url>,
    pub grant: Option<Grant>,
    pub resource: Option<Vec<String>>,
    pub dpop: Option<bool>,
    pub assertion: AssertionTerms,
    pub subject_token_file: Option<String>,
    pub subject_token_type: Option<String>,
    pub audience: Option<Vec<String>>,
    /// The values of the definition's variables that were set.
    pub variables: Values,
    /// Where the provider leads a person back to: some want it in renewals, too.
    pub redirect_uri: Option<String>,
    /// The platform's gateway, where the provider is the platform itself: its endpoints may be http there, as within a
    /// cluster they are.
    pub platform: Option<Url>,
}

impl Overrides {
    /// The keys of the URLs that hold variables.
    pub(super) fn urls_with_variables(&self) -> Vec<&'static str> {
        [
            ("authorize_url", &self.authorize_url),
            ("token_url", &self.token_url),
            ("refresh_url", &self.refresh_url),
            ("revoke_url", &self.revoke_url),
            ("api_url", &self.api_url),
            ("device_url", &self.device_url),
            ("par_url", &self.par_url),
        ]
        .into_iter()
        .filter(|(_, url)| url.as_ref().is_some_and(|url| placeholders(&template(url)).next().is_some()))
        .map(|(key, _)| key)
        .collect()
    }
}

/// The effective definition, and the values that were set.
pub(super) fn overlay(mut definition: Definition, overrides: Overrides) -> (Definition, Values) {
    let text = |url: Option<Url>| url.as_ref().map(template);
    definition.issuer = overrides.issuer.or(definition.issuer);
    definition.authorize_url = text(overrides.authorize_url).or(definition.authorize_url);
    definition.token_url = text(overrides.token_url).or(definition.token_url);
    definition.refresh_url = text(overrides.refresh_url).or(definition.refresh_url);
    definition.revoke_url = text(overrides.revoke_url).or(definition.revoke_url);
    definition.api_url = text(overrides.api_url).or(definition.api_url);
    definition.scope = overrides.scope.unwrap_or(definition.scope);
    definition.client_auth = overrides.client_auth.unwrap_or(definition.client_auth);
    definition.pkce = overrides.pkce.unwrap_or(definition.pkce);
    let seconds = |duration: Option<Duration>| duration.map(|duration| duration.as_secs());
    definition.replay_window = seconds(overrides.replay_window).or(definition.replay_window);
    definition.refresh_idle = seconds(overrides.refresh_idle).or(definition.refresh_idle);
    definition.device_url = text(overrides.device_url).or(definition.device_url);
    definition.par_url = text(overrides.par_url).or(definition.par_url);
    definition.grant = overrides.grant.unwrap_or(definition.grant);
    definition.resource = overrides.resource.unwrap_or(definition.resource);
    definition.dpop = overrides.dpop.unwrap_or(definition.dpop);
    definition.assertion = overrides.assertion.over(definition.assertion);
    let exchange = &mut definition.exchange;
    exchange.subject_token_file =
        overrides.subject_token_file.unwrap_or_else(|| take(&mut exchange.subject_token_file));
    exchange.subject_token_type =
        overrides.subject_token_type.unwrap_or_else(|| take(&mut exchange.subject_token_type));
    exchange.audience = overrides.audience.unwrap_or_else(|| take(&mut exchange.audience));
    let mut values = overrides.variables;
    values.extend(overrides.redirect_uri.map(|uri| ("redirect_uri".to_owned(), uri)));
    (definition, values)
}

/// Takes the values that choose among the entries of a lookup out of the others: they are no values yet.
pub(super) fn take_choices(definition: &Definition, values: &mut Values) -> Values {
    let chooses = |name: &String| definition.variables.get(name).is_some_and(|it| it.from == Source::Lookup);
    let (choices, others) = take(values).into_iter().partition(|(name, _)| chooses(name));
    *values = others;
    choices
}

/// What is wrong with the values that the configuration gives.
pub(super) fn check_values(provider: &str, definition: &Definition, values: &Values) -> Vec<String> {
    let urls: Vec<_> =
        definition.urls().into_iter().filter_map(|(_, url)| url).chain(definition.issuer.as_deref()).collect();
    let mut wrong = Vec::new();
    for (name, variable) in definition.variables.iter().filter(|(_, it)| it.from == Source::Configuration) {
        match values.get(name) {
            Some(value) => {
                if let Err(right) = variable.check(value) {
                    wrong.push(format!("provider_{name} must be {right}"));
                }
            }
            // An overridden URL no longer needs it, and a header or parameter without a value is left out.
            None if variable.default.is_none() && urls.iter().any(|url| placeholders(url).any(|used| used == name)) => {
                let about = variable.about.as_deref().unwrap_or("a part of its addresses");
                wrong.push(format!("provider {provider} needs the variable provider_{name}: {about}"));
            }
            None => {}
        }
    }
    wrong
}

/// The values as they are used, without those that are wrong.
pub(super) fn sound(definition: &Definition, values: Values) -> Values {
    let accept = |(name, value): (String, String)| match definition.variables.get(&name) {
        Some(variable) => Some((name, variable.accept(&value).ok()?)),
        None => Some((name, value)),
    };
    values.into_iter().filter_map(accept).collect()
}

/// The values that are known before a redirect: those that were set, else the definition's.
pub(super) fn with_defaults(definition: &Definition, mut values: Values) -> Values {
    for (name, variable) in &definition.variables {
        if let Some(default) = &variable.default {
            values.entry(name.clone()).or_insert_with(|| default.clone());
        }
    }
    values
}
