//! The body of an answer: the watchdog's own, or the function's with a meter on it.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use http::{HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};

use crate::{BoxError, call::Entry};

pin_project! {
    /// What hyper writes.
    pub(crate) struct Reply<B> {
        first: Option<Bytes>,
        #[pin]
        rest: Option<B>,
        entry: Option<Entry>,
        cut: Option<Pin<Box<Sleep>>>,
    }
}

impl<B> Reply<B> {
    pub(crate) fn own(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { first: (!bytes.is_empty()).then_some(bytes), rest: None, entry: None, cut: None }
    }

    /// The function's body; broken off at `cut`, so that a client can tell that it is not whole.
    pub(crate) fn function(rest: B, entry: Entry, cut: Option<Instant>) -> Self {
        let cut = cut.map(|at| Box::pin(tokio::time::sleep_until(at)));
        Self { first: None, rest: Some(rest), entry: Some(entry), cut }
    }

    /// Keeps `entry` until the answer is written.
    pub(crate) fn with_entry(mut self, entry: Entry) -> Self {
        self.entry = Some(entry);
        self
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

impl<B> Body for Reply<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        if let Some(bytes) = this.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        let Some(rest) = this.rest.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        match rest.poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let frame = frame.map_data(|mut data| data.copy_to_bytes(data.remaining()));
                if let (Some(data), Some(entry)) = (frame.data_ref(), this.entry.as_mut()) {
                    entry.wrote(data.len());
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                let error = error.into();
                if let Some(entry) = this.entry.take() {
                    entry.broke_off(&*error);
                }
                this.rest.set(None);
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(None) => {
                this.rest.set(None);
                Poll::Ready(None)
            }
            Poll::Pending => match this.cut.as_mut().map(|cut| cut.as_mut().poll(cx)) {
                Some(Poll::Ready(())) => {
                    let error = BoxError::from("the time limit has passed");
                    if let Some(entry) = this.entry.take() {
                        entry.broke_off(&*error);
                    }
                    this.rest.set(None);
                    Poll::Ready(Some(Err(error)))
                }
                _ => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().map_or(0, Bytes::len) as u64;
        let Some(rest) = &self.rest else { return SizeHint::with_exact(first) };
        rest.size_hint().exact().map_or_else(SizeHint::default, |exact| SizeHint::with_exact(exact + first))
    }
}
