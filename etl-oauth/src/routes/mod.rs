//! What the function answers below `/function/NAME`, whose prefix the gateway takes off.

mod admin;
mod audit;
mod authorize;
mod callback;
mod confirm;
mod device;
mod document;
mod done;
mod enable;
mod expiry;
mod flash;
mod job;
mod login;
mod openapi;
mod proxy;
mod public_record;
mod respond;
mod revocation;
mod run_history;
mod status;
mod token;

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::{Arc, OnceLock},
};

use axum::{Router, routing};
use http::StatusCode;
use tokio::sync::Semaphore;

use crate::{
    config::Config,
    guard::{Callers, Coalesce, CookieJar, EnableAuth, Key, Operator, ReplayCache, UsedStates, random},
    job::{Progress, check_ledgers},
    pages::Base,
};
pub use public_record::retriever;
use respond::{Asked, problem};
use run_history::Histories;
use token_keeper::{
    api::{Api, ApiError},
    grant::{Authority, Credentials, HttpClient},
    renewal::{Announcer, Clock, Keeper, KeeperError, Keepers, Origin, Parts},
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
    keepers: Keepers,
    api: Option<Api>,
    authority: Authority,
    key: Key,
    jar: CookieJar,
    used: UsedStates,
    /// Sessions that the operator has ended in this replica.
    ended: ReplayCache,
    operator: Operator,
    callers: Callers,
    histories: Histories,
    audit: audit::Audit,
    bell: revocation::Bell,
    ledgers: Arc<Store>,
    progress: Progress,
    floor: Coalesce<Vec<job::Run>>,
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
        let store = Arc::new(open(&config).await?);
        crate::metrics::begin(store.kind(), config.job.name());
        let credentials = Credentials::mounted(secrets.clone(), config.key_id.clone());
        let wire = HttpClient::http(config.policy.token_timeout)?;
        let authority = Authority::new(config.provider.clone(), credentials, wire);
        let clock = Clock::system();
        let ledgers = ledgers(&store, &config)?;
        let audit = audit::Audit::new(Arc::clone(&ledgers));
        let announcer = {
            let secrets = secrets.clone();
            let origin = Origin {
                function: config.store_options.function.clone(),
                connection: "default".into(),
                provider: config.provider.name.clone(),
                url: config.page("/status"),
            };
            let url = secrets.clone();
            let read = |secrets: &Secrets, name: &str| secrets.read(name).ok().flatten();
            let (url, key) =
                (move || read(&url, "etl-oauth-notify-url"), move || read(&secrets, "etl-oauth-notify-key"));
            Announcer::signed_webhook(origin, url, key)?
        };
        let announcer = announcer.observed_by(audit::renewals(audit.clone()));
        let keepers = Keepers::new(Parts {
            authority: authority.clone(),
            store: Arc::clone(&store),
            policy: config.policy.clone(),
            owner: owner(),
            clock: clock.clone(),
            announcer,
        })
        .within(config.limits);
        let first = keepers.get(DEFAULT_ACCOUNT)?;
        first.sync().await;
        let id = secrets.read("oauth2-client-id").ok().flatten();
        let id = id.as_ref().map_or("", Secret::expose);
        let api = Some(Api::of(Arc::new(config.provider.clone()), id, first)?);
        let key = Key::derive(&sealing(&secrets)?, config.public_url.as_str()).map_err(|_| "there is no randomness")?;
        let callers = Callers::new(&config.invoke_auth, secrets.clone(), &config.public_url)?;
        if (config.proxy_allow.token() || config.proxy_allow.proxy()) && !callers.is_closed() {
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
            histories: Histories::new(Arc::clone(&ledgers)),
            audit,
            bell: revocation::Bell::default(),
            ledgers,
            progress: Progress::default(),
            floor: Coalesce::new(config.min_run_interval),
            description: OnceLock::new(),
            waiting: Semaphore::new(config.max_waiting),
            config,
            keepers,
            api,
            authority,
            key,
            clock,
        });
        let follower = Arc::clone(&app);
        tokio::spawn(async move { follower.keepers.follow().await });
        tokio::spawn(Arc::clone(&app).renew_what_is_due());
        let rememberer = Arc::clone(&app);
        tokio::spawn(async move { rememberer.show_last_success(DEFAULT_ACCOUNT).await });
        let audit = app.audit.clone();
        tokio::spawn(async move { audit.follow().await });
        tokio::spawn(Arc::clone(&app).follow_revocations());
        tokio::spawn(Arc::clone(&app).follow_expiry());
        let authority = app.authority.clone();
        tokio::spawn(async move { authority.follow().await });
        Ok(Self(app))
    }

    /// Waits for renewals and writes of tokens that go on after the last call: the function's shutdown hook.
    pub fn finished(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let (finished, audit) = (self.0.keepers.finished(), self.0.audit.clone());
        async move {
            finished.await;
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
            .route("/oauth2/confirm", routing::post(confirm::confirm))
            .route("/done", routing::get(done::page))
            .route("/login", routing::get(login::page).post(login::sign_in))
            .route("/logout", routing::post(login::sign_out))
            .route("/status", routing::get(status::show))
            .route("/audit", routing::get(audit::show))
            .route("/refresh", routing::post(admin::refresh))
            .route("/revoke", routing::get(revocation::progress).post(revocation::begin))
            .route("/reseal", routing::post(admin::reseal))
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

/// Between two counts of the accounts where nothing is renewed by itself.
const COUNTS: std::time::Duration = std::time::Duration::from_secs(30);

impl App {
    /// Renews what is due, for as long as the function runs; with `sweep=off` it counts the accounts and no more.
    async fn renew_what_is_due(self: Arc<Self>) {
        let Some(options) = self.config.sweep else {
            loop {
                self.keepers.show_counts().await;
                tokio::time::sleep(COUNTS).await;
            }
        };
        match self.keepers.sweep(options).await {}
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

impl App {
    /// The provider's API with the tokens of `keeper`.
    fn api(&self, keeper: Keeper) -> Result<Api, ApiError> {
        self.api.as_ref().map(|api| api.with(keeper)).ok_or(ApiError::NotConfigured)
    }

    /// The keeper of an account that a request names.
    fn keeper(&self, asked: &Asked, account: &str) -> Result<Keeper, axum::response::Response> {
        self.keepers.get(account).map_err(|err| self.no_account(asked, &err))
    }

    /// The keeper of an account that a request only uses: one that nobody has begun is an answer, and costs nothing that
    /// lasts. Accounts with a name begin by the operator or a person alone.
    async fn existing(&self, asked: &Asked, account: &str) -> Result<Keeper, axum::response::Response> {
        let found = self.keepers.existing(account).await.map_err(|err| self.no_account(asked, &err))?;
        found.ok_or_else(|| {
            let err = ApiError::from(KeeperError::Disabled { account: account.to_owned() });
            self.api_failed(asked, &err)
        })
    }

    fn no_account(&self, asked: &Asked, err: &StoreError) -> axum::response::Response {
        let words =
            ("There can be no such account", &*err.to_string(), "Use another name, or none for the account default.");
        asked.problem(self, &problem("bad_account", StatusCode::BAD_REQUEST, words))
    }
}

#[cfg(test)]
mod tests;
