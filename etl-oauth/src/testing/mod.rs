//! The test kit for a job: an API on loopback with scripted answers, a clock that is turned by hand, a ledger in memory, and
//! the whole function around a job.
//!
//! It is the cargo feature `testing`, for `[dev-dependencies]` alone: what is deployed has none of it.
//!
//! ```toml
//! [dev-dependencies]
//! etl-oauth = { git = "…", features = ["testing"] }
//! tokio = { version = "1", features = ["macros", "rt"] }
//! ```
//!
//! ```
//! use etl_oauth::{api::{Api, ApiError}, testing::{MockApi, Reply}};
//! use serde_json::{Value, json};
//!
//! async fn orders(api: Api, (): ()) -> Result<usize, ApiError> {
//!     let answer: Value = api.get("/orders").query("state", "open").json().await?;
//!     Ok(answer.as_array().map_or(0, Vec::len))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let mock = MockApi::start().await;
//! mock.reply("GET /orders", Reply::status(503));
//! mock.reply("GET /orders", Reply::json(json!([1, 2])));
//! assert_eq!(orders(mock.api(), ()).await.unwrap(), 2);
//! assert_eq!(mock.requests()[1].query("state"), Some("open"));
//! # }
//! ```
//!
//! [`MockApi`] is for the job as a plain function, [`Sandbox`] for the whole function with the job in it: authorisation,
//! routes, errors. [`MockApi::recorded`] replays what a real API answered once.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

mod clock;
mod folder;
mod mock_api;
mod recording;
mod reply;
mod sandbox;

pub use clock::TestClock;
pub use mock_api::MockApi;
pub use reply::{Recorded, Reply};
pub use sandbox::{Answer, Sandbox};

#[cfg(test)]
mod tests;
