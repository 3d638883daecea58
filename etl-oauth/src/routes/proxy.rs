//! `/proxy/{path}`: the provider's API, for a sibling function that never sees a token.

use std::sync::Arc;

use axum::{
    body::{Body, to_bytes},
    extract::State,
    response::{IntoResponse, Response},
    routing::{self, MethodRouter},
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};

use super::{
    App, State as AppState,
    respond::{Asked, problem},
};
use crate::guard::{ApiPath, Endpoint};
use token_keeper::{
    api::{ApiError, Forward, Payload},
    store::DEFAULT_ACCOUNT,
};

/// The longest body that is held back, so that it can be sent again with a new token.
const HELD: usize = 64 << 10;

/// Who names another account than `default`, names it here: the query is the API's.
const ACCOUNT: HeaderName = HeaderName::from_static("x-etl-oauth-account");

/// What concerns one connection alone (RFC 9110 §7.6.1).
const HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What the caller or the platform told this function, and not the API: how a caller proves who it is would let the API prove
/// the same. Some servers take another method from a header, and another host or path from others: what was allowed would not
/// be what is done.
const OURS: [&str; 22] = [
    "authorization",
    "cookie",
    "dpop",
    "expect",
    "forwarded",
    "host",
    "signature",
    "signature-input",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
    "x-api-key",
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

/// Any method, but for those that are of connections: a server answers TRACE with the request itself, token and all.
pub(super) fn methods() -> MethodRouter<Arc<App>> {
    routing::any(pass).trace(never).connect(never)
}

async fn never(state: AppState, asked: Asked) -> Response {
    let mut response = super::not_allowed(state, asked).await;
    let methods = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    response.headers_mut().insert(header::ALLOW, methods);
    response
}

/// Whatever `proxy_allow` allows on this path.
pub(super) async fn pass(State(app): AppState, asked: Asked, request: Request<Body>) -> Result<Response, Response> {
    let (parts, body) = request.into_parts();
    let (signed, body) = app.signed_part(&asked, body).await?;
    app.admit_caller(Endpoint::Proxy, &asked, &signed, app.config.proxy_allow.proxy()).await?;
    pass_on(&app, &asked, Request::from_parts(parts, body)).await
}

/// The same for a caller who is let in.
pub(super) async fn pass_on(app: &App, asked: &Asked, request: Request<Body>) -> Result<Response, Response> {
    let (parts, body) = request.into_parts();
    let asked_for = parts.uri.path().strip_prefix("/proxy/");
    let depth = asked_for.map_or(0, |path| path.matches('/').count());
    let path = asked_for.and_then(ApiPath::read);
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
    let mut headers = without_hops(parts.headers);
    remove(&mut headers, |name| OURS.contains(&name) || name.starts_with("x-forwarded-"));
    let forward = Forward {
        method: parts.method,
        path: path.segments().to_vec(),
        query: parts.uri.query().map(str::to_owned),
        headers,
        body,
    };
    let forwarded = api.forward(forward).await.map_err(failed)?;
    let (parts, body) = forwarded.answer.into_parts();
    let mut headers = without_hops(parts.headers);
    headers.remove(header::SET_COOKIE);
    if let Some(place) = forwarded.leads_to.and_then(|place| HeaderValue::try_from(back_here(depth, &place)).ok()) {
        headers.insert(header::LOCATION, place);
    }
    // What a token was needed for is nothing for a cache that nobody told so.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = parts.status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// A place below the API's base URL as one of the proxy: relative, for callers come by more than one address.
fn back_here(depth: usize, place: &str) -> String {
    let up = if depth == 0 { "./".to_owned() } else { "../".repeat(depth) };
    up + place
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
fn without_hops(mut headers: HeaderMap) -> HeaderMap {
    let named: Vec<_> = headers.get_all(header::CONNECTION).iter().cloned().collect();
    for name in named.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')) {
        headers.remove(name.trim());
    }
    remove(&mut headers, |name| HOP.contains(&name));
    headers
}

/// Removes what goes no further. Requests have few headers: looking at those is less work than at each that there could be.
fn remove(headers: &mut HeaderMap, goes: impl Fn(&str) -> bool) {
    let gone: Vec<_> = headers.keys().filter(|name| goes(name.as_str())).cloned().collect();
    gone.iter().for_each(|name| drop(headers.remove(name)));
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

#[cfg(test)]
mod tests;
