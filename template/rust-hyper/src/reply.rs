//! The body of an answer: the watchdog's own, or the function's with a meter and a time limit on it.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};

use crate::{BoxError, entry::Entry, target, traffic::Turn};

/// An answer without a known length waits until so many bytes have come: if it ends before, its length is known, and
/// the type of one that has none can be told from them.
const GATHER: usize = 512;

pin_project! {
    /// What hyper writes.
    pub(crate) struct Reply<B> {
        // What was gathered of the body, or all of one of the watchdog's own.
        first: Option<Bytes>,
        #[pin]
        rest: Rest<B>,
        cut: Cut,
        keep_trailers: bool,
        // Dropped with the body, that is when all is written: in this order, a call is told of before the next begins.
        entry: Option<Box<Entry>>,
        turn: Option<Turn>,
    }
}

pin_project! {
    #[project = RestProjection]
    enum Rest<B> {
        Nothing,
        Body { #[pin] body: B },
        Boxed { body: Pin<Box<B>> },
    }
}

impl<B: Body> Rest<B> {
    fn is_end(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Body { body } => body.is_end_stream(),
            Self::Boxed { body } => body.is_end_stream(),
        }
    }
}

/// When the answer has to be over. The timer is only made for a body that has to be waited for.
#[derive(Default)]
struct Cut {
    at: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// A function's body, as it is or with its first bytes read.
pub(crate) enum Gathered<B> {
    /// Its length is known, or it is to be written as it comes.
    Not(B),
    /// These are all its bytes.
    All(Bytes),
    First(Bytes, Pin<Box<B>>),
}

impl<B> Reply<B> {
    pub(crate) fn own(bytes: impl Into<Bytes>) -> Self {
        Self::new(Gathered::All(bytes.into()), None, false)
    }

    /// The function's body, broken off at `cut`, so that a client can tell that it is not whole.
    pub(crate) fn new(body: Gathered<B>, cut: Option<Instant>, keep_trailers: bool) -> Self {
        let (first, rest) = match body {
            Gathered::Not(body) => (None, Rest::Body { body }),
            Gathered::All(first) => (Some(first).filter(|first| !first.is_empty()), Rest::Nothing),
            Gathered::First(first, body) => (Some(first), Rest::Boxed { body }),
        };
        Self { first, rest, cut: Cut { at: cut, timer: None }, keep_trailers, entry: None, turn: None }
    }

    /// Keeps `entry` until the answer is written.
    pub(crate) fn set_entry(&mut self, entry: Box<Entry>) {
        self.entry = Some(entry);
    }

    /// Keeps `turn` until the answer is written.
    pub(crate) fn set_turn(&mut self, turn: Turn) {
        self.turn = Some(turn);
    }
}

/// An answer of the watchdog's own.
pub(crate) fn own<B>(status: StatusCode, kind: Option<&'static str>, body: impl Into<Bytes>) -> Response<Reply<B>> {
    let mut response = Response::new(Reply::own(body));
    *response.status_mut() = status;
    if let Some(kind) = kind {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    response
}

/// Sends a client to `location`; browsers get a page as well.
pub(crate) fn redirect<B>(method: &Method, location: &str) -> Response<Reply<B>> {
    let mut response = match *method {
        Method::GET | Method::HEAD => {
            let page = target::redirect_page(location);
            own(StatusCode::TEMPORARY_REDIRECT, Some("text/html; charset=utf-8"), page)
        }
        _ => own(StatusCode::TEMPORARY_REDIRECT, None, ""),
    };
    // A path and query that were in a request are a value of a header, too.
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

impl<B: Body<Error: Into<BoxError>>> Gathered<B> {
    /// Waits for the first bytes of `body`.
    pub(crate) async fn read(body: B) -> Result<Self, BoxError> {
        let mut body = Box::pin(body);
        let mut first = BytesMut::new();
        while first.len() < GATHER {
            match poll_fn(|cx| body.as_mut().poll_frame(cx)).await.transpose().map_err(Into::into)? {
                None => return Ok(Self::All(first.freeze())),
                Some(frame) => {
                    if let Ok(data) = frame.into_data() {
                        first.put(data);
                    }
                }
            }
        }
        Ok(Self::First(first.freeze(), body))
    }

    pub(crate) fn length(&self) -> Option<u64> {
        match self {
            Self::Not(body) => body.size_hint().exact(),
            Self::All(first) => Some(first.len() as u64),
            Self::First(..) => None,
        }
    }
}

impl Cut {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at))).as_mut().poll(cx)
    }
}

impl<B: Body<Error: Into<BoxError>>> Body for Reply<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        if let Some(bytes) = this.first.take() {
            if let Some(entry) = this.entry.as_mut() {
                entry.wrote(bytes.len());
                // A body whose length was announced is not asked whether there is more.
                if matches!(*this.rest, Rest::Nothing) {
                    entry.set_whole();
                }
            }
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        let polled = match this.rest.as_mut().project() {
            RestProjection::Nothing => return Poll::Ready(None),
            RestProjection::Body { body } => body.poll_frame(cx),
            RestProjection::Boxed { body } => body.as_mut().poll_frame(cx),
        };
        let polled = match polled {
            Poll::Ready(frame) => frame.map(|frame| frame.map_err(Into::into)),
            Poll::Pending => match this.cut.poll(cx) {
                Poll::Ready(()) => Some(Err("its time was over".into())),
                Poll::Pending => return Poll::Pending,
            },
        };
        match polled {
            Some(Ok(frame)) if frame.is_trailers() && !*this.keep_trailers => {
                this.rest.set(Rest::Nothing);
                Poll::Ready(None)
            }
            Some(Ok(frame)) => {
                let frame = frame.map_data(|mut data| data.copy_to_bytes(data.remaining()));
                if let (Some(data), Some(entry)) = (frame.data_ref(), this.entry.as_mut()) {
                    entry.wrote(data.len());
                    if this.rest.is_end() {
                        entry.set_whole();
                    }
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                if let Some(entry) = this.entry.as_ref() {
                    entry.broke_off(&error);
                }
                this.rest.set(Rest::Nothing);
                Poll::Ready(Some(Err(error)))
            }
            None => {
                if let Some(entry) = this.entry.as_mut() {
                    entry.set_whole();
                }
                this.rest.set(Rest::Nothing);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end()
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.first, &self.rest) {
            (first, Rest::Nothing) => SizeHint::with_exact(first.as_ref().map_or(0, Bytes::len) as u64),
            (_, Rest::Body { body }) => body.size_hint(),
            (_, Rest::Boxed { .. }) => SizeHint::default(),
        }
    }
}

/// The body that no answer of the watchdog's own has.
pub(crate) enum Silent {}

impl Body for Silent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match *self {}
    }
}
