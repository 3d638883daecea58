//! The page on the sandbox has an example for every switch, and each example is one.

use std::collections::BTreeSet;

use local::provider::Faults;
use serde_json::Value;

use crate::source::{defined, read, same};

#[test]
fn every_fault_switch_is_explained_with_an_example_that_the_sandbox_takes() {
    let page = read("docs/src/sandbox.md");
    let all = serde_json::to_value(Faults::default()).unwrap();
    let switches: BTreeSet<String> = all.as_object().unwrap().keys().cloned().collect();
    same("sandbox.md", &defined(&page), &switches);
    let mut shown = BTreeSet::new();
    for row in page.lines().filter(|line| line.starts_with("| `")) {
        let example = row.split('`').find(|span| span.starts_with('{')).unwrap_or_else(|| panic!("no example: {row}"));
        let example: Value = serde_json::from_str(example).unwrap_or_else(|err| panic!("{row}: {err}"));
        shown.extend(example.as_object().unwrap().keys().cloned());
        let taken: Result<Faults, _> = serde_json::from_value(example);
        assert!(taken.is_ok(), "{row}: {taken:?}");
    }
    same("the examples of sandbox.md", &shown, &switches);
}
