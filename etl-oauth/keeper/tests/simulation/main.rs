//! The renewal protocol in a simulated world: the state machine that runs in production, and everything around it a model.
//!
//! `SIM_SEEDS=N` runs N seeds instead of 2,000, from `SIM_FROM=S` on; `SIM_SEED=S` runs one and prints what happened. What is judged, and how
//! ambiguity is, stands in `judge.rs`.

#![allow(unreachable_pub, clippy::expect_used, clippy::print_stdout, reason = "modules of one test binary")]

mod judge;
mod provider;
mod search;
mod store;
mod tally;
mod world;

use std::{
    ops::Range,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use provider::Habit;
use search::{Budget, Case};
use store::Broken;
use tally::Tally;
use world::Kind;

const SEEDS: u64 = 2_000;

/// Runs seeds on all cores until one fails; the lowest failing one that was met, and what happened in all that were run.
fn sweep(seeds: Range<u64>, kind: Kind, broken: Broken) -> (Option<(u64, String)>, Tally) {
    let (next, stop) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let work = || {
        let (mut fault, mut sum) = (None, Tally::default());
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            let report = world::run(seed, kind, broken, false);
            sum += report.tally;
            if let Some(found) = report.fault {
                fault = Some((seed, found));
                stop.store(true, Ordering::Relaxed);
            }
        }
        (fault, sum)
    };
    let cores = thread::available_parallelism().map_or(2, usize::from);
    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a seed that panics is a fault, too")).collect()
    });
    let mut sum = Tally::default();
    for (_, tally) in &results {
        sum += *tally;
    }
    (results.into_iter().filter_map(|(fault, _)| fault).min(), sum)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{variable} is not a number")))
}

#[test]
fn every_seed_keeps_the_invariants_and_recovers() {
    if let Some(seed) = number("SIM_SEED") {
        let report = world::run(seed, Kind::Any, Broken::Nothing, true);
        for line in &report.trace {
            println!("{line}");
        }
        assert_eq!(report.fault, None, "seed {seed}");
        return;
    }
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    let from = number("SIM_FROM").unwrap_or(0);
    let (fault, sum) = sweep(from..from + seeds, Kind::Any, Broken::Nothing);
    if let Some((seed, fault)) = fault {
        let mut trace = world::run(seed, Kind::Any, Broken::Nothing, true).trace;
        for line in trace.drain(trace.len().saturating_sub(200)..) {
            println!("{line}");
        }
        panic!("seed {seed}: {fault}; SIM_SEED={seed} replays it");
    }
    println!("{seeds} seeds: {sum}");
    assert_eq!(sum.missing(), Vec::<&str>::new(), "a simulation without trouble shows nothing");
}

/// Each safeguard is needed: without it some seed fails.
#[track_caller]
fn is_caught(kind: Kind, broken: Broken) {
    let (fault, _) = sweep(0..SEEDS, kind, broken);
    let (seed, fault) = fault.unwrap_or_else(|| panic!("{SEEDS} seeds without a fault although {broken:?} is broken"));
    println!("{kind:?}, {broken:?} broken: seed {seed}: {fault}");
}

#[test]
fn a_lease_that_everybody_gets_is_caught() {
    is_caught(Kind::Any, Broken::Lease);
    is_caught(Kind::Unattended, Broken::Lease);
}

#[test]
fn a_missing_reread_is_caught() {
    is_caught(Kind::Any, Broken::Reread);
    is_caught(Kind::Unattended, Broken::Reread);
}

#[test]
fn a_missing_intent_is_caught() {
    is_caught(Kind::Any, Broken::Intent);
}

#[test]
fn a_store_that_ignores_the_version_is_caught() {
    is_caught(Kind::Any, Broken::Swap);
}

#[test]
fn a_failure_that_is_not_written_down_is_caught() {
    is_caught(Kind::Any, Broken::Note);
    is_caught(Kind::Unattended, Broken::Note);
}

const NOTHING: Budget = Budget { crashes: 0, losses: 0, touches: 0, naps: 0 };

/// Every interleaving, not a sample of them.
#[track_caller]
fn is_searched(habit: Habit, is_new: bool, budget: Budget) {
    let found = search::run(Case { habit, is_new, broken: Broken::Nothing, budget });
    println!("{habit:?}, new: {is_new}, {budget:?}: {} states, {} of them final", found.states, found.ends);
    assert_eq!(found.fault, None, "{habit:?} {budget:?}");
    assert!(found.states > 100 && found.ends > 1, "the search is not as wide as it was");
}

#[test]
fn b2_every_interleaving_with_a_crash_a_lost_answer_and_a_conflict_keeps_the_invariants() {
    is_searched(Habit::Strict, false, Budget { crashes: 1, losses: 1, touches: 1, naps: 0 });
}

#[test]
fn h16_every_interleaving_with_three_lost_answers_ends_with_tokens_or_a_person() {
    is_searched(Habit::Strict, false, Budget { losses: 3, ..NOTHING });
    is_searched(Habit::Window(60_000), false, Budget { losses: 3, ..NOTHING });
}

#[test]
fn every_interleaving_within_a_replay_window_keeps_the_invariants() {
    is_searched(Habit::Window(120_000), false, Budget { crashes: 1, losses: 1, ..NOTHING });
}

#[test]
fn every_interleaving_with_a_holder_that_sleeps_through_its_lease_keeps_the_invariants() {
    is_searched(Habit::Strict, false, Budget { naps: 1, ..NOTHING });
}

#[test]
fn every_interleaving_where_tokens_are_had_by_asking_makes_one_call_a_need() {
    is_searched(Habit::Asks, true, Budget { crashes: 1, touches: 1, ..NOTHING });
    is_searched(Habit::Asks, false, Budget { crashes: 1, losses: 1, ..NOTHING });
    for is_new in [true, false] {
        is_searched(Habit::Asks, is_new, Budget { naps: 1, ..NOTHING });
    }
}

#[test]
fn the_search_finds_what_each_safeguard_prevents() {
    for (habit, broken) in [
        (Habit::Strict, Broken::Lease),
        (Habit::Strict, Broken::Reread),
        (Habit::Strict, Broken::Swap),
        (Habit::Asks, Broken::Lease),
        (Habit::Asks, Broken::Reread),
    ] {
        let budget = Budget { touches: 1, naps: 1, ..NOTHING };
        let found = search::run(Case { habit, is_new: false, broken, budget });
        let fault = found.fault.unwrap_or_else(|| panic!("{broken:?} is broken, and {} states are fine", found.states));
        println!("{habit:?}, {broken:?} broken: {fault}");
    }
}
