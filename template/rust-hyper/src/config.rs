//! What the environment says: of-watchdog's variables, read in three steps, text, typed, built.

use std::{
    env, fmt, fs,
    net::{Ipv6Addr, SocketAddr},
    num::NonZeroUsize,
    path::PathBuf,
    time::Duration,
};

use http::uri::PathAndQuery;
use tracing_subscriber::filter::{LevelFilter, Targets};

use crate::{auth, duration};

/// Where Kubernetes tells a pod its namespace.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// How a watchdog behaves. Made by [`Config::from_strings`] or [`Config::from_env`].
///
/// ```
/// let config = watchdog::Config::from_strings(|name| match name {
///     "port" => Some("0".into()),
///     "exec_timeout" => Some("1m30s".into()),
///     _ => None,
/// })?;
/// # Ok::<(), watchdog::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    pub(crate) address: SocketAddr,
    pub(crate) metrics_address: Option<SocketAddr>,
    pub(crate) read_timeout: Duration,
    pub(crate) write_timeout: Duration,
    /// `None`: a call may take as long as `write_timeout`.
    pub(crate) exec_timeout: Option<Duration>,
    pub(crate) healthcheck_interval: Duration,
    pub(crate) max_inflight: Option<NonZeroUsize>,
    pub(crate) ready_path: Option<PathAndQuery>,
    pub(crate) suppress_lock: bool,
    pub(crate) lock_file: PathBuf,
    pub(crate) log_callid: bool,
    pub(crate) log_format: LogFormat,
    pub(crate) filter: Targets,
    /// The function's name, where the platform says it.
    pub(crate) function: Option<String>,
    pub(crate) auth: Option<auth::Settings>,
    /// Settings that are accepted and have no effect, as a sentence each for the log.
    pub(crate) remarks: Vec<&'static str>,
}

/// How lines of the log look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum LogFormat {
    /// of-watchdog's lines.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Every mistake of a configuration, one sentence each; each names its variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError(Vec<String>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads the process environment; a value that is not UTF-8 is a mistake like any other.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_strings(|name| env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    /// Reads the variables through `get`, so that a test or another program can hand in its own.
    ///
    /// # Errors
    /// All mistakes at once. Values are not repeated, they may be secrets put in the wrong place.
    pub fn from_strings(get: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut read = Reader { get, mistakes: Vec::new() };
        let port = read.port(if (read.get)("port").is_some() { "port" } else { "PORT" }, 8080);
        let metrics_port = read.port("metrics_port", 8081);
        let read_timeout = read.duration("read_timeout");
        let write_timeout = read.duration("write_timeout");
        let exec_timeout = read.duration("exec_timeout");
        let healthcheck_interval = read.duration("healthcheck_interval");
        // Below zero is off, as it is for of-watchdog.
        let max_inflight = read.whole("max_inflight").and_then(|limit| NonZeroUsize::new(usize::try_from(limit).ok()?));
        let ready_path = read.value("ready_path", "is not a path", |path| {
            let slash = if path.starts_with('/') { "" } else { "/" };
            format!("{slash}{path}").parse().ok()
        });
        let suppress_lock = read.boolean("suppress_lock");
        let log_callid = read.boolean("log_callid");
        let log_format = read.value("log_format", "is neither text nor json", |value| match value {
            "text" => Some(LogFormat::Text),
            "json" => Some(LogFormat::Json),
            _ => None,
        });
        let filter = read.filter();
        let auth = read.auth();
        let mut remarks = Vec::new();
        if read.boolean("http_buffer_req_body") {
            remarks.push("http_buffer_req_body has no effect: the function reads the request as it was sent");
        }

        read.boolean("prefix_logs");
        read.whole("log_buffer_size");
        for (name, remark) in [
            ("prefix_logs", "prefix_logs has no effect: the function writes its lines itself"),
            ("log_buffer_size", "log_buffer_size has no effect: the function's lines are not read"),
        ] {
            if read.text(name).is_some() {
                remarks.push(remark);
            }
        }

        if write_timeout == Some(Duration::ZERO) {
            read.mistakes.push("write_timeout must be over 0s".into());
        }
        if port == metrics_port && port != 0 {
            read.mistakes.push("port and metrics_port are the same; metrics_port=0 turns the metrics off".into());
        }
        if !read.mistakes.is_empty() {
            return Err(ConfigError(read.mistakes));
        }

        const DEFAULT: Duration = Duration::from_secs(30);
        let write_timeout = write_timeout.unwrap_or(DEFAULT);
        let exec_timeout = Some(exec_timeout.unwrap_or(DEFAULT)).filter(|limit| !limit.is_zero());
        if exec_timeout.is_some_and(|limit| limit > write_timeout) {
            remarks
                .push("exec_timeout is longer than write_timeout, which ends a call first: set write_timeout as long");
        }
        let any = |port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        Ok(Self {
            address: any(port),
            metrics_address: (metrics_port != 0).then(|| any(metrics_port)),
            read_timeout: read_timeout.unwrap_or(DEFAULT),
            write_timeout,
            exec_timeout,
            healthcheck_interval: healthcheck_interval.unwrap_or(write_timeout),
            max_inflight,
            ready_path,
            suppress_lock,
            lock_file: PathBuf::from(read.text("TMPDIR").unwrap_or_else(|| "/tmp".into())).join(".lock"),
            log_callid,
            log_format: log_format.unwrap_or_default(),
            filter,
            function: read.text("OPENFAAS_NAME"),
            auth,
            remarks,
        })
    }

    /// How long a request's body may be waited for.
    pub(crate) fn read_limit(&self) -> Duration {
        if self.read_timeout.is_zero() { Duration::from_secs(86_400) } else { self.read_timeout }
    }

    /// Listens on `address` instead of the wildcard address; port 0 is any free one.
    #[must_use]
    pub fn with_address(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// Serves metrics on `address`, or not at all; port 0 is any free one.
    #[must_use]
    pub fn with_metrics_address(mut self, address: impl Into<Option<SocketAddr>>) -> Self {
        self.metrics_address = address.into();
        self
    }
}

