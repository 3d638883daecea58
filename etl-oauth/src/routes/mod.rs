//! What the function answers below `/function/NAME`, whose prefix the gateway takes off.

mod account_page;
mod admin;
mod audit;
mod authorize;
mod callback;
mod confirm;
mod connection;
mod device;
mod document;
mod done;
mod enable;
mod expiry;
mod flash;
mod job;
mod links;
mod login;
mod openapi;
mod proxy;
mod public_record;
mod respond;
mod revocation;
mod runs;
mod status;
mod token;

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, Hasher, RandomState},
    sync::{Arc, OnceLock},
};

use axum::{Router, routing};
use http::StatusCode;
use tokio::sync::Semaphore;

use crate::{
    config::{Config, DEFAULT_CONNECTION},
    guard::{Callers, Coalesce, CookieJar, EnableAuth, Key, Operator, ReplayCache, Throttle, UsedStates, random},
    job::check_ledgers,
    pages::Base,
};
use connection::Connection;
pub use public_record::retriever;
use respond::{Asked, problem};
use token_keeper::{
    renewal::Clock,
    secrets::Secrets,
    store::{ByteStore, DEFAULT_ACCOUNT, Store, StoreError},
    token::Secret,
    trace_context::{self, Trace},
};

/// How many sessions that the operator has ended are remembered at a time.
const SESSIONS: usize = 1000;

/// The function: configuration, keeper and API, ready to be routed to.
#[derive(Clone, Debug)]
pub struct Function(Arc<App>);

#[derive(Debug)]
struct App {
    config: Config,
    base: Base,
    /// By their names.
    connections: BTreeMap<String, Arc<Connection>>,
    /// The one that remembers what belongs to the whole function: `default`, or the first one.
    home: Arc<Connection>,
    /// Where jobs remember, and the audit is kept.
    ledgers: Arc<Store>,
    key: Key,
    jar: CookieJar,
    used: UsedStates,
    /// Sessions that the operator has ended in this replica.
    ended: ReplayCache,
    operator: Operator,
    callers: Callers,
    audit: audit::Audit,
    bell: revocation::Bell,
    links: links::Links,
    /// Wrong tokens of links.
    guesses: Throttle,
    floor: Coalesce<Vec<runs::Run>>,
    description: OnceLock<openapi::Description>,
    /// Places for callers who wait for a run of others.
    waiting: Semaphore,
    clock: Clock,
}

