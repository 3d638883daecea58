//! The two listeners, the connections, and how they end.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use crate::{
    Config, Function,
    call::{Shared, answer},
    duration::Go,
    gate::Gate,
    lock::Lock,
    log::Log,
    metrics::Metrics,
    reply::{Reply, own},
};

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
    listener: TcpListener,
    address: SocketAddr,
    metrics: Option<(TcpListener, SocketAddr)>,
    shared: Arc<Shared>,
}

/// A port that could not be listened on, or a log that could not be started.
#[derive(Debug)]
pub struct BindError {
    what: String,
    source: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchdog")
            .field("address", &self.address)
            .field("metrics_address", &self.metrics_address())
            .finish_non_exhaustive()
    }
}

impl Watchdog {
    /// Binds both ports; it answers from [`run`](Self::run) on. Logs to standard error.
    ///
    /// # Errors
    /// A port is taken, or not this user's to take.
    pub async fn bind(config: Config) -> Result<Self, BindError> {
        let log = Log::stderr(config.log_format).map_err(log_error)?;
        let metrics = metrics().map_err(log_error)?;
        Self::bind_with(config, log, metrics).await
    }

    pub(crate) async fn bind_with(config: Config, log: Log, metrics: Metrics) -> Result<Self, BindError> {
        let (listener, address) = listen("port", config.address).await?;
        let metrics_listener = match config.metrics_address {
            Some(address) => Some(listen("metrics_port", address).await?),
            None => None,
        };
        let (lock, written) = Lock::write(config.lock_file.clone(), config.suppress_lock);
        if config.suppress_lock {
            log.say(
                "Warning: \"suppress_lock\" is enabled. No automated health-checks will be in place for your function.",
            );
        } else {
            log.say(format_args!("Writing lock-file to: {}", lock.path().display()));
        }
        if let Err(error) = written {
            log.say(format_args!("no lock file, health does without: {}: {error}", lock.path().display()));
        }
        let gate = Arc::new(Gate::new(config.max_inflight));
        let shared = Arc::new(Shared { config, gate, metrics, log, lock, draining: AtomicBool::new(false) });
        Ok(Self { listener, address, metrics: metrics_listener, shared })
    }

    /// Where functions are called.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where metrics are served, if they are.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(|metrics| metrics.1)
    }

    /// Serves `function` until `shutdown` resolves and the drain is over: unready at once, serving on for
    /// `healthcheck_interval`, then closed to new connections and done as soon as nothing is in flight, at the latest
    /// after `write_timeout`.
    ///
    /// Dropping the future stops serving at once.
    pub async fn run<F: Function>(self, function: F, shutdown: impl Future<Output = ()>) {
        let Self { listener, address, metrics, shared } = self;
        let (config, log) = (&shared.config, &shared.log);
        log.say(format_args!(
            "Timeouts: read: {} write: {} hard: {} health: {}",
            Go(config.read_timeout),
            Go(config.write_timeout),
            Go(config.exec_timeout.unwrap_or_default()),
            Go(config.healthcheck_interval),
        ));
        for remark in &config.remarks {
            log.say(remark);
        }
        log.say(format_args!("Listening on port: {}", address.port()));

        let (closing, closed) = watch::channel(false);
        let mut aside = JoinSet::new();
        if let Some((listener, _)) = metrics {
            aside.spawn(serve_metrics(listener, Arc::clone(&shared)));
        }
        aside.spawn(fold_metrics(Arc::clone(&shared)));

        let mut connections = JoinSet::new();
        tokio::select! {
            () = accept(&listener, &mut connections, &shared, &function, &closed) => {}
            () = shutdown => {}
        }
        log.say(format_args!("SIGTERM: no new connections in {}", Go(config.healthcheck_interval)));
        shared.draining.store(true, Ordering::Relaxed);
        log.say(format_args!("Removing lock-file : {}", shared.lock.path().display()));
        if let Err(error) = shared.lock.remove() {
            log.say(format_args!("Unable to mark server as unhealthy: {error}"));
        }
        tokio::select! {
            () = accept(&listener, &mut connections, &shared, &function, &closed) => {}
            () = tokio::time::sleep(config.healthcheck_interval) => {}
        }
        drop(listener);
        log.say(format_args!("No new connections allowed, draining: {} requests", shared.gate.inside()));
        closing.send_replace(true);
        let drained = async {
            while connections.join_next().await.is_some() {}
            shared.gate.empty().await;
        };
        if tokio::time::timeout(config.write_timeout, drained).await.is_err() {
            log.say("the time to drain is over, what is left is cut");
        }
        log.say(format_args!("Exiting. Active connections: {}", shared.gate.inside()));
        log.flush();
    }
}

