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
    task::{self, Poll, ready},
    time::Duration,
};

use http::{Request, Response};
use hyper::body::Incoming;
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
    BoxError,
    access_log::AccessRecord,
    framing::{HEAD_LIMIT, HeadScanner},
    server::Context,
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
    context: Arc<Context>,
    limits: Limits,
    watcher: Watcher,
    service: impl FnOnce(Arc<Connection>) -> S,
) where
    S: hyper::service::Service<
            Request<Incoming>,
            Response = Response<B>,
            Error: Into<BoxError>,
            Future: Send + 'static,
        >,
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let connection = Arc::new(Connection::new(context));
    let io = Io { stream, connection: Arc::clone(&connection), scanner: HeadScanner::default(), lingering: None };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // The limits are kept here, for both protocols alike.
    builder
        .http1()
        .header_read_timeout(None)
        .max_buf_size(HEAD_LIMIT)
        // A client that shuts its writing side still gets its answer.
        .half_close(true);
    builder.http2().timer(TokioTimer::new()).max_header_list_size(1 << 20);
    let served = builder.serve_connection_with_upgrades(TokioIo::new(io), service(Arc::clone(&connection)));
    tokio::select! {
        biased;
        // The access log has a line for each call; a client that hangs up between two calls is no event.
        _ = watcher.watch(served) => {}
        () = connection.expired(limits) => {}
    }
}

/// What the calls of one connection share with its socket and its timer.
pub(crate) struct Connection {
    pub(crate) context: Arc<Context>,
    calls: Mutex<Calls>,
    /// A call has ended since the socket was last read: a body that was read is over.
    has_call_ended: AtomicBool,
    has_two_lengths: AtomicBool,
    /// The client does not take what was written.
    is_write_blocked: AtomicBool,
    is_upgraded: AtomicBool,
}

struct Calls {
    next: u64,
    /// Number and begin of each call that is not over: the first one is the oldest. Of HTTP/1 there is at most one.
    open: VecDeque<(u64, Instant)>,
    last_began: Instant,
    idle_since: Instant,
    /// Of a websocket: written when the socket closes.
    upgraded: Option<Box<AccessRecord>>,
    is_closed: bool,
}

impl Connection {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        let now = Instant::now();
        let open = VecDeque::new();
        let calls = Calls { next: 0, open, last_began: now, idle_since: now, upgraded: None, is_closed: false };
        Self {
            context,
            calls: Mutex::new(calls),
            has_call_ended: AtomicBool::new(false),
            has_two_lengths: AtomicBool::new(false),
            is_write_blocked: AtomicBool::new(false),
            is_upgraded: AtomicBool::new(false),
        }
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a call, and returns its number.
    pub(crate) fn begin(&self, now: Instant) -> u64 {
        let mut calls = self.calls();
        let number = calls.next;
        calls.next += 1;
        calls.last_began = now;
        calls.open.push_back((number, now));
        number
    }

    /// Ends the call `number`: its answer is written.
    pub(crate) fn end(&self, number: u64, now: Instant) {
        let mut calls = self.calls();
        calls.open.retain(|(open, _)| *open != number);
        if calls.open.is_empty() {
            calls.idle_since = now;
        }
        drop(calls);
        self.has_call_ended.store(true, Relaxed);
    }

    /// Whether a head had both Content-Length and Transfer-Encoding.
    pub(crate) fn has_two_lengths(&self) -> bool {
        self.has_two_lengths.load(Relaxed)
    }

    /// From the answer 101 on the bytes are the function's own. `record` is written when the socket closes.
    pub(crate) fn upgrade(&self, record: Box<AccessRecord>) {
        self.is_upgraded.store(true, Relaxed);
        let mut calls = self.calls();
        if !calls.is_closed {
            calls.upgraded = Some(record);
        }
    }

