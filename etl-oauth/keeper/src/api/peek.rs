//! A look at the beginning of an answer that is streamed on.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http::{Response, header};
use http_body::{Body, Frame, SizeHint};

/// The longest body that is held back: errors and limits are shorter.
const HELD: usize = 16 << 10;

/// The body of an answer, where it is JSON and short enough; the answer keeps it. A longer body, and one of another type, is
/// left to stream: of it at most 16 KiB are held until the rest follows.
///
/// # Errors
/// The body broke off.
pub(super) async fn peek(answer: &mut Response<reqwest::Body>) -> Result<Option<Bytes>, reqwest::Error> {
    if !is_json(answer) || answer.body().size_hint().lower() > HELD as u64 {
        return Ok(None);
    }
    let mut rest = std::mem::take(answer.body_mut());
    let (mut held, mut trailers) = (BytesMut::new(), None);
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut rest).poll_frame(cx)).await {
        match frame?.into_data() {
            Ok(data) => held.extend_from_slice(&data),
            Err(frame) => trailers = Some(frame),
        }
        if held.len() > HELD {
            *answer.body_mut() = reqwest::Body::wrap(Held { held: Some(held.freeze()), rest, trailers });
            return Ok(None);
        }
    }
    let held = held.freeze();
    *answer.body_mut() = match trailers {
        None => held.clone().into(),
        Some(_) => reqwest::Body::wrap(Held { held: Some(held.clone()), rest, trailers }),
    };
    Ok(Some(held))
}

fn is_json(answer: &Response<reqwest::Body>) -> bool {
    let is_plain = answer.headers().get(header::CONTENT_ENCODING).is_none_or(|coding| coding == "identity");
    let kind = answer.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    is_plain && (kind.ends_with("/json") || kind.ends_with("+json"))
}

/// What was held back, and then the rest.
struct Held {
    held: Option<Bytes>,
    rest: reqwest::Body,
    trailers: Option<Frame<Bytes>>,
}

impl Body for Held {
    type Data = Bytes;
    type Error = reqwest::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, reqwest::Error>>> {
        if let Some(held) = self.held.take() {
            return Poll::Ready(Some(Ok(Frame::data(held))));
        }
        match Pin::new(&mut self.rest).poll_frame(cx) {
            Poll::Ready(None) => Poll::Ready(self.trailers.take().map(Ok)),
            polled => polled,
        }
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.rest.size_hint();
        let held = self.held.as_ref().map_or(0, |held| held.len() as u64);
        hint.set_lower(hint.lower().saturating_add(held));
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(held));
        }
        hint
    }
}