/// Collects typed values and, instead of stopping at the first, all mistakes.
struct Reader<G> {
    get: G,
    mistakes: Vec<String>,
}

impl<G: Fn(&str) -> Option<String>> Reader<G> {
    /// A variable that is set to nothing counts as not set: an unset `${NAME}` in a stack file becomes that.
    fn text(&self, name: &str) -> Option<String> {
        (self.get)(name).filter(|value| !value.is_empty())
    }

    /// A variable as `parse` reads it. Where it cannot, `what` says what it should be.
    fn value<T>(&mut self, name: &str, what: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let value = self.text(name)?;
        let parsed = parse(&value);
        if parsed.is_none() {
            self.mistakes.push(format!("{name} {what}"));
        }
        parsed
    }

    /// Unlike others, a port that is set to nothing is a mistake.
    fn port(&mut self, name: &str, default: u16) -> u16 {
        let Some(value) = (self.get)(name) else { return default };
        value.parse().unwrap_or_else(|_| {
            self.mistakes.push(format!("{name} is not a port number from 0 to 65535"));
            default
        })
    }

    fn duration(&mut self, name: &str) -> Option<Duration> {
        let what = "is not a duration: write seconds (30) or a Go duration (1m30s, 250ms)";
        self.value(name, what, |value| duration::parse(value).ok())
    }

    fn whole(&mut self, name: &str) -> Option<i64> {
        self.value(name, "is not a whole number", |value| value.parse().ok())
    }

    fn boolean(&mut self, name: &str) -> bool {
        let parse = |value: &str| match value {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        };
        self.value(name, "is neither true nor false", parse).unwrap_or_default()
    }

    fn auth(&mut self) -> Option<auth::Settings> {
        let (debug, local) = (self.boolean("jwt_auth_debug"), self.boolean("jwt_auth_local"));
        if !self.boolean("jwt_auth") {
            return None;
        }
        if !auth::IS_BUILT_IN {
            let message = "jwt_auth is not in this build: build with the feature jwt (--build-arg FEATURES=jwt)";
            self.mistakes.push(message.into());
        }
        let name = self.text("OPENFAAS_NAME");
        if name.is_none() {
            self.mistakes.push("OPENFAAS_NAME is not set: jwt_auth needs the name of the function".into());
        }
        let namespace = self.text("OPENFAAS_NAMESPACE").or_else(|| {
            let namespace = fs::read_to_string(NAMESPACE_FILE).ok()?;
            Some(namespace.trim().to_owned()).filter(|namespace| !namespace.is_empty())
        });
        if namespace.is_none() {
            let message =
                format!("OPENFAAS_NAMESPACE is not set and {NAMESPACE_FILE} cannot be read: jwt_auth needs it");
            self.mistakes.push(message);
        }
        let gateway = if local { "http://127.0.0.1:8000" } else { "http://gateway.openfaas:8080" };
        let url = self.text("jwt_auth_url").unwrap_or_else(|| gateway.to_owned());
        Some(auth::Settings {
            url: url.trim_end_matches('/').to_owned(),
            function: format!("{}:{}", namespace?, name?),
            debug,
        })
    }

    /// `RUST_LOG`, else `log_level`: a level, or levels by target, as in `info,hyper=debug`.
    fn filter(&mut self) -> Targets {
        let name = if self.text("RUST_LOG").is_some() { "RUST_LOG" } else { "log_level" };
        let what =
            "is not a list of levels: write info, or warn,my_crate=debug; filters by span or field are not supported";
        let filter = self.value(name, what, |value| {
            // `Targets` would take these for the names of targets.
            let directives: Vec<_> =
                value.split(',').map(str::trim).filter(|directive| !directive.is_empty()).collect();
            directives.join(",").parse::<Targets>().ok().filter(|_| !value.contains(['[', ']', '{', '}', '"']))
        });
        filter.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::from_strings(|name| variables.iter().find(|v| v.0 == name).map(|v| v.1.to_owned()))
    }

