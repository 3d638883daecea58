//! What the built-in definitions add to a start: the one that is named is read, the others are bytes in the binary.
//!
//! ```console
//! $ cargo bench -p token-keeper --bench definitions
//! ```

#![allow(clippy::expect_used, reason = "ends when it cannot measure")]

use divan::Bencher;
use token_keeper::provider::{Definition, Overrides, Provider};

fn main() {
    divan::main();
}

/// The longest of all, and one of the usual length.
fn names() -> Vec<&'static str> {
    let length = |name: &&str| Definition::builtin_text(name).map_or(0, str::len);
    let longest = Definition::names().max_by_key(length).expect("there are some");
    vec!["gumroad", longest]
}

#[divan::bench(args = names())]
fn the_one_that_is_named(name: &str) -> Definition {
    Definition::builtin(name).expect("it is built in")
}

/// With what a start makes of it.
#[divan::bench]
fn ready_to_use() -> Provider {
    let definition = Definition::builtin("gumroad").expect("it is built in");
    Provider::new("gumroad", definition, Overrides::default()).expect("it is whole")
}

/// What a start would take that read them all.
#[divan::bench]
fn all_of_them(bencher: Bencher<'_, '_>) {
    let names: Vec<_> = Definition::names().collect();
    bencher.bench(|| names.iter().filter_map(|name| Definition::builtin(name)).count());
}