impl Function {
    /// Builds the function. The store and the provider need not be there yet.
    ///
    /// # Errors
    /// When the TLS library does not start, or there is no randomness.
    pub async fn new(config: Config) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let secrets = config.secrets.clone();
        let names: Vec<&str> = config.connections.iter().map(|connection| connection.name.as_str()).collect();
        crate::metrics::begin(&config.store, config.job.name(), &names);
        let store = Arc::new(open(&config).await?);
        let ledgers = ledgers(&store, &config)?;
        let audit = audit::Audit::new(Arc::clone(&ledgers));
        let (owner, clock) = (owner(), Clock::system());
        let notifier = links::notifier(&config, &store, &clock);
        let mut connections = BTreeMap::new();
        for connection in &config.connections {
            let (store, watchers) = (Arc::clone(&store), (&notifier, &audit));
            let opened = Connection::open(&config, connection.clone(), store, watchers, (&owner, &clock)).await?;
            connections.insert(connection.name.clone(), Arc::new(opened));
        }
        let home = connections.get(DEFAULT_CONNECTION).or(connections.values().next()).cloned();
        let home = home.ok_or("there is no connection")?;
        let key = Key::derive(&sealing(&secrets)?, config.public_url.as_str()).map_err(|_| "there is no randomness")?;
        let callers = Callers::new(&config.invoke_auth, secrets.clone(), &config.public_url)?;
        if !config.proxy_allow.is_empty() && !callers.is_closed() {
            tracing::warn!("proxy_allow opens nothing while invoke_auth is none: anybody could come in");
        }
        let operator = Operator::new(secrets);
        if config.enable_auth == EnableAuth::FirstVisit {
            tracing::warn!("the first visitor may authorise this function: mount the secret etl-oauth-operator");
        }
        if operator.is_weak() {
            tracing::warn!("the secret etl-oauth-operator is short enough to be guessed: take 24 random bytes");
        }
        let app = Arc::new(App {
            base: Base::new(&config.public_url).titled(config.title.as_deref()).operated(operator.exists()),
            jar: CookieJar::new(&config.public_url),
            used: UsedStates::default(),
            ended: ReplayCache::new(SESSIONS),
            operator,
            callers,
            audit,
            bell: revocation::Bell::default(),
            links: links::Links::new(&store),
            guesses: Throttle::default(),
            floor: Coalesce::new(config.min_run_interval),
            description: OnceLock::new(),
            waiting: Semaphore::new(config.max_waiting),
            config,
            connections,
            home,
            ledgers,
            key,
            clock,
        });
        for connection in app.connections.values() {
            let follower = Arc::clone(connection);
            tokio::spawn(async move { follower.keepers.follow().await });
            let authority = connection.authority.clone();
            tokio::spawn(async move { authority.follow().await });
            tokio::spawn(Arc::clone(connection).renew_what_is_due(app.config.sweep));
            let (app, connection) = (Arc::clone(&app), Arc::clone(connection));
            tokio::spawn(async move { app.show_last_success(&connection, DEFAULT_ACCOUNT).await });
        }
        let audit = app.audit.clone();
        tokio::spawn(async move { audit.follow().await });
        tokio::spawn(Arc::clone(&app).follow_revocations());
        tokio::spawn(Arc::clone(&app).follow_expiry());
        Ok(Self(app))
    }

    /// Waits for renewals and writes of tokens that go on after the last call: the function's shutdown hook.
    pub fn finished(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let all: Vec<_> = self.0.connections.values().map(|connection| connection.keepers.finished()).collect();
        let audit = self.0.audit.clone();
        async move {
            for finished in all {
                finished.await;
            }
            if let Err(err) = audit.flush().await {
                tracing::warn!(error = %err, "the last events of the audit are not stored; they are in the log");
            }
        }
    }

    /// The routes that `/openapi.json` describes, as the service that the template runs.
    pub fn router(self) -> Router {
        let app = self.0;
        Router::new()
            .route("/", routing::get(job::run).post(job::run).head(job::head))
            .route("/enable", routing::get(enable::page).post(enable::start))
            .route("/oauth2/callback", routing::get(callback::arrive).head(callback::head))
            .route("/oauth2/callback/{connection}", routing::get(callback::arrive_at).head(callback::head_at))
            .route("/oauth2/confirm", routing::post(confirm::confirm))
            .route("/done", routing::get(done::page))
            .route("/login", routing::get(login::page).post(login::sign_in))
            .route("/logout", routing::post(login::sign_out))
            .route("/status", routing::get(status::show))
            .route("/audit", routing::get(audit::show))
            .route("/refresh", routing::post(admin::refresh))
            .route("/revoke", routing::get(revocation::progress).post(revocation::begin))
            .route("/reseal", routing::post(admin::reseal))
            .route("/links", routing::get(links::list).post(links::make))
            .route("/links/{id}", routing::delete(links::end))
            .route(
                "/connect/{token}",
                routing::get(links::open).post(links::start).layer(axum::middleware::map_response(links::hide)),
            )
            .route("/held", routing::post(links::decide))
            .route("/mine", routing::get(links::mine))
            .route("/mine/disconnect", routing::post(links::disconnect))
            .route("/token", routing::get(token::show))
            .route("/proxy/{*path}", proxy::methods())
            .route("/openapi.json", routing::get(openapi::describe))
            .fallback(not_found)
            .method_not_allowed_fallback(not_allowed)
            .layer(axum::middleware::from_fn(around))
            .with_state(app)
    }
}

