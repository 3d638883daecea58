//! One connection: its socket, its calls, and the time limits that end it.

use std::{
    collections::VecDeque,
    future::Future as _,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::Watcher},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep},
};

use crate::{
    access_log::AccessRecord,
    framing::{HEAD_LIMIT, HeadScanner},
};

/// A call that exceeds its limit is answered or broken off by itself. Only a client that does not take even that is cut.
const GRACE: Duration = Duration::from_millis(500);
/// How long a client may take to read an answer and close, before the socket is closed under it. An earlier close would
/// reset the connection, and the answer might be lost with it.
const LINGER: Duration = Duration::from_millis(500);
/// Zero is no limit.
const UNLIMITED: Duration = Duration::from_secs(86_400);

/// How long a connection may be without a call, and a call without an end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) idle: Duration,
    pub(crate) call: Duration,
}

/// Serves `stream` until one side closes it, a limit is exceeded, or the drain has begun and its last call is over.
pub(crate) async fn serve<S, B>(
    stream: TcpStream,
    limits: Limits,
    watcher: Watcher,
    service: impl FnOnce(Arc<Activity>) -> S,
) where
    S: hyper::service::Service<
            http::Request<hyper::body::Incoming>,
            Response = http::Response<B>,
            Future: Send + 'static,
        >,
    S::Error: Into<crate::BoxError>,
    B: http_body::Body<Data: Send, Error: Into<crate::BoxError>> + Send + 'static,
{
    let activity = Arc::new(Activity::new());
    let io = TokioIo::new(Io::new(stream, Arc::clone(&activity)));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // The limits are kept here, for both protocols alike.
    builder
        .http1()
        .header_read_timeout(None)
        .max_buf_size(HEAD_LIMIT)
        // A client that shuts its writing side still gets its answer.
        .half_close(true);
    builder.http2().timer(TokioTimer::new()).max_header_list_size(1 << 20);
    let connection = builder.serve_connection_with_upgrades(io, service(Arc::clone(&activity)));
    tokio::select! {
        biased;
        // The access log has a line for each call; a client that hangs up between two calls is no event.
        _ = watcher.watch(connection) => {}
        () = activity.expired(limits) => {}
    }
}

/// The calls of one connection, known to its socket, its services and its timer.
#[derive(Debug)]
pub(crate) struct Activity {
    calls: Mutex<Calls>,
    /// A call has ended since the socket was last read: a body that was read is over.
    has_call_ended: AtomicBool,
    has_two_lengths: AtomicBool,
    /// The client does not take what was written.
    is_write_blocked: AtomicBool,
    is_upgraded: AtomicBool,
    /// Of a websocket: written when the connection closes.
    record: Mutex<Option<Box<AccessRecord>>>,
}

#[derive(Debug)]
struct Calls {
    next: u64,
    /// Number and begin of each call that is not over: the first one is the oldest. Of HTTP/1 there is at most one.
    open: VecDeque<(u64, Instant)>,
    last_began: Instant,
    idle_since: Instant,
}

/// A call whose answer is not written yet; dropping it ends the call.
#[derive(Debug)]
pub(crate) struct OpenCall {
    activity: Arc<Activity>,
    number: u64,
}

