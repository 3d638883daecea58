//! The proxy: passes a request to a function, and its response back.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use axum::response::IntoResponse;
use bytes::BytesMut;
use futures_util::{StreamExt as _, stream};
use hyper::body::Body as _;
use jiff::Timestamp;

use super::path::{Call, Route, route};
use super::{RELEASE, Shared, build_page};
use crate::functions::NAMESPACE;
use crate::http::send;
use crate::random;
use crate::server::{Lost, Peer};

pub(super) const CALL_ID: &str = "x-call-id";
const START_TIME: &str = "x-start-time";

/// Header fields of the connection (RFC 9110 §7.6.1), as Go lists them.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "proxy-connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The beginning of an `Accept` whose response is passed on as the function writes it.
const EVENTS: &[u8] = b"text/event-stream";

/// The write buffer of Go's HTTP server, in bytes.
const BUFFER: usize = 4096;

/// Any request outside the REST API.
pub(super) async fn invoke(
    State(shared): State<Arc<Shared>>,
    Extension(Peer(peer)): Extension<Peer>,
    mut request: Request<Body>,
) -> Response<Body> {
    let call = match route(request.uri().path(), request.uri().query()) {
        Route::Call(call) => call,
        Route::Moved(to) => return (StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, to)]).into_response(),
        Route::NotFound => return text(StatusCode::NOT_FOUND, "404 page not found"),
        Route::Malformed => return (StatusCode::BAD_REQUEST, "400 Bad Request").into_response(),
        Route::Panic => return Lost.into_response(),
    };
    let (method, name) = (request.method().clone(), call.name.clone());
    let new_id = stamp(request.headers_mut());
    let mut response = if call.asynchronous {
        shared.queue.accept(request, peer).await
    } else {
        call_function(&shared, call, request, peer).await
    };
    // Without the rest of the path and the query, which may hold secrets.
    let status = response.status().as_u16();
    shared.console.say("gateway", &format!("Forwarded [{method}] to /function/{name} - [{status}]"));
    let headers = response.headers_mut();
    if let Some(id) = new_id {
        headers.insert(CALL_ID, id);
    }
    headers.append(START_TIME, nanoseconds());
    if let Ok(served) = HeaderValue::try_from(format!("openfaas-ce/{RELEASE}")) {
        headers.insert("x-served-by", served);
    }
    response
}

/// Adds the start time, and an id unless the call has one; returns a new id.
fn stamp(headers: &mut HeaderMap) -> Option<HeaderValue> {
    headers.append(START_TIME, nanoseconds());
    if headers.contains_key(CALL_ID) {
        return None;
    }
    let id = HeaderValue::try_from(random::uuid().ok()?.to_string()).ok()?;
    headers.insert(CALL_ID, id.clone());
    Some(id)
}

async fn call_function(shared: &Shared, call: Call, mut request: Request<Body>, peer: SocketAddr) -> Response<Body> {
    let allowed =
        [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS, Method::HEAD];
    if !allowed.contains(request.method()) {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    // The last dot begins the namespace; there is only one.
    let (function, namespace) = call.name.rsplit_once('.').unwrap_or((&call.name, NAMESPACE));
    let picked = if namespace == NAMESPACE { shared.functions.pick(function) } else { None };
    let (address, on_the_way) = match picked {
        Some(Some(picked)) => picked,
        Some(None) => {
            if let Some(page) = build_page::instead(shared, function, request.headers()) {
                return page;
            }
            let message = format!("No endpoints available for: {}.", call.name);
            return internal("proxy", text(StatusCode::SERVICE_UNAVAILABLE, &message));
        }
        None => return text(StatusCode::NOT_FOUND, &format!("error finding function {}", call.name)),
    };
    let Ok(target) = call.target.parse::<Uri>() else { return Lost.into_response() };
    forwarded(request.headers_mut(), peer);
    let asked_type = request.headers().get(header::CONTENT_TYPE).cloned();
    let events = request.headers().get(header::ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(EVENTS));
    *request.uri_mut() = target;
    *request.version_mut() = axum::http::Version::HTTP_11;
    let answered = tokio::time::timeout(shared.timeout, send(address, request)).await;
    drop(on_the_way);
    shared.functions.invoked(function);
    let mut response = match answered {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => {
            let message = format!("Can't reach service for: {}.", call.name);
            return internal("proxy", text(StatusCode::INTERNAL_SERVER_ERROR, &message));
        }
        Err(_) => return StatusCode::BAD_GATEWAY.into_response(),
    };
    let headers = response.headers_mut();
    strip(headers);
    if !headers.contains_key(header::CONTENT_TYPE) {
        headers.insert(header::CONTENT_TYPE, asked_type.unwrap_or(HeaderValue::from_static("text/plain")));
    }
    if events { response } else { response.map(buffered) }
}

/// Joins small pieces until the buffer is full: only event streams are passed on as the function writes them.
fn buffered(body: Body) -> Body {
    if body.is_end_stream() || body.size_hint().exact().is_some() {
        return body;
    }
    let pieces = stream::unfold(Some(body.into_data_stream()), |source| async {
        let mut source = source?;
        let mut held = BytesMut::new();
        while held.len() < BUFFER {
            match source.next().await {
                Some(Ok(piece)) => held.extend_from_slice(&piece),
                Some(Err(error)) => return Some((Err(error), None)),
                None if held.is_empty() => return None,
                None => return Some((Ok(held.freeze()), None)),
            }
        }
        Some((Ok(held.freeze()), Some(source)))
    });
    Body::from_stream(pieces)
}

/// Changes the request's header fields as the gateway does.
fn forwarded(headers: &mut HeaderMap, peer: SocketAddr) {
    strip(headers);
    // The function sees its own address as the host; the client's host is in `X-Forwarded-Host`, unless the client sent
    // that field itself.
    if let Some(host) = headers.remove(header::HOST) {
        headers.entry("x-forwarded-host").or_insert(host);
    }
    if let Ok(from) = HeaderValue::try_from(peer.to_string()) {
        headers.entry("x-forwarded-for").or_insert(from);
    }
    if let Ok(agent) = HeaderValue::try_from(format!("openfaas-ce-gateway/{RELEASE}")) {
        headers.entry(header::USER_AGENT).or_insert(agent);
    }
}

fn strip(headers: &mut HeaderMap) {
    HOP_BY_HOP.iter().for_each(|name| {
        headers.remove(*name);
    });
}

fn nanoseconds() -> HeaderValue {
    HeaderValue::try_from(Timestamp::now().as_nanosecond().to_string()).unwrap_or(HeaderValue::from_static("0"))
}

/// A plain text response as Go's `http.Error` writes it.
pub(super) fn text(status: StatusCode, message: &str) -> Response<Body> {
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (status, headers, format!("{message}\n")).into_response()
}

fn internal(component: &'static str, mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert("x-openfaas-internal", HeaderValue::from_static(component));
    response
}

/// Reads a whole body of at most `limit` bytes.
pub(super) async fn read_body(body: Body, limit: usize) -> io::Result<bytes::Bytes> {
    axum::body::to_bytes(body, limit).await.map_err(io::Error::other)
}
