use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// An answer of the mock API.
#[derive(Clone, Debug)]
pub struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Reply {
    /// An answer with that status and no body.
    ///
    /// # Panics
    /// When it is no HTTP status.
    #[must_use]
    pub fn status(status: u16) -> Self {
        let status = StatusCode::from_u16(status).expect("a reply's status is from 100 to 999");
        Self { status, headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// A 200 with a JSON body.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "a `json!` at the call")]
    pub fn json(body: Value) -> Self {
        Self::status(200).header("content-type", "application/json").body(body.to_string())
    }

    /// A 200 with that body.
    #[must_use]
    pub fn text(body: impl Into<Bytes>) -> Self {
        Self::status(200).body(body)
    }

    /// The same with a header.
    ///
    /// # Panics
    /// When HTTP cannot carry it.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::try_from(name).expect("a reply's header has a name");
        self.headers.append(name, HeaderValue::try_from(value).expect("a reply's header has a value"));
        self
    }

    /// The same with a body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The same with another status.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = Self::status(status).status;
        self
    }
}

/// A request that the mock API got.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The method.
    pub method: Method,
    /// The path.
    pub path: String,
    /// The parameters of the query, in order.
    pub queries: Vec<(String, String)>,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Recorded {
    /// A parameter of the query.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<&str> {
        self.queries.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// A header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none of that shape.
    #[must_use]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).expect("the request's body is JSON of this shape")
    }

    /// The access token that it bore.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
    }

    /// Method and path: what the script is keyed by.
    pub(super) fn route(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

pub(super) type Script = Arc<dyn Fn(&Recorded) -> Reply + Send + Sync>;

/// What the mock API answers with on one route.
#[derive(Clone)]
pub(super) enum Answering {
    Fixed(Reply),
    By(Script),
}

impl fmt::Debug for Answering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fixed(_) => "Fixed(..)",
            Self::By(_) => "By(..)",
        })
    }
}
