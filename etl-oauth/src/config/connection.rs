//! One connection: an OAuth client at a provider, from the variables of the environment or a table of the file.

use std::{path::PathBuf, time::Duration};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use url::Url;

use super::{
    connections::File,
    default_gateway, page,
    parse::Strings,
    provider::{self, Draft},
    urls::browser_url,
};
use token_keeper::{
    grant::{Certificate, Credentials, SigningKey},
    provider::{ClientAuth, Grant, Provider},
    renewal::{Policy, Renew},
    secrets::Secrets,
};

/// The name of the one connection of a function without a file of connections. Its secrets and its records bear no name.
pub const DEFAULT_CONNECTION: &str = "default";

/// A named OAuth client at a provider.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Connection {
    /// Its name: that of the table, or [`DEFAULT_CONNECTION`].
    pub name: String,
    /// The provider, with the overrides.
    pub provider: Provider,
    /// The rules of renewal.
    pub policy: Policy,
    /// How many of its renewals a replica has in progress on its own.
    pub concurrency: usize,
    /// Its own secrets: those of the function, with its name before theirs.
    pub secrets: Secrets,
    /// What the provider calls the private key.
    pub key_id: Option<String>,
    /// When the client's secret ends at the provider, where the operator has said so.
    pub client_secret_expires_at: Option<Timestamp>,
    /// Where the provider sends people back to.
    redirect_url: Url,
}

/// What all connections share.
pub(super) struct Shared<'a> {
    /// The function's secrets.
    pub(super) secrets: &'a Secrets,
    pub(super) gateway_url: Option<&'a Url>,
    /// Where records live, by name.
    pub(super) store: &'a str,
    pub(super) lease: Duration,
    /// By what part of a token's life its renewal may come earlier.
    pub(super) spread: f64,
}

impl Connection {
    /// Whether it is the nameless one.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.name == DEFAULT_CONNECTION
    }

    /// The redirect URI, from the configuration alone: no header of a request has a say in it (RFC 6749 §10.6). Each
    /// connection has one of its own, so that no answer of one server is taken for another's (RFC 9700 §4.4.2.2).
    #[must_use]
    pub fn redirect_uri(&self) -> &str {
        self.redirect_url.as_str()
    }

    /// The same, parsed.
    pub(crate) fn redirect_url(&self) -> &Url {
        &self.redirect_url
    }
}

/// A day of the calendar, in UTC, or a moment.
fn date(text: &str) -> Result<Timestamp, String> {
    let day = text.parse::<Date>().ok().and_then(|day| day.to_zoned(TimeZone::UTC).ok());
    let moment = || text.parse::<Timestamp>().ok();
    day.map(|day| day.timestamp()).or_else(moment).ok_or_else(|| "must be a date such as 2027-01-31".into())
}

/// The connections, and the function's own address, which some grants cannot do without. `strings` has the mistakes.
pub(super) fn connections(strings: &mut Strings<'_>, shared: &Shared<'_>) -> (Vec<Connection>, Option<Url>) {
    let Some(name) = strings.text("connections_file") else {
        let draft = Draft::read(strings);
        let public_url = public_url(strings, draft.grant == Grant::AuthorizationCode, shared.gateway_url);
        let connection = connection(strings, draft, DEFAULT_CONNECTION, public_url.as_ref(), shared);
        return (connection.into_iter().collect(), public_url);
    };
    let path: PathBuf = shared.secrets.folder().join(&name);
    let mut file = match File::open(&name, &path) {
        Ok(file) => file,
        Err(wrong) => {
            wrong.into_iter().for_each(|line| strings.mistake(line));
            return (Vec::new(), public_url(strings, false, shared.gateway_url));
        }
    };
    // A table is read with variables of its own, once to see which grants there are: a redirect URI needs `public_url`.
    let redirects = file
        .tables
        .iter()
        .any(|table| Draft::read(&mut Strings::new(&|name| table.get(name))).grant == Grant::AuthorizationCode);
    let public_url = public_url(strings, redirects, shared.gateway_url);
    let mut connections = Vec::new();
    for index in 0..file.tables.len() {
        let table = &file.tables[index];
        let (name, values) = (table.name.clone(), table.values());
        let get = |name: &str| values.get(name).cloned();
        let mut own = Strings::new(&get);
        let draft = Draft::read(&mut own);
        connections.extend(connection(&mut own, draft, &name, public_url.as_ref(), shared));
        for variable in own.known() {
            if strings.text(variable).is_some() {
                strings.mistake_once(format!(
                    "{variable} is set, and connections_file too: a connection's variables belong into its table there"
                ));
            }
        }
        file.note(index, &own);
    }
    if shared.store == "gateway" && connections.len() > 1 {
        strings.mistake(
            "store=gateway holds one connection with one account: choose kubernetes, nats, postgres or file for more"
                .into(),
        );
    }
    file.mistakes().for_each(|line| strings.mistake(line));
    (connections, public_url)
}

