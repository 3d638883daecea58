//! `/proxy/{path}`: the provider's API, for a sibling function that never sees a token.

use axum::{
    body::{Body, to_bytes},
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};

use super::{
    App, State as AppState,
    reply::{Asked, problem},
};
use crate::{
    api::{ApiError, Forward, Payload},
    guard::{ApiPath, Door},
    store::DEFAULT_ACCOUNT,
};

/// The longest body that is held back, so that it can be sent again with a new token.
const HELD: usize = 64 << 10;

/// Who names another account than `default`, names it here: the query is the API's.
const ACCOUNT: HeaderName = HeaderName::from_static("x-etl-oauth-account");

/// What concerns one connection alone (RFC 9110 §7.6.1).
const HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// What the caller or the platform told this function, and not the API. Some servers take another method from a header,
/// and another host or path from others: what was allowed would not be what is done.
const OURS: [&str; 15] = [
    "authorization",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "x-call-id",
    "x-callback-url",
    "x-etl-oauth-account",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
    "x-start-time",
];

/// Any method that `proxy_allow` allows on this path.
pub(super) async fn pass(State(app): AppState, asked: Asked, request: Request<Body>) -> Result<Response, Response> {
    app.admit_caller(Door::Proxy, &asked).await?;
    pass_on(&app, &asked, request).await
}

/// The same for a caller who is let in.
pub(super) async fn pass_on(app: &App, asked: &Asked, request: Request<Body>) -> Result<Response, Response> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().strip_prefix("/proxy/").and_then(ApiPath::read);
    let Some(path) = path.filter(|path| app.config.proxy_allow.allows(&parts.method, path)) else {
        let words = (
            "The proxy does not do this",
            "proxy_allow has no entry for this method and path",
            "Ask whoever operates this function to add `METHOD /path` to proxy_allow.",
        );
        return Err(asked.problem(app, &problem("not_allowed", StatusCode::FORBIDDEN, words)));
    };
    let account = parts.headers.get(ACCOUNT).map_or(Some(DEFAULT_ACCOUNT), |name| name.to_str().ok());
    let keeper = app.keeper(asked, account.unwrap_or_default())?;
    let failed = |err: ApiError| app.api_failed(asked, &err);
    let api = app.api(keeper).map_err(failed)?;
    let body = payload(&parts.headers, body).await.map_err(|()| {
        let words = ("The body broke off", "it ended before its length", "Send the request again.");
        asked.problem(app, &problem("bad_body", StatusCode::BAD_REQUEST, words))
    })?;
    let mut headers = without_hops(&parts.headers);
    OURS.iter().for_each(|name| drop(headers.remove(*name)));
    let forwarded: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with("x-forwarded-")).cloned().collect();
    forwarded.iter().for_each(|name| drop(headers.remove(name)));
    let forward = Forward {
        method: parts.method,
        path: path.segments().to_vec(),
        query: parts.uri.query().map(str::to_owned),
        headers,
        body,
    };
    let (parts, body) = api.forward(forward).await.map_err(failed)?.into_parts();
    let mut headers = without_hops(&parts.headers);
    headers.remove(header::SET_COOKIE);
    // What a token was needed for is nothing for a cache that nobody told so.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = parts.status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// A short body, held; else the stream itself.
async fn payload(headers: &HeaderMap, body: Body) -> Result<Payload, ()> {
    let length = match headers.get(header::CONTENT_LENGTH) {
        Some(length) => length.to_str().ok().and_then(|length| length.parse::<usize>().ok()),
        None if headers.contains_key(header::TRANSFER_ENCODING) => None,
        None => Some(0),
    };
    match length {
        Some(length) if length <= HELD => to_bytes(body, HELD).await.map(Payload::Whole).map_err(|_| ()),
        _ => Ok(Payload::Stream(reqwest::Body::wrap_stream(body.into_data_stream()))),
    }
}

/// The headers without those of the connection, and those that `Connection` names.
fn without_hops(headers: &HeaderMap) -> HeaderMap {
    let mut kept = headers.clone();
    for name in headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok()) {
        name.split(',').for_each(|name| drop(kept.remove(name.trim())));
    }
    HOP.iter().for_each(|name| drop(kept.remove(name)));
    kept
}

impl App {
    /// What a sibling is told when there is no token or no answer.
    pub(super) fn api_failed(&self, asked: &Asked, err: &ApiError) -> Response {
        let status = match err {
            ApiError::Limited { .. } => StatusCode::TOO_MANY_REQUESTS,
            err => err.status(),
        };
        let words = ("The API cannot be used", &*err.to_string(), err.next_step());
        let mut response = asked.problem(self, &problem(err.code(), status, words)).into_response();
        if let Some(wait) = err.retry_after() {
            response.headers_mut().insert(header::RETRY_AFTER, wait.as_secs().max(1).into());
        }
        response
    }
}
