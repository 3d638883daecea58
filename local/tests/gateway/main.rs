//! The gateway as callers and functions meet it, over sockets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod deployments;
mod hosts;
mod instances;
mod proxy;
mod rest_api;
#[path = "../support/mod.rs"]
mod support;

const ECHO: &str = "  echo:\n    lang: none\n    handler: ./echo\n    image: sample\n";
