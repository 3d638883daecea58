//! A sandbox OAuth provider: an authorization server and a small Gumroad-like API, with a switch for every fault that a
//! client must survive.
//!
//! | route | |
//! | --- | --- |
//! | `GET /.well-known/oauth-authorization-server` | metadata, RFC 8414 |
//! | `GET`, `POST /oauth/authorize` | the consent page, and its answer: `decision=allow` or `deny`, `user` |
//! | `POST /oauth/par` | RFC 9126: the same, pushed by the client |
//! | `POST /oauth/device`; `GET`, `POST /device` | RFC 8628: codes for a device, and the page where a person types one |
//! | `POST /oauth/token` | `authorization_code` with PKCE, `refresh_token`, `client_credentials`, device code, JWT bearer (RFC 7523, with the application's P-256 key), token exchange (RFC 8693, for a token of its own); DPoP (RFC 9449) for clients that send a proof |
//! | `POST /oauth/revoke` | RFC 7009 |
//! | `GET /v2/sales`, `GET /v2/user` | the API |
//! | `GET /records`, `/api/v3/…`, `/2/…`, `/services/…` | extensions: a list of any length, and APIs of further vendors |
//! | `GET`, `PUT /admin/faults` | [`Faults`] as JSON |
//! | `GET`, `DELETE /admin/log` | every token request and its outcome; digests, never tokens |
//! | `POST /admin/revoke` | `{"access":true,"refresh":true}`: revokes all tokens of that kind |

mod admin;
mod api;
mod assertion;
mod authorize;
mod bulk_api;
mod client;
mod corrupt_response;
mod device;
mod digest;
mod dpop;
mod faults;
mod grants;
mod key;
mod log;
mod par;
mod request;
mod sales;
mod salesforce;
mod scopes;
mod token;
mod vendor_apis;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub(crate) use self::key::private_pem;
use self::{device::Devices, dpop::Proofs, par::PushedRequests};

pub use self::client::Client;
pub use self::faults::{Corruption, Delay, Faults, Malformed, Status, Times};
use self::grants::Grants;
use self::log::Log;
use crate::host::AllowedHosts;
use crate::random;
use crate::server::{Server, bind, url};

/// How to start a [`Provider`].
#[derive(Debug)]
pub struct Options {
    /// Where to listen; port 0 picks one.
    pub address: SocketAddr,
    /// The applications that may request tokens.
    pub clients: Vec<Client>,
    /// A folder for grants and digests of tokens, which then outlive a restart.
    pub state: Option<PathBuf>,
}

/// A running sandbox provider.
#[derive(Debug)]
pub struct Provider {
    shared: Arc<Shared>,
    server: Server,
}

impl Provider {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// The address is taken, or the state folder cannot be read or written.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let listener = bind("sandbox provider", "--provider", options.address).await?;
        Self::serve(listener, options.clients, options.state, &[])
    }

    /// Starts it on a socket that is bound already.
    pub(crate) fn serve(
        listener: TcpListener,
        clients: Vec<Client>,
        state: Option<PathBuf>,
        allowed_hosts: &[String],
    ) -> anyhow::Result<Self> {
        let allowed = AllowedHosts::new(listener.local_addr()?.ip(), allowed_hosts);
        let file = state.map(|folder| folder.join("provider.json"));
        let grants = match &file {
            Some(file) => load(file)?,
            None => Grants::default(),
        };
        let shared = Arc::new(Shared {
            issuer: url(&listener)?,
            clients,
            file,
            nonce: random::token()?,
            book: Mutex::new(Book { grants, ..Book::default() }),
        });
        let server = Server::start(listener, allowed.guard(router(Arc::clone(&shared))), CancellationToken::new());
        Ok(Self { shared, server })
    }

    /// Its address as a URL without a slash at the end; also the issuer.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.shared.issuer
    }

    /// Merges `patch` into the switches, as `PUT /admin/faults` does.
    ///
    /// # Errors
    ///
    /// A switch that does not exist, or a value that makes no sense.
    pub fn set_faults(&self, patch: &Value) -> anyhow::Result<Faults> {
        self.shared.set_faults(patch).map_err(anyhow::Error::msg)
    }

    /// What `GET /admin/log` answers.
    #[must_use]
    pub fn log(&self) -> Value {
        self.shared.book().log.to_json()
    }

    /// Revokes every access token, or refresh token, that is valid now.
    pub fn revoke_all(&self, access: bool, refresh: bool) {
        self.shared.book().grants.revoke_all(access, refresh);
    }

    /// Stops it; requests under way get a second to finish.
    pub async fn stop(self) {
        self.server.stop(Duration::from_secs(1)).await;
    }
}

