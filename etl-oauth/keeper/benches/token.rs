//! The hot path: a token that is fresh, from one thread and from two.
//!
//! ```console
//! $ cargo bench -p token-keeper --bench token
//! ```

#![allow(clippy::expect_used, reason = "ends when it cannot measure")]

#[allow(dead_code, reason = "the other bench needs it")]
mod support;

use std::task::{Context, Poll, Waker};

use divan::Bencher;
use token_keeper::renewal::Keeper;

fn main() {
    divan::main();
}

/// A fresh token is there at the first poll: no runtime is measured along with it.
fn now<F: Future>(future: F) -> F::Output {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a fresh token makes nobody wait"),
    }
}

fn keeper() -> Keeper {
    let world = support::World::default();
    let keeper = world.keeper("default");
    now(keeper.authorise(support::answer(0, 3600), jiff::Timestamp::now()));
    keeper
}

#[divan::bench(threads = [1, 2], sample_size = 1000)]
fn fresh_token(bencher: Bencher<'_, '_>) {
    let keeper = keeper();
    bencher.bench(|| now(keeper.token()).expect("it is fresh"));
}
