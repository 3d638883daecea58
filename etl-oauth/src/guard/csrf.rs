use std::time::Duration;

use http::{HeaderMap, HeaderValue};

use super::{CookieJar, Key, key::random};

const COOKIE: &str = "etl-oauth-form";
/// A browser can send whatever it likes as its cookie, and sees the tag.
const PURPOSE: &str = "form";
const LIFETIME: Duration = Duration::from_secs(3600);

/// The token in every form: a tag over a cookie that only this browser has.
#[derive(Clone, Debug)]
pub struct Csrf {
    /// What goes into the form's hidden field `csrf`.
    pub token: String,
    /// The cookie to set, where the browser has none yet.
    pub cookie: Option<HeaderValue>,
}

impl Csrf {
    /// The token for a page that this browser is about to get.
    #[must_use]
    pub fn issue(key: &Key, jar: &CookieJar, headers: &HeaderMap) -> Option<Self> {
        if let Some(value) = jar.get(headers, COOKIE).filter(|value| !value.is_empty()) {
            return Some(Self { token: key.tag(PURPOSE, &value), cookie: None });
        }
        let value = random().ok()?;
        Some(Self { token: key.tag(PURPOSE, &value), cookie: jar.set(COOKIE, &value, LIFETIME) })
    }

    /// Whether a posted token was issued to this browser.
    #[must_use]
    pub fn verify(key: &Key, jar: &CookieJar, headers: &HeaderMap, token: &str) -> bool {
        jar.get(headers, COOKIE).is_some_and(|value| !value.is_empty() && key.verify(PURPOSE, &value, token))
    }
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;
    use token_keeper::token::Secret;

    #[test]
    fn a_token_holds_for_the_browser_that_it_was_issued_to() {
        let key = Key::derive(&Secret::new("s"), "f").unwrap();
        let jar = CookieJar::new(&"http://127.0.0.1/function/f".parse().unwrap());
        let csrf = Csrf::issue(&key, &jar, &HeaderMap::new()).unwrap();
        let cookie = csrf.cookie.unwrap();
        let pair = cookie.to_str().unwrap().split(';').next().unwrap();
        let browser = HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_str(pair).unwrap())]);
        assert!(Csrf::verify(&key, &jar, &browser, &csrf.token));
        assert!(!Csrf::verify(&key, &jar, &HeaderMap::new(), &csrf.token));
        assert!(!Csrf::verify(&key, &jar, &browser, ""));
        let other = Csrf::issue(&key, &jar, &HeaderMap::new()).unwrap();
        assert!(!Csrf::verify(&key, &jar, &browser, &other.token));
        assert!(Csrf::issue(&key, &jar, &browser).unwrap().cookie.is_none());
    }
}
