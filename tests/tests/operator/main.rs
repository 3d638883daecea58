//! What an operator has beside the pages: the metrics and the events of the log, the trace through a run, and the command
//! line. Over real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what cannot be set up fails its test")]

mod command;
mod grants;
mod metrics;
mod trace;

const PROGRAM: &str = env!("CARGO_BIN_EXE_etl-oauth-function");
