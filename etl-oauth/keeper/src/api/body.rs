//! Bodies of requests.

use std::{
    error::Error,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures_core::Stream;

/// The body of a request. Clones of a stream are one: the first that is sent takes it.
#[derive(Clone, Default)]
pub(super) enum Body {
    #[default]
    None,
    Whole(Bytes),
    Stream(Arc<Mutex<Option<reqwest::Body>>>),
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Whole(bytes) => write!(f, "Whole({} bytes)", bytes.len()),
            Self::Stream(_) => f.write_str("Stream(..)"),
        }
    }
}

impl Body {
    pub(super) fn stream<S, E>(stream: S) -> Self
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>> + 'static,
    {
        Self::Stream(Arc::new(Mutex::new(Some(reqwest::Body::wrap_stream(stream)))))
    }

    /// Whether it can be sent a second time.
    pub(super) fn is_whole(&self) -> bool {
        !matches!(self, Self::Stream(_))
    }

    /// Puts it on a request. A stream that is gone is an empty body no more than a request: `None`.
    pub(super) fn put_on(&self, request: reqwest::RequestBuilder) -> Option<reqwest::RequestBuilder> {
        match self {
            Self::None => Some(request),
            Self::Whole(bytes) => Some(request.body(bytes.clone())),
            Self::Stream(stream) => {
                let body = stream.lock().unwrap_or_else(PoisonError::into_inner).take()?;
                Some(request.body(body))
            }
        }
    }
}
