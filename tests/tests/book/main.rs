//! The book in `docs/` and the code say the same: reference pages are complete both ways, what can be generated is current, and
//! each case of the failure catalogue is held by a test that exists.
//!
//! After a change that is wanted, `UPDATE=1 cargo test -p tests --test book` writes the generated parts anew.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod catalogue;
mod pages;
mod providers;
// The job of the README, which compiles as it stands there.
#[expect(dead_code, unreachable_pub, reason = "a function's whole crate, and here a module")]
mod readme_job;
mod reference;
mod sandbox;
mod source;
mod stacks;
mod toml;
