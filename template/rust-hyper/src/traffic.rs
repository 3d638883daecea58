//! What a connection's two ends, the bytes and the calls, have to know of each other.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::Waker,
};

use tokio::time::Instant;

use crate::{entry::Entry, streams::Stream};

/// Shared by the wire and the calls of one connection. All of it is touched by one task at a time, in turn; the atomics
/// only say so to the compiler.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    busy: AtomicBool,
    unread: AtomicBool,
    late: AtomicBool,
    streaming: AtomicBool,
    upgraded: AtomicBool,
    watched: AtomicBool,
    cut: Mutex<Option<Instant>>,
    idle_since: Mutex<Option<Instant>>,
    waiting: Mutex<Option<Waker>>,
    /// Of a websocket: ends with the connection.
    entry: Mutex<Option<Box<Entry>>>,
}

impl Traffic {
    /// A head went to hyper; the next one waits until the answer is written.
    pub(crate) fn begin(&self, has_body: bool) {
        self.unread.store(has_body, Relaxed);
        self.late.store(false, Relaxed);
        self.busy.store(true, Relaxed);
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Relaxed)
    }

    /// hyper has looked for bytes while the call ran, and may not do so of itself when its answer is written.
    pub(crate) fn set_watched(&self) {
        self.watched.store(true, Relaxed);
    }

    /// When the last answer was written, unless the next request is waited for from that moment on.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        *lock(&self.idle_since)
    }

    /// Wakes `waker` when the answer is written. hyper does not read again of itself after a read that had to wait.
    pub(crate) fn wake_when_written(&self, waker: &Waker) {
        *lock(&self.waiting) = Some(waker.clone());
    }

    /// All of the request's body went to hyper.
    pub(crate) fn body_ended(&self) {
        self.unread.store(false, Relaxed);
    }

    /// Whether bytes of the body are still to come: then the connection cannot be used again.
    pub(crate) fn is_unread(&self) -> bool {
        self.unread.load(Relaxed)
    }

    /// The body did not come in time.
    pub(crate) fn set_late(&self) {
        self.late.store(true, Relaxed);
    }

    pub(crate) fn is_late(&self) -> bool {
        self.late.load(Relaxed)
    }

    /// The answer is a stream, which is of no use to a client that has closed its side.
    pub(crate) fn set_streaming(&self) {
        self.streaming.store(true, Relaxed);
    }

    pub(crate) fn is_streaming(&self) -> bool {
        self.streaming.load(Relaxed)
    }

    /// From the answer 101 on the bytes are the function's own.
    pub(crate) fn upgrade(&self, entry: Box<Entry>) {
        *lock(&self.entry) = Some(entry);
        self.upgraded.store(true, Relaxed);
        self.set_cut(None);
    }

    pub(crate) fn is_upgraded(&self) -> bool {
        self.upgraded.load(Relaxed)
    }

    /// When writing has to be over.
    pub(crate) fn set_cut(&self, at: Option<Instant>) {
        *lock(&self.cut) = at;
    }

    pub(crate) fn cut(&self) -> Option<Instant> {
        *lock(&self.cut)
    }
}

/// One call of a connection; dropped when its answer is written, or will never be.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Of HTTP/1, where one call comes after the other.
    Http1(Arc<Traffic>),
    /// Of HTTP/2, which ends itself.
    Http2(#[allow(dead_code, reason = "kept to be dropped")] Stream),
}

impl Turn {
    pub(crate) fn new(traffic: &Arc<Traffic>) -> Self {
        Self::Http1(Arc::clone(traffic))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Self::Http1(traffic) = self else { return };
        if traffic.is_upgraded() {
            return;
        }
        traffic.streaming.store(false, Relaxed);
        *lock(&traffic.idle_since) = traffic.watched.swap(false, Relaxed).then(Instant::now);
        traffic.busy.store(false, Relaxed);
        if let Some(waker) = lock(&traffic.waiting).take() {
            waker.wake();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
