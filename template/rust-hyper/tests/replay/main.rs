//! Replays what of-watchdog was recorded to answer, case by case as bytes on real sockets, against the template's own
//! server: `cargo test --test replay [words of case ids]`.
//!
//! `of-watchdog.json` is the record, `differences.json` says where this watchdog answers something else on purpose and
//! why, one line a case. With `REPLAY_SUBJECT=/path/to/of-watchdog` the record is replayed against that program, one
//! case after another because its metrics port is fixed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test, which is to fail of a surprise")]

#[path = "../../examples/mirror.rs"]
mod mirror;

mod compare;
mod message;
mod oidc;
mod subject;
mod walk;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use serde_json::Value;

/// Cases that this mirror, as a server of its own behind of-watchdog, cannot show as the recorded one did.
const NOT_BEHIND: [&str; 15] = [
    // hyper's targets are UTF-8, no longer than 65,534 bytes, and not what CONNECT names.
    "route-raw-bytes",
    "route-long-url",
    "route-authority-form",
    // The message has the recorded upstream's port.
    "route-absolute-form",
    "route-bad-target",
    // Its fields come in another order and number, and an upgrade is dated.
    "method-head",
    "limit-websocket",
    "ws-upgrade",
    "ws-after-timeouts",
    "metrics-websocket",
    "term-websocket",
    "log-streaming",
    // Nor does it notice a caller that is gone behind a body that nobody reads.
    "hang-up-post",
    // Its JSON is a few bytes shorter.
    "log-default",
    // Its answer to a wrong word is an answer.
    "ws-upper-case",
];

fn main() -> ExitCode {
    // This binary is its own subject: started again with this variable it is the mirrored function.
    if std::env::var_os("REPLAY_MIRROR").is_some() {
        return mirror::run();
    }
    let record: Value = serde_json::from_str(include_str!("../of-watchdog.json")).expect("the record is JSON");
    let differences: Value =
        serde_json::from_str(include_str!("../differences.json")).expect("the differences are JSON");
    let of_watchdog = std::env::var("REPLAY_SUBJECT").ok().filter(|path| !path.is_empty());

    let mut arguments = Arguments::from_args();
    // Cases wait far more than they compute.
    let threads = if of_watchdog.is_some() { 1 } else { 24 };
    arguments.test_threads.get_or_insert(threads);

    let cases = record["cases"].as_array().expect("a list of cases");
    let mut unknown: Vec<_> = differences.as_object().expect("an object").keys().collect();
    let mut trials: Vec<_> = cases
        .iter()
        .inspect(|case| unknown.retain(|name| case["id"] != name.as_str()))
        .filter(|case| of_watchdog.is_none() || !NOT_BEHIND.contains(&case["id"].as_str().unwrap_or("")))
        .map(|case| {
            let id = case["id"].as_str().expect("an id").to_owned();
            let difference = match of_watchdog {
                None => differences[&id].clone(),
                Some(_) => Value::Null,
            };
            let (case, jwt) = (case.clone(), record["jwt"].clone());
            let of_watchdog = of_watchdog.clone();
            Trial::test(id, move || walk::run(&case, &difference, &jwt, of_watchdog.as_deref()).map_err(Into::into))
        })
        .collect();
    let unknown = format!("{unknown:?}");
    trials.push(Trial::test("every_difference_names_a_case", move || match unknown.as_str() {
        "[]" => Ok(()),
        names => Err(format!("no such cases: {names}").into()),
    }));
    libtest_mimic::run(&arguments, trials).exit_code()
}
