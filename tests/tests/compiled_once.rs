//! `local` and the function that it builds share one target folder: what both depend on must have the same features in
//! both, or else cargo compiles it, and all that depends on it, twice. A first `cargo run` would take minutes longer.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::process::Command;

/// Crates that differ, each for a reason.
const DIFFERENT: [(&str, &str); 4] = [
    ("anstyle", "clap writes colours; the function has no command line"),
    ("axum", "`local` answers with JSON"),
    ("futures-util", "of tokio-util's `rt`"),
    ("tokio-util", "`local` waits for its tasks with a TaskTracker"),
];

/// Name, version and features of all that the packages and options select.
fn tree(options: &[&str]) -> BTreeSet<(String, String, String)> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["tree", "--locked", "--edges", "normal,build", "--prefix", "none", "--format", "{p};{f}"]);
    let output = command.args(options).current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let parsed = text.lines().filter_map(|line| {
        let (package, features) = line.split_once(';')?;
        let mut words = package.split(' ');
        let (name, version) = (words.next()?, words.next()?);
        // Our own crates are compiled for each anyway.
        let foreign = !package.contains(" (/");
        foreign.then(|| (name.to_owned(), version.to_owned(), features.trim_end_matches(" (*)").to_owned()))
    });
    parsed.collect()
}

#[test]
fn what_local_and_the_function_depend_on_has_the_same_features() {
    let local = tree(&["-p", "local", "-p", "etl-oauth", "-p", "watchdog"]);
    let function = tree(&["-p", "etl-oauth", "-p", "watchdog"]);
    assert!(function.len() > 100 && local.len() > 100, "{} {}", function.len(), local.len());
    let differs =
        |(name, version, _): &&(String, String, String)| local.iter().any(|(n, v, _)| n == name && v == version);
    let twice: Vec<_> = function.difference(&local).filter(differs).collect();
    let unexpected: Vec<_> =
        twice.iter().filter(|(name, ..)| DIFFERENT.iter().all(|(different, _)| different != name)).collect();
    assert!(unexpected.is_empty(), "features of the function that `local` changes: {unexpected:#?}");
}
