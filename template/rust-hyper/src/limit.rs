//! How many calls are under way, and whether one more may come in.

use std::{
    num::NonZeroUsize,
    sync::atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;

/// Counts calls in flight and refuses those over `max_inflight`.
#[derive(Debug)]
pub(crate) struct ConcurrencyLimit {
    limit: Option<NonZeroUsize>,
    inside: AtomicUsize,
    /// Those inside that nobody waits for: websockets.
    idle: AtomicUsize,
    left: Notify,
}

/// A call in flight, to be handed back by [`ConcurrencyLimit::leave`] however the call ended. It does not know its limit: all cores
/// would count references to it, in one place, with every call.
#[derive(Debug)]
#[must_use]
pub(crate) struct Permit {
    is_idle: bool,
}

impl ConcurrencyLimit {
    pub(crate) fn new(limit: Option<NonZeroUsize>) -> Self {
        Self { limit, inside: AtomicUsize::new(0), idle: AtomicUsize::new(0), left: Notify::new() }
    }

    /// `None` at the limit.
    pub(crate) fn enter(&self) -> Option<Permit> {
        let before = self.inside.fetch_add(1, Ordering::Relaxed);
        let permit = Permit { is_idle: false };
        if self.limit.is_none_or(|limit| before < limit.get()) {
            return Some(permit);
        }
        self.leave(&permit);
        None
    }

    /// Lets the next call in; once for each permit.
    pub(crate) fn leave(&self, permit: &Permit) {
        if permit.is_idle {
            self.idle.fetch_sub(1, Ordering::AcqRel);
        }
        let before = self.inside.fetch_sub(1, Ordering::AcqRel);
        // Telling takes a lock, and most of the time there is nobody to tell.
        if before <= self.idle.load(Ordering::Acquire) + 1 {
            self.left.notify_waiters();
        }
    }

    /// The call still counts against the limit, but does not hold up the end.
    pub(crate) fn set_idle(&self, permit: &mut Permit) {
        if !std::mem::replace(&mut permit.is_idle, true) {
            self.idle.fetch_add(1, Ordering::AcqRel);
            self.left.notify_waiters();
        }
    }

    pub(crate) fn limit(&self) -> Option<NonZeroUsize> {
        self.limit
    }

    pub(crate) fn inside(&self) -> usize {
        self.inside.load(Ordering::Relaxed)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.limit.is_some_and(|limit| self.inside() >= limit.get())
    }

    /// Waits until no call is in flight but those that nobody waits for.
    pub(crate) async fn empty(&self) {
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            // Registered before the count is read, or the last call could leave in between.
            left.as_mut().enable();
            if self.inside.load(Ordering::Acquire) <= self.idle.load(Ordering::Acquire) {
                return;
            }
            left.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_full_gate_refuses_until_a_call_has_left() {
        let limit = ConcurrencyLimit::new(NonZeroUsize::new(2));
        let first = limit.enter().unwrap();
        let _second = limit.enter().unwrap();
        assert!(limit.is_full());
        assert!(limit.enter().is_none());
        assert_eq!(limit.inside(), 2, "a refused call is not in flight");
        limit.leave(&first);
        assert!(limit.enter().is_some());
    }

    #[tokio::test]
    async fn empty_waits_for_the_last_ticket() {
        let limit = Arc::new(ConcurrencyLimit::new(None));
        limit.empty().await;
        let permit = limit.enter().unwrap();
        let waiting = tokio::spawn({
            let limit = Arc::clone(&limit);
            async move { limit.empty().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        let mut websocket = limit.enter().unwrap();
        limit.set_idle(&mut websocket);
        limit.leave(&permit);
        waiting.await.unwrap();
        assert_eq!(limit.inside(), 1);
    }
}
