use std::time::Duration;

use aws_lc_rs::{constant_time, digest, error::Unspecified};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{CookieJar, Key, ReplayCache, Use, key::random};
use token_keeper::token::Secret;

const PURPOSE: &str = "state";

/// An authorisation that a person has begun. It travels to the provider and back as `state`, sealed; the browser keeps a
/// cookie that must come back beside it, so that another person's callback is not taken (RFC 6749 §10.12).
#[derive(Clone, Debug)]
pub struct Pending {
    link: Option<String>,
    connection: String,
    account: String,
    verifier: Secret,
    ends_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Sealed<'a> {
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    link: Option<&'a str>,
    #[serde(rename = "c")]
    connection: &'a str,
    #[serde(rename = "a")]
    account: &'a str,
    #[serde(rename = "v")]
    verifier: &'a str,
    #[serde(rename = "e")]
    ends_at: i64,
    /// Digest of the browser's cookie.
    #[serde(rename = "b")]
    browser: &'a str,
}

/// What an authorisation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish<'a> {
    /// The connection.
    pub connection: &'a str,
    /// The account at it.
    pub account: &'a str,
    /// The id of the connect link by which it begins.
    pub link: Option<&'a str>,
}

/// Why a callback is not taken. For all of them a person begins again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Not sealed by this function.
    #[error("the request does not come from an authorisation that was begun here")]
    Foreign,
    /// Begun in another browser, or its cookie is gone.
    #[error("the authorisation was begun in another browser, or the browser did not send its cookie")]
    OtherBrowser,
    /// Too long ago.
    #[error("the authorisation took too long")]
    Expired,
    /// The operator has revoked all accounts after it was begun.
    #[error("all accounts were revoked after the authorisation was begun")]
    Revoked,
    /// Already used.
    #[error("the authorisation was already completed")]
    Used,
}

/// How many used-up states are remembered at a time, of the operator and of others each.
const STATES: usize = 10_000;

/// The states that are used up. What strangers use up fills a memory of its own, so that it never takes the operator's place.
///
/// Where the strangers' memory is full, a state that is not known as used is good: to refuse it would let a stranger keep
/// out the person who is rightfully on the way back. A state that comes twice then still needs its browser's cookie, a code
/// that the provider takes once, and an account that is free.
#[derive(Debug)]
pub struct UsedStates {
    operators: ReplayCache,
    strangers: ReplayCache,
}

impl Default for UsedStates {
    fn default() -> Self {
        Self::new(STATES)
    }
}

impl UsedStates {
    /// Room for so many of the operator's states, and for so many of others.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { operators: ReplayCache::new(limit), strangers: ReplayCache::new(limit) }
    }

    /// Whether `state` is known as used.
    #[must_use]
    pub fn is_used(&self, state: &str) -> bool {
        let name = Secret::new(state).digest();
        self.operators.is_used(&name) || self.strangers.is_used(&name)
    }

    /// Uses `state` up, for the operator or for a stranger; `false` when it was used before.
    pub fn consume(&self, by_operator: bool, state: &str, until: Timestamp, now: Timestamp) -> bool {
        let name = Secret::new(state).digest();
        if by_operator {
            return self.operators.consume(&name, until, now) == Use::First;
        }
        match self.strangers.consume(&name, until, now) {
            Use::First => true,
            Use::Again { .. } => false,
            Use::NoRoom => {
                tracing::warn!("more authorisations were begun than this replica remembers");
                true
            }
        }
    }
}

