#![doc = include_str!("../README.md")]
//!
//! ## Rooms
//!
//! From the ground up; each knows only those before it: [`backoff`], [`token`], [`secrets`], [`seal`], [`provider`], [`grant`], [`store`],
//! [`renewal`], [`api`], [`keeper`].

// Unit tests that the function shares name this crate from outside.
#[cfg(test)]
extern crate self as token_keeper;

pub mod api;
pub mod backoff;
pub mod grant;
mod json_path;
pub mod keeper;
pub mod provider;
pub mod renewal;
pub mod seal;
pub mod secrets;
pub mod store;
#[doc(hidden)]
pub mod text;
pub mod token;
#[doc(hidden)]
pub mod trace_context;

/// The types of requests and answers.
pub use http;
pub use keeper::{Account, Authorization, AuthorizeError, BuildError, Builder, ExchangeError, TokenKeeper};
pub use provider::Definition;
pub use renewal::KeeperError;
pub use secrets::Secrets;
pub use store::{Store, StoreError, StoreOptions};
pub use token::Secret;
pub use url::Url;
