use std::time::Duration;

use aws_lc_rs::error::Unspecified;
use http::{HeaderMap, HeaderValue, Method};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{CookieJar, Key, key::random};

const COOKIE: &str = "etl-oauth-session";

/// The operator's session in a browser that signed in on the form. The cookie is sealed and holds no secret; it is bound to
/// the operator's secret, so that a new secret ends every session. Its life is absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    id: String,
    ends_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Sealed<'a> {
    #[serde(rename = "i")]
    id: &'a str,
    #[serde(rename = "e")]
    ends_at: i64,
}

impl Session {
    /// Begins a session of `lifetime` for the operator whose secret has that `fingerprint`. Gives the cookie for the browser.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn begin(
        key: &Key,
        jar: &CookieJar,
        fingerprint: &str,
        lifetime: Duration,
        now: Timestamp,
    ) -> Result<Option<HeaderValue>, Unspecified> {
        let id = random()?;
        let lifetime = SignedDuration::try_from(lifetime).unwrap_or(SignedDuration::MAX);
        let ends_at = now.checked_add(lifetime).unwrap_or(Timestamp::MAX);
        let sealed = serde_json::to_vec(&Sealed { id: &id, ends_at: ends_at.as_second() }).unwrap_or_default();
        let value = key.seal(&purpose(fingerprint), &sealed)?;
        Ok(jar.set(COOKIE, &value, Duration::try_from(ends_at.duration_since(now)).unwrap_or_default()))
    }

    /// The session that a request bears, where it is sealed by this function for the operator's present secret, has not
    /// ended, and comes from a navigation: all functions of a gateway share one origin, and the scripts of a sibling could
    /// send the cookie along, too.
    #[must_use]
    pub fn open(
        key: &Key,
        jar: &CookieJar,
        fingerprint: &str,
        (method, headers): (&Method, &HeaderMap),
        now: Timestamp,
    ) -> Option<Self> {
        let value = jar.get(headers, COOKIE)?;
        // Browsers that do not send these headers are older than 2023.
        let says = |name: &str, wanted: &str| headers.get(name).is_none_or(|value| value == wanted);
        if !says("sec-fetch-mode", "navigate") || !(method.is_safe() || says("sec-fetch-site", "same-origin")) {
            return None;
        }
        let plain = key.open(&purpose(fingerprint), &value)?;
        let sealed: Sealed<'_> = serde_json::from_slice(&plain).ok()?;
        let ends_at = Timestamp::from_second(sealed.ends_at).ok()?;
        (now < ends_at).then(|| Self { id: sealed.id.to_owned(), ends_at })
    }

    /// The header that takes the browser's cookie away.
    #[must_use]
    pub fn forget(jar: &CookieJar) -> Option<HeaderValue> {
        jar.set(COOKIE, "", Duration::ZERO)
    }

    /// The name under which its end is remembered, after the operator has signed out.
    #[must_use]
    pub fn name(&self) -> String {
        format!("session {}", self.id)
    }

    /// When it ends by itself.
    #[must_use]
    pub fn ends_at(&self) -> Timestamp {
        self.ends_at
    }
}

fn purpose(fingerprint: &str) -> String {
    format!("session:{fingerprint}")
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;
    use token_keeper::token::Secret;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn s6_a_session_opens_for_navigations_with_the_same_secret_until_its_end() {
        let key = Key::derive(&Secret::new("s"), "f").unwrap();
        let jar = CookieJar::new(&"https://g.example/function/f".parse().unwrap());
        let cookie = Session::begin(&key, &jar, "one", Duration::from_secs(60), at(0)).unwrap().unwrap();
        let text = cookie.to_str().unwrap();
        assert!(text.starts_with("__Secure-etl-oauth-session="), "{text}");
        for part in ["HttpOnly", "SameSite=Lax", "Secure", "Path=/function/f", "Max-Age=60"] {
            assert!(text.contains(part), "{text}");
        }
        let pair = text.split(';').next().unwrap();
        let open = |fingerprint: &str, method: &Method, more: &[(&'static str, &str)], second: i64| {
            let mut headers = HeaderMap::from_iter([(header::COOKIE, pair.parse().unwrap())]);
            for (name, value) in more {
                headers.insert(*name, value.parse().unwrap());
            }
            Session::open(&key, &jar, fingerprint, (method, &headers), at(second))
        };
        let session = open("one", &Method::GET, &[], 59).unwrap();
        assert_eq!((session.ends_at(), session.name().len()), (at(60), 8 + 43));
        assert_eq!(open("one", &Method::GET, &[], 60), None, "it has ended");
        assert_eq!(open("two", &Method::GET, &[], 0), None, "the operator's secret is another");
        let navigate = ("sec-fetch-mode", "navigate");
        for (method, headers, good) in [
            (Method::GET, &[navigate, ("sec-fetch-site", "cross-site")][..], true),
            (Method::POST, &[navigate, ("sec-fetch-site", "same-origin")], true),
            (Method::POST, &[navigate, ("sec-fetch-site", "same-site")], false),
            (Method::POST, &[navigate, ("sec-fetch-site", "none")], false),
            (Method::GET, &[("sec-fetch-mode", "cors"), ("sec-fetch-site", "same-origin")], false),
            (Method::GET, &[("sec-fetch-mode", "no-cors")], false),
            (Method::POST, &[("sec-fetch-mode", "same-origin"), ("sec-fetch-site", "same-origin")], false),
            (Method::POST, &[], true),
        ] {
            assert_eq!(open("one", &method, headers, 1).is_some(), good, "{method} {headers:?}");
        }
    }
}
