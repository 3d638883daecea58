//! The configuration: strings from the environment and mounted secrets, to values that are checked. Every mistake is found
//! before any is reported.

mod connection;
mod connections;
pub(crate) mod duration;
mod invoke;
mod misspelt;
mod parse;
mod provider;
mod retriever;
mod sweep;
mod urls;

use std::{collections::BTreeMap, fmt, time::Duration};

use url::Url;

pub use crate::guard::{EnableAuth, InvokeAuth};
pub use connection::{Connection, DEFAULT_CONNECTION};
pub use retriever::Retriever;

use crate::{
    guard::Allow,
    job::{Delivery, Job, extract::Plan},
};
use connection::{Shared, connections};
use connections::nearest;
use parse::Strings;
use token_keeper::{
    renewal::{Limits, SweepOptions},
    secrets::Secrets,
    store::{Store, StoreOptions},
};
use urls::{default_gateway, endpoint, gateway_url};

/// The watchdog's default of `exec_timeout`.
const EXEC_TIMEOUT: Duration = Duration::from_secs(30);

/// The whole configuration of the function.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The function's name for people, above every page.
    pub title: Option<String>,
    /// The connections, in the order of their names; one at least.
    pub connections: Vec<Connection>,
    /// Whose accounts the job runs for, where that is said.
    pub job_connection: Option<String>,
    /// How this replica renews by itself; `None` where it does not. The concurrency is each connection's own.
    pub sweep: Option<SweepOptions>,
    /// How many accounts of a connection are in memory, and have metrics of their own.
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
    /// What of each connection's API callers may use through this function, by the connection's name.
    pub proxy_allow: BTreeMap<String, Allow>,
    /// The names of callers who may make connect links.
    pub links_allow: Vec<String>,
    /// Below which URLs a connect link may lead its owner back.
    pub links_return: Vec<Url>,
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
    /// assert_eq!(config.connections[0].provider.title, "Gumroad");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Mistakes`], all at once.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, Mistakes> {
        Self::of(&mut Strings::new(&get), [], None)
    }

    /// Reads the variables of this process's environment, and the secrets that they point to. A variable that is set, that
    /// nothing reads, and whose name is nearly that of one of ours is a mistake as well.
    ///
    /// # Errors
    /// [`Mistakes`], all at once.
    pub fn of_environment() -> Result<Self, Mistakes> {
        Self::of_environment_with(None)
    }

    /// The same, for a function with a job of its own in the place of a built-in one.
    pub(crate) fn of_environment_with(job: Option<Job>) -> Result<Self, Mistakes> {
        let set = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        Self::of(&mut Strings::new(&|name| std::env::var(name).ok()), set, job)
    }

    /// Reads the variables of `strings`; `set` are the names of all that are set, `own` is the function's own job.
    fn of(
        strings: &mut Strings<'_>,
        set: impl IntoIterator<Item = String>,
        own: Option<Job>,
    ) -> Result<Self, Mistakes> {
        let secrets = Secrets::new(
            strings.text("secret_mount_path").unwrap_or_else(|| Secrets::FOLDER.into()),
            strings.text("secret_prefix").unwrap_or_default(),
        );
        let gateway_url = strings.parsed("gateway_url", gateway_url);
        let store = strings.choice("store", &Store::KINDS.map(|kind| (kind, kind))).unwrap_or("gateway");
        let job = job(strings);
        let job = own.or(job).unwrap_or(Job::Gumroad);
        let report_to = [strings.text("report_to"), strings.text("report_from")];
        let outlets = Delivery::new(secrets.clone(), report_to[0].as_deref(), report_to[1].as_deref())
            .map_err(|why| strings.mistake(why))
            .ok();
        let [lease, state_lifetime, session_lifetime] =
            ["lease", "state_lifetime", "session_lifetime"].map(|name| strings.duration(name));
        let min_run_interval = strings.duration("min_run_interval");
        let sweeping = sweep::sweeping(strings);
        // The template reads it, too, and says what is wrong with it.
        let max_inflight = strings.text("max_inflight").and_then(|count| count.parse().ok()).unwrap_or(0);
        let show_result = strings.boolean("show_result");
        let enable_auth = strings
            .choice("enable_auth", &[("operator", EnableAuth::Operator), ("first_visit", EnableAuth::FirstVisit)]);
        let title = strings.text("title").map(|title| crate::format::cut(&title, 60));
        let lease = lease.unwrap_or(Duration::from_secs(30));
        let shared =
            Shared { secrets: &secrets, gateway_url: gateway_url.as_ref(), store, lease, spread: sweeping.spread };
        let (connections, public_url) = connections(strings, &shared);
        let job_connection = job_connection(strings, &connections, &job);
        let proxy_allow = proxy_allow(strings, &connections);
        let links_allow = list(&strings.text("links_allow").unwrap_or_default());
        let links_return = strings.parsed("links_return", |text| list(text).iter().map(|url| endpoint(url)).collect());
        let invoke_auth = invoke::invoke(strings, &secrets, public_url.as_ref(), gateway_url.as_ref());

        let operator = secrets.is_mounted("etl-oauth-operator");
        if enable_auth == Some(EnableAuth::Operator) && !operator {
            strings.mistake(format!("enable_auth=operator needs the secret {}", secrets.name("etl-oauth-operator")));
        }
        needed(strings, &secrets, store);
        let store_options = store_options(strings, &secrets, public_url.as_ref(), gateway_url);
        let exec_timeout = strings.duration("exec_timeout").unwrap_or(EXEC_TIMEOUT);
        misspelt::misspelt(set, strings.known()).into_iter().for_each(|line| strings.mistake(line));

        let mistakes = strings.take_mistakes();
        match (public_url, outlets) {
            (Some(public_url), Some(outlets)) if mistakes.is_empty() && !connections.is_empty() => {
                let mut store_options = store_options;
                store_options.rotates = connections.iter().any(|connection| connection.provider.rotates);
                Ok(Self {
                    title,
                    connections,
                    job_connection,
                    sweep: sweeping.sweep,
                    limits: sweeping.limits,
                    public_url,
                    store: store.to_owned(),
                    store_options,
                    secrets,
                    job,
                    outlets,
                    state_lifetime: state_lifetime.unwrap_or(Duration::from_secs(600)),
                    session_lifetime: session_lifetime.unwrap_or(Duration::from_hours(12)),
                    show_result: show_result.unwrap_or(false),
                    proxy_allow,
                    links_allow,
                    links_return: links_return.unwrap_or_default(),
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

    /// The connection of that name.
    #[must_use]
    pub fn connection(&self, name: &str) -> Option<&Connection> {
        self.connections.iter().find(|connection| connection.name == name)
    }

    /// The connection that is meant where none is named: the one called `default`, or the only one.
    #[must_use]
    pub fn implied_connection(&self) -> Option<&Connection> {
        implied(&self.connections)
    }

    /// The connections whose accounts the job runs for.
    #[must_use]
    pub fn job_connections(&self) -> Vec<&Connection> {
        match &self.job_connection {
            Some(name) => self.connection(name).into_iter().collect(),
            // A call to a function without a job keeps every token alive.
            None if matches!(self.job, Job::None) => self.connections.iter().collect(),
            None => self.implied_connection().or(self.connections.first()).into_iter().collect(),
        }
    }

    /// A URL below the function's own.
    #[must_use]
    pub fn page(&self, path: &str) -> String {
        page(&self.public_url, path)
    }
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

/// The entries of a list with commas.
fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(str::to_owned).collect()
}

/// The connection that is meant where none is named.
fn implied(connections: &[Connection]) -> Option<&Connection> {
    match connections {
        [only] => Some(only),
        all => all.iter().find(|connection| connection.is_default()),
    }
}

/// What callers may use of each connection's API.
fn proxy_allow(strings: &mut Strings<'_>, connections: &[Connection]) -> BTreeMap<String, Allow> {
    let names: Vec<&str> = connections.iter().map(|connection| connection.name.as_str()).collect();
    let implied = implied(connections).map(|connection| connection.name.as_str());
    let read = strings.parsed("proxy_allow", |text| {
        // Without a connection there are mistakes enough; the entries can be read all the same.
        if names.is_empty() {
            Allow::parse(text).map(|_| BTreeMap::new())
        } else {
            Allow::by_connection(text, &names, implied)
        }
    });
    read.unwrap_or_default()
}

/// Which connection's accounts the job runs for; required for a built-in job where there are several connections.
fn job_connection(strings: &mut Strings<'_>, connections: &[Connection], job: &Job) -> Option<String> {
    let names = || connections.iter().map(|connection| connection.name.as_str());
    let named = strings.text("job_connection");
    match &named {
        Some(name) if !connections.is_empty() && !names().any(|known| known == name) => {
            strings.mistake(format!("job_connection={name} is no connection: {}", nearest(name, names())));
        }
        None if connections.len() > 1 && !matches!(job, Job::None | Job::Own(_)) => {
            let names = names().collect::<Vec<_>>().join(", ");
            let job = job.name();
            strings.mistake(format!("job_connection is not set: job={job} runs for the accounts of one of {names}"));
        }
        _ => {}
    }
    named
}

fn page(public_url: &Url, path: &str) -> String {
    format!("{}{path}", public_url.as_str().trim_end_matches('/'))
}

/// The secrets that the store cannot do without.
fn needed(strings: &mut Strings<'_>, secrets: &Secrets, store: &str) {
    if store != "gateway" {
        return;
    }
    // Only the gateway's store keeps tokens in mounted secrets.
    let tokens: &[&str] = if secrets.is_mounted("oauth2-token") {
        &["oauth2-token"]
    } else {
        &["oauth2-access-token", "oauth2-refresh-token"]
    };
    for name in ["basic-auth-password"].iter().chain(tokens) {
        if let Err(err) = secrets.require(name) {
            let hint =
                if tokens.contains(name) { " (its value is `empty` before the first authorisation)" } else { "" };
            strings.mistake(format!("{err}{hint}"));
        }
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
