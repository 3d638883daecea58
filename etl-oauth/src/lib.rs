//! A function that a person authorises once in a browser, and that from then on gets, keeps, renews, guards and revokes
//! the OAuth tokens of an unattended job, and runs that job.
//!
//! Deployed with the template `rust-hyper`, [`handler`] is all of it; [`with`] runs a job of your own in the place of a
//! built-in one. What the author of a function needs is [`handler`], [`with`], [`job`], [`api`], [`Router`] and [`BoxError`];
//! the other modules are public for the command line and the tests, and change without notice.
//!
//! Rooms from the ground up, each of which knows only those before it: `job`, `guard`, `pages`, `config`, `routes`, on top of
//! the crate `token-keeper`. Behind the feature `cli` stands the command line `etl-oauth`.

#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod config;
mod format;
#[doc(hidden)]
pub mod guard;
pub mod job;
mod metrics;
#[doc(hidden)]
pub mod pages;
#[doc(hidden)]
pub mod routes;
#[cfg(feature = "testing")]
pub mod testing;

pub use axum::Router;
#[doc(hidden)]
pub use config::Config;
#[doc(hidden)]
pub use routes::Function;
pub use token_keeper::{api, http};

use std::{future::ready, io, pin::Pin};

/// An error of whatever kind.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What the template serves: the routes, and a future that it runs after the last call and before the process exits. It waits
/// for renewals and writes of tokens.
pub type Handler = (Router, Pin<Box<dyn Future<Output = ()> + Send>>);

/// The function, configured from the environment: what the template calls at start. With the variable `record_of` it is
/// one that shows what another function's job wrote, and does nothing else.
///
/// ```no_run
/// # async fn f() -> Result<(), etl_oauth::BoxError> {
/// let (router, finished): etl_oauth::Handler = etl_oauth::handler().await?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// A [`std::io::Error`] of kind `InvalidInput` that lists every mistake of the configuration (the template exits with
/// 64), or whatever else keeps the function from starting. A store or a provider that is away does not.
pub async fn handler() -> Result<Handler, BoxError> {
    if let Some(config) = config::Retriever::of_environment().map_err(wrong)? {
        return Ok((routes::retriever(&config).await?, Box::pin(ready(()))));
    }
    serve(Config::of_environment().map_err(wrong)?).await
}

/// The function with a job of one's own in the place of a built-in one: an async function from the [`api::Api`] of an account
/// and a typed input to a typed output. All else is as in [`handler`]: `/enable`, `/status`, renewal, schedule, accounts.
///
/// This is the whole of a function. `faas-cli new --lang rust-hyper orders` makes its folder; `cargo add` brings in
/// `etl-oauth` (`--git`, with the repository's address), `serde` (with `derive`) and `serde_json`; the variables and secrets are those of `stack.yaml`.
/// Set `secret_prefix` to `orders-`: the functions of a namespace share its secrets, and two of them without a prefix would use
/// the same client and overwrite each other's token.
///
/// ```no_run
#[doc = include_str!("../examples/orders/lib.rs")]
/// # fn main() {}
/// ```
///
/// The input is the body of the call as JSON, its default where that is empty; one that cannot be read is a 400 that names
/// the field. The output is the answer. An error is never a 2xx, so that a queue tries again: the API's own says what it is,
/// within a [`BoxError`] too, and any other is a 502. The job runs for each authorised account; a run that
/// takes longer than `exec_timeout` is dropped where it awaits. Events that it logs with `tracing` bear the call's `trace_id`.
///
/// A job that has to remember something takes the whole [`job::Context`] in the place of the [`api::Api`]: its
/// [`ledger`](job::Context::ledger) is compared and swapped, and lasts where the store can be read back.
///
/// # Errors
/// As [`handler`].
pub async fn with<C, I, O, E, F>(job: impl Fn(C, I) -> F + Send + Sync + 'static) -> Result<Handler, BoxError>
where
    C: From<job::Context>,
    I: serde::de::DeserializeOwned + Default + Send + 'static,
    O: serde::Serialize + Send + 'static,
    E: Into<job::JobError> + Send + 'static,
    F: Future<Output = Result<O, E>> + Send + 'static,
{
    serve(Config::of_environment_with(Some(job::Job::Own(job::Own::new(job)))).map_err(wrong)?).await
}

async fn serve(config: Config) -> Result<Handler, BoxError> {
    let function = Function::new(config).await?;
    let finished = Box::pin(function.finished());
    Ok((function.router(), finished))
}

fn wrong(mistakes: config::Mistakes) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, mistakes)
}