pub(crate) fn metrics() -> io::Result<Metrics> {
    Metrics::new().map_err(io::Error::other)
}

fn log_error(source: io::Error) -> BindError {
    BindError { what: "cannot start the log".into(), source }
}

async fn listen(name: &str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), BindError> {
    let error = |source| BindError { what: format!("cannot listen on {address} ({name})"), source };
    let listener = match TcpListener::bind(address).await {
        // A machine without IPv6 has no dual-stack wildcard.
        Err(_) if address.is_ipv6() && address.ip().is_unspecified() => {
            TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], address.port()))).await
        }
        bound => bound,
    }
    .map_err(error)?;
    let address = listener.local_addr().map_err(error)?;
    Ok((listener, address))
}

/// Accepts until it is dropped.
async fn accept<F: Function>(
    listener: &TcpListener,
    connections: &mut JoinSet<()>,
    shared: &Arc<Shared>,
    function: &F,
    closed: &watch::Receiver<bool>,
) {
    loop {
        let Some(stream) = next(listener, &shared.log).await else { continue };
        // Reap the finished ones, or the set grows with every connection there ever was.
        while connections.try_join_next().is_some() {}
        connections.spawn(serve(stream, Arc::clone(shared), function.clone(), closed.clone()));
    }
}

async fn next(listener: &TcpListener, log: &Log) -> Option<TcpStream> {
    match listener.accept().await {
        Ok((stream, _)) => {
            // Answers are written whole; waiting to fill a packet would only delay them.
            let _ = stream.set_nodelay(true);
            Some(stream)
        }
        Err(error) => {
            // Out of file descriptors, most likely: connections have to end before another try makes sense. An error
            // of the one connection that was about to come is gone with it.
            let own = [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset];
            if !own.contains(&error.kind()) {
                log.say(format_args!("cannot accept a connection: {error}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            None
        }
    }
}

async fn serve<F: Function>(stream: TcpStream, shared: Arc<Shared>, function: F, mut closed: watch::Receiver<bool>) {
    let read_timeout = shared.config.read_timeout;
    let service = service_fn(move |request: Request<Incoming>| {
        let call = answer(Arc::clone(&shared), function.clone(), request);
        async move { Ok::<_, Infallible>(call.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout((!read_timeout.is_zero()).then_some(read_timeout))
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = async { drop(closed.wait_for(|closed| *closed).await) } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // A client that hung up or sent nonsense is its own affair; the log has a line for each call.
    drop(result);
}

async fn serve_metrics(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Some(stream) = next(&listener, &shared.log).await else { continue };
        while connections.try_join_next().is_some() {}
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let response = scrape(&shared, &request);
                async move { Ok::<_, Infallible>(response) }
            });
            let limit = Duration::from_millis(500);
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limit)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn scrape(shared: &Shared, request: &Request<Incoming>) -> Response<Reply<http_body_never::Never>> {
    if request.uri().path() != "/metrics" {
        return own(StatusCode::NOT_FOUND, Some("text/plain; charset=utf-8"), "404 page not found\n");
    }
    let text = Bytes::from(shared.metrics.render(shared.gate.inside()));
    let mut response = own(StatusCode::OK, None, text);
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

async fn fold_metrics(shared: Arc<Shared>) {
    let mut every = tokio::time::interval(Duration::from_secs(5));
    loop {
        every.tick().await;
        shared.metrics.fold();
    }
}

mod http_body_never {
    use std::{
        convert::Infallible,
        pin::Pin,
        task::{Context, Poll},
    };

    use bytes::Bytes;
    use http_body::{Body, Frame};

    /// The body that no answer of the watchdog's own has.
    pub(super) enum Never {}

    impl Body for Never {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match *self {}
        }
    }
}
