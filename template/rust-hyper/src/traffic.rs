//! What a connection's two ends, the bytes and the calls, have to know of each other.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::Waker,
    time::Duration,
};

use tokio::time::Instant;

use crate::{entry::Entry, streams::Stream};

/// Shared by the wire and the calls of one connection. All of it is touched by one task at a time, in turn; the atomics
/// only say so to the compiler.
#[derive(Debug)]
pub(crate) struct Traffic {
    opened: Instant,
    busy: AtomicBool,
    unread: AtomicBool,
    late: AtomicBool,
    streaming: AtomicBool,
    upgraded: AtomicBool,
    watched: AtomicBool,
    cut: Moment,
    idle_since: Moment,
    is_waited_for: AtomicBool,
    waiting: Mutex<Option<Waker>>,
    /// Of a websocket: ends with the connection.
    entry: Mutex<Option<Box<Entry>>>,
}

/// Nanoseconds since the connection was opened, or never: `u64::MAX`. A lock for each would be a lock more for each call.
#[derive(Debug)]
struct Moment(AtomicU64);

impl Moment {
    fn never() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }

    fn set(&self, opened: Instant, at: Option<Instant>) {
        // Half a thousand years do not fit, nor does any moment that far away have to.
        let nanos = at.and_then(|at| u64::try_from(at.saturating_duration_since(opened).as_nanos()).ok());
        self.0.store(nanos.unwrap_or(u64::MAX), Relaxed);
    }

    fn get(&self, opened: Instant) -> Option<Instant> {
        let nanos = Some(self.0.load(Relaxed)).filter(|&nanos| nanos != u64::MAX)?;
        opened.checked_add(Duration::from_nanos(nanos))
    }
}

impl Traffic {
    pub(crate) fn new() -> Self {
        Self {
            opened: Instant::now(),
            busy: AtomicBool::new(false),
            unread: AtomicBool::new(false),
            late: AtomicBool::new(false),
            streaming: AtomicBool::new(false),
            upgraded: AtomicBool::new(false),
            watched: AtomicBool::new(false),
            cut: Moment::never(),
            idle_since: Moment::never(),
            is_waited_for: AtomicBool::new(false),
            waiting: Mutex::default(),
            entry: Mutex::default(),
        }
    }

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
        self.idle_since.get(self.opened)
    }

    /// Wakes `waker` when the answer is written. hyper does not read again of itself after a read that had to wait.
    pub(crate) fn wake_when_written(&self, waker: &Waker) {
        *lock(&self.waiting) = Some(waker.clone());
        self.is_waited_for.store(true, Relaxed);
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
        self.cut.set(self.opened, at);
    }

    pub(crate) fn cut(&self) -> Option<Instant> {
        self.cut.get(self.opened)
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
        let is_watched = traffic.watched.load(Relaxed);
        traffic.watched.store(false, Relaxed);
        traffic.idle_since.set(traffic.opened, is_watched.then(Instant::now));
        traffic.busy.store(false, Relaxed);
        if traffic.is_waited_for.swap(false, Relaxed)
            && let Some(waker) = lock(&traffic.waiting).take()
        {
            waker.wake();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