    #[test]
    fn defaults_are_those_of_of_watchdog() {
        let config = config(&[]).unwrap();
        assert_eq!(config.address, "[::]:8080".parse().unwrap());
        assert_eq!(config.metrics_address, Some("[::]:8081".parse().unwrap()));
        assert_eq!(config.read_timeout, Duration::from_secs(30));
        assert_eq!(config.write_timeout, Duration::from_secs(30));
        assert_eq!(config.exec_timeout, Some(Duration::from_secs(30)));
        assert_eq!(config.healthcheck_interval, Duration::from_secs(30));
        assert_eq!(config.max_inflight, None);
        assert_eq!(config.lock_file, PathBuf::from("/tmp/.lock"));
    }

    #[test]
    fn the_drain_delay_follows_the_write_timeout() {
        let config = config(&[("write_timeout", "7s"), ("exec_timeout", "0")]).unwrap();
        assert_eq!(config.healthcheck_interval, Duration::from_secs(7));
        assert_eq!(config.exec_timeout, None);
    }

    #[test]
    fn all_mistakes_are_told_at_once_and_by_name_without_the_value() {
        let error = config(&[
            ("port", "http"),
            ("metrics_port", "99999"),
            ("read_timeout", "soon"),
            ("write_timeout", "0"),
            ("exec_timeout", "-1s"),
            ("healthcheck_interval", "1d"),
            ("max_inflight", "many"),
            ("suppress_lock", "yes"),
            ("log_format", "xml"),
        ])
        .unwrap_err();
        let names: Vec<_> = error.0.iter().map(|m| m.split(' ').next().unwrap()).collect();
        assert_eq!(
            names,
            [
                "port",
                "metrics_port",
                "read_timeout",
                "exec_timeout",
                "healthcheck_interval",
                "max_inflight",
                "suppress_lock",
                "log_format",
                "write_timeout"
            ]
        );
        for value in ["99999", "soon", "many", "yes", "xml"] {
            assert!(!error.to_string().contains(value), "{value}");
        }
    }

    #[test]
    fn empty_means_unset_but_for_a_port() {
        assert!(
            config(&[("read_timeout", ""), ("suppress_lock", ""), ("max_inflight", ""), ("log_format", "")]).is_ok()
        );
        assert_eq!(config(&[("port", "")]).unwrap_err().0.len(), 1);
    }

    #[test]
    fn one_port_cannot_be_both() {
        assert!(config(&[("port", "8081")]).is_err());
        assert!(config(&[("port", "8081"), ("metrics_port", "0")]).is_ok());
        assert!(config(&[("port", "0"), ("metrics_port", "0")]).is_ok());
    }

    #[test]
    fn function_auth_needs_to_know_the_function() {
        let error = config(&[("jwt_auth", "1"), ("OPENFAAS_NAMESPACE", "dev")]).unwrap_err();
        assert!(error.to_string().starts_with("OPENFAAS_NAME "), "{error}");
        let set =
            [("jwt_auth", "1"), ("OPENFAAS_NAMESPACE", "dev"), ("OPENFAAS_NAME", "env"), ("jwt_auth_url", "http://g/")];
        let settings = config(&set).unwrap().auth.unwrap();
        assert_eq!((settings.function.as_str(), settings.url.as_str()), ("dev:env", "http://g"));
    }

    #[test]
    fn levels_are_by_target_and_what_is_not_supported_is_a_mistake() {
        let is_on = |directives: &str, target: &str, level| {
            config(&[("RUST_LOG", directives)]).unwrap().filter.would_enable(target, &level)
        };
        use tracing::Level;
        for directives in ["warn,mine=debug", " warn , mine=debug,", "2,mine=4", "WARN,mine::inner=trace,mine=debug"] {
            assert!(is_on(directives, "mine::other", Level::DEBUG), "{directives}");
            assert!(
                !is_on(directives, "mine::other", Level::TRACE) && !is_on(directives, "other", Level::INFO),
                "{directives}"
            );
        }
        assert!(is_on("mine", "mine", Level::TRACE) && !is_on("mine", "other", Level::ERROR));
        assert!(!is_on("off", "mine", Level::ERROR) && !is_on("info,mine=off", "mine::inner", Level::ERROR));
        for directives in
            ["loud", "mine=loud", "[job]=debug", "[{account}]=debug", "mine[job{account=\"a\"}]=debug", "a=b=c"]
        {
            let refused = config(&[("RUST_LOG", directives)]).is_err();
            // A word alone is the name of a target.
            assert_eq!(refused, directives != "loud", "{directives}");
        }
    }

    #[test]
    fn the_limiter_is_off_at_zero_and_below() {
        for off in ["0", "-1"] {
            assert_eq!(config(&[("max_inflight", off)]).unwrap().max_inflight, None);
        }
    }
}