/// What the routes share.
#[derive(Debug)]
struct Shared {
    issuer: String,
    clients: Vec<Client>,
    file: Option<PathBuf>,
    /// The nonce that proofs of possession must contain, where the switch requires one.
    nonce: String,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    grants: Grants,
    devices: Devices,
    pushed: PushedRequests,
    proofs: Proofs,
    faults: Faults,
    log: Log,
}

impl Shared {
    /// State without a server, for tests.
    #[cfg(test)]
    fn of(issuer: &str, clients: Vec<Client>) -> Self {
        Self { issuer: issuer.into(), clients, file: None, nonce: "n".into(), book: Mutex::default() }
    }

    /// Held for a moment, and never over an await.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn client(&self, id: &str) -> Option<&Client> {
        self.clients.iter().find(|client| client.id == id)
    }

    fn set_faults(&self, patch: &Value) -> Result<Faults, String> {
        let mut book = self.book();
        book.faults = book.faults.merged(patch)?;
        Ok(book.faults.clone())
    }

    /// Stores the grants. Called under the lock and before the response is sent: a token that a client has is known after a
    /// restart.
    fn keep(&self, grants: &Grants) -> anyhow::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let new = file.with_extension("json.new");
        std::fs::write(&new, serde_json::to_vec(grants)?)
            .and_then(|()| std::fs::rename(&new, file))
            .with_context(|| format!("the provider cannot write {}", file.display()))
    }
}

fn load(file: &std::path::Path) -> anyhow::Result<Grants> {
    match std::fs::read(file) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
            format!(
                "cannot parse {}; remove it to start without grants, then enable the functions again",
                file.display()
            )
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Grants::default()),
        Err(error) => Err(error).with_context(|| format!("the provider cannot read {}", file.display())),
    }
}

fn router(shared: Arc<Shared>) -> Router {
    let admin = Router::new()
        .route("/admin/faults", get(admin::faults).put(admin::set_faults))
        .route("/admin/log", get(admin::log).delete(admin::clear_log))
        .route("/admin/revoke", post(admin::revoke))
        .layer(axum::middleware::from_fn(admin::loopback_only));
    let api = Router::new()
        .route("/v2/sales", get(api::sales))
        .route("/v2/user", get(api::user))
        .route("/records", get(bulk_api::records))
        .merge(vendor_apis::routes())
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&shared), api::faulty));
    Router::new()
        .route("/", get(authorize::welcome))
        .route("/.well-known/oauth-authorization-server", get(metadata))
        .route("/oauth/authorize", get(authorize::page).post(authorize::decide))
        .route("/oauth/par", post(par::push))
        .route("/oauth/device", post(device::begin))
        .route("/device", get(device::page).post(device::decide))
        .route("/oauth/token", post(token::token))
        .route("/oauth/revoke", post(token::revoke))
        .merge(vendor_apis::grants())
        .merge(api)
        .merge(admin)
        .layer(axum::middleware::from_fn(no_store))
        .with_state(shared)
}

const AUTH_METHODS: [&str; 4] = ["client_secret_basic", "client_secret_post", "private_key_jwt", "none"];

async fn metadata(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let at = |path| format!("{}{path}", shared.issuer);
    Json(json!({
        "issuer": shared.issuer,
        "authorization_endpoint": at("/oauth/authorize"),
        "token_endpoint": at("/oauth/token"),
        "revocation_endpoint": at("/oauth/revoke"),
        "device_authorization_endpoint": at("/oauth/device"),
        "pushed_authorization_request_endpoint": at("/oauth/par"),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": token::GRANT_TYPES,
        "token_endpoint_auth_methods_supported": AUTH_METHODS,
        "token_endpoint_auth_signing_alg_values_supported": ["ES256"],
        "revocation_endpoint_auth_methods_supported": AUTH_METHODS,
        "dpop_signing_alg_values_supported": ["ES256"],
        "code_challenge_methods_supported": ["S256"],
        "scopes_supported": scopes::SCOPES.map(|(scope, _)| scope),
        "authorization_response_iss_parameter_supported": true,
    }))
}

/// RFC 6749 §5.1 requires it of token responses; no other response needs a cache either.
async fn no_store(request: Request<axum::body::Body>, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert("cache-control", axum::http::HeaderValue::from_static("no-store"));
    response
}

/// A response to a failure of this server.
fn broken(error: &anyhow::Error) -> Response {
    let body = json!({"error": "server_error", "error_description": format!("{error:#}")});
    (StatusCode::INTERNAL_SERVER_ERROR, Json(body)).into_response()
}

fn now() -> Timestamp {
    Timestamp::now()
}
