use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use http::HeaderMap;
use jiff::{SignedDuration, Timestamp};

/// Wrong secrets that one address may send at once, and all of them together.
const OF_ONE: f64 = 10.0;
const OF_ALL: f64 = 30.0;
/// After so many seconds one is forgotten.
const FORGOTTEN: f64 = 2.0;
/// How many addresses are remembered at a time.
const ADDRESSES: usize = 1000;
/// For so long an address from which a right secret came does not suffer from others.
const TRUSTED: SignedDuration = SignedDuration::from_hours(24);
/// Each wrong secret is answered later than the one before it.
const STEP: Duration = Duration::from_millis(25);

/// A secret of at least so many bytes cannot be guessed at the rate of any network: a right one passes without a place.
pub(super) const UNGUESSABLE: usize = 16;

/// Slows down the guessing of a secret.
///
/// A try takes a place, and a right one gives it back. There are places for each address, and, because a caller can make up
/// the header that names its address, for all addresses together. The latter do not count for an address from which a
/// right secret has come. A crowd of guessers is held to one guess in two seconds, while the operator's address goes on.
/// A right secret of `UNGUESSABLE` bytes or more never asks for a place; see [`Throttle::judge`]. Memory is bounded. Each
/// replica counts for itself.
#[derive(Debug, Default)]
pub struct Throttle(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: Level,
    by_address: HashMap<String, Address>,
}

#[derive(Debug, Default)]
struct Address {
    level: Level,
    trusted_until: Option<Timestamp>,
}

/// Wrong secrets that are not forgotten yet, at a moment.
#[derive(Clone, Copy, Debug, Default)]
struct Level(f64, Option<Timestamp>);

impl Level {
    fn sink(&mut self, now: Timestamp) -> f64 {
        let passed = self.1.map_or(0.0, |at| now.duration_since(at).as_secs_f64().max(0.0));
        *self = Self((self.0 - passed / FORGOTTEN).max(0.0), Some(now));
        self.0
    }

    /// How long until there is a place again; nothing where there is one.
    fn wait(&mut self, limit: f64, now: Timestamp) -> f64 {
        (self.sink(now) + 1.0 - limit).max(0.0) * FORGOTTEN
    }
}

/// A place that a try has taken.
#[derive(Debug)]
pub struct Try<'a> {
    throttle: &'a Throttle,
    address: String,
    /// Whether a place among all was taken, too.
    shared: bool,
    pause: Duration,
}

/// What came of a secret that a request sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guess {
    /// It is the right one.
    Right,
    /// It is wrong; the answer waits for so long.
    Wrong(Duration),
    /// It was not looked at, because too many were wrong; the next one is after so many seconds.
    Throttled(u64),
}

impl Throttle {
    /// Judges a secret that a request with these headers sent. `right` says whether it is the right one, `length` how long
    /// the right one is in bytes: one that cannot be guessed always passes, however many wrong ones came before it.
    pub fn judge(&self, headers: &HeaderMap, right: bool, length: usize, now: Timestamp) -> Guess {
        if right && length >= UNGUESSABLE {
            return Guess::Right;
        }
        match self.enter(headers, now) {
            Err(seconds) => Guess::Throttled(seconds),
            Ok(place) if right => {
                place.right(now);
                Guess::Right
            }
            Ok(place) => Guess::Wrong(place.wrong()),
        }
    }

    /// Takes a place for a request with these headers.
    ///
    /// # Errors
    /// There is none: the seconds after which there will be one.
    pub fn enter(&self, headers: &HeaderMap, now: Timestamp) -> Result<Try<'_>, u64> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut address = address(headers);
        if counts.by_address.len() >= ADDRESSES && !counts.by_address.contains_key(&address) {
            counts.by_address.retain(|_, of| of.level.sink(now) > 0.0 || of.trusted_until.is_some_and(|at| at > now));
            if counts.by_address.len() >= ADDRESSES {
                // Addresses without room of their own share one entry.
                address = String::new();
            }
        }
        let Counts { all, by_address } = &mut *counts;
        let of = by_address.entry(address.clone()).or_default();
        let shared = of.trusted_until.is_none_or(|at| at <= now);
        let wait = of.level.wait(OF_ONE, now).max(if shared { all.wait(OF_ALL, now) } else { 0.0 });
        if wait > 0.0 {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 60 or so")]
            return Err(wait.ceil().max(1.0) as u64);
        }
        let pause = STEP.mul_f64(of.level.0.max(if shared { all.0 } else { 0.0 }));
        of.level.0 += 1.0;
        if shared {
            all.0 += 1.0;
        }
        Ok(Try { throttle: self, address, shared, pause })
    }
}

impl Try<'_> {
    /// It was the right secret: the place is free again, and the address known.
    pub fn right(self, now: Timestamp) {
        let mut counts = self.throttle.0.lock().unwrap_or_else(PoisonError::into_inner);
        if self.shared {
            counts.all.0 = (counts.all.0 - 1.0).max(0.0);
        }
        if let Some(of) = counts.by_address.get_mut(&self.address) {
            *of = Address { level: Level::default(), trusted_until: now.checked_add(TRUSTED).ok() };
        }
    }

    /// It was a wrong one: how much later to say so.
    #[must_use]
    pub fn wrong(self) -> Duration {
        self.pause
    }
}

