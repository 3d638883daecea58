//! An OpenFaaS watchdog inside the function's own process.
//!
//! ```no_run
//! /// Called once, before the function reports ready.
//! async fn handler() -> Result<axum::Router, watchdog::BoxError> {
//!     Ok(axum::Router::new().route("/", axum::routing::get(async || "hello\n")))
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     watchdog::main(handler)
//! }
//! ```
//!
//! The contract towards the platform is that of of-watchdog in its mode `http`: the same environment variables, ports,
//! health and ready endpoints, limits, headers, metrics and log lines; see [`Config`] and the README of the template.
//! There is no second process and no proxy hop: hyper reads the request and the function's service is called with it.
//!
//! - The request's body is [`Body`]. A service that is generic over the body, as axum's `Router` is, needs no dependency
//!   on this crate.
//! - Each request runs to its end even when its caller hangs up; a panic is a 500, `exec_timeout` a 504.
//! - A constructor that returns a service and a future, `(service, shutdown)`, has the future run after the last call is
//!   answered and before the process exits: see [`IntoFunction`].
//! - [`main`] is all that a function needs. [`test()`] calls a function in a test, [`start`] starts one on a free port, and
//!   [`Watchdog`] is the same server for other programs.

mod access_log;
mod auth;
mod background;
mod body;
mod config;
mod connection;
mod duration;
mod framing;
mod headers;
mod invocation;
mod limit;
mod lock;
mod metrics;
mod metrics_server;
#[cfg(feature = "otel")]
mod otel;
mod process;
mod response;
mod server;
mod service;
mod testing;
mod tracing;

use std::future::{Future, Ready, ready};

pub use body::Body;
pub use config::{Config, ConfigError};
pub use process::main;
pub use server::Watchdog;
pub use testing::{Running, Tested, start, test};

/// Any error: what a handler's constructor and its service may fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A service that answers requests: an [`axum::Router`](https://docs.rs/axum) is one, a plain `tower_service::Service`
/// another. Implemented for every service that fits, never by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a function",
    note = "return a `tower_service::Service<http::Request<B>>` that is generic over the body `B`, or for `watchdog::Body`; \
            it has to be `Clone + Send + 'static`, and its future `Send`"
)]
pub trait Function:
    tower_service::Service<
        http::Request<Body>,
        Response = http::Response<Self::Body>,
        Error: Into<BoxError> + Send,
        Future: Send + 'static,
    > + Clone
    + Send
    + 'static
{
    /// The body of its responses.
    type Body: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static;
}

impl<S, B> Function for S
where
    S: tower_service::Service<
            http::Request<Body>,
            Response = http::Response<B>,
            Error: Into<BoxError> + Send,
            Future: Send + 'static,
        > + Clone
        + Send
        + 'static,
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    type Body = B;
}

/// What a constructor may return: a service, or a service with a shutdown hook.
///
/// The hook is a future. It runs after the last call is answered and before the process exits; `write_timeout` limits
/// the drain and the hook together. Work that outlives its call belongs into a `tokio_util::task::TaskTracker`:
///
/// ```
/// # use std::future::Future;
/// use tokio_util::task::TaskTracker;
///
/// async fn handler() -> Result<(axum::Router, impl Future<Output = ()> + Send + 'static), watchdog::BoxError> {
///     let (background, shutdown) = (TaskTracker::new(), TaskTracker::new());
///     # let shutdown = background.clone();
///     let router = axum::Router::new().route("/", axum::routing::get(async move || {
///         background.spawn(async { /* goes on after the answer */ });
///     }));
///     Ok((router, async move {
///         shutdown.close();
///         shutdown.wait().await;
///     }))
/// }
/// # fn main() { let _ = handler; }
/// ```
///
/// `Marker` tells the two forms apart for the compiler and is always inferred.
pub trait IntoFunction<Marker> {
    /// The service.
    type Function: Function;
    /// The shutdown hook.
    type Shutdown: Future<Output = ()> + Send + 'static;

    /// Splits the value into its service and its shutdown hook.
    fn into_function(self) -> (Self::Function, Self::Shutdown);
}

impl<F: Function> IntoFunction<()> for F {
    type Function = F;
    type Shutdown = Ready<()>;

    fn into_function(self) -> (F, Ready<()>) {
        (self, ready(()))
    }
}

/// Marks a service with a shutdown hook, see [`IntoFunction`].
#[derive(Debug)]
pub enum WithShutdown {}

impl<F: Function, S: Future<Output = ()> + Send + 'static> IntoFunction<WithShutdown> for (F, S) {
    type Function = F;
    type Shutdown = S;

    fn into_function(self) -> (F, S) {
        self
    }
}