impl Pending {
    /// Begins an authorisation, good for `lifetime`. Gives the `state` for the provider and the cookie for the
    /// browser.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn begin(
        key: &Key,
        jar: &CookieJar,
        wish: Wish<'_>,
        lifetime: Duration,
        now: Timestamp,
    ) -> Result<(Self, String, Option<HeaderValue>), Unspecified> {
        let verifier = random()?;
        let cookie = random()?;
        let ends_at = now + SignedDuration::try_from(lifetime).unwrap_or(SignedDuration::from_hours(1));
        let Wish { connection, account, link } = wish;
        let browser = &*fingerprint(&cookie);
        let sealed = Sealed { link, connection, account, verifier: &verifier, ends_at: ends_at.as_second(), browser };
        let state = key.seal(PURPOSE, &serde_json::to_vec(&sealed).unwrap_or_default())?;
        let header = jar.set(&cookie_name(&state), &cookie, lifetime);
        let (connection, account) = (connection.to_owned(), account.to_owned());
        let link = link.map(str::to_owned);
        Ok((Self { link, connection, account, verifier: Secret::new(verifier), ends_at }, state, header))
    }

    /// Opens a callback's `state`: sealed by us, begun in this browser, in time, and not used as far as `used` knows.
    /// Nothing is used up by this.
    ///
    /// # Errors
    /// [`StateError`] says which of these it is not.
    pub fn open(
        key: &Key,
        jar: &CookieJar,
        used: &UsedStates,
        headers: &HeaderMap,
        state: &str,
        now: Timestamp,
    ) -> Result<Self, StateError> {
        let plain = key.open(PURPOSE, state).ok_or(StateError::Foreign)?;
        let sealed: Sealed<'_> = serde_json::from_slice(&plain).map_err(|_| StateError::Foreign)?;
        let ends_at = Timestamp::from_second(sealed.ends_at).map_err(|_| StateError::Foreign)?;
        if now >= ends_at {
            return Err(StateError::Expired);
        }
        let cookie = jar.get(headers, &cookie_name(state)).ok_or_else(|| {
            // Without its cookie a state that was used up looks like another browser's; the browser lost it by using it.
            if used.is_used(state) { StateError::Used } else { StateError::OtherBrowser }
        })?;
        if constant_time::verify_slices_are_equal(fingerprint(&cookie).as_bytes(), sealed.browser.as_bytes()).is_err() {
            return Err(StateError::OtherBrowser);
        }
        if used.is_used(state) {
            return Err(StateError::Used);
        }
        let (connection, account) = (sealed.connection.to_owned(), sealed.account.to_owned());
        let link = sealed.link.map(str::to_owned);
        Ok(Self { link, connection, account, verifier: Secret::new(sealed.verifier), ends_at })
    }

    /// Uses the state up, whatever comes after.
    ///
    /// # Errors
    /// [`StateError::Used`] when it was before.
    pub fn use_up(&self, used: &UsedStates, by_operator: bool, state: &str, now: Timestamp) -> Result<(), StateError> {
        if used.consume(by_operator, state, self.ends_at, now) { Ok(()) } else { Err(StateError::Used) }
    }

    /// The header that takes the browser's cookie away.
    #[must_use]
    pub fn forget(jar: &CookieJar, state: &str) -> Option<HeaderValue> {
        jar.set(&cookie_name(state), "", Duration::ZERO)
    }

    /// When it was begun, where authorisations last for `lifetime`.
    #[must_use]
    pub fn begun_at(&self, lifetime: Duration) -> Timestamp {
        let lifetime = SignedDuration::try_from(lifetime).unwrap_or(SignedDuration::from_hours(1));
        self.ends_at.checked_sub(lifetime).unwrap_or(Timestamp::MIN)
    }

    /// The id of the connect link by which it was begun.
    #[must_use]
    pub fn link(&self) -> Option<&str> {
        self.link.as_deref()
    }

    /// The connection.
    #[must_use]
    pub fn connection(&self) -> &str {
        &self.connection
    }

    /// The account.
    #[must_use]
    pub fn account(&self) -> &str {
        &self.account
    }

    /// The code verifier (RFC 7636 §4.1): 256 random bits, 43 characters.
    #[must_use]
    pub fn verifier(&self) -> &Secret {
        &self.verifier
    }

    /// The seed of the key that the code is bound to (RFC 9449). Only the function's own key gives it: the verifier alone
    /// does not.
    #[must_use]
    pub fn seed(&self, key: &Key) -> Secret {
        Secret::new(key.tag("dpop", self.verifier.expose()))
    }

    /// When the person must be back.
    #[must_use]
    pub fn ends_at(&self) -> Timestamp {
        self.ends_at
    }
}

/// One cookie a request, so that two tabs do not break each other.
fn cookie_name(state: &str) -> String {
    format!("etl-oauth-{}", Secret::new(state).digest())
}

