//! The sandbox provider as a client meets it, over sockets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod api;
mod authorization;
mod faults;
mod sandbox;
mod tokens;
