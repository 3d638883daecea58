//! The configuration: strings from the environment and mounted secrets, to values that are checked. Every mistake is found
//! before any is reported.

pub(crate) mod duration;
mod invoke;
mod misspelt;
mod parse;
mod provider;
mod retriever;
mod sweep;
mod urls;

use std::{fmt, time::Duration};

use jiff::Timestamp;
use url::Url;

pub use crate::guard::{EnableAuth, InvokeAuth};
pub use retriever::Retriever;

use crate::{
    guard::Allow,
    job::{Delivery, Job, extract::Plan},
};
use parse::Strings;
use token_keeper::{
    grant::{Certificate, Credentials, SigningKey},
    provider::{ClientAuth, Grant, Provider},
    renewal::{Limits, Policy, Renew, SweepOptions},
    secrets::Secrets,
    store::{Store, StoreOptions},
};
use urls::{browser_url, default_gateway, endpoint, gateway_url};

/// The watchdog's default of `exec_timeout`.
const EXEC_TIMEOUT: Duration = Duration::from_secs(30);

/// The whole configuration of the function.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The function's name for people, above every page.
    pub title: Option<String>,
    /// When the client's secret ends at the provider, where the operator has said so.
    pub client_secret_expires_at: Option<Timestamp>,
    /// The provider, with the overrides.
    pub provider: Provider,
    /// The rules of renewal.
    pub policy: Policy,
    /// How this replica renews by itself; `None` where it does not.
    pub sweep: Option<SweepOptions>,
    /// How many accounts are in memory, and have metrics of their own.
    pub limits: Limits,
    /// The function's URL as a browser sees it, without a slash at its end.
    pub public_url: Url,
    /// Where records live, by name.
    pub store: String,
    /// What that store needs to know.
    pub store_options: StoreOptions,
    /// The mounted secrets.
    pub secrets: Secrets,
    /// What runs.
    pub job: Job,
    /// The receivers of results.
    pub outlets: Delivery,
    /// How long a person may take at the provider.
    pub state_lifetime: Duration,
    /// How long the operator stays signed in.
    pub session_lifetime: Duration,
    /// Whether anonymous callers see the job's result.
    pub show_result: bool,
    /// Who may authorise.
    pub enable_auth: EnableAuth,
    /// What the provider calls the private key.
    pub key_id: Option<String>,
    /// What of the API callers may use through this function.
    pub proxy_allow: Allow,
    /// How callers prove who they are.
    pub invoke_auth: InvokeAuth,
    /// The watchdog's limit of a call, which it ends with 504; none where the variable `exec_timeout` is `0`.
    pub exec_timeout: Option<Duration>,
    /// Anonymous runs closer together than this share one run's outcome; zero: none do.
    pub min_run_interval: Duration,
    /// How many callers may wait for a run of others: half of the template's `max_inflight`, where that is set.
    pub max_waiting: usize,
}

/// How many callers may wait for a run of others, where `max_inflight` sets no limit: each holds a connection and a task.
const MAX_WAITING: usize = 1000;

/// What is wrong with the configuration: all of it, a line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(Vec<String>);

impl Mistakes {
    /// A single one.
    pub(crate) fn one(line: String) -> Self {
        Self(vec![line])
    }

    /// A line for each mistake: the variable or secret, and what would be right.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("wrong configuration:")?;
        self.0.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

impl std::error::Error for Mistakes {}

impl Config {
    /// Reads the variables that `get` knows, and the secrets that they point to.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # for name in ["oauth2-client-id", "oauth2-client-secret", "basic-auth-password"] {
    /// #     std::fs::write(folder.path().join(name), "value")?;
    /// # }
    /// # for name in ["oauth2-access-token", "oauth2-refresh-token"] {
    /// #     std::fs::write(folder.path().join(name), "empty")?;
    /// # }
    /// let config = etl_oauth::config::Config::read(|name| match name {
    ///     "provider" => Some("gumroad".into()),
    ///     "public_url" => Some("https://gateway.example.com/function/etl-oauth".into()),
    ///     "secret_mount_path" => Some(folder.path().display().to_string()),
    ///     _ => None,
    /// })?;
    /// assert_eq!(config.provider.title, "Gumroad");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Mistakes`], all at once.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, Mistakes> {
        Self::of(&mut Strings::new(&get), [])
    }

    /// Reads the variables of this process's environment, and the secrets that they point to. A variable that is set, that
    /// nothing reads, and whose name is nearly that of one of ours is a mistake as well.
    ///
    /// # Errors
    /// [`Mistakes`], all at once.
    pub fn of_environment() -> Result<Self, Mistakes> {
        let set = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        Self::of(&mut Strings::new(&|name| std::env::var(name).ok()), set)
    }

