//! What many cost: 10,000 callers that wait for one renewal, and 100,000 accounts that wait for nothing. Each has a limit
//! that it must keep, so that a run fails where the figures do.
//!
//! ```console
//! $ cargo bench -p token-keeper --bench crowd
//! ```

#![allow(clippy::print_stdout, clippy::expect_used, reason = "prints its figures, and ends when it cannot measure")]

mod support;

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;

const CALLERS: usize = 10_000;
const ACCOUNTS: usize = 100_000;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    let (slowest, calls) = runtime.block_on(crowd());
    println!("{CALLERS} callers over an expired token: {calls} call, the last is served {slowest:?} after its answer");
    println!("as many tasks that wait for a bare notification: the last wakes after {:?}", runtime.block_on(floor()));
    let bytes = runtime.block_on(accounts());
    println!("{ACCOUNTS} idle accounts: {bytes} bytes each");
    let kept = calls == 1 && slowest <= Duration::from_millis(5) && bytes <= 2048;
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The slowest of the best of five crowds, and how many calls it cost.
async fn crowd() -> (Duration, u32) {
    let mut best = (Duration::MAX, 0);
    for _ in 0..5 {
        let world = support::World::default();
        let keeper = world.keeper("default");
        keeper.authorise(support::answer(0, 1), Timestamp::now() - SignedDuration::from_secs(10)).await;
        let began = Instant::now();
        let last_served = Arc::new(AtomicU64::new(0));
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                let (keeper, last_served) = (keeper.clone(), Arc::clone(&last_served));
                tokio::spawn(async move {
                    keeper.token().await.expect("the provider answers");
                    let nanos = u64::try_from(began.elapsed().as_nanos()).expect("less than centuries");
                    last_served.fetch_max(nanos, Ordering::Relaxed);
                })
            })
            .collect();
        // All are on board when the call is under way and nothing else is left to do.
        while world.calls.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        let answered = began.elapsed();
        world.answers.add_permits(1);
        // Nobody takes part in the race who is not a caller: tasks are taken apart when all are served.
        tokio::time::sleep(Duration::from_millis(200)).await;
        for caller in callers {
            caller.await.expect("no caller panics");
        }
        let last = Duration::from_nanos(last_served.load(Ordering::Relaxed));
        best = best.min((last - answered, world.calls.load(Ordering::Relaxed)));
    }
    best
}

/// What the runtime alone takes to wake as many tasks: no keeper can be faster on this machine.
async fn floor() -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let (bell, last_woken, began) = (Arc::new(Notify::new()), Arc::new(AtomicU64::new(0)), Instant::now());
        let tasks: Vec<_> = (0..CALLERS)
            .map(|_| {
                let (bell, last_woken) = (Arc::clone(&bell), Arc::clone(&last_woken));
                tokio::spawn(async move {
                    bell.notified().await;
                    let nanos = u64::try_from(began.elapsed().as_nanos()).expect("less than centuries");
                    last_woken.fetch_max(nanos, Ordering::Relaxed);
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let rung = began.elapsed();
        // From a task, as a renewal does it.
        tokio::spawn(async move { bell.notify_waiters() }).await.expect("it does not panic");
        tokio::time::sleep(Duration::from_millis(200)).await;
        for task in tasks {
            task.await.expect("none panics");
        }
        best = best.min(Duration::from_nanos(last_woken.load(Ordering::Relaxed)) - rung);
    }
    best
}

/// Bytes of resident memory for each authorised account that nobody uses. Its record lies in the store already, which is
/// elsewhere in production.
async fn accounts() -> usize {
    let world = support::World::default();
    let names: Vec<_> = (0..ACCOUNTS).map(|n| format!("account-{n}")).collect();
    for name in &names {
        world.keeper(name).authorise(support::answer(0, 3600), Timestamp::now()).await;
    }
    let mut keepers = Vec::with_capacity(ACCOUNTS);
    let before = resident();
    for name in &names {
        let keeper = world.keeper(name);
        keeper.sync().await;
        assert!(keeper.token().await.is_ok(), "an account that nobody authorised costs nothing");
        keepers.push(keeper);
    }
    (resident() - before) / keepers.len()
}

/// Linux counts it in pages of 4 KiB.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a number of pages") * 4096
}
