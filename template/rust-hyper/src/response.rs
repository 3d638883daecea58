//! The body of an answer: the watchdog's own, or the function's, with a meter and a time limit around it.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::{HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};

use crate::{BoxError, access_log::AccessRecord};

pin_project! {
    /// What hyper writes.
    pub(crate) struct ResponseBody<B> {
        #[pin]
        source: Source<B>,
        // What is to come of a length that the function has announced for a body that does not know its own.
        announced: Option<u64>,
        deadline: Deadline,
        // Dropped with the body, that is when all is written.
        record: Option<Box<AccessRecord>>,
    }
}

pin_project! {
    #[project = SourceProjection]
    enum Source<B> {
        Bytes { bytes: Option<Bytes> },
        Function { #[pin] body: B },
    }
}

/// When a call has to be over, its answer included. The timer is only made for one that has to be waited for.
pub(crate) struct Deadline {
    at: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    /// `None`: never.
    pub(crate) fn new(at: Option<Instant>) -> Self {
        Self { at, timer: None }
    }

    /// Ready when it is over.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at))).as_mut().poll(cx)
    }
}

impl<B> ResponseBody<B> {
    /// All of a body.
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        let bytes = Some(bytes.into()).filter(|bytes| !bytes.is_empty());
        Self { source: Source::Bytes { bytes }, announced: None, deadline: Deadline::new(None), record: None }
    }

    /// The function's body, broken off at `deadline`, or when it is not as long as `announced`: a client can tell then
    /// that it is not whole.
    pub(crate) fn of_function(body: B, announced: Option<u64>, deadline: Deadline) -> Self {
        Self { source: Source::Function { body }, announced, deadline, record: None }
    }

    /// Keeps the call open until the answer is written.
    pub(crate) fn set_record(&mut self, record: Box<AccessRecord>) {
        self.record = Some(record);
    }
}

/// An answer of the watchdog's own.
pub(crate) fn own<B>(
    status: StatusCode,
    content_type: Option<&'static str>,
    body: impl Into<Bytes>,
) -> Response<ResponseBody<B>> {
    let mut response = Response::new(ResponseBody::whole(body));
    *response.status_mut() = status;
    if let Some(content_type) = content_type {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    response
}

impl<B: Body<Error: Into<BoxError>>> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        let (polled, is_end) = match this.source.project() {
            SourceProjection::Bytes { bytes } => (bytes.take().map(|bytes| Ok(Frame::data(bytes))), true),
            SourceProjection::Function { mut body } => match body.as_mut().poll_frame(cx) {
                Poll::Pending => {
                    ready!(this.deadline.poll(cx));
                    (Some(Err("the time limit was exceeded".into())), true)
                }
                Poll::Ready(polled) => {
                    let to_bytes = |mut data: B::Data| data.copy_to_bytes(data.remaining());
                    let polled = polled.map(|frame| frame.map(|frame| frame.map_data(to_bytes)).map_err(Into::into));
                    let is_end = polled.is_none() || body.is_end_stream();
                    (polled, is_end)
                }
            },
        };
        let polled = measured(polled, is_end, this.announced);
        if let Some(record) = this.record.as_mut() {
            match &polled {
                Some(Ok(frame)) => record.wrote(frame.data_ref().map_or(0, Bytes::len)),
                Some(Err(error)) => record.broke_off(&**error),
                None => {}
            }
            // A body whose length was announced is not asked whether there is more.
            if is_end && !matches!(polled, Some(Err(_))) {
                record.set_complete();
            }
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Bytes { bytes } => bytes.is_none(),
            Source::Function { body } => self.announced.is_none_or(|left| left == 0) && body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Bytes { bytes } => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Source::Function { body } => body.size_hint(),
        }
    }
}

type Polled = Option<Result<Frame<Bytes>, BoxError>>;

/// A body that is longer or shorter than announced is an error, after which hyper ends the connection or the stream.
fn measured(polled: Polled, is_end: bool, announced: &mut Option<u64>) -> Polled {
    let Some(left) = announced else { return polled };
    let length = match &polled {
        Some(Ok(frame)) => frame.data_ref().map_or(0, |data| data.len() as u64),
        Some(Err(_)) => return polled,
        None => 0,
    };
    match left.checked_sub(length) {
        Some(0) => *left = 0,
        Some(rest) if !is_end => *left = rest,
        Some(_) => return Some(Err("the body is shorter than its Content-Length".into())),
        None => return Some(Err("the body is longer than its Content-Length".into())),
    }
    polled
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(text: &'static str) -> Polled {
        Some(Ok(Frame::data(Bytes::from_static(text.as_bytes()))))
    }

    /// Whether a body of `pieces` passes as one of `length` bytes.
    fn passes(length: u64, pieces: &[&'static str]) -> bool {
        let mut announced = Some(length);
        let mut pieces: Vec<_> = pieces.iter().map(|piece| data(piece)).collect();
        pieces.push(None);
        pieces.into_iter().all(|piece| {
            let is_end = piece.is_none();
            !matches!(measured(piece, is_end, &mut announced), Some(Err(_)))
        })
    }

    #[test]
    fn an_announced_length_is_kept_or_the_answer_broken_off() {
        assert!(passes(5, &["hello"]) && passes(5, &["he", "", "llo"]) && passes(0, &[]));
        assert!(!passes(50, &["fourteen bytes"]) && !passes(5, &["fourteen bytes"]) && !passes(1, &[]));
        let mut announced = Some(9);
        assert!(matches!(measured(data("hello"), true, &mut announced), Some(Err(_))), "known to be the last piece");
        assert!(measured(data("hello"), true, &mut None).is_some_and(|piece| piece.is_ok()));
    }
}
