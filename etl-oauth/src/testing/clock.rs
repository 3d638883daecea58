use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use token_keeper::{api::Timing, renewal::Clock};

/// A clock that stands still until it is turned. Clones are one. The client's pauses turn it, and take no time.
#[derive(Clone, Debug)]
pub struct TestClock(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    now: Timestamp,
    waits: Vec<Duration>,
}

impl TestClock {
    /// A clock that shows this time.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(State { now, waits: Vec::new() })))
    }

    /// The time that it shows.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.0.lock().unwrap().now
    }

    /// Turns it forward.
    pub fn advance(&self, by: Duration) {
        self.0.lock().unwrap().now += SignedDuration::try_from(by).unwrap();
    }

    /// Sets it.
    pub fn set(&self, now: Timestamp) {
        self.0.lock().unwrap().now = now;
    }

    /// The pauses that the client took, in order: for limits, and between tries.
    #[must_use]
    pub fn waits(&self) -> Vec<Duration> {
        self.0.lock().unwrap().waits.clone()
    }

    pub(super) fn clock(&self) -> Clock {
        let clock = self.clone();
        Clock::new(move || clock.now())
    }

    pub(super) fn timing(&self) -> Timing {
        let clock = self.clone();
        let sleep = move |wait: Duration| -> futures_core::future::BoxFuture<'static, ()> {
            clock.advance(wait);
            clock.0.lock().unwrap().waits.push(wait);
            Box::pin(tokio::task::yield_now())
        };
        Timing::new(self.clock(), sleep, || 1.0)
    }
}
