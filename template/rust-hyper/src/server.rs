//! The two listeners, what all calls share, and the drain.

use std::{
    fmt,
    future::Future,
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hyper_util::server::graceful::GracefulShutdown;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tracing::{info, warn};

use crate::{
    Config, Function, IntoFunction,
    access_log::AccessLog,
    auth::Auth,
    connection::{self, Limits},
    duration::Go,
    limit::ConcurrencyLimit,
    lock::Lock,
    metrics::Metrics,
    metrics_server,
    service::Service,
    tracing::{LogGuard, LogWriter, log_writer},
};

/// How often samples of histograms are sorted into their buckets.
const UPKEEP: Duration = Duration::from_secs(5);

/// What all calls of a watchdog share.
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) limit: ConcurrencyLimit,
    pub(crate) metrics: Metrics,
    pub(crate) access_log: AccessLog,
    pub(crate) auth: Option<Auth>,
    lock: Lock,
    draining: AtomicBool,
}

impl Context {
    /// Lines of the access log go to `out`.
    pub(crate) fn new(config: Config, out: LogWriter, metrics: Metrics, auth: Option<Auth>) -> Self {
        let is_on = config.filter.would_enable("access_log", &tracing::Level::INFO);
        Self {
            limit: ConcurrencyLimit::new(config.max_inflight),
            metrics,
            access_log: AccessLog { out, format: config.log_format, is_on },
            auth,
            lock: Lock::new(config.lock_file.clone(), config.suppress_lock),
            draining: AtomicBool::new(false),
            config,
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether calls should be sent here.
    pub(crate) fn is_up(&self) -> bool {
        !self.is_draining() && self.lock.is_present()
    }
}

/// A watchdog that listens and does not serve yet.
///
/// ```
/// use watchdog::{Config, Watchdog};
///
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
/// let config = Config::from_strings(|name| (name == "TMPDIR").then(|| std::env::temp_dir().display().to_string()))?
///     .with_address(([127, 0, 0, 1], 0).into())
///     .with_metrics_address(None);
/// let watchdog = Watchdog::bind(config).await?;
/// println!("http://{}", watchdog.address());
/// let function = axum::Router::new().route("/", axum::routing::get(async || "hello\n"));
/// let stop = async {}; // at once; a process waits for SIGTERM here
/// # let watchdog = watchdog;
/// tokio::time::timeout(std::time::Duration::from_millis(10), watchdog.run(function, stop)).await.ok();
/// # Ok::<(), watchdog::BoxError>(())
/// # })?;
/// # Ok::<(), watchdog::BoxError>(())
/// ```
pub struct Watchdog {
    listener: Listener,
    metrics: Option<Listener>,
    context: Arc<Context>,
    /// Writes what is left of the access log.
    writing: Option<LogGuard>,
}

impl fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchdog")
            .field("address", &self.address())
            .field("metrics_address", &self.metrics_address())
            .finish_non_exhaustive()
    }
}

impl Watchdog {
    /// Binds both ports; it answers from [`run`](Self::run) on. The access log goes to standard error, the watchdog's
    /// messages are events of `tracing` with the target `watchdog`. With `jwt_auth` it waits until the keys are there.
    ///
    /// # Errors
    /// A port is taken, or this user may not take it.
    pub async fn bind(config: Config) -> io::Result<Self> {
        let (out, guard) = log_writer(io::stderr());
        let auth = Self::auth(&config).await;
        let metrics = Metrics::new(out.clone());
        let mut watchdog = Self::bind_with(config, |config| Context::new(config, out, metrics, auth)).await?;
        watchdog.writing = Some(guard);
        Ok(watchdog)
    }

    /// The keys that function auth needs, where it is on.
    pub(crate) async fn auth(config: &Config) -> Option<Auth> {
        let auth = Auth::load(config.auth.clone()?).await;
        info!(target: "watchdog", "JWT Auth: true");
        Some(auth)
    }

    pub(crate) async fn bind_with(config: Config, context: impl FnOnce(Config) -> Context) -> io::Result<Self> {
        let listener = Listener::bind("port", config.address).await?;
        let metrics = match config.metrics_address {
            Some(address) => Some(Listener::bind("metrics_port", address).await?),
            None => None,
        };
        let context = context(config);
        let (config, lock) = (&context.config, &context.lock);
        if config.suppress_lock {
            info!(
                target: "watchdog",
                "Warning: \"suppress_lock\" is enabled. No automated health-checks will be in place for your function."
            );
        } else {
            info!(target: "watchdog", "Writing lock-file to: {}", lock.path().display());
            if let Err(error) = lock.write() {
                warn!(target: "watchdog", "no lock file, health does without: {}: {error}", lock.path().display());
            }
        }
        Ok(Self { listener, metrics, context: Arc::new(context), writing: None })
    }

    /// Where functions are called.
    pub fn address(&self) -> SocketAddr {
        self.listener.address
    }

