//! The lock files that are copied out of this workspace when an image is built.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{collections::BTreeSet, fs, path::Path};

/// A package of a registry: name, version and checksum.
type Package = [String; 3];

fn packages(checkout: &Path, file: &str) -> BTreeSet<Package> {
    let text = fs::read_to_string(checkout.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let value = |block: &str, key: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
        line.map(|value| value.trim_matches('"').to_owned())
    };
    let package = |block| Some([value(block, "name")?, value(block, "version")?, value(block, "checksum")?]);
    text.split("[[package]]").filter_map(package).collect()
}

#[test]
fn images_are_built_of_the_versions_that_the_tests_run_with() {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let tested = packages(checkout, "Cargo.lock");
    for (file, least) in [
        ("etl-oauth/Cargo.lock", 200),
        ("template/rust-hyper/Cargo.lock", 50),
        ("template/rust-hyper/function/Cargo.lock", 20),
    ] {
        let own = packages(checkout, file);
        assert!(own.len() >= least, "{file} names {} packages", own.len());
        let untested: Vec<_> = own.difference(&tested).collect();
        assert!(
            untested.is_empty(),
            "{file} is not what the workspace was tested with (tests/locks.sh writes it): {untested:?}"
        );
    }
}
