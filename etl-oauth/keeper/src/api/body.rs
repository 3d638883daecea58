//! Bodies of requests.

use std::{
    error::Error,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures_core::Stream;
use serde_json::Value;

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

    /// A JSON body with that value at a place in it (RFC 6901), a number where one was; `None` where the name is no place, or
    /// the body no JSON object.
    pub(super) fn with_field(&self, place: &str, value: &str) -> Option<Self> {
        let Self::Whole(bytes) = self else { return None };
        let (above, name) = place.strip_prefix('/').and(place.rsplit_once('/'))?;
        let mut json: Value = serde_json::from_slice(bytes).ok()?;
        let name = name.replace("~1", "/").replace("~0", "~");
        let fields = json.pointer_mut(above)?.as_object_mut()?;
        let was_number = fields.get(&name).is_some_and(Value::is_number);
        let value = value.parse::<u64>().ok().filter(|_| was_number).map_or_else(|| value.into(), Value::from);
        fields.insert(name, value);
        Some(Self::Whole(serde_json::to_vec(&json).ok()?.into()))
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