    /// Where metrics are served, if they are.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(|metrics| metrics.address)
    }

    /// Serves `function` until `shutdown` resolves and the drain is over: unready at once, serving on for
    /// `healthcheck_interval`, then closed to new connections and done as soon as no call is in flight and the
    /// function's shutdown hook has returned, at the latest after `write_timeout`.
    ///
    /// Dropping the future stops serving at once.
    pub async fn run<M>(self, function: impl IntoFunction<M>, shutdown: impl Future<Output = ()>) {
        let Self { listener, metrics, context, writing: _writing } = self;
        let (function, hook) = function.into_function();
        let config = &context.config;
        info!(
            target: "watchdog",
            "Timeouts: read: {} write: {} hard: {} health: {}",
            Go(config.read_timeout),
            Go(config.write_timeout),
            Go(config.exec_timeout.unwrap_or_default()),
            Go(config.healthcheck_interval),
        );
        for remark in &config.remarks {
            info!(target: "watchdog", "{remark}");
        }
        info!(target: "watchdog", "Listening on port: {}", listener.address.port());

        let mut aside = JoinSet::new();
        aside.spawn(upkeep(Arc::clone(&context)));
        if let Some(listener) = metrics {
            aside.spawn(metrics_server::serve(listener, Arc::clone(&context)));
        }
        let mut connections = Connections {
            listener,
            graceful: GracefulShutdown::new(),
            tasks: JoinSet::new(),
            context: Arc::clone(&context),
            function,
        };
        tokio::select! {
            () = connections.accept() => {}
            () = shutdown => {}
        }
        info!(target: "watchdog", "SIGTERM: no new connections in {}", Go(config.healthcheck_interval));
        context.draining.store(true, Ordering::Relaxed);
        let lock = &context.lock;
        info!(target: "watchdog", "Removing lock-file : {}", lock.path().display());
        if let Err(error) = lock.remove() {
            let why = match error.kind() {
                ErrorKind::NotFound => "no such file or directory".to_owned(),
                _ => error.to_string(),
            };
            info!(target: "watchdog", "Unable to mark server as unhealthy: remove {}: {why}", lock.path().display());
        }
        tokio::select! {
            () = connections.accept() => {}
            () = tokio::time::sleep(config.healthcheck_interval) => {}
        }
        let Connections { listener, graceful, tasks: _tasks, .. } = connections;
        drop(listener);
        info!(target: "watchdog", "No new connections allowed, draining: {} requests", context.limit.inside());
        let drain = async {
            graceful.shutdown().await;
            context.limit.empty().await;
            hook.await;
        };
        if tokio::time::timeout(config.write_timeout, drain).await.is_err() {
            warn!(target: "watchdog", "write_timeout is over, what is left is cut");
        }
        info!(target: "watchdog", "Exiting. Active connections: {}", context.limit.inside());
    }
}

/// Keeps the metrics small and the keys of function auth fresh until it is dropped, whether or not anything asks for them.
async fn upkeep(context: Arc<Context>) {
    let metrics = async {
        let mut ticks = tokio::time::interval(UPKEEP);
        loop {
            ticks.tick().await;
            context.metrics.run_upkeep();
        }
    };
    match &context.auth {
        None => metrics.await,
        Some(auth) => tokio::select! { () = metrics => {}, () = auth.keep_fresh() => {} },
    }
}

/// The connections of the function's port.
struct Connections<F> {
    listener: Listener,
    graceful: GracefulShutdown,
    /// Ends what is left with the watchdog.
    tasks: JoinSet<()>,
    context: Arc<Context>,
    function: F,
}

impl<F: Function> Connections<F> {
    /// Accepts until it is dropped.
    async fn accept(&mut self) {
        let config = &self.context.config;
        let limits = Limits { idle: config.read_timeout, call: config.write_timeout };
        loop {
            let stream = self.listener.accept().await;
            // The finished ones are taken out, or the set would grow with every connection there ever was.
            while self.tasks.try_join_next().is_some() {}
            let (context, function) = (Arc::clone(&self.context), self.function.clone());
            let service = |connection| Service { connection, function };
            self.tasks.spawn(connection::serve(stream, context, limits, self.graceful.watcher(), service));
        }
    }
}

/// A listening socket.
pub(crate) struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds the port that is called `name` in the configuration.
    async fn bind(name: &str, address: SocketAddr) -> io::Result<Self> {
        let bound = match TcpListener::bind(address).await {
            // A machine without IPv6 has no dual-stack wildcard.
            Err(_) if address.is_ipv6() && address.ip().is_unspecified() => {
                TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
            }
            bound => bound,
        };
        let bound = bound.and_then(|socket| Ok(Self { address: socket.local_addr()?, socket }));
        bound.map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address} ({name}): {error}")))
    }

    /// Waits for the next connection.
    pub(crate) async fn accept(&self) -> TcpStream {
        loop {
            match self.socket.accept().await {
                Ok((stream, _)) => {
                    // Answers are written whole; waiting to fill a packet would only delay them.
                    let _ = stream.set_nodelay(true);
                    return stream;
                }
                // The one connection that was about to come is gone.
                Err(error) if [ErrorKind::ConnectionAborted, ErrorKind::ConnectionReset].contains(&error.kind()) => {}
                Err(error) => {
                    // Out of file descriptors, most likely: connections have to end before another try makes sense.
                    warn!(target: "watchdog", "cannot accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}
