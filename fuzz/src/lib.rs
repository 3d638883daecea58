//! What reads the words of strangers: a function for each reader, which takes any bytes and panics where something does
//! not hold that must. The fuzzer calls them with what it makes up, a test with the corpora.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a check that fails is to panic")]

mod callback;
mod config;
mod definition;
mod header_list;
mod link_token;
mod session;
mod signature;
mod state;
mod token_answer;

// The template's own reader, which it shows nobody.
#[path = "../../template/rust-hyper/src/duration.rs"]
#[allow(dead_code, unreachable_pub)]
mod go;

pub use callback::callback;
pub use config::config;
pub use definition::definition;
pub use header_list::header_list;
pub use link_token::link_token;
pub use session::session;
pub use signature::signature;
pub use state::state;
pub use token_answer::token_answer;

/// Every reader by the name of its target.
pub const ALL: [(&str, fn(&[u8])); 10] = [
    ("callback", callback),
    ("config", config),
    ("definition", definition),
    ("duration", duration),
    ("header_list", header_list),
    ("link_token", link_token),
    ("session", session),
    ("signature", signature),
    ("state", state),
    ("token_answer", token_answer),
];

/// A duration of the template's configuration: what is read is written as Go would, and reads the same again.
pub fn duration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(read) = go::parse_go(text) {
        assert!(read.as_nanos() <= i64::MAX as u128, "longer than Go's longest");
        assert_eq!(go::parse_go(&go::Go(read).to_string()), Ok(read), "{}", go::Go(read));
        // A bare number of seconds is the one thing that only the configuration takes.
        assert!(text.trim_start_matches('+').trim_matches('0').is_empty() || go::parse(text) == Ok(read));
    }
    let _ = go::parse(text);
}

/// The folder of this crate's secrets: values that are worth nothing, and are looked for where they must not be.
const SECRETS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/secrets");

/// Nothing that is shown holds a secret.
fn shows_no_secret(text: &str) {
    assert!(!text.contains("marker-of-the"), "a secret is shown");
}

/// `bytes` with pairs of a place and a byte written over them.
fn change(bytes: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for change in changes.chunks_exact(2) {
        let at = usize::from(change[0]) % bytes.len();
        bytes[at] = change[1];
    }
    bytes
}
