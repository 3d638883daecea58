use std::{sync::LazyLock, time::Duration};

use etl_oauth::guard::{CookieJar, Key, Session};
use http::{HeaderMap, HeaderValue, Method, header};
use jiff::Timestamp;
use token_keeper::token::Secret;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;
const FINGERPRINT: &str = "0123456789abcdef";

struct Begun {
    key: Key,
    jar: CookieJar,
    cookie: String,
}

static BEGUN: LazyLock<Begun> = LazyLock::new(|| {
    let key = Key::derive(&Secret::new("secret"), "fuzz").unwrap();
    let jar = CookieJar::new(&"https://g.example/function/fuzz".parse().unwrap());
    let cookie = Session::begin(&key, &jar, FINGERPRINT, Duration::from_secs(60), NOW).unwrap().unwrap();
    let cookie = cookie.to_str().unwrap().split(';').next().unwrap().to_owned();
    Begun { key, jar, cookie }
});

/// The cookies of a browser. The first byte says what the rest is: `r` a line of cookies as it is, `e` changes to the genuine
/// one. Nothing but the session that was begun here opens, and only for the secret that it was begun with.
pub fn session(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    match kind {
        b'r' => assert!(!opens(rest, FINGERPRINT), "a session that was not begun here"),
        b'e' => {
            let cookie = BEGUN.cookie.as_bytes();
            let changed = crate::change(cookie, rest);
            assert_eq!(opens(&changed, FINGERPRINT), changed == cookie);
            assert!(!opens(&changed, "fedcba9876543210"), "a session of another secret");
        }
        _ => {}
    }
}

fn opens(cookies: &[u8], fingerprint: &str) -> bool {
    let Ok(value) = HeaderValue::from_bytes(cookies) else { return false };
    let headers = HeaderMap::from_iter([(header::COOKIE, value)]);
    Session::open(&BEGUN.key, &BEGUN.jar, fingerprint, (&Method::GET, &headers), NOW).is_some()
}
