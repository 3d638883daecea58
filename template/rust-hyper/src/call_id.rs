//! A name for a call that came without one, so that what the function logs can be told from other calls' lines.

use std::{
    cell::Cell,
    hash::{BuildHasher as _, RandomState},
};

use http::HeaderValue;

thread_local! {
    /// Two generators, so that ids have as many random bits as they show. Nothing is kept from anybody by them.
    static STATE: Cell<[u64; 2]> = Cell::new([0, 1].map(|seed: u64| RandomState::new().hash_one(seed)));
}

/// A new random UUID (RFC 9562, version 4), as the gateway makes them.
pub(crate) fn new() -> HeaderValue {
    let [first, second] = STATE.get().map(|state| state.wrapping_add(0x9e37_79b9_7f4a_7c15));
    STATE.set([first, second]);
    let text = uuid(mixed(first), mixed(second));
    // Digits, letters and hyphens are a value; an empty one would be the answer to a mistake here.
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static(""))
}

/// The output of a SplitMix64 generator.
fn mixed(state: u64) -> u64 {
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn uuid(first: u64, second: u64) -> [u8; 36] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    /// Where the digits of each byte go, between the hyphens.
    const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
    let first = first & 0xffff_ffff_ffff_0fff | 0x4000;
    let second = second & 0x3fff_ffff_ffff_ffff | 0x8000_0000_0000_0000;
    let bytes = (u128::from(first) << 64 | u128::from(second)).to_be_bytes();
    let mut text = [b'-'; 36];
    for (byte, place) in bytes.into_iter().zip(PLACES) {
        text[place] = DIGITS[usize::from(byte >> 4)];
        text[place + 1] = DIGITS[usize::from(byte & 0xf)];
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_uuids_of_version_4() {
        let text = |first, second| String::from_utf8(uuid(first, second).to_vec()).unwrap();
        assert_eq!(text(0, 0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(text(0x0123_4567_89ab_cdef, u64::MAX), "01234567-89ab-4def-bfff-ffffffffffff");
    }

    #[test]
    fn ids_differ_in_and_between_threads() {
        let some = || (0..1000).map(|_| new()).collect::<Vec<_>>();
        let other = std::thread::spawn(some);
        let ids: HashSet<_> = some().into_iter().chain(other.join().unwrap()).collect();
        assert_eq!(ids.len(), 2000);
    }
}
