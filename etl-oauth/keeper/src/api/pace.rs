//! Rate limits of one account, shared by all its callers.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::api_spec::Limits;
use crate::grant::retry_after;

/// Retries in a row that all callers of an account have together.
const RETRIES: f64 = 10.0;

/// How much of a retry every request that worked gives back.
const REWARD: f64 = 0.1;

/// No API is left alone for longer, whatever it says.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What an API lets the callers of one account do, together: when it may be asked, how often still, and how many more
/// tries a broken one is worth.
#[derive(Debug)]
pub(super) struct Pace {
    state: Mutex<State>,
    /// Requests that may go on at a time, where the API has such a limit.
    places: Option<Arc<Semaphore>>,
}

#[derive(Debug)]
struct State {
    closed_until: Timestamp,
    left: Option<(u64, Timestamp)>,
    /// Refusals in a row that gave no time.
    strikes: u32,
    retries: f64,
}

impl Default for Pace {
    fn default() -> Self {
        let state = State { closed_until: Timestamp::MIN, left: None, strikes: 0, retries: RETRIES };
        Self { state: Mutex::new(state), places: None }
    }
}

impl Pace {
    /// The pace of an account of an API with these limits.
    pub(super) fn of(limits: &Limits) -> Self {
        let places = limits.concurrent.map(|count| Arc::new(Semaphore::new(count)));
        Self { places, ..Self::default() }
    }

    /// Waits until one more request may go on beside the others; it is over when this is dropped.
    pub(super) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        Arc::clone(self.places.as_ref()?).acquire_owned().await.ok()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for one request, or returns how long there is none.
    pub(super) fn turn(&self, now: Timestamp) -> Result<(), Duration> {
        let mut state = self.state();
        let until = |at: Timestamp| Duration::try_from(at.duration_since(now)).unwrap_or_default();
        if now < state.closed_until {
            return Err(until(state.closed_until));
        }
        match &mut state.left {
            Some((_, reset)) if *reset <= now => state.left = None,
            Some((0, reset)) => return Err(until(*reset)),
            Some((count, _)) => *count -= 1,
            None => {}
        }
        Ok(())
    }

    /// Reads what an answer says of the limits: whether it is a refusal for going too fast.
    pub(super) fn note(&self, status: StatusCode, headers: &HeaderMap, limits: &Limits, now: Timestamp) -> bool {
        let left = limits.left(headers, now);
        let wait = retry_after(headers, now);
        let refused = match status {
            StatusCode::TOO_MANY_REQUESTS => true,
            StatusCode::SERVICE_UNAVAILABLE => wait.is_some(),
            status if limits.statuses.contains(&status) => wait.is_some() || left.is_some_and(|(count, _)| count == 0),
            _ => false,
        };
        let mut state = self.state();
        if !refused {
            state.strikes = 0;
            state.left = match (state.left, left) {
                // Answers overtake each other: within a window the number only falls.
                (Some((old, until)), Some((new, reset))) if reset.duration_since(until).as_secs().abs() <= 1 => {
                    Some((old.min(new), until))
                }
                (old, new) => new.or(old),
            };
            return false;
        }
        // "At once", or a moment that is over by our clock, says nothing: asked again at once, it would refuse for ever.
        let wait = wait.filter(|wait| !wait.is_zero());
        let reset = limits.reset(headers, now).or(left.map(|(_, reset)| reset)).filter(|reset| *reset > now);
        let wait = wait.or_else(|| Duration::try_from(reset?.duration_since(now)).ok()).unwrap_or_else(|| {
            state.strikes = (state.strikes + 1).min(6);
            Duration::from_secs(1 << state.strikes)
        });
        let until = now.saturating_add(wait.min(LONGEST)).unwrap_or(Timestamp::MAX);
        state.closed_until = state.closed_until.max(until);
        true
    }

    /// Takes note that the API works.
    pub(super) fn worked(&self) {
        let mut state = self.state();
        state.retries = (state.retries + REWARD).min(RETRIES);
    }

    /// Whether one more try is worth it. Where an API is down for everybody, tries end soon.
    pub(super) fn may_retry(&self) -> bool {
        let mut state = self.state();
        let may = state.retries >= 1.0;
        if may {
            state.retries -= 1.0;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn later(seconds: i64) -> Timestamp {
        NOW + jiff::SignedDuration::from_secs(seconds)
    }

    fn note(pace: &Pace, status: u16, headers: &[(&'static str, &str)]) -> bool {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        pace.note(StatusCode::from_u16(status).unwrap(), &headers, &Limits::default(), NOW)
    }

    #[test]
    fn a_refusal_closes_the_api_for_all_callers_until_it_said() {
        let pace = Pace::default();
        assert!(note(&pace, 429, &[("retry-after", "30")]));
        assert!(note(&pace, 503, &[("retry-after", "5")]));
        assert_eq!(pace.turn(NOW), Err(Duration::from_secs(30)));
        assert_eq!(pace.turn(later(30)), Ok(()));
        assert!(!note(&pace, 503, &[]) && !note(&pace, 403, &[]));
        assert!(note(&pace, 403, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1800000060")]));
        assert_eq!(pace.turn(NOW), Err(Duration::from_secs(60)));
    }

    #[test]
    fn a_refusal_that_gives_no_time_closes_it_for_longer_each_time() {
        let pace = Pace::default();
        for seconds in [2, 4, 8] {
            assert!(note(&pace, 429, &[]));
            assert_eq!(pace.turn(NOW), Err(Duration::from_secs(seconds)));
        }
        note(&pace, 200, &[]);
        assert!(note(&pace, 429, &[("retry-after", "soon")]));
        assert_eq!(pace.turn(NOW), Err(Duration::from_secs(8)));

        // So does one whose time is over when it comes.
        let pace = Pace::default();
        for (name, value) in [("retry-after", "0"), ("x-ratelimit-reset", "1800000000"), ("retry-after", "0")] {
            assert!(note(&pace, 429, &[(name, value)]));
        }
        assert_eq!(pace.turn(NOW), Err(Duration::from_secs(8)));
    }

    #[test]
    fn what_is_left_is_shared_out_and_comes_back_with_the_next_window() {
        let pace = Pace::default();
        note(&pace, 200, &[("x-ratelimit-remaining", "2"), ("x-ratelimit-reset", "60")]);
        assert_eq!((pace.turn(NOW), pace.turn(NOW)), (Ok(()), Ok(())));
        // An answer that was overtaken.
        note(&pace, 200, &[("x-ratelimit-remaining", "1"), ("x-ratelimit-reset", "60")]);
        assert_eq!(pace.turn(NOW), Err(Duration::from_secs(60)));
        assert_eq!(pace.turn(later(60)), Ok(()));
    }

    #[test]
    fn retries_are_shared_and_earned_by_what_worked() {
        let pace = Pace::default();
        assert_eq!((0..100).filter(|_| pace.may_retry()).count(), 10);
        (0..11).for_each(|_| pace.worked());
        assert!(pace.may_retry() && !pace.may_retry());
    }
}
