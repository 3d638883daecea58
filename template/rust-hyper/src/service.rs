//! The service that hyper calls: refusals, the watchdog's own endpoints, the limit, function auth, then the function.

use std::{future::ready, sync::Arc};

use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;

#[cfg(not(feature = "otel"))]
use crate::invocation::invoke;
#[cfg(feature = "otel")]
use crate::otel::invoke;
use crate::{
    Function,
    access_log::AccessRecord,
    auth::Denied,
    background::Uncancelled,
    body::{Body, Progress},
    connection::Connection,
    framing::{self, Marks},
    headers::prepare_request,
    response::{ResponseBody, own},
    server::Context,
};

pub(crate) const INTERNAL: HeaderName = HeaderName::from_static("x-openfaas-internal");
pub(crate) const CALL_ID: HeaderName = HeaderName::from_static("x-call-id");
const AUTH_SECONDS: HeaderName = HeaderName::from_static("x-auth-seconds");
const TEXT: &str = "text/plain; charset=utf-8";

type Answer<B> = Response<ResponseBody<B>>;

/// Answers the requests of one connection.
pub(crate) struct Service<F> {
    pub(crate) connection: Arc<Connection>,
    pub(crate) function: F,
}

impl<F: Function> hyper::service::Service<Request<Incoming>> for Service<F> {
    type Response = Answer<F::Body>;
    type Error = std::convert::Infallible;
    type Future = Uncancelled<Answer<F::Body>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let mut record = AccessRecord::new(&self.connection);
        let (context, version) = (&self.connection.context, request.version());
        let (route, marks) = match framing::check(&request, self.connection.has_two_lengths()) {
            Ok(marks) => (route(&mut request, context, marks, &mut record), marks),
            Err(status) => (Route::Answered(refuse(status, &mut record)), Marks::default()),
        };
        let (head, body) = request.into_parts();
        let (body, progress) = match route {
            Route::Answered(response) => {
                // hyper learns that nothing reads the body before it writes the answer.
                drop(body);
                return Uncancelled::new(ready(finish(response, version, record)));
            }
            Route::Ready => (Body::empty(), Progress::default()),
            Route::Function => Body::incoming(body, context.config.read_limit()),
        };
        let (mut request, function) = (Request::from_parts(head, body), self.function.clone());
        Uncancelled::new(async move {
            let response = match authorize(&mut request, &mut record).await {
                Ok(()) => invoke(function, request, progress, marks, &mut record).await,
                Err(denied) => deny(denied, &mut record),
            };
            finish(response, version, record)
        })
    }
}

/// Hands an answer to hyper, which keeps its call open until it is written.
pub(crate) fn finish<B>(mut response: Answer<B>, version: Version, mut record: Box<AccessRecord>) -> Answer<B> {
    record.set_status(response.status());
    // HTTP/2 has no such field.
    if version < Version::HTTP_2 && (record.is_last || record.connection().context.is_draining()) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let connection = Arc::clone(record.connection());
        connection.upgrade(record);
    } else {
        response.body_mut().set_record(record);
    }
    response
}

/// Where a request goes.
enum Route<B> {
    /// Nowhere: this is its answer.
    Answered(Answer<B>),
    /// To the function's own check, without its body.
    Ready,
    Function,
}

/// Function auth, where it is on. The function's own check is asked without it.
async fn authorize(request: &mut Request<Body>, record: &mut AccessRecord) -> Result<(), Denied> {
    let context = &record.connection().context;
    let Some(auth) = context.auth.as_ref().filter(|_| record.is_counted()) else { return Ok(()) };
    auth.check(request.headers()).await?;
    if let Ok(seconds) = HeaderValue::try_from(format!("{:.6}", record.started().elapsed().as_secs_f64())) {
        request.headers_mut().insert(AUTH_SECONDS, seconds);
    }
    Ok(())
}

/// An answer after which the connection is closed.
pub(crate) fn refuse<B>(status: StatusCode, record: &mut AccessRecord) -> Answer<B> {
    record.is_last = true;
    own(status, None, "")
}

