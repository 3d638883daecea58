//! A function that a person authorises once in a browser, and that from then on gets, keeps, renews, guards and revokes
//! the OAuth tokens of an unattended job, and runs that job.
//!
//! Deployed with the template `rust-hyper`, [`handler`] is all of it. To run a job of your own, copy the crate and edit
//! [`job`]. Rooms from the ground floor up: [`token`] and [`secrets`], [`provider`], [`seal`], [`grant`], [`store`], [`keeper`],
//! [`api`], [`job`], [`guard`], [`pages`], [`config`], [`routes`]; each knows only those before it.

pub mod api;
#[cfg(feature = "cli")]
pub mod cli;
pub mod config;
pub mod grant;
pub mod guard;
pub mod job;
pub mod keeper;
pub mod pages;
pub mod provider;
pub mod routes;
pub mod seal;
pub mod secrets;
pub mod store;
pub mod token;
mod trace;
mod words;

pub use config::Config;
pub use routes::Function;

use std::io;

/// The function, configured from the environment: what the template calls at start.
///
/// ```no_run
/// # async fn f() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let function: axum::Router = etl_oauth::handler().await?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// A [`std::io::Error`] of kind `InvalidInput` that lists every mistake of the configuration (the template exits with
/// 64), or whatever else keeps the function from starting. A store or a provider that is away does not.
pub async fn handler() -> Result<axum::Router, Box<dyn std::error::Error + Send + Sync>> {
    let config = Config::read(|name| std::env::var(name).ok())
        .map_err(|mistakes| io::Error::new(io::ErrorKind::InvalidInput, mistakes))?;
    Ok(Function::new(config).await?.router())
}
