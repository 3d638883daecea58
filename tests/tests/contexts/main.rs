//! Functions as they are deployed, in build contexts laid out as faas-cli does: by the commands of the Dockerfile, with a
//! cargo home that is empty at first. `tests/e2e.sh` runs this.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod context;
mod manifests;
mod private;
mod release;