/// Puts the request in order for the function, unless the watchdog answers it itself.
fn route<B>(request: &mut Request<Incoming>, context: &Context, marks: Marks, record: &mut AccessRecord) -> Route<B> {
    let (config, limit) = (&context.config, &context.limit);
    match (request.method(), request.uri().path()) {
        (&Method::OPTIONS, "*") => return Route::Answered(own(StatusCode::OK, None, "")),
        (_, "*") => return Route::Answered(refuse(StatusCode::BAD_REQUEST, record)),
        _ => {}
    }
    prepare_request(request, marks);
    if let Some(endpoint) = endpoint(request.uri().path()) {
        let empty = |status| Route::Answered(own(status, None, ""));
        return match (endpoint, &config.ready_path) {
            _ if request.method() != Method::GET => empty(StatusCode::METHOD_NOT_ALLOWED),
            _ if !context.is_up() => empty(StatusCode::SERVICE_UNAVAILABLE),
            (Endpoint::Health, _) => Route::Answered(own(StatusCode::OK, Some(TEXT), "OK")),
            _ if limit.is_full() => empty(StatusCode::TOO_MANY_REQUESTS),
            (Endpoint::Ready, None) => empty(StatusCode::OK),
            (Endpoint::Ready, Some(path)) => {
                *request.uri_mut() = Uri::from(path.clone());
                request.headers_mut().remove(header::CONTENT_LENGTH);
                request.headers_mut().remove(header::TRANSFER_ENCODING);
                record.set_request(request, marks, false, None);
                Route::Ready
            }
        };
    }
    if !marks.call_id {
        request.headers_mut().insert(CALL_ID, new_call_id());
    }
    let permit = limit.enter();
    let is_in = permit.is_some();
    record.set_request(request, marks, true, permit);
    if is_in {
        return Route::Function;
    }
    // Refused only where there is a limit.
    let most = limit.limit().map_or(0, usize::from);
    let body = format!("Concurrent request limit exceeded. Max concurrent requests: {most}\n");
    record.set_length(Some(body.len() as u64));
    let mut response = own(StatusCode::TOO_MANY_REQUESTS, Some("text/plain"), body);
    response.headers_mut().insert(INTERNAL, HeaderValue::from_static("faas-middleware"));
    Route::Answered(response)
}

fn deny<B>(denied: Denied, record: &mut AccessRecord) -> Answer<B> {
    record.set_denied();
    let mut response = own(denied.status(), Some(TEXT), denied.message());
    let headers = response.headers_mut();
    if denied.status() == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=IAM function invoke"));
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(INTERNAL, HeaderValue::from_static("faas-middleware"));
    response
}

/// A random UUID (RFC 9562, version 4), as the gateway makes them. It names a call and keeps nothing secret, so the
/// system need not be asked for randomness with each call.
fn new_call_id() -> HeaderValue {
    let id = uuid::Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes()).into_uuid();
    let text = id.as_hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()).as_bytes().to_vec();
    // Digits, letters and hyphens are a value; an empty one would be the answer to a mistake here.
    HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).unwrap_or(HeaderValue::from_static(""))
}

/// The endpoints of the watchdog's own.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Endpoint {
    Health,
    Ready,
}

/// Compares segment by segment after decoding, so that `/%5F/health` is the endpoint and `/_%2Fhealth` is not.
fn endpoint(path: &str) -> Option<Endpoint> {
    match path {
        "/_/health" => return Some(Endpoint::Health),
        "/_/ready" => return Some(Endpoint::Ready),
        // Only an escape is another way to write them.
        _ if !path.contains('%') => return None,
        _ => {}
    }
    let mut segments =
        path.strip_prefix('/')?.split('/').map(|segment| percent_decode_str(segment).collect::<Vec<_>>());
    match (segments.next()?.as_slice(), segments.next()?.as_slice(), segments.next()) {
        (b"_", b"health", None) => Some(Endpoint::Health),
        (b"_", b"ready", None) => Some(Endpoint::Ready),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_exact_but_for_escapes_within_a_segment() {
        for (path, found) in [
            ("/_/health", Some(Endpoint::Health)),
            ("/%5F/health", Some(Endpoint::Health)),
            ("/_/healt%68", Some(Endpoint::Health)),
            ("/_/%72eady", Some(Endpoint::Ready)),
            ("/_%2Fhealth", None),
            ("/_/health/", None),
            ("/_/%68ealth/x", None),
            ("/_/HEALTH", None),
            ("/%5F", None),
            ("/_/health%", None),
            ("/_/healt%6", None),
            ("/_/healt%6x", None),
        ] {
            assert_eq!(endpoint(path), found, "{path}");
        }
    }

    #[test]
    fn call_ids_are_random_uuids() {
        let (first, second) = (new_call_id(), new_call_id());
        let id: uuid::Uuid = first.to_str().unwrap().parse().unwrap();
        assert_eq!((id.get_version_num(), id.get_variant()), (4, uuid::Variant::RFC4122));
        assert_ne!(first, second);
    }
}