/// A secret that is shorter may be somebody's choice, and so be guessed.
const RANDOM: usize = 16;

/// The secret that states, forms, sessions and pages of this function are sealed with: the dedicated one, else one of those
/// that the provider's server made. Never a password: each page would let a stranger try guesses at it, as many as it likes.
/// Where no such secret is mounted, each replica makes one up.
fn sealing(secrets: &Secrets) -> Result<Secret, Box<dyn std::error::Error + Send + Sync>> {
    let shared = ["etl-oauth-seal-keys", "oauth2-client-secret", "oauth2-private-key"];
    let good = |name: &&str| secrets.require(name).ok().filter(|secret| secret.expose().len() >= RANDOM);
    if let Some(secret) = shared.iter().find_map(good) {
        return Ok(secret);
    }
    tracing::warn!(
        "states and sessions are sealed by a key of this replica and end with it: mount the secret etl-oauth-seal-keys"
    );
    Ok(Secret::new(random().map_err(|_| "there is no randomness")?))
}

/// Opens the store. What is wrong with its part of the configuration is a mistake like any other.
async fn open(config: &Config) -> Result<Store, Box<dyn std::error::Error + Send + Sync>> {
    let store = Store::open(&config.store, &config.store_options).await.map_err(|err| match err {
        err @ (StoreError::Config(_) | StoreError::Disabled { .. }) => {
            std::io::Error::new(std::io::ErrorKind::InvalidInput, crate::config::Mistakes::one(err.to_string())).into()
        }
        err => Box::<dyn std::error::Error + Send + Sync>::from(err),
    })?;
    let can = store.capabilities();
    if !(can.read_back && can.compare_and_swap && can.lease) {
        tracing::warn!(
            store = store.kind(),
            "this store can neither read back nor compare nor lock: keep com.openfaas.scale.max at 1, or choose another"
        );
    }
    Ok(store)
}

/// The store of what jobs remember: that of the tokens where it can hold it. Where a job only saves calls by its memory, that
/// may end with the process.
fn ledgers(tokens: &Arc<Store>, config: &Config) -> Result<Arc<Store>, std::io::Error> {
    match check_ledgers(tokens) {
        Ok(()) => Ok(Arc::clone(tokens)),
        Err(err) if config.job.needs_ledger() => {
            let mistake = crate::config::Mistakes::one(format!("job={}: {err}", config.job.name()));
            Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, mistake))
        }
        Err(_) => Ok(Arc::new(Store::Memory(token_keeper::store::Memory::default()))),
    }
}

/// This replica's name in leases and intents: Kubernetes gives every pod its own host name.
fn owner() -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "function".into());
    // Apart is all that two processes of one host have to be. The first randomness of the cryptographic library costs the
    // start 40 ms, for it measures the processor's jitter; the first use pays then.
    let salt = RandomState::new().build_hasher().finish();
    format!("{host}-{:08x}", salt >> 32)
}

/// What a request begins belongs to the trace that it came with.
async fn around(request: axum::extract::Request, next: axum::middleware::Next) -> axum::response::Response {
    let context = Trace::read(request.headers());
    respond::guarded(trace_context::within(context, next.run(request)).await)
}

type State = axum::extract::State<Arc<App>>;

async fn not_found(axum::extract::State(app): State, asked: Asked) -> axum::response::Response {
    let words = ("There is no such page", "nothing is answered at this path", "Look at the function's own page.");
    asked.problem(&app, &problem("not_found", StatusCode::NOT_FOUND, words).with_link("/", "To the function"))
}

async fn not_allowed(axum::extract::State(app): State, asked: Asked) -> axum::response::Response {
    let words =
        ("That cannot be done here", "this path does not take that method", "The header Allow names what it takes.");
    asked.problem(&app, &problem("method_not_allowed", StatusCode::METHOD_NOT_ALLOWED, words))
}

#[cfg(test)]
mod tests;
