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
    audit::Action,
    connection::{ACCOUNT, CONNECTION, Named},
    respond::{Asked, problem},
};
use crate::guard::{ApiPath, Endpoint};
use token_keeper::{
    api::{ApiError, Forward, Payload},
    store::DEFAULT_ACCOUNT,
    trace_context,
};

/// The longest body that is held back, so that it can be sent again with a new token.
const HELD: usize = 64 << 10;

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

/// What the caller or the platform tells this function, and not the API. A caller's proof of who it is would let the API
/// prove the same.
const OURS: [&str; 13] = [
    "authorization",
    "cookie",
    "dpop",
    "expect",
    "host",
    "signature",
    "signature-input",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
    "x-api-key",
    "x-callback-url",
    "x-start-time",
];

/// Headers from which some server, framework or proxy takes another method, target, host or client address than the
/// request's own: what `proxy_allow` allows would not be what is done. Names, and beginnings of names.
const STEERING: [&str; 24] = [
    "client-ip",
    "destination",
    "forwarded",
    "proxy-client-ip",
    "remote-addr",
    "true-client-ip",
    "wl-proxy-client-ip",
    "x-arr-",
    "x-call-id",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-envoy-",
    "x-etl-oauth-",
    "x-forwarded",
    "x-host",
    "x-http-",
    "x-http-method",
    "x-method",
    "x-middleware-",
    "x-original",
    "x-proxy",
    "x-real-",
    "x-remote-",
    "x-rewrite-",
];

/// The same by their ends: `cf-connecting-ip`, `fastly-client-ip`, `x-azure-clientip`, `x-tenant-host`.
const STEERING_ENDS: [&str; 6] = ["-clientip", "-client-ip", "-connecting-ip", "-method-override", "-real-ip", "-host"];

/// What an answer of the API would set for the whole origin of the gateway, have its proxies do, or let caches keep: names,
/// and beginnings of names. None of it is the API's to say.
const ORIGIN_WIDE: [&str; 26] = [
    "access-control-",
    "age",
    "alt-svc",
    "cache-control",
    "cdn-cache-control",
    "clear-site-data",
    "content-security-policy",
    "cross-origin-",
    "expect-ct",
    "expires",
    "feature-policy",
    "nel",
    "origin-agent-cluster",
    "permissions-policy",
    "pragma",
    "public-key-pins",
    "refresh",
    "report-to",
    "reporting-endpoints",
    "service-worker-allowed",
    "set-cookie",
    "set-login",
    "strict-transport-security",
    "surrogate-",
    "x-accel-",
    "x-sendfile",
];

/// Whether a request's header stays behind. Names with an underscore do, whatever they are: a server that hands headers on
/// as variables (CGI, WSGI) reads them as the same name with dashes.
fn stays_behind(name: &str) -> bool {
    name.contains('_')
        || OURS.contains(&name)
        || STEERING.iter().any(|beginning| name.starts_with(beginning))
        || STEERING_ENDS.iter().any(|end| name.ends_with(end))
}

fn is_origin_wide(name: &str) -> bool {
    ORIGIN_WIDE.iter().any(|it| name == *it || (it.ends_with('-') && name.starts_with(it)) || is_variant(name, it))
}

/// `content-security-policy-report-only` and the like: another header of the same feature.
fn is_variant(name: &str, feature: &str) -> bool {
    feature.len() > 8 && name.strip_prefix(feature).is_some_and(|rest| rest.starts_with('-'))
}

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
    let opened = app.connections.values().any(|connection| connection.allow.proxy());
    let admitted = app.admit_caller(Endpoint::Proxy, &asked, body, opened).await?;
    let named = app.by_headers(&asked)?;
    app.check_rights(&asked, &admitted.caller, &named)?;
    let actor = admitted.actor();
    pass_on(&app, &asked, (&named, &actor), Request::from_parts(parts, admitted.body)).await
}