/// The address that the last proxy on the way names, without its port: the gateway writes `ip:port`, and every connection
/// has another port. Of IPv6 the network of 64 bits counts, since one host has all of its addresses. A caller may have
/// made it up.
fn address(headers: &HeaderMap) -> String {
    let last = headers.get_all("x-forwarded-for").iter().next_back().and_then(|value| value.to_str().ok());
    let last = last.and_then(|value| value.rsplit(',').next()).unwrap_or_default().trim();
    let bare = last.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(last);
    let ip = last.parse().map(|address: SocketAddr| address.ip()).or_else(|_| bare.parse());
    match ip.map(|ip: IpAddr| ip.to_canonical()) {
        Ok(IpAddr::V4(ip)) => ip.to_string(),
        Ok(IpAddr::V6(ip)) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).to_string(),
        Err(_) => last.chars().take(64).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn from(address: &str) -> HeaderMap {
        HeaderMap::from_iter([("x-forwarded-for".parse().unwrap(), address.parse().unwrap())])
    }

    /// Wrong secrets until one is refused.
    fn until_refused(throttle: &Throttle, headers: impl Fn(u32) -> HeaderMap, now: i64) -> (u32, u64) {
        for count in 0..1000 {
            match throttle.enter(&headers(count), at(now)) {
                Ok(place) => _ = place.wrong(),
                Err(seconds) => return (count, seconds),
            }
        }
        panic!("never refused");
    }

    #[test]
    fn guesses_of_one_address_and_of_made_up_ones_are_held_to_a_rate() {
        let throttle = Throttle::default();
        assert_eq!(until_refused(&throttle, |_| from("a"), 0), (10, 2));
        let made_up = |count: u32| from(&format!("real.example, {count}"));
        assert_eq!(until_refused(&throttle, made_up, 0), (20, 2), "30 in all");
        assert_eq!(until_refused(&throttle, |count| made_up(count + 500), 60).0, 30, "a minute forgets 30");
        assert_eq!(until_refused(&throttle, |_| HeaderMap::new(), 62).0, 1, "one in two seconds");
    }

    #[test]
    fn a_known_address_does_not_suffer_from_others_and_a_right_secret_costs_nothing() {
        let throttle = Throttle::default();
        throttle.enter(&from("operator"), at(0)).unwrap().right(at(0));
        until_refused(&throttle, |count| from(&count.to_string()), 1);
        for _ in 0..100 {
            throttle.enter(&from("operator"), at(1)).unwrap().right(at(1));
        }
        assert!(throttle.enter(&from("new"), at(1)).is_err());
        assert!(throttle.enter(&from("new"), at(3)).is_ok(), "another one waits two seconds");
        assert_eq!(until_refused(&throttle, |_| from("operator"), 3).0, 10, "who makes up the known one gains little");
        let day = 24 * 3600 + 10;
        assert!(throttle.enter(&from("operator"), at(day)).is_ok());
    }

    #[test]
    fn s4_an_address_is_one_whatever_its_port() {
        for (header, wanted) in [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1:4711", "192.0.2.1"),
            ("198.51.100.9, 192.0.2.1:4711", "192.0.2.1"),
            ("[2001:db8:1:2::7]:4711", "2001:db8:1:2::"),
            ("[2001:db8:1:2::7]", "2001:db8:1:2::"),
            ("2001:db8:1:2:3::", "2001:db8:1:2::"),
            ("[::ffff:192.0.2.1]:80", "192.0.2.1"),
            ("unknown", "unknown"),
            ("192.0.2.1:99999", "192.0.2.1:99999"),
            ("", ""),
        ] {
            assert_eq!(address(&from(header)), wanted, "{header}");
        }
        let throttle = Throttle::default();
        assert_eq!(until_refused(&throttle, |port| from(&format!("192.0.2.1:{}", 40000 + port)), 0).0, 10);
        let host = |count: u32| from(&format!("[2001:db8::{count:x}]:443"));
        assert_eq!(until_refused(&throttle, host, 0).0, 10);
    }

    #[test]
    fn s4_a_right_secret_that_cannot_be_guessed_always_passes_and_wrong_ones_wait() {
        let throttle = Throttle::default();
        until_refused(&throttle, |count| from(&count.to_string()), 0);
        assert_eq!(throttle.judge(&from("operator"), true, 16, at(0)), Guess::Right);
        assert_eq!(
            throttle.judge(&from("operator"), true, 15, at(0)),
            Guess::Throttled(2),
            "a guess is not told apart"
        );
        assert_eq!(throttle.judge(&from("operator"), false, 16, at(0)), Guess::Throttled(2));
        assert!(matches!(throttle.judge(&from("operator"), false, 16, at(2)), Guess::Wrong(_)));
        assert_eq!(throttle.judge(&from("operator"), true, 15, at(4)), Guess::Right);
    }

    #[test]
    fn each_wrong_one_is_answered_later_than_the_one_before() {
        let throttle = Throttle::default();
        let pauses: Vec<_> = (0..10).map(|_| throttle.enter(&from("a"), at(0)).unwrap().wrong()).collect();
        assert!(pauses.is_sorted() && pauses[0] < pauses[9] && pauses[9] < Duration::from_secs(1), "{pauses:?}");
    }

    #[test]
    fn the_memory_is_bounded() {
        let throttle = Throttle::default();
        for second in 0..5000_i64 {
            let _ = throttle.enter(&from(&format!("{second}{}", "x".repeat(1000))), at(second / 10));
        }
        let counts = throttle.0.lock().unwrap();
        assert!(counts.by_address.len() <= ADDRESSES + 1);
        assert!(counts.by_address.keys().all(|address| address.len() <= 64));
    }
}
