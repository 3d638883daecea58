//! The gateway: OpenFaaS's REST API and the proxy to the functions, as the community edition behaves.
//!
//! | route | |
//! | --- | --- |
//! | any `/function/NAME[.NAMESPACE][/PATH]` | calls a function |
//! | `POST /async-function/NAME…` | queues a call |
//! | `/system/functions`, `/system/function/NAME`, `/system/scale-function/NAME` | deployments |
//! | `/system/secrets` | secrets, in the [`Dialect`] chosen |
//! | `/system/namespaces`, `/system/info`, `/system/logs`, `/healthz` | |

mod asynchronous;
mod auth;
mod build_page;
mod functions;
mod invoke;
mod logs;
mod path;
mod secrets;

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::asynchronous::Queue;
pub(crate) use self::auth::{DEFAULT_USER, PASSWORD, USER};
use crate::console::Console;
use crate::functions::{BUILD_PAGES, Functions, NAMESPACE};
use crate::host::AllowedHosts;
use crate::secrets::{Dialect, Secrets};
use crate::server::Server;

/// How long calls may take to finish when the gateway stops.
const GRACE: Duration = Duration::from_secs(5);

/// The release whose behaviour this is, and whose name it sends.
const RELEASE: &str = "0.27.14";

/// The running gateway.
#[derive(Debug)]
pub(crate) struct Gateway {
    server: Server,
    queue: Queue,
}

#[derive(Debug)]
struct Shared {
    functions: Functions,
    secrets: Secrets,
    console: Console,
    queue: Queue,
    /// The longest a function may take to begin its answer.
    timeout: Duration,
    /// Ends streams of logs that are followed.
    stop: CancellationToken,
}

/// What a gateway serves, and how.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) functions: Functions,
    pub(crate) secrets: Secrets,
    pub(crate) console: Console,
    /// The longest a function may take to begin its answer.
    pub(crate) timeout: Duration,
    /// Further names that it answers to.
    pub(crate) allowed_hosts: Vec<String>,
}

impl Gateway {
    pub(crate) fn start(listener: TcpListener, settings: Settings) -> anyhow::Result<Self> {
        let Settings { functions, secrets, console, timeout, allowed_hosts } = settings;
        let address = listener.local_addr()?;
        let allowed = AllowedHosts::new(address.ip(), &allowed_hosts);
        let stop = CancellationToken::new();
        let queue = Queue::start(address, console, stop.clone());
        let shared =
            Arc::new(Shared { functions, secrets, console, timeout, queue: queue.clone(), stop: stop.clone() });
        Ok(Self { server: Server::start(listener, allowed.guard(router(shared)), stop), queue })
    }

    /// Stops taking requests; those under way may finish.
    pub(crate) async fn stop(self) {
        self.server.stop(GRACE).await;
        self.queue.stop(GRACE).await;
    }
}

fn router(shared: Arc<Shared>) -> Router {
    let system = Router::new()
        .route(
            "/system/functions",
            get(functions::list).post(functions::create).put(functions::update).delete(functions::remove),
        )
        .route("/system/function/{name}", get(functions::status))
        .route("/system/scale-function/{name}", post(functions::scale))
        .route(
            "/system/secrets",
            get(secrets::list).post(secrets::create).put(secrets::replace).delete(secrets::remove),
        )
        .route("/system/namespaces", get(async || Json([NAMESPACE])))
        .route("/system/info", get(info))
        .route("/system/logs", get(logs::logs))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&shared), auth::operator_only));
    let healthz = get(async || "OK");
    Router::new()
        .route("/healthz", healthz)
        .route(&format!("{BUILD_PAGES}{{name}}"), get(build_page::show))
        .merge(system)
        .fallback(invoke::invoke)
        .with_state(shared)
}

async fn info(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let (name, orchestration) = match shared.secrets.dialect() {
        Dialect::FaasNetes => ("faas-netes", "kubernetes"),
        Dialect::Faasd => ("faasd", "containerd"),
    };
    // faas-cli prints these, and panics when one of the two versions is missing.
    let version = |release: &str| json!({"sha": "local", "release": release, "commit_message": "local"});
    Json::<Value>(json!({
        "arch": std::env::consts::ARCH,
        "version": version(RELEASE),
        "provider": {
            "provider": name,
            "orchestration": orchestration,
            "version": version(env!("CARGO_PKG_VERSION")),
        },
    }))
}
