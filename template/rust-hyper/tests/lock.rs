//! The template carries a lock file of its own, for functions that have none.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test, which is to fail of a surprise")]

use std::{collections::BTreeSet, fs, path::Path};

/// Name and version of each package of a lock file.
fn packages(path: &Path) -> BTreeSet<(String, String)> {
    let text = fs::read_to_string(path).unwrap();
    let value = |block: &str, key: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
        line.map(|value| value.trim_matches('"').to_owned())
    };
    text.split("[[package]]").filter_map(|block| Some((value(block, "name")?, value(block, "version")?))).collect()
}

#[test]
fn it_has_the_versions_that_the_tests_run_with() {
    let template = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tested = packages(&template.join("../../Cargo.lock"));
    let own = packages(&template.join("Cargo.lock"));
    let untested: Vec<_> = own.difference(&tested).collect();
    assert!(own.len() > 50 && untested.is_empty(), "not in the workspace's lock file: {untested:?}");
}
