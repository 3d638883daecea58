//! Who asks, and in which shape the answer goes.

use std::convert::Infallible;

use axum::{
    Form,
    body::Body,
    extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Query, Request, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header, request::Parts};

use serde::{Deserialize, de::DeserializeOwned};

use super::App;
use crate::pages::{Page, Problem};

/// What of a request decides over the answer's shape and the caller's rights.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self { method: parts.method.clone(), uri: parts.uri.clone(), headers: parts.headers.clone() })
    }
}

/// The fields that every form of ours posts; a body that is no form has none of them.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Fields {
    #[serde(default)]
    pub(super) csrf: String,
    #[serde(default)]
    pub(super) connection: String,
    #[serde(default)]
    pub(super) account: String,
    #[serde(default)]
    pub(super) wait: String,
}

impl Fields {
    /// Whether a page that shows a code looks again.
    pub(super) fn waits(&self) -> bool {
        !self.wait.is_empty()
    }
}

/// The longest form of ours, in bytes.
pub(super) const FORM_LIMIT: usize = 16 << 10;

/// A posted form, or what is wrong with the body. An empty body is an empty form, whatever its `Content-Type` says: clients
/// set one by habit.
#[derive(Debug)]
pub(super) struct Posted<T = Fields>(Result<T, StatusCode>);

impl<T: Default + DeserializeOwned> Posted<T> {
    /// Reads a form of at most `limit` bytes.
    pub(super) async fn read(request: Request, limit: usize) -> Self {
        let (parts, body) = request.into_parts();
        let Ok(body) = axum::body::to_bytes(body, limit).await else {
            return Self(Err(StatusCode::PAYLOAD_TOO_LARGE));
        };
        if body.is_empty() {
            return Self(Ok(T::default()));
        }
        // The limit is checked already, and the extractor's own is another.
        let mut request = Request::from_parts(parts, Body::from(body));
        DefaultBodyLimit::disable().apply(&mut request);
        let form = Form::from_request(request, &()).await;
        Self(form.map(|Form(fields)| fields).map_err(|rejection| rejection.status()))
    }
}

impl<T: Default + DeserializeOwned, S: Send + Sync> FromRequest<S> for Posted<T> {
    type Rejection = Infallible;

    async fn from_request(request: Request, _: &S) -> Result<Self, Infallible> {
        Ok(Self::read(request, FORM_LIMIT).await)
    }
}

/// The fields of a posted form, and what is wrong with a body that is none. Without a body there are no fields.
pub(super) fn fields<T: Default>(Posted(form): Posted<T>) -> (T, Option<StatusCode>) {
    match form {
        Ok(fields) => (fields, None),
        Err(status) => (T::default(), Some(status)),
    }
}

/// Headers of every answer that does not set them itself: it is kept by no cache, shown in no frame, and
/// read as nothing but what it says it is (RFC 9700 §4.2.4, §4.16).
pub(super) fn guarded(mut response: Response) -> Response {
    let wanted = [
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; base-uri 'none'; frame-ancestors 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    // Room for all at once, and for what the watchdog adds: a map that grows puts every header in its place again.
    response.headers_mut().reserve(wanted.len() + 4);
    for (name, value) in wanted {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

impl Asked {
    /// Whether `Accept` asks for HTML: a browser does, a machine does not.
    pub(super) fn wants_html(&self) -> bool {
        self.headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|kind| kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/html")))
    }

    /// Whether a browser shows a page for this: a GET that wants HTML. A POST is a scheduler's, or a form's.
    pub(super) fn is_browser(&self) -> bool {
        self.method == Method::GET && self.wants_html()
    }

    /// Whether the platform would forward the answer to an address of the caller's choice.
    pub(super) fn is_forwarded(&self) -> bool {
        self.headers.contains_key("x-callback-url")
    }

    /// Refuses a body that is no form: taken for an empty one, it would mean the account `default`, and not the one that it
    /// names in its own way.
    pub(super) fn refuse_body(&self, app: &App, wrong: Option<StatusCode>) -> Result<(), Response> {
        let Some(status) = wrong else { return Ok(()) };
        let (status, message) = match status {
            StatusCode::PAYLOAD_TOO_LARGE => (status, "the body is too large for a form"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => (status, "the body is no form"),
            _ => (StatusCode::BAD_REQUEST, "the form cannot be read"),
        };
        let words = ("That cannot be read", message, "Send application/x-www-form-urlencoded, or no body at all.");
        Err(self.problem(app, &problem("bad_form", status, words)))
    }

    /// The fields of a query.
    pub(super) fn query(&self, app: &App, query: Result<Query<Fields>, QueryRejection>) -> Result<Fields, Response> {
        let words = ("That cannot be read", "the query cannot be read", "Name an account once, or none.");
        query
            .map(|Query(fields)| fields)
            .map_err(|_| self.problem(app, &problem("bad_request", StatusCode::BAD_REQUEST, words)))
    }

    /// The problem, as a page or as JSON.
    pub(super) fn problem(&self, app: &App, problem: &Problem) -> Response {
        if self.wants_html() { problem.page(&app.base).into_response() } else { problem.json() }
    }
}

/// A problem of that name and status: title, what happened, what to do next.
pub(super) fn problem(error: &str, status: StatusCode, (title, message, next): (&str, &str, &str)) -> Problem {
    Problem {
        error: error.to_owned(),
        message: message.to_owned(),
        next: next.to_owned(),
        reason: None,
        status,
        title: title.to_owned(),
        link: None,
    }
}

impl Problem {
    pub(super) fn with_link(mut self, path: &'static str, words: &str) -> Self {
        self.link = Some((path, words.to_owned()));
        self
    }

    pub(super) fn with_reason(mut self, reason: Option<&str>) -> Self {
        self.reason = reason.map(str::to_owned);
        self
    }
}

/// A redirect that a browser follows with GET (RFC 9700 §4.12), with cookies.
pub(super) fn see_other(url: &str, cookies: impl IntoIterator<Item = HeaderValue>) -> Response {
    redirect(StatusCode::SEE_OTHER, url, cookies)
}

/// A redirect of that status.
pub(super) fn redirect(status: StatusCode, url: &str, cookies: impl IntoIterator<Item = HeaderValue>) -> Response {
    let mut response = status.into_response();
    let headers = response.headers_mut();
    // A URL is ASCII, as the `url` crate writes it.
    if let Ok(url) = HeaderValue::from_str(url) {
        headers.insert(header::LOCATION, url);
    }
    set_cookies(response, cookies)
}

/// The page, with cookies.
pub(super) fn page(page: Page, cookies: impl IntoIterator<Item = HeaderValue>) -> Response {
    set_cookies(page.into_response(), cookies)
}

fn set_cookies(mut response: Response, cookies: impl IntoIterator<Item = HeaderValue>) -> Response {
    for cookie in cookies {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// JSON.
pub(super) fn json(status: StatusCode, value: &impl serde::Serialize) -> Response {
    // What is answered here are structures of our own and what a job made: maps with string keys.
    let body = serde_json::to_string(value).unwrap_or_default();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
