//! The two listeners, the connections, and how they end.

use std::{
    fmt,
    future::{Future, poll_fn},
    io::{self, ErrorKind},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};

use http::Request;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::{net::TcpStream, sync::watch, task::JoinSet};

use crate::{
    Config, Function,
    auth::Auth,
    call::Ends,
    caller::Caller,
    duration::Go,
    gate::Gate,
    head,
    leftover::Leftovers,
    listener::{BindError, Listener, listen},
    lock::Lock,
    log::Log,
    metrics::Metrics,
    scrape,
    shared::Shared,
    streams::Streams,
    traffic::Traffic,
    wire::{Protocol, Wire},
};

/// What the header of a request of HTTP/2 may take, as of one of HTTP/1.
const HEADER_LIMIT: u32 = 1 << 20;

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
    address: SocketAddr,
    metrics: Option<(Listener, SocketAddr)>,
    shared: Arc<Shared>,
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
    /// Binds both ports; it answers from [`run`](Self::run) on. Logs to standard error. With `jwt_auth` it waits until
    /// the keys are there.
    ///
    /// # Errors
    /// A port is taken, or not this user's to take.
    pub async fn bind(config: Config) -> Result<Self, BindError> {
        let log = Log::stderr(config.log_format).map_err(log_error)?;
        Self::bind_with(config, log, Metrics::new()).await
    }

    pub(crate) async fn bind_with(config: Config, log: Log, metrics: Metrics) -> Result<Self, BindError> {
        let auth = match config.auth.clone() {
            Some(settings) => {
                let auth = Auth::load(settings, log.clone()).await;
                log.say("JWT Auth: true");
                Some(auth)
            }
            None => None,
        };
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
        let gate = Gate::new(config.max_inflight);
        let shared = Arc::new(Shared {
            config,
            gate,
            leftovers: Leftovers::default(),
            metrics,
            log,
            lock,
            auth,
            draining: AtomicBool::new(false),
        });
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
            aside.spawn(scrape::serve(listener, Arc::clone(&shared)));
        }

        let mut connections = Connections { tasks: JoinSet::new(), shared: Arc::clone(&shared), function, closed };
        tokio::select! {
            () = connections.accept(&listener) => {}
            () = shutdown => {}
        }
        log.say(format_args!("SIGTERM: no new connections in {}", Go(config.healthcheck_interval)));
        shared.draining.store(true, Ordering::Relaxed);
        log.say(format_args!("Removing lock-file : {}", shared.lock.path().display()));
        if let Err(error) = shared.lock.remove() {
            let why = match error.kind() {
                ErrorKind::NotFound => "no such file or directory".to_owned(),
                _ => error.to_string(),
            };
            log.say(format_args!("Unable to mark server as unhealthy: remove {}: {why}", shared.lock.path().display()));
        }
        tokio::select! {
            () = connections.accept(&listener) => {}
            () = tokio::time::sleep(config.healthcheck_interval) => {}
        }
        drop(listener);
        log.say(format_args!("No new connections allowed, draining: {} requests", shared.gate.inside()));
        closing.send_replace(true);
        if tokio::time::timeout(config.write_timeout, connections.drained()).await.is_err() {
            log.say("the time to drain is over, what is left is cut");
        }
        log.say(format_args!("Exiting. Active connections: {}", shared.gate.inside()));
        log.flush();
    }
}

fn log_error(source: io::Error) -> BindError {
    BindError::new("cannot start the log", source)
}

/// The connections of the function's port.
struct Connections<F> {
    tasks: JoinSet<()>,
    shared: Arc<Shared>,
    function: F,
    closed: watch::Receiver<bool>,
}

impl<F: Function> Connections<F> {
    /// Accepts until it is dropped.
    async fn accept(&mut self, listener: &Listener) {
        loop {
            let stream = listener.next(&self.shared.log).await;
            // The finished ones are taken out, or the set would grow with every connection there ever was.
            while self.tasks.try_join_next().is_some() {}
            let connection = serve(stream, Arc::clone(&self.shared), self.function.clone(), self.closed.clone());
            self.tasks.spawn(connection);
        }
    }

    async fn drained(&mut self) {
        while self.tasks.join_next().await.is_some() {}
        self.shared.gate.empty().await;
        self.shared.leftovers.done().await;
    }
}

async fn serve<F: Function>(stream: TcpStream, shared: Arc<Shared>, function: F, mut closed: watch::Receiver<bool>) {
    let traffic = Arc::new(Traffic::new());
    let mut wire = Wire::new(stream, Arc::clone(&traffic), shared.config.read_timeout);
    let protocol = tokio::select! {
        protocol = wire.protocol() => protocol,
        // Nothing was asked yet.
        () = told(&mut closed) => return,
    };
    // A client that hung up or sent nonsense is its own affair; the log has a line for each call.
    match protocol {
        None => {}
        Some(Protocol::Http1 { lines }) => {
            let caller = Caller { shared: Arc::new(shared), function, ends: Ends::Http1(traffic) };
            let service = service_fn(move |request: Request<Incoming>| caller.answer(request));
            let mut http1 = http1::Builder::new();
            if let Some(lines) = lines {
                http1.max_headers(lines);
            }
            let connection = http1
                // The wire has limits of its own for the head, and counts its lines.
                .header_read_timeout(None)
                .max_buf_size(2 * head::LIMIT)
                .title_case_headers(true)
                .serve_connection(wire, service)
                .with_upgrades();
            drop(until_told(connection, closed, |connection| connection.graceful_shutdown()).await);
        }
        Some(Protocol::Http2) => {
            let streams = Streams::default();
            let (idle, write) = (shared.config.read_timeout, shared.config.write_timeout);
            let caller = Caller { shared: Arc::new(shared), function, ends: Ends::Http2(streams.clone()) };
            let service = service_fn(move |request: Request<Incoming>| caller.answer(request));
            let connection = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_header_list_size(HEADER_LIMIT)
                .serve_connection(wire, service);
            tokio::select! {
                done = until_told(connection, closed, |connection| connection.graceful_shutdown()) => drop(done),
                () = streams.over(idle, write) => {}
            }
        }
    }
}

/// Drives `connection` to its end, and tells it when the drain begins. Whether it has begun is one look at a number for
/// each time that the connection is woken; `select!` would go through the waiting anew.
async fn until_told<C: Future>(
    connection: C,
    mut closed: watch::Receiver<bool>,
    end: impl FnOnce(Pin<&mut C>),
) -> C::Output {
    let mut connection = pin!(connection);
    let look = closed.clone();
    let mut told = pin!(told(&mut closed));
    let mut is_waiting = false;
    let done = poll_fn(|cx| {
        if let Poll::Ready(done) = connection.as_mut().poll(cx) {
            return Poll::Ready(Some(done));
        }
        // An error means that the sender is gone, and with it the server.
        if is_waiting && !look.has_changed().unwrap_or(true) {
            return Poll::Pending;
        }
        is_waiting = true;
        told.as_mut().poll(cx).map(|()| None)
    })
    .await;
    match done {
        Some(done) => done,
        None => {
            end(connection.as_mut());
            connection.await
        }
    }
}

/// Waits for the word that the drain has begun.
async fn told(closed: &mut watch::Receiver<bool>) {
    // The sender lives as long as the server runs.
    drop(closed.wait_for(|closed| *closed).await);
}
