use std::{sync::LazyLock, time::Duration};

use etl_oauth::guard::{CookieJar, Key, Pending, UsedStates, Wish};
use http::{HeaderMap, HeaderValue, header};
use jiff::Timestamp;
use token_keeper::{
    seal::{self, KeyRing, Purpose},
    token::Secret,
};

const RING: &str = "2026:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const PURPOSE: Purpose<'_> = Purpose { function: "fuzz", account: "default" };
const NOW: Timestamp = Timestamp::UNIX_EPOCH;

struct Begun {
    key: Key,
    jar: CookieJar,
    state: String,
    cookie: String,
    ring: KeyRing,
    sealed: Vec<u8>,
}

static BEGUN: LazyLock<Begun> = LazyLock::new(|| {
    let key = Key::derive(&Secret::new("secret"), "fuzz").unwrap();
    let jar = CookieJar::new(&"https://g.example/function/fuzz".parse().unwrap());
    let wish = Wish { connection: "default", account: "default", link: None };
    let (_, state, cookie) = Pending::begin(&key, &jar, wish, Duration::from_secs(600), NOW).unwrap();
    let cookie = cookie.unwrap().to_str().unwrap().split(';').next().unwrap().to_owned();
    let ring: KeyRing = RING.parse().unwrap();
    let sealed = seal::seal(&ring, PURPOSE, 1, b"a record");
    Begun { key, jar, state, cookie, ring, sealed }
});

/// What comes back from afar and must be our own. The first byte says what the rest is: `r` a state and a line of cookies
/// as they are, `e` changes to a genuine state, `s` a sealed record, `c` changes to a genuine one. Nothing but what was
/// sealed here opens.
pub fn state(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let begun = &*BEGUN;
    match kind {
        b'r' => {
            let line = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            let (state, cookies) = rest.split_at(line);
            let Ok(state) = std::str::from_utf8(state) else { return };
            assert!(!opens(state, cookies.get(1..).unwrap_or_default()), "a state that was not sealed here");
        }
        b'e' => {
            let changed = crate::change(begun.state.as_bytes(), rest);
            let Ok(state) = std::str::from_utf8(&changed) else { return };
            assert_eq!(opens(state, begun.cookie.as_bytes()), state == begun.state);
        }
        b's' => assert!(seal::open(&begun.ring, PURPOSE, rest).is_err(), "a record that was not sealed here"),
        b'c' => {
            let changed = crate::change(&begun.sealed, rest);
            if let Ok((generation, text)) = seal::open(&begun.ring, PURPOSE, &changed) {
                assert_eq!((generation, text.as_slice()), (1, b"a record".as_slice()));
            }
        }
        _ => {}
    }
}

fn opens(state: &str, cookies: &[u8]) -> bool {
    let begun = &*BEGUN;
    let mut headers = HeaderMap::new();
    if let Ok(cookies) = HeaderValue::from_bytes(cookies) {
        headers.insert(header::COOKIE, cookies);
    }
    let used = UsedStates::new(1);
    let open = || Pending::open(&begun.key, &begun.jar, &used, &headers, state, NOW);
    let Ok(pending) = open() else { return false };
    assert!(pending.use_up(&used, true, state, NOW).is_ok());
    assert!(pending.use_up(&used, true, state, NOW).is_err() && open().is_err(), "a state that opens twice");
    true
}
