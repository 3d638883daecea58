//! The provider: a definition by name or from a file, with what the variables lay over it.

use std::{fs, path::Path};

use url::Url;

use super::{connections::meant, default_gateway, endpoint, parse::Strings};
use token_keeper::{
    provider::{AssertionTerms, ClientAuth, Definition, Grant, Overrides, Provider, Values, checked_beside},
    secrets::Secrets,
};

/// A definition is a few kilobytes; a file that is larger is another one.
const FILE_LIMIT: u64 = 256 << 10;

/// More than a message can list.
const LISTED: &str = "`etl-oauth providers` lists those that are built in";

/// What is known of a provider before its variables are read.
#[derive(Debug)]
pub(super) struct Draft {
    definition: Option<(String, Definition)>,
    /// The grant: the one that is configured, else the definition's.
    pub(super) grant: Grant,
}

impl Draft {
    pub(super) fn read(strings: &mut Strings<'_>) -> Self {
        let definition = definition(strings);
        let said = strings.choice("grant", &Grant::NAMES);
        let grant = said.or(definition.as_ref().map(|(_, definition)| definition.grant)).unwrap_or_default();
        Self { definition, grant }
    }
}

/// The provider with all that the variables lay over its definition.
pub(super) fn provider(
    strings: &mut Strings<'_>,
    draft: Draft,
    secrets: &Secrets,
    redirect_url: Option<&Url>,
    gateway_url: Option<&Url>,
) -> Option<Provider> {
    let grant = draft.grant;
    // All variables are read before a definition that is missing ends it: every mistake is reported at once.
    // OpenFaaS's own exchange is a route of its gateway.
    let platform = (grant == Grant::TokenExchange).then(|| gateway_url.cloned().unwrap_or_else(default_gateway));
    let overrides = overrides(strings, secrets, grant, redirect_url, platform);
    let (name, definition) = draft.definition?;
    let overrides = Overrides { variables: variables(strings, &definition), ..overrides };
    checked(strings, &name, definition, overrides)
}

fn overrides(
    strings: &mut Strings<'_>,
    secrets: &Secrets,
    grant: Grant,
    redirect_url: Option<&Url>,
    platform: Option<Url>,
) -> Overrides {
    let beside = |text: &str| checked_beside(text, platform.as_ref()).map_err(|err| err.to_string());
    let words = |text: String| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    // A statement or a token identifies the function by itself; a client is not needed as well.
    let shows = matches!(grant, Grant::JwtBearer | Grant::TokenExchange);
    let anonymous = (shows && !secrets.is_mounted("oauth2-client-secret")).then_some(ClientAuth::None);
    Overrides {
        grant: Some(grant),
        device_url: strings.parsed("device_url", endpoint),
        par_url: strings.parsed("par_url", endpoint),
        resource: strings.parsed("resource", resources),
        dpop: strings.boolean("dpop"),
        assertion: AssertionTerms {
            audience: strings.text("assertion_audience"),
            issuer: strings.text("assertion_issuer"),
            subject: strings.text("assertion_subject"),
            scope_claim: strings.text("assertion_scope_claim"),
            lifetime: strings.duration("assertion_lifetime").map(|lifetime| lifetime.as_secs()),
            algorithm: strings.named("assertion_algorithm"),
            ..AssertionTerms::default()
        },
        subject_token_file: strings.text("subject_token_file"),
        subject_token_type: strings.text("subject_token_type"),
        audience: strings.text("audience").map(words),
        issuer: strings.parsed("issuer", issuer),
        authorize_url: strings.parsed("authorize_url", endpoint),
        token_url: strings.parsed("token_url", beside),
        refresh_url: strings.parsed("refresh_url", endpoint),
        revoke_url: strings.parsed("revoke_url", endpoint),
        api_url: strings.parsed("api_url", beside),
        scope: strings.text("scope").map(words),
        client_auth: strings.named("client_auth").or(anonymous),
        pkce: strings.named("pkce"),
        replay_window: strings.duration("replay_window"),
        refresh_idle: strings.duration("refresh_idle"),
        variables: Values::new(),
        redirect_uri: redirect_url.map(Url::to_string),
        platform,
    }
}

fn checked(strings: &mut Strings<'_>, name: &str, definition: Definition, overrides: Overrides) -> Option<Provider> {
    match Provider::new(name, definition, overrides) {
        Ok(provider) => {
            provider.missing().into_iter().for_each(|line| strings.mistake(line));
            Some(provider)
        }
        Err(wrong) => {
            wrong.into_iter().for_each(|line| strings.mistake(line));
            None
        }
    }
}

fn definition(strings: &mut Strings<'_>) -> Option<(String, Definition)> {
    let (wanted, file) = (strings.text("provider"), strings.text("provider_file"));
    if let Some(file) = file {
        let stem = Path::new(&file).file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        if let Some(wanted) = wanted.filter(|wanted| *wanted != stem) {
            strings.mistake(format!(
                "provider={wanted} is not what provider_file brings: leave provider out, or set provider={stem}"
            ));
        }
        return match read(&file) {
            Ok(definition) => Some((stem, definition)),
            Err(wrong) => {
                wrong.into_iter().for_each(|line| strings.mistake(line));
                None
            }
        };
    }
    let Some(name) = wanted else {
        strings.mistake(format!(
            "provider is not set: name the service that issues the tokens, such as gumroad, or custom; {LISTED}"
        ));
        return None;
    };
    let Some(definition) = Definition::builtin(&name) else {
        let next = match meant(&name, Definition::names()) {
            Some(other) => format!("is it {other} that is meant?"),
            None => format!("{LISTED}, and provider_file reads one of your own"),
        };
        strings.mistake(format!("provider={name} is not known: {next}"));
        return None;
    };
    Some((name, definition))
}

fn read(file: &str) -> Result<Definition, Vec<String>> {
    let failed = |why: String| vec![format!("provider_file={file}: {why}")];
    match fs::metadata(file) {
        Err(err) => return Err(failed(format!("cannot be read: {err}"))),
        Ok(meta) if !meta.is_file() || meta.len() > FILE_LIMIT => {
            return Err(failed("is not a TOML file of a provider definition".into()));
        }
        Ok(_) => {}
    }
    let text = fs::read_to_string(file).map_err(|err| failed(format!("cannot be read: {err}")))?;
    Definition::read(file, &text)
}

/// An issuer stays as it is written: it is compared to the letter.
fn issuer(text: &str) -> Result<String, String> {
    let url = endpoint(text)?;
    if url.query().is_some() {
        return Err("must not hold a query".into());
    }
    Ok(text.to_owned())
}

/// RFC 8707 §2: absolute URIs without a fragment.
fn resources(text: &str) -> Result<Vec<String>, String> {
    let wrong = |word: &str| word.parse::<Url>().map_or(true, |url| url.fragment().is_some());
    if text.split_whitespace().any(wrong) {
        return Err("must hold absolute URIs without a fragment, separated by spaces".into());
    }
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

/// The variables that this definition asks for: `provider_NAME` each.
fn variables(strings: &mut Strings<'_>, definition: &Definition) -> Values {
    let asked = definition.variables.iter().filter(|(_, variable)| variable.from.is_configurable());
    asked.filter_map(|(name, _)| Some((name.clone(), strings.text(&format!("provider_{name}"))?))).collect()
}