    /// Reads the variables of `strings`; `set` are the names of all that are set.
    fn of(strings: &mut Strings<'_>, set: impl IntoIterator<Item = String>) -> Result<Self, Mistakes> {
        let secrets = Secrets::new(
            strings.text("secret_mount_path").unwrap_or_else(|| Secrets::FOLDER.into()),
            strings.text("secret_prefix").unwrap_or_default(),
        );
        let gateway_url = strings.parsed("gateway_url", gateway_url);
        let store = strings.choice("store", &Store::KINDS.map(|kind| (kind, kind))).unwrap_or("gateway");
        let job = job(strings);
        let report_to = [strings.text("report_to"), strings.text("report_from")];
        let outlets = Delivery::new(secrets.clone(), report_to[0].as_deref(), report_to[1].as_deref())
            .map_err(|why| strings.mistake(why))
            .ok();
        let renew = strings.choice(
            "renew",
            &[("before_expiry", Renew::BeforeExpiry), ("each_run", Renew::EachRun), ("on_401", Renew::On401)],
        );
        let durations = ["renew_before", "token_timeout", "lease", "state_lifetime", "session_lifetime"];
        let [renew_before, token_timeout, lease, state_lifetime, session_lifetime] =
            durations.map(|name| strings.duration(name));
        let min_run_interval = strings.duration("min_run_interval");
        let sweeping = sweep::sweeping(strings);
        // The template reads it, too, and says what is wrong with it.
        let max_inflight = strings.text("max_inflight").and_then(|count| count.parse().ok()).unwrap_or(0);
        let proxy_allow = strings.parsed("proxy_allow", Allow::parse);
        let show_result = strings.boolean("show_result");
        let enable_auth = strings
            .choice("enable_auth", &[("operator", EnableAuth::Operator), ("first_visit", EnableAuth::FirstVisit)]);
        let key_id = strings.text("key_id");
        let client_secret_expires_at = strings.parsed("client_secret_expires_at", date);
        let title = strings.text("title").map(|title| crate::format::cut(&title, 60));
        let (provider, public_url) = provider::provider(strings, &secrets, gateway_url.as_ref());
        let invoke_auth = invoke::invoke(strings, &secrets, public_url.as_ref(), gateway_url.as_ref());

        let operator = secrets.is_mounted("etl-oauth-operator");
        if enable_auth == Some(EnableAuth::Operator) && !operator {
            strings.mistake(format!("enable_auth=operator needs the secret {}", secrets.name("etl-oauth-operator")));
        }
        let token_timeout = token_timeout.unwrap_or(Duration::from_secs(10));
        let lease = lease.unwrap_or(Duration::from_secs(30));
        if token_timeout >= lease {
            strings.mistake(
                "token_timeout must be shorter than lease: a call may not outlast the lease that guards it".into(),
            );
        }
        needed(strings, &secrets, provider.as_ref(), store);
        let bound = provider.as_ref().is_some_and(|provider| provider.dpop);
        if bound && store == "gateway" && !secrets.is_mounted("oauth2-token") {
            strings.mistake(
                "dpop=true needs a store that keeps the account's key: list the secret oauth2-token, or choose another store"
                    .into(),
            );
        }
        let store_options = store_options(strings, &secrets, public_url.as_ref(), gateway_url);
        let exec_timeout = strings.duration("exec_timeout").unwrap_or(EXEC_TIMEOUT);
        misspelt::misspelt(set, strings.known()).into_iter().for_each(|line| strings.mistake(line));

        let mistakes = strings.take_mistakes();
        match (provider, public_url, outlets) {
            (Some(provider), Some(public_url), Some(outlets)) if mistakes.is_empty() => {
                let mut policy = Policy::of(&provider);
                let mut store_options = store_options;
                store_options.rotates = provider.rotates;
                policy.renew = renew.unwrap_or_default();
                policy.renew_before = renew_before.unwrap_or(policy.renew_before);
                (policy.token_timeout, policy.lease) = (token_timeout, lease);
                policy.spread = sweeping.spread;
                Ok(Self {
                    title,
                    client_secret_expires_at,
                    provider,
                    policy,
                    sweep: sweeping.sweep,
                    limits: sweeping.limits,
                    public_url,
                    store: store.to_owned(),
                    store_options,
                    secrets,
                    job: job.unwrap_or(Job::Gumroad),
                    outlets,
                    state_lifetime: state_lifetime.unwrap_or(Duration::from_secs(600)),
                    session_lifetime: session_lifetime.unwrap_or(Duration::from_hours(12)),
                    show_result: show_result.unwrap_or(false),
                    key_id,
                    proxy_allow: proxy_allow.unwrap_or_default(),
                    invoke_auth,
                    max_waiting: match max_inflight {
                        0 => MAX_WAITING,
                        count => MAX_WAITING.min(count / 2).max(1),
                    },
                    exec_timeout: Some(exec_timeout).filter(|limit| !limit.is_zero()),
                    min_run_interval: min_run_interval.unwrap_or(Duration::from_secs(10)),
                    enable_auth: enable_auth.unwrap_or(if operator {
                        EnableAuth::Operator
                    } else {
                        EnableAuth::FirstVisit
                    }),
                })
            }
            _ => Err(Mistakes(mistakes)),
        }
    }

