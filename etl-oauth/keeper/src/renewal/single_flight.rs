//! How those who wait for a renewal hear of it.

use std::sync::{
    Arc, Mutex, OnceLock, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::Notify;

use super::{KeeperError, Token};

/// What a renewal brought those who waited for it.
#[derive(Clone)]
pub(super) struct Landing {
    pub(super) result: Result<(), KeeperError>,
    /// The token, if it was fresh then: whoever waited for no more than that asks neither clock nor keeper again.
    pub(super) fresh: Option<Token>,
}

/// One renewal at a time in this process: who comes meanwhile joins it.
#[derive(Default)]
pub(super) struct SingleFlight(Mutex<Option<Arc<Flight>>>);

impl SingleFlight {
    /// The renewal that is under way, or one that begins now: the second is whether it does.
    pub(super) fn join(&self) -> (Arc<Flight>, bool) {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let begins = current.is_none();
        (Arc::clone(current.get_or_insert_default()), begins)
    }

    /// From here on the next one begins.
    pub(super) fn end(&self, flight: &Arc<Flight>) {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, flight)) {
            *current = None;
        }
    }
}

/// A renewal under way, as its waiters see it. Thousands may wait: being woken costs each no lock.
#[derive(Default)]
pub(super) struct Flight {
    landed: OnceLock<Landing>,
    /// The lease is given back, too.
    over: AtomicBool,
    bell: Notify,
}

impl Flight {
    /// Gives its waiters what it brought; only the first one counts.
    pub(super) fn land(&self, landing: Landing) {
        let _ = self.landed.set(landing);
        self.bell.notify_waiters();
    }

    /// Ends it. The landing is that of a task that went without one.
    pub(super) fn end(&self, landing: Landing) {
        self.over.store(true, Ordering::Release);
        self.land(landing);
    }

    pub(super) fn has_landed(&self) -> bool {
        self.landed.get().is_some()
    }

    pub(super) async fn landing(&self) -> &Landing {
        self.wait_for(|| self.landed.get()).await
    }

    /// Until here the next one cannot begin: it would be given a lease that this one is about to give back.
    pub(super) async fn over(&self) {
        self.wait_for(|| self.over.load(Ordering::Acquire).then_some(())).await;
    }

    async fn wait_for<T>(&self, look: impl Fn() -> Option<T>) -> T {
        loop {
            // Before the look: from here on no bell is missed.
            let bell = self.bell.notified();
            if let Some(seen) = look() {
                return seen;
            }
            bell.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    fn is_ready<F: Future>(future: std::pin::Pin<&mut F>) -> bool {
        matches!(future.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(_))
    }

    #[test]
    fn whoever_waits_is_served_at_the_landing_and_the_next_renewal_begins_after_the_lease_is_given_back() {
        let flight = Flight::default();
        let (mut served, mut over) = (pin!(flight.landing()), pin!(flight.over()));
        assert!(!is_ready(served.as_mut()) && !is_ready(over.as_mut()));
        flight.land(Landing { result: Ok(()), fresh: None });
        assert!(is_ready(served.as_mut()) && !is_ready(over.as_mut()));
        flight.end(Landing { result: Err(KeeperError::Disabled { account: "a".into() }), fresh: None });
        assert!(is_ready(over.as_mut()) && is_ready(pin!(flight.over())));
        assert!(flight.landed.get().is_some_and(|landing| landing.result.is_ok()), "the first one counts");
    }
}
