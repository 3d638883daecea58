//! One instance of a function: started, watched, and started again when it dies.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use axum::body::Body;
use axum::http::Request;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::log::Log;
use super::process::{self, Process};
use crate::http::send;

/// Shorter than Kubernetes' ten seconds: a person waits at the terminal.
const BACKOFF: Duration = Duration::from_millis(500);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
/// After this long a failure counts as a new one.
const SETTLED: Duration = Duration::from_secs(10);

/// faas-netes' probes: every two seconds, one second to answer, out after three failures.
const PROBE: Duration = Duration::from_secs(2);
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
const PROBE_FAILURES: u32 = 3;
/// How long output is still read after the process has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long an instance that stops waits for requests that are on their way to it.
const ARRIVAL: Duration = Duration::from_secs(1);

/// The interval of probes until the first success.
const FIRST_PROBES: Duration = Duration::from_millis(25);

/// The part that all instances of a deployment share.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) program: PathBuf,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) secrets: PathBuf,
    pub(super) folder: PathBuf,
}

/// The state of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    Starting,
    Ready(Ports),
    /// It has ended as described, and is restarted after a back-off.
    Down(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ports {
    pub(super) http: SocketAddr,
    pub(super) metrics: SocketAddr,
}

#[derive(Debug)]
pub(super) struct Replica {
    state: watch::Receiver<State>,
    stop: CancellationToken,
    on_the_way: TaskTracker,
}

impl Replica {
    /// Starts an instance; its task in `tasks` ends after [`Self::stop`], when it has drained.
    pub(super) fn start(instance: String, launch: std::sync::Arc<Launch>, log: Log, tasks: &TaskTracker) -> Self {
        let (sender, state) = watch::channel(State::Starting);
        let stop = CancellationToken::new();
        let on_the_way = TaskTracker::new();
        let supervisor =
            Supervisor { instance, launch, log, state: sender, stop: stop.clone(), on_the_way: on_the_way.clone() };
        tasks.spawn(supervisor.run());
        Self { state, stop, on_the_way }
    }

    /// Its addresses, if it accepts requests.
    pub(super) fn ports(&self) -> Option<Ports> {
        match &*self.state.borrow() {
            State::Ready(ports) if !self.stop.is_cancelled() => Some(*ports),
            _ => None,
        }
    }

    /// The same for a request: while the token is held, the instance is not terminated.
    pub(super) fn enter(&self) -> Option<(Ports, TaskTrackerToken)> {
        // Before the check: a stop from now on waits for this request, or the check sees it.
        let token = self.on_the_way.token();
        self.ports().map(|ports| (ports, token))
    }

    /// Waits until it is ready, or down.
    pub(super) async fn settled(&self) -> State {
        let mut state = self.state.clone();
        match state.wait_for(|state| *state != State::Starting).await {
            Ok(state) => state.clone(),
            Err(_) => State::Down("was stopped".to_owned()),
        }
    }

    /// Waits until it is ready; `false` when it was stopped before.
    pub(super) async fn ready(&self) -> bool {
        self.state.clone().wait_for(|state| matches!(state, State::Ready(_))).await.is_ok()
    }

    /// Stops accepting requests, and ends when it has drained.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Supervisor {
    instance: String,
    launch: std::sync::Arc<Launch>,
    log: Log,
    state: watch::Sender<State>,
    stop: CancellationToken,
    on_the_way: TaskTracker,
}

impl Supervisor {
    async fn run(self) {
        let mut backoff = BACKOFF;
        while !self.stop.is_cancelled() {
            let started = Instant::now();
            let how = match self.once().await {
                Ok(Some(how)) => how,
                Ok(None) => break,
                Err(error) => format!("did not start: {error:#}"),
            };
            if started.elapsed() >= SETTLED {
                backoff = BACKOFF;
            }
            self.log.say(&self.instance, &format!("{how}; starting it again in {} s", backoff.as_secs_f32()));
            self.state.send_replace(State::Down(how));
            self.stop.run_until_cancelled(tokio::time::sleep(backoff)).await;
            backoff = (backoff * 2).min(LONGEST_BACKOFF);
        }
    }

    /// Runs the process once: how it ended, or nothing if it was stopped.
    async fn once(&self) -> anyhow::Result<Option<String>> {
        let ports = Ports { http: free_port()?, metrics: free_port()? };
        let folder = process::folder(&self.launch.folder, &self.instance)?;
        let environment = self.environment(ports, &folder)?;
        let (mut process, stdout, stderr) = Process::start(&self.launch.program, &folder, &environment)?;
        let output = {
            let (log, instance) = (self.log.clone(), self.instance.clone());
            tokio::spawn(async move { tokio::join!(log.pipe(&instance, stdout), log.pipe(&instance, stderr)) })
        };
        let how = tokio::select! {
            how = process.ended() => Some(how),
            () = self.stop.cancelled() => None,
            () = self.probe(ports) => Some("did not answer its health checks".to_owned()),
        };
        // The gateway stops sending requests before the process is terminated.
        self.state.send_replace(State::Starting);
        if how.is_none() {
            // A request may still be on its way to it on a busy machine.
            self.on_the_way.close();
            let _ = tokio::time::timeout(ARRIVAL, self.on_the_way.wait()).await;
        }
        let ended = process.stop().await;
        // The rest of its output; the pipes are closed, as all processes of its group have ended.
        let _ = tokio::time::timeout(LAST_WORDS, output).await;
        if how.is_none() {
            self.log.say(&self.instance, &ended);
        }
        Ok(how)
    }

    fn environment(&self, ports: Ports, folder: &Path) -> anyhow::Result<BTreeMap<String, String>> {
        let path = |path: &Path| path.to_str().map(str::to_owned).context("the folder's name is not UTF-8");
        let mut environment = self.launch.environment.clone();
        environment.extend([
            ("port".to_owned(), ports.http.port().to_string()),
            ("metrics_port".to_owned(), ports.metrics.port().to_string()),
            ("secret_mount_path".to_owned(), path(&self.launch.secrets)?),
            // Holds the watchdog's lock file, one for each instance.
            ("TMPDIR".to_owned(), path(&folder.join("tmp"))?),
            // In a cluster the drain delay; here no requests arrive when the process is terminated.
            ("healthcheck_interval".to_owned(), "100ms".to_owned()),
        ]);
        Ok(environment)
    }

    /// Ends when the instance has failed its health checks.
    async fn probe(&self, ports: Ports) {
        let (mut failures, mut ready) = (0, false);
        loop {
            let request = Request::get("/_/health").header("user-agent", "kube-probe/1.0").body(Body::empty());
            let healthy = match request {
                Ok(request) => tokio::time::timeout(PROBE_TIMEOUT, send(ports.http, request)).await,
                Err(_) => return,
            };
            if matches!(healthy, Ok(Ok(response)) if response.status().is_success()) {
                failures = 0;
                if !ready {
                    ready = true;
                    self.state.send_replace(State::Ready(ports));
                }
            } else if ready {
                failures += 1;
                if failures == PROBE_FAILURES {
                    return;
                }
            }
            tokio::time::sleep(if ready { PROBE } else { FIRST_PROBES }).await;
        }
    }
}

/// A free port, below those that the kernel assigns for port 0: another program could get one of these before the
/// function starts.
fn free_port() -> anyhow::Result<SocketAddr> {
    const FIRST: u16 = 15_000;
    const COUNT: u16 = 15_000;
    for _ in 0..100 {
        let mut bytes = [0; 2];
        getrandom::fill(&mut bytes)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, FIRST + u16::from_ne_bytes(bytes) % COUNT));
        if std::net::TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    anyhow::bail!("no free port was found from {FIRST} on")
}
