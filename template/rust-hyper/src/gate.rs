//! How many calls are under way, and whether one more may come in.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

/// Counts calls in flight and refuses those over `max_inflight`.
#[derive(Debug)]
pub(crate) struct Gate {
    limit: Option<NonZeroUsize>,
    inside: AtomicUsize,
    /// Those inside that nobody waits for: websockets.
    idle: AtomicUsize,
    left: Notify,
}

/// A call in flight; dropping it, however the call ended, lets the next one in.
#[derive(Debug)]
pub(crate) struct Ticket {
    gate: Arc<Gate>,
    is_idle: bool,
}

impl Gate {
    pub(crate) fn new(limit: Option<NonZeroUsize>) -> Self {
        Self { limit, inside: AtomicUsize::new(0), idle: AtomicUsize::new(0), left: Notify::new() }
    }

    /// `None` at the limit.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Ticket> {
        let before = self.inside.fetch_add(1, Ordering::Relaxed);
        let ticket = Ticket { gate: Arc::clone(self), is_idle: false };
        // A refused ticket is dropped here, which takes the count back.
        self.limit.is_none_or(|limit| before < limit.get()).then_some(ticket)
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

impl Ticket {
    /// Still counts against the limit, but does not hold up the end.
    pub(crate) fn set_idle(&mut self) {
        if !std::mem::replace(&mut self.is_idle, true) {
            self.gate.idle.fetch_add(1, Ordering::AcqRel);
            self.gate.left.notify_waiters();
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.is_idle {
            self.gate.idle.fetch_sub(1, Ordering::AcqRel);
        }
        let before = self.gate.inside.fetch_sub(1, Ordering::AcqRel);
        // Telling takes a lock, and most of the time there is nobody to tell.
        if before <= self.gate.idle.load(Ordering::Acquire) + 1 {
            self.gate.left.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_gate_refuses_until_a_ticket_is_dropped() {
        let gate = Arc::new(Gate::new(NonZeroUsize::new(2)));
        let first = gate.enter().unwrap();
        let _second = gate.enter().unwrap();
        assert!(gate.is_full());
        assert!(gate.enter().is_none());
        assert_eq!(gate.inside(), 2, "a refused call is not in flight");
        drop(first);
        assert!(gate.enter().is_some());
    }

    #[tokio::test]
    async fn empty_waits_for_the_last_ticket() {
        let gate = Arc::new(Gate::new(None));
        gate.empty().await;
        let ticket = gate.enter().unwrap();
        let waiting = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.empty().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        let mut websocket = gate.enter().unwrap();
        websocket.set_idle();
        drop(ticket);
        waiting.await.unwrap();
        assert_eq!(gate.inside(), 1);
    }
}