/// The same for a caller who is let in, which the audit knows as `actor`.
pub(super) async fn pass_on(
    app: &App,
    asked: &Asked,
    (named, actor): (&Named, &str),
    request: Request<Body>,
) -> Result<Response, Response> {
    let (parts, body) = request.into_parts();
    let asked_for = parts.uri.path().strip_prefix("/proxy/");
    let depth = asked_for.map_or(0, |path| path.matches('/').count());
    let path = asked_for.and_then(ApiPath::read);
    let connection = &named.connection;
    let Some(path) = path.filter(|path| connection.allow.allows(&parts.method, path)) else {
        return Err(app.not_opened(asked, "proxy_allow has no entry for this method and path"));
    };
    let keeper = app.existing(asked, named).await?;
    let failed = |err: ApiError| app.api_failed(asked, &err);
    let api = connection.api(keeper);
    let body = payload(&parts.headers, body).await.map_err(|()| {
        let words = ("The body broke off", "it ended before its length", "Send the request again.");
        asked.problem(app, &problem("bad_body", StatusCode::BAD_REQUEST, words))
    })?;
    let mut headers = without_hops(parts.headers);
    remove(&mut headers, stays_behind);
    let forward = Forward {
        method: parts.method,
        path: path.segments().to_vec(),
        query: parts.uri.query().map(str::to_owned),
        headers,
        body,
    };
    let forwarded = trace_context::acting(actor, api.forward(forward)).await;
    app.note(actor, Action::Proxy, named, forwarded.as_ref().map_or_else(ApiError::code, |_| "ok"));
    let forwarded = forwarded.map_err(failed)?;
    let (parts, body) = forwarded.answer.into_parts();
    let mut headers = without_hops(parts.headers);
    remove(&mut headers, is_origin_wide);
    if let Some(place) = forwarded.leads_to.and_then(|place| HeaderValue::try_from(back_here(depth, &place)).ok()) {
        headers.insert(header::LOCATION, place);
    }
    // A shared cache would hand one caller's answer to another, and to callers who prove nothing.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = parts.status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// What a header names; two names are none that there is.
fn by_header<'a>(headers: &'a HeaderMap, name: &HeaderName, missing: &'a str) -> &'a str {
    let mut named = headers.get_all(name).iter();
    match (named.next(), named.next()) {
        (None, _) => missing,
        (Some(name), None) => name.to_str().ok().filter(|name| !name.is_empty()).unwrap_or("-"),
        (Some(_), Some(_)) => "-",
    }
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
    /// The account that the headers of a call name.
    fn by_headers(&self, asked: &Asked) -> Result<Named, Response> {
        let connection = Arc::clone(self.connection(asked, by_header(&asked.headers, &CONNECTION, ""))?);
        let account = by_header(&asked.headers, &ACCOUNT, DEFAULT_ACCOUNT).to_owned();
        Ok(Named { connection, account })
    }

    /// The answer to an authenticated caller who asks for what `proxy_allow` does not open.
    pub(super) fn not_opened(&self, asked: &Asked, message: &str) -> Response {
        let next = "Ask the operator of this function to add `token` or `METHOD /path` to proxy_allow.";
        let words = ("The proxy does not do this", message, next);
        asked.problem(self, &problem("not_allowed", StatusCode::FORBIDDEN, words))
    }

    /// The answer to a caller when there is no token, or the API does not answer.
    pub(super) fn api_failed(&self, asked: &Asked, err: &ApiError) -> Response {
        let status = match err {
            ApiError::Limited { .. } => StatusCode::TOO_MANY_REQUESTS,
            err => err.status(),
        };
        let words = ("The API cannot be used", &*err.to_string(), err.next_step());
        let problem = problem(err.code(), status, words).with_reason(err.reason());
        let mut response = asked.problem(self, &problem).into_response();
        if let Some(wait) = err.retry_after() {
            response.headers_mut().insert(header::RETRY_AFTER, wait.as_secs().max(1).into());
        }
        response
    }
}

#[cfg(test)]
mod tests;