    /// The redirect URI, from the configuration alone: no header of a request has a say in it (RFC 6749 §10.6).
    #[must_use]
    pub fn redirect_uri(&self) -> String {
        redirect_uri(&self.public_url)
    }

    /// The same, parsed.
    pub(crate) fn redirect_url(&self) -> Url {
        let mut url = self.public_url.clone();
        url.set_path(&format!("{}/oauth2/callback", self.public_url.path().trim_end_matches('/')));
        url
    }

    /// A URL below the function's own.
    #[must_use]
    pub fn page(&self, path: &str) -> String {
        page(&self.public_url, path)
    }
}

/// A day of the calendar, in UTC, or a moment.
fn date(text: &str) -> Result<Timestamp, String> {
    let day = text.parse::<jiff::civil::Date>().ok().and_then(|day| day.to_zoned(jiff::tz::TimeZone::UTC).ok());
    let moment = || text.parse::<Timestamp>().ok();
    day.map(|day| day.timestamp()).or_else(moment).ok_or_else(|| "must be a date such as 2027-01-31".into())
}

/// The job by name, with what it needs to know.
fn job(strings: &mut Strings<'_>) -> Option<Job> {
    match strings.choice("job", &Job::NAMES.map(|name| (name, name)))? {
        "none" => Some(Job::None),
        "strava" => Some(Job::Strava),
        "x" => Some(Job::X),
        "extract" => strings
            .required("extract_file", "the TOML file that says what to copy", |path| Plan::open(path.as_ref()))
            .map(|plan| Job::Extract(plan.into())),
        _ => Some(Job::Gumroad),
    }
}

fn redirect_uri(public_url: &Url) -> String {
    page(public_url, "/oauth2/callback")
}

fn page(public_url: &Url, path: &str) -> String {
    format!("{}{path}", public_url.as_str().trim_end_matches('/'))
}

/// The secrets that this configuration cannot do without.
fn needed(strings: &mut Strings<'_>, secrets: &Secrets, provider: Option<&Provider>, store: &str) {
    // Only the gateway's store keeps tokens in mounted secrets.
    let tokens: &[&str] = match (store, secrets.is_mounted("oauth2-token")) {
        ("gateway", true) => &["oauth2-token"],
        ("gateway", false) => &["oauth2-access-token", "oauth2-refresh-token"],
        _ => &[],
    };
    let password: &[&str] = if store == "gateway" { &["basic-auth-password"] } else { &[] };
    let grant = provider.map_or(Grant::default(), |provider| provider.grant);
    // Where the configuration does not say how the client authenticates, the server's metadata does.
    let auth = provider.map_or(Some(ClientAuth::default()), Provider::said_client_auth);
    let client = match provider {
        Some(provider) => Credentials::needed_by(provider.definition(), auth),
        None => Credentials::needed(grant, auth),
    };
    let named = provider.map(Credentials::named).into_iter().flatten();
    for name in client.iter().copied().chain(named).chain(password.iter().copied()).chain(tokens.iter().copied()) {
        if let Err(err) = secrets.require(name) {
            let hint =
                if tokens.contains(&name) { " (its value is `empty` before the first authorisation)" } else { "" };
            strings.mistake(format!("{err}{hint}"));
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

/// What the stores need to know; a store finds out by itself what it misses.
fn store_options(
    strings: &mut Strings<'_>,
    secrets: &Secrets,
    public_url: Option<&Url>,
    gateway_url: Option<Url>,
) -> StoreOptions {
    // The last part of the path is the function's name, as the gateway has it.
    let name = public_url.and_then(|url| url.path_segments()?.next_back().map(str::to_owned));
    let mut options =
        StoreOptions::new(name.filter(|name| !name.is_empty()).unwrap_or_else(|| "etl-oauth".into()), secrets.clone());
    options.gateway_url = Some(gateway_url.unwrap_or_else(default_gateway));
    options.namespace = strings.text("store_namespace");
    options.nats_url = strings.text("nats_url").unwrap_or(options.nats_url);
    options.nats_bucket = strings.text("nats_bucket").unwrap_or(options.nats_bucket);
    options.path = strings.text("store_path").map(Into::into);
    options.allow_ephemeral = strings.boolean("allow_ephemeral_store").unwrap_or(false);
    options
}

#[cfg(test)]
mod tests;