fn fingerprint(cookie: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, cookie.as_bytes()))
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;

    const WISH: Wish<'_> = Wish { connection: "default", account: "default", link: None };
    use crate::guard::Csrf;

    struct Browser {
        key: Key,
        jar: CookieJar,
        used: UsedStates,
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    impl Browser {
        fn new() -> Self {
            let key = Key::derive(&Secret::new("s"), "f").unwrap();
            let jar = CookieJar::new(&"https://g.example/function/f".parse().unwrap());
            Self { key, jar, used: UsedStates::new(100) }
        }

        fn begin(&self) -> (String, HeaderMap) {
            let (_, state, cookie) =
                Pending::begin(&self.key, &self.jar, WISH, Duration::from_secs(600), at(0)).unwrap();
            let pair = cookie.unwrap().to_str().unwrap().split(';').next().unwrap().to_owned();
            (state, HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_str(&pair).unwrap())]))
        }

        fn resume(&self, state: &str, headers: &HeaderMap, now: i64) -> Result<Pending, StateError> {
            let pending = Pending::open(&self.key, &self.jar, &self.used, headers, state, at(now))?;
            pending.use_up(&self.used, true, state, at(now)).map(|()| pending)
        }
    }

    #[test]
    fn a_callback_is_taken_once_in_time_and_from_the_same_browser() {
        let it = Browser::new();
        let (state, cookies) = it.begin();
        assert!(state.len() < 500, "X takes no more than 500 characters: {}", state.len());
        assert_eq!(it.resume(&state, &HeaderMap::new(), 1).unwrap_err(), StateError::OtherBrowser);
        let (_, others) = it.begin();
        assert_eq!(it.resume(&state, &others, 1).unwrap_err(), StateError::OtherBrowser);
        assert_eq!(it.resume("nonsense", &cookies, 1).unwrap_err(), StateError::Foreign);
        assert_eq!(it.resume("", &cookies, 1).unwrap_err(), StateError::Foreign);
        assert_eq!(it.resume(&state, &cookies, 600).unwrap_err(), StateError::Expired);
        let pending = it.resume(&state, &cookies, 599).unwrap();
        assert_eq!((pending.account(), pending.verifier().expose().len()), ("default", 43));
        assert_eq!(it.resume(&state, &cookies, 599).unwrap_err(), StateError::Used);
        assert_eq!(it.resume(&state, &HeaderMap::new(), 599).unwrap_err(), StateError::Used);
    }

    #[test]
    fn no_form_tells_a_seed_to_who_knows_the_verifier() {
        let it = Browser::new();
        let (state, cookies) = it.begin();
        let pending = it.resume(&state, &cookies, 1).unwrap();
        for cookie in [pending.verifier().expose().to_owned(), format!("dpop:{}", pending.verifier().expose())] {
            let cookie = format!("__Secure-etl-oauth-form={cookie}").parse().unwrap();
            let form = Csrf::issue(&it.key, &it.jar, &HeaderMap::from_iter([(header::COOKIE, cookie)])).unwrap();
            assert!(form.cookie.is_none(), "the cookie was read");
            assert_ne!(form.token, pending.seed(&it.key).expose());
        }
    }

    #[test]
    fn two_tabs_do_not_break_each_other() {
        let it = Browser::new();
        let ((one, mut cookies), (two, other)) = (it.begin(), it.begin());
        let both = format!("{}; {}", cookies["cookie"].to_str().unwrap(), other["cookie"].to_str().unwrap());
        cookies.insert(header::COOKIE, HeaderValue::from_str(&both).unwrap());
        assert!(it.resume(&two, &cookies, 1).is_ok() && it.resume(&one, &cookies, 1).is_ok());
    }

    #[test]
    fn s9_states_that_strangers_use_up_refuse_nobody_and_evict_nothing() {
        let it = Browser { used: UsedStates::new(3), ..Browser::new() };
        let by_stranger = |state: &str, headers: &HeaderMap| {
            let pending = Pending::open(&it.key, &it.jar, &it.used, headers, state, at(1))?;
            pending.use_up(&it.used, false, state, at(1))
        };
        let (first, cookies) = it.begin();
        assert_eq!(by_stranger(&first, &cookies), Ok(()));
        let (operators, operators_cookies) = it.begin();
        assert!(it.resume(&operators, &operators_cookies, 1).is_ok());
        for _ in 0..20 {
            let (state, headers) = it.begin();
            assert_eq!(by_stranger(&state, &headers), Ok(()), "who is rightful is let in, however full it is");
        }
        assert_eq!(by_stranger(&first, &cookies), Err(StateError::Used));
        assert_eq!(it.resume(&operators, &operators_cookies, 1).unwrap_err(), StateError::Used);
        let (another, headers) = it.begin();
        assert!(it.resume(&another, &headers, 1).is_ok(), "strangers take no place of the operator's");
    }

    #[test]
    fn another_functions_state_is_foreign() {
        let (it, other) = (Browser::new(), Key::derive(&Secret::new("s"), "g").unwrap());
        let (state, cookies) = it.begin();
        let result = Pending::open(&other, &it.jar, &it.used, &cookies, &state, at(1));
        assert_eq!(result.unwrap_err(), StateError::Foreign);
    }
}
