//! `Content-Digest` (RFC 9530): the body is the one that was signed.

use aws_lc_rs::{constant_time, digest};
use http::HeaderMap;
use sfv::{Dictionary, ListEntry, Parser};

use super::message::combined;

/// How many digests are looked at: there are two algorithms.
const DIGESTS: usize = 8;

/// Whether the header `Content-Digest` names the body's digest: every algorithm that is known here must agree, and one must
/// be known.
#[must_use]
pub fn fits(headers: &HeaderMap, body: &[u8]) -> bool {
    let Some(field) = combined(headers, "content-digest") else { return false };
    let Ok(digests) = Parser::new(&field).parse::<Dictionary>() else { return false };
    if digests.len() > DIGESTS {
        return false;
    }
    let mut known = false;
    for (name, entry) in &digests {
        let algorithm = match name.as_str() {
            "sha-256" => &digest::SHA256,
            "sha-512" => &digest::SHA512,
            _ => continue,
        };
        let ListEntry::Item(item) = entry else { return false };
        let Some(given) = item.bare_item.as_byte_sequence() else { return false };
        let ours = digest::digest(algorithm, body);
        if constant_time::verify_slices_are_equal(ours.as_ref(), given).is_err() {
            return false;
        }
        known = true;
    }
    known
}
