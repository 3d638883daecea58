//! An OpenFaaS watchdog inside the function's own process.
//!
//! ```no_run
//! use std::convert::Infallible;
//! use http::{Request, Response};
//! use hyper::body::Incoming;
//!
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
//! There is no second process and no proxy hop: the handler's service is called where the request was read.
//!
//! - Work that goes on after an answer is finished before the process ends: lay a `std::sync::Weak<dyn Any + Send + Sync>`
//!   into the response's extensions, and keep its `Arc` for as long as the work lasts.
//! - Each request runs to its end even when its caller hangs up; a panic is a 500, `exec_timeout` a 504.
//! - [`main`] is all that a function needs. [`Watchdog`] is the same server for tests and other programs.

mod alarm;
mod answer;
mod auth;
mod call;
mod call_id;
mod caller;
mod chunked;
mod clock;
mod config;
mod decimal;
mod duration;
mod entry;
mod events;
mod fields;
mod gate;
mod head;
mod input;
mod leftover;
mod listener;
mod lock;
mod log;
mod message;
mod metrics;
mod process;
mod refusal;
mod registry;
mod reply;
mod request_line;
mod scrape;
mod server;
mod shared;
mod sniff;
mod streams;
mod target;
mod traffic;
mod usage;
mod wire;

pub use config::{Config, ConfigError};
pub use listener::BindError;
pub use process::main;
pub use server::Watchdog;

/// Any error: what a handler's constructor and its service may fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A service that can be a function: an [`axum::Router`](https://docs.rs/axum) is one, a plain `tower_service::Service`
/// another. Implemented for all that fit, never by hand.
pub trait Function:
    tower_service::Service<
        http::Request<hyper::body::Incoming>,
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
            http::Request<hyper::body::Incoming>,
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
