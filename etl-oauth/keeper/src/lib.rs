//! Keeps OAuth 2.0 grants alive for programs that run unattended.
//!
//! A person authorises a program once, in a browser. From then on the keeper renews, rotates, stores and revokes the tokens,
//! across crashes, replicas, provider outages and providers with rules of their own.
//!
//! Rooms from the ground up; each knows only those before it:
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`backoff`] | growing pauses between tries |
//! | [`token`] | the token record: lenient reading of real answers, expiry, failures |
//! | [`secrets`] | secrets mounted as files |
//! | [`seal`] | authenticated encryption with a key ring |
//! | [`provider`] | endpoints and quirks of a provider: definitions, discovery, overrides |
//! | [`grant`] | builds each token request and reads each answer |
//! | [`store`] | where records live |
//! | [`renewal`] | keeps an account's token valid |
//! | [`api`] | a client that puts the token on each request |

// Unit tests that the function shares name this crate from outside.
#[cfg(test)]
extern crate self as token_keeper;

pub mod api;
pub mod backoff;
pub mod grant;
pub mod provider;
pub mod renewal;
pub mod seal;
pub mod secrets;
pub mod store;
pub mod text;
pub mod token;
pub mod trace_context;
