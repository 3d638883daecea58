//! The body of a request.

use std::{
    fmt,
    future::Future as _,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::BoxError;

/// The body of a request, as the function reads it: an [`http_body::Body`] of `Bytes`.
///
/// Reading fails when the client breaks off, sends a body that is malformed, or takes longer than `read_timeout` in all.
/// The time that the function takes between two reads does not count.
pub struct Body(Kind);

enum Kind {
    Whole(Option<Bytes>),
    Incoming(Incoming),
    Timed(Box<Timed>),
}

/// A body that is read from a connection.
struct Timed {
    body: Incoming,
    /// How long the client may still be waited for.
    left: Duration,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
    progress: Progress,
}

/// How far the request's body was read. Shared by the body and its call; nothing of a request without a body.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress(Option<Arc<AtomicU8>>);

const UNREAD: u8 = 0;
const READ: u8 = 1;
const LATE: u8 = 2;
const BROKEN: u8 = 3;

impl Progress {
    /// The body did not come in time.
    pub(crate) fn is_late(&self) -> bool {
        self.is(LATE)
    }

    /// Something of the body may still be to come.
    pub(crate) fn is_unread(&self) -> bool {
        self.is(UNREAD) || self.is(LATE)
    }

    /// The body is malformed, or its client broke off: nothing that follows can be read.
    pub(crate) fn is_broken(&self) -> bool {
        self.is(BROKEN)
    }

    fn is(&self, state: u8) -> bool {
        self.0.as_ref().is_some_and(|now| now.load(Relaxed) == state)
    }

    fn set(&self, state: u8) {
        if let Some(now) = &self.0 {
            now.store(state, Relaxed);
        }
    }
}

impl Body {
    /// A body without any data.
    pub fn empty() -> Self {
        Self(Kind::Whole(None))
    }

    /// A body that has to come within `limit`.
    pub(crate) fn incoming(body: Incoming, limit: Duration) -> (Self, Progress) {
        if body.is_end_stream() {
            return (Self(Kind::Incoming(body)), Progress::default());
        }
        let progress = Progress(Some(Arc::new(AtomicU8::new(UNREAD))));
        let timed = Timed { body, left: limit, waiting: None, progress: progress.clone() };
        (Self(Kind::Timed(Box::new(timed))), progress)
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Self {
        Self(Kind::Whole(Some(bytes.into()).filter(|bytes| !bytes.is_empty())))
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").finish_non_exhaustive()
    }
}

type Polled = Poll<Option<Result<Frame<Bytes>, BoxError>>>;

impl Timed {
    fn poll(&mut self, cx: &mut Context<'_>) -> Polled {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            if let Some((since, _)) = self.waiting.take() {
                self.left = self.left.saturating_sub(since.elapsed());
            }
            match &frame {
                Some(Err(_)) => self.progress.set(BROKEN),
                Some(Ok(_)) if !self.body.is_end_stream() => {}
                _ => self.progress.set(READ),
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let left = self.left;
        let (_, timer) = self.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(tokio::time::sleep(left))));
        timer.as_mut().poll(cx).map(|()| {
            self.progress.set(LATE);
            let error = io::Error::new(io::ErrorKind::TimedOut, "the request's body did not come within read_timeout");
            Some(Err(error.into()))
        })
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        match &mut self.get_mut().0 {
            Kind::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Incoming(body) => {
                Pin::new(body).poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
            Kind::Timed(timed) => timed.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(bytes) => bytes.is_none(),
            Kind::Incoming(body) => body.is_end_stream(),
            Kind::Timed(timed) => timed.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Kind::Incoming(body) => body.size_hint(),
            Kind::Timed(timed) => timed.body.size_hint(),
        }
    }
}
