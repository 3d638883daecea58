//! Answers of the API.

use std::{fmt, future::poll_fn, pin::Pin, task, task::Poll};

use bytes::Bytes;
use futures_core::Stream;
use http::{HeaderMap, Method, StatusCode};
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;
use url::Url;

use super::{
    ApiError, Bookmark,
    paging::{Place, Step},
    shape,
};

/// An answer of the API, whole.
#[derive(Clone, Debug)]
pub struct Response {
    /// The HTTP status, a success.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) url: Url,
    pub(super) next: Option<Bookmark>,
}

impl Response {
    /// The page after this one, of those that [`Pages`](super::Pages) gave; `None` for the last.
    #[must_use]
    pub fn next_page(&self) -> Option<&Bookmark> {
        self.next.as_ref()
    }

    /// Takes note of the page after this one. Its address may be relative to this one's.
    pub(super) fn lead_to(&mut self, step: Step, place: Place) {
        let step = match step {
            Step::Url(url) => Step::Url(self.url.join(&url).map_or(url, String::from)),
            set @ Step::Set(..) => set,
        };
        self.next = Some(Bookmark { step, place });
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// [`ApiError::Malformed`], which names the field, when it is no JSON of that shape.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        shape::read(&self.method, &self.path, &self.body)
    }
}

/// An answer whose body comes piece by piece: a [`Stream`], or [`Download::next`] by hand.
///
/// A body that breaks off is an error, never a shorter body. Dropping it ends the request.
#[must_use = "the body is read piece by piece"]
pub struct Download {
    /// The HTTP status, a success.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    url: Url,
    body: Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Download {
    pub(super) fn new(
        head: Response,
        body: impl Stream<Item = reqwest::Result<Bytes>> + Send + 'static,
        place: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let Response { status, headers, url, .. } = head;
        Self { status, headers, url, body: Box::pin(body), _place: place }
    }

    /// The next piece; `None` after the last.
    pub async fn next(&mut self) -> Option<Result<Bytes, ApiError>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for Download {
    type Item = Result<Bytes, ApiError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        let piece = self.body.as_mut().poll_next(context);
        piece.map(|piece| piece.map(|piece| piece.map_err(|err| ApiError::unreachable(&self.url, &err))))
    }
}