impl Activity {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self {
            calls: Mutex::new(Calls { next: 0, open: VecDeque::new(), last_began: now, idle_since: now }),
            has_call_ended: AtomicBool::new(false),
            has_two_lengths: AtomicBool::new(false),
            is_write_blocked: AtomicBool::new(false),
            is_upgraded: AtomicBool::new(false),
            record: Mutex::default(),
        }
    }

    /// Begins a call.
    pub(crate) fn begin(self: &Arc<Self>, now: Instant) -> OpenCall {
        let mut calls = lock(&self.calls);
        let number = calls.next;
        calls.next += 1;
        calls.last_began = now;
        calls.open.push_back((number, now));
        drop(calls);
        OpenCall { activity: Arc::clone(self), number }
    }

    /// Whether a head had both Content-Length and Transfer-Encoding.
    pub(crate) fn has_two_lengths(&self) -> bool {
        self.has_two_lengths.load(Relaxed)
    }

    /// From the answer 101 on the bytes are the function's own. `record` is written when the connection closes.
    pub(crate) fn upgrade(&self, record: Box<AccessRecord>) {
        *lock(&self.record) = Some(record);
        self.is_upgraded.store(true, Relaxed);
    }

    /// Waits until the connection had no call for `limits.idle`, or until a call is not over, its answer
    /// taken by the client, `limits.call` after it began.
    pub(crate) async fn expired(&self, limits: Limits) {
        let or_unlimited = |limit: Duration| if limit.is_zero() { UNLIMITED } else { limit.min(UNLIMITED) };
        let (idle, call) = (or_unlimited(limits.idle), or_unlimited(limits.call).saturating_add(GRACE));
        loop {
            let now = Instant::now();
            let end = {
                let calls = lock(&self.calls);
                match calls.open.front() {
                    Some((_, began)) => *began + call,
                    // The function's part is done, and hyper still has some of the answer.
                    None if self.is_write_blocked.load(Relaxed) => calls.last_began + call,
                    None => calls.idle_since + idle,
                }
            };
            if now >= end {
                return;
            }
            // The state may change meanwhile, but no limit that begins later ends before these: one timer does for all.
            tokio::time::sleep_until(end.min(now + idle).min(now + call)).await;
        }
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        let mut calls = lock(&self.activity.calls);
        if let Some(at) = calls.open.iter().position(|(number, _)| *number == self.number) {
            calls.open.remove(at);
        }
        if calls.open.is_empty() {
            calls.idle_since = Instant::now();
        }
        drop(calls);
        self.activity.has_call_ended.store(true, Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The socket, whose heads are scanned and whose close waits for the client.
struct Io {
    stream: TcpStream,
    activity: Arc<Activity>,
    scanner: HeadScanner,
    lingering: Option<Pin<Box<Sleep>>>,
}

impl Io {
    fn new(stream: TcpStream, activity: Arc<Activity>) -> Self {
        Self { stream, activity, scanner: HeadScanner::default(), lingering: None }
    }

    fn scan(&mut self, bytes: &[u8]) {
        if self.activity.has_call_ended.swap(false, Relaxed) && self.scanner.is_in_body() {
            self.scanner.body_ended();
        }
        if !self.activity.is_upgraded.load(Relaxed) && self.scanner.scan(bytes) {
            self.activity.has_two_lengths.store(true, Relaxed);
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        this.scan(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.activity.is_write_blocked.store(written.is_pending(), Relaxed);
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.activity.is_write_blocked.store(written.is_pending(), Relaxed);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    /// Closes the writing side, then reads and forgets until the client has closed its own, for a moment.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        }
        let timer = this.lingering.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        if timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut forgotten = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut forgotten);
            match ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                // The client has closed, or reset the connection.
                _ => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        drop(lock(&self.activity.record).take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { idle: Duration::from_secs(30), call: Duration::from_secs(10) };

    /// When the connection of `activity` expires, from now on.
    async fn expires(activity: &Activity, limits: Limits) -> Option<Duration> {
        let begin = Instant::now();
        let expired = tokio::time::timeout(Duration::from_secs(3600), activity.expired(limits)).await;
        expired.ok().map(|()| begin.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_calls_expires() {
        let activity = Arc::new(Activity::new());
        tokio::time::advance(Duration::from_secs(10)).await;
        drop(activity.begin(Instant::now()));
        assert_eq!(expires(&activity, LIMITS).await, Some(LIMITS.idle));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_not_over_in_time_expires_its_connection() {
        let activity = Arc::new(Activity::new());
        let waiting = tokio::spawn({
            let activity = Arc::clone(&activity);
            async move { expires(&activity, LIMITS).await }
        });
        tokio::time::sleep(Duration::from_secs(25)).await;
        let oldest = activity.begin(Instant::now());
        let _later = activity.begin(Instant::now() + Duration::from_secs(5));
        assert_eq!(waiting.await.unwrap(), Some(Duration::from_secs(25) + LIMITS.call + GRACE));
        drop(oldest);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_not_taken_expires_its_connection() {
        let activity = Arc::new(Activity::new());
        let call = activity.begin(Instant::now());
        tokio::time::advance(Duration::from_secs(4)).await;
        drop(call);
        activity.is_write_blocked.store(true, Relaxed);
        assert_eq!(expires(&activity, LIMITS).await, Some(LIMITS.call + GRACE - Duration::from_secs(4)));
    }

    #[tokio::test(start_paused = true)]
    async fn zero_is_no_limit() {
        let activity = Arc::new(Activity::new());
        assert_eq!(expires(&activity, Limits { idle: Duration::ZERO, ..LIMITS }).await, None);
    }
}