/// The function's URL. A redirect URI needs it to the letter; grants without one can do with what the platform says.
fn public_url(strings: &mut Strings<'_>, needed: bool, gateway_url: Option<&Url>) -> Option<Url> {
    if needed || strings.text("public_url").is_some() {
        return strings.required("public_url", "the function's URL as a browser sees it", browser_url);
    }
    let name = strings.text("OPENFAAS_NAME").unwrap_or_else(|| "etl-oauth".into());
    let mut url = gateway_url.cloned().unwrap_or_else(default_gateway);
    url.set_path(&format!("/function/{name}"));
    Some(url)
}

fn connection(
    strings: &mut Strings<'_>,
    draft: Draft,
    name: &str,
    public_url: Option<&Url>,
    shared: &Shared<'_>,
) -> Option<Connection> {
    let secrets = secrets(shared.secrets, name);
    let renew = strings.choice(
        "renew",
        &[("before_expiry", Renew::BeforeExpiry), ("each_run", Renew::EachRun), ("on_401", Renew::On401)],
    );
    let [renew_before, token_timeout] = ["renew_before", "token_timeout"].map(|name| strings.duration(name));
    let token_timeout = token_timeout.unwrap_or(Duration::from_secs(10));
    if token_timeout >= shared.lease {
        strings.mistake(
            "token_timeout must be shorter than lease: a call may not outlast the lease that guards it".into(),
        );
    }
    let concurrency = strings.parsed("concurrency", super::sweep::count).unwrap_or(8);
    let key_id = strings.text("key_id");
    let client_secret_expires_at = strings.parsed("client_secret_expires_at", date);
    let redirect_url = public_url.and_then(|url| redirect_url(url, name));
    let provider = provider::provider(strings, draft, &secrets, redirect_url.as_ref(), shared.gateway_url);
    needed(strings, &secrets, provider.as_ref());
    let bound = provider.as_ref().is_some_and(|provider| provider.dpop);
    if bound && shared.store == "gateway" && !shared.secrets.is_mounted("oauth2-token") {
        strings.mistake(
            "dpop=true needs a store that keeps the account's key: list the secret oauth2-token, or choose another store"
                .into(),
        );
    }
    let provider = provider?;
    let mut policy = Policy::of(&provider);
    policy.renew = renew.unwrap_or_default();
    policy.renew_before = renew_before.unwrap_or(policy.renew_before);
    (policy.token_timeout, policy.lease, policy.spread) = (token_timeout, shared.lease, shared.spread);
    let (name, redirect_url) = (name.to_owned(), redirect_url?);
    Some(Connection { name, provider, policy, concurrency, secrets, key_id, client_secret_expires_at, redirect_url })
}

/// The secrets of the connection of that name.
fn secrets(shared: &Secrets, name: &str) -> Secrets {
    let prefix = if name == DEFAULT_CONNECTION { String::new() } else { format!("{name}-") };
    Secrets::new(shared.folder(), shared.name(&prefix))
}

fn redirect_url(public_url: &Url, name: &str) -> Option<Url> {
    let path = if name == DEFAULT_CONNECTION { String::new() } else { format!("/{name}") };
    page(public_url, &format!("/oauth2/callback{path}")).parse().ok()
}

/// The client's secrets that this connection cannot do without.
fn needed(strings: &mut Strings<'_>, secrets: &Secrets, provider: Option<&Provider>) {
    // Where the configuration does not say how the client authenticates, the server's metadata does.
    let auth = provider.map_or(Some(ClientAuth::default()), Provider::said_client_auth);
    let client = match provider {
        Some(provider) => Credentials::needed_by(provider.definition(), auth),
        None => Credentials::needed(Grant::default(), auth),
    };
    let named = provider.map(Credentials::named).into_iter().flatten();
    for name in client.iter().copied().chain(named) {
        if let Err(err) = secrets.require(name) {
            strings.mistake(err.to_string());
        }
    }
    let key = secrets.require("oauth2-private-key").ok().filter(|_| client.contains(&"oauth2-private-key"));
    let certificate = secrets.require("oauth2-client-certificate").ok();
    let certificate = certificate.filter(|_| client.contains(&"oauth2-client-certificate"));
    if let Some((certificate, key)) = certificate.as_ref().zip(key.as_ref()) {
        if let Err(err) = Certificate::read(certificate, key) {
            strings.mistake(format!("secret {} {err}", secrets.name("oauth2-client-certificate")));
        }
    } else if let Some(Err(err)) = key.map(|key| SigningKey::read(&key)) {
        strings.mistake(format!("secret {} {err}", secrets.name("oauth2-private-key")));
    }
}