    /// Waits until the connection had no call for `limits.idle`, or until a call is not over, its answer
    /// taken by the client, `limits.call` after it began.
    async fn expired(&self, limits: Limits) {
        let or_unlimited = |limit: Duration| if limit.is_zero() { UNLIMITED } else { limit.min(UNLIMITED) };
        let (idle, call) = (or_unlimited(limits.idle), or_unlimited(limits.call).saturating_add(GRACE));
        loop {
            let now = Instant::now();
            let end = {
                let calls = self.calls();
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

/// The socket, whose heads are scanned and whose close waits for the client.
struct Io {
    stream: TcpStream,
    connection: Arc<Connection>,
    scanner: HeadScanner,
    lingering: Option<Pin<Box<Sleep>>>,
}

impl Io {
    fn scan(&mut self, bytes: &[u8]) {
        if self.connection.has_call_ended.swap(false, Relaxed) && self.scanner.is_in_body() {
            self.scanner.body_ended();
        }
        if !self.connection.is_upgraded.load(Relaxed) && self.scanner.scan(bytes) {
            self.connection.has_two_lengths.store(true, Relaxed);
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut task::Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        this.scan(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut task::Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.connection.is_write_blocked.store(written.is_pending(), Relaxed);
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.connection.is_write_blocked.store(written.is_pending(), Relaxed);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    /// Closes the writing side, then reads and forgets until the client has closed its own, for a moment.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        }
        let timer = this.lingering.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        if timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        // Large, since a refused body of megabytes is to cost few calls of the kernel.
        let mut forgotten = [0; 32 << 10];
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
        let mut calls = self.connection.calls();
        calls.is_closed = true;
        let upgraded = calls.upgraded.take();
        drop(calls);
        // Ends its call, for which it needs the lock.
        drop(upgraded);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, metrics::Metrics, tracing::LogWriter};

    const LIMITS: Limits = Limits { idle: Duration::from_secs(30), call: Duration::from_secs(10) };

    fn connection() -> Arc<Connection> {
        let config = Config::from_strings(|_| None).unwrap();
        let out = LogWriter::default();
        Arc::new(Connection::new(Arc::new(Context::new(config, out.clone(), Metrics::new(out), None))))
    }

    /// When `connection` expires, from now on.
    async fn expires(connection: &Connection, limits: Limits) -> Option<Duration> {
        let begin = Instant::now();
        let expired = tokio::time::timeout(Duration::from_secs(3600), connection.expired(limits)).await;
        expired.ok().map(|()| begin.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_calls_expires() {
        let connection = connection();
        tokio::time::advance(Duration::from_secs(10)).await;
        connection.end(connection.begin(Instant::now()), Instant::now());
        assert_eq!(expires(&connection, LIMITS).await, Some(LIMITS.idle));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_not_over_in_time_expires_its_connection() {
        let connection = connection();
        let waiting = tokio::spawn({
            let connection = Arc::clone(&connection);
            async move { expires(&connection, LIMITS).await }
        });
        tokio::time::sleep(Duration::from_secs(25)).await;
        let oldest = connection.begin(Instant::now());
        connection.begin(Instant::now() + Duration::from_secs(5));
        assert_eq!(waiting.await.unwrap(), Some(Duration::from_secs(25) + LIMITS.call + GRACE));
        connection.end(oldest, Instant::now());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_not_taken_expires_its_connection() {
        let connection = connection();
        let call = connection.begin(Instant::now());
        tokio::time::advance(Duration::from_secs(4)).await;
        connection.end(call, Instant::now());
        connection.is_write_blocked.store(true, Relaxed);
        assert_eq!(expires(&connection, LIMITS).await, Some(LIMITS.call + GRACE - Duration::from_secs(4)));
    }

    #[tokio::test(start_paused = true)]
    async fn zero_is_no_limit() {
        let connection = connection();
        assert_eq!(expires(&connection, Limits { idle: Duration::ZERO, ..LIMITS }).await, None);
    }
}
