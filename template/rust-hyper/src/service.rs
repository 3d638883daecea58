//! The service that hyper calls: refusals, the watchdog's own endpoints, the limit, function auth, then the function.

use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use hyper::body::Incoming;
use tokio::time::Instant;

use std::sync::Arc;

use crate::{
    Function,
    access_log::AccessRecord,
    auth::Denied,
    background::Uncancelled,
    body::Body,
    connection::{Activity, OpenCall},
    framing,
    headers::{Marks, prepare_request},
    invocation::Invocation,
    response::{ResponseBody, own},
    server::ConnectionContext,
};

pub(crate) const INTERNAL: HeaderName = HeaderName::from_static("x-openfaas-internal");
pub(crate) const CALL_ID: HeaderName = HeaderName::from_static("x-call-id");
const AUTH_SECONDS: HeaderName = HeaderName::from_static("x-auth-seconds");

type Answer<B> = Uncancelled<Response<ResponseBody<B>>>;

/// Answers the requests of one connection.
pub(crate) struct Service<F> {
    pub(crate) context: Arc<ConnectionContext>,
    pub(crate) activity: Arc<Activity>,
    pub(crate) function: F,
}

impl<F: Function> hyper::service::Service<Request<Incoming>> for Service<F> {
    type Response = Response<ResponseBody<F::Body>>;
    type Error = std::convert::Infallible;
    type Future = Answer<F::Body>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let started = Instant::now();
        let call = self.activity.begin(started);
        let marks = Marks::of(request.headers());
        if let Some(response) = self.refusal(&request, marks) {
            return self.own(response, call);
        }
        prepare_request(&mut request, marks);
        match endpoint(request.uri().path()) {
            Some(_) if request.method() != Method::GET => self.own(own(StatusCode::METHOD_NOT_ALLOWED, None, ""), call),
            Some(_) if !self.context.is_up() => self.own(own(StatusCode::SERVICE_UNAVAILABLE, None, ""), call),
            Some(Endpoint::Health) => self.own(own(StatusCode::OK, Some("text/plain; charset=utf-8"), "OK"), call),
            Some(Endpoint::Ready) => self.ready(request, marks, started, call),
            None => self.limited(request, marks, started, call),
        }
    }
}

impl<F: Function> Service<F> {
    /// What no function is called with: an ambiguous message, a proxy's, one for the server as a whole, or one with an
    /// expectation other than 100-continue.
    fn refusal(&self, request: &Request<Incoming>, marks: Marks) -> Option<Response<ResponseBody<F::Body>>> {
        if let Err(status) = framing::check(request, || self.activity.has_two_lengths()) {
            return Some(closing(own(status, None, "")));
        }
        let is_continue = |expected: &HeaderValue| expected.as_bytes().eq_ignore_ascii_case(b"100-continue");
        match (request.method(), request.uri().path()) {
            (&Method::OPTIONS, "*") => Some(own(StatusCode::OK, None, "")),
            (_, "*") => Some(closing(own(StatusCode::BAD_REQUEST, None, ""))),
            _ if marks.expect && !request.headers().get_all(header::EXPECT).iter().all(is_continue) => {
                Some(closing(own(StatusCode::EXPECTATION_FAILED, None, "")))
            }
            _ => None,
        }
    }

    /// An answer that is there already.
    fn own(&self, mut response: Response<ResponseBody<F::Body>>, call: OpenCall) -> Answer<F::Body> {
        if self.context.is_draining() {
            response = closing(response);
        }
        response.body_mut().set_call(call);
        Uncancelled::new(std::future::ready(response))
    }

    fn invocation(&self, marks: Marks, call: OpenCall) -> Invocation<F> {
        let (context, activity) = (Arc::clone(&self.context), Arc::clone(&self.activity));
        Invocation { context, activity, function: self.function.clone(), marks, call }
    }

    fn ready(&self, request: Request<Incoming>, marks: Marks, started: Instant, call: OpenCall) -> Answer<F::Body> {
        if self.context.limit.is_full() {
            return self.own(own(StatusCode::TOO_MANY_REQUESTS, None, ""), call);
        }
        let Some(path) = self.context.config.ready_path.clone() else {
            return self.own(own(StatusCode::OK, None, ""), call);
        };
        // The function is asked with the headers of the probe, and without its body.
        let (mut head, _) = request.into_parts();
        head.uri = Uri::from(path);
        head.headers.remove(header::CONTENT_LENGTH);
        head.headers.remove(header::TRANSFER_ENCODING);
        let request = Request::from_parts(head, Body::empty());
        let record = AccessRecord::new(&self.context, &request, marks, started, None).uncounted();
        Uncancelled::new(self.invocation(marks, call).run(request, Default::default(), record))
    }

    fn limited(
        &self,
        mut request: Request<Incoming>,
        marks: Marks,
        started: Instant,
        call: OpenCall,
    ) -> Answer<F::Body> {
        let context = &self.context;
        if !marks.call_id {
            request.headers_mut().insert(CALL_ID, new_call_id());
        }
        let permit = context.limit.enter();
        let is_in = permit.is_some();
        let mut record = AccessRecord::new(context, &request, marks, started, permit);
        if !is_in {
            // Refused only where there is a limit.
            let limit = context.limit.limit().map_or(0, usize::from);
            let body = format!("Concurrent request limit exceeded. Max concurrent requests: {limit}\n");
            record.status = StatusCode::TOO_MANY_REQUESTS;
            record.set_length(Some(body.len() as u64));
            let mut response = own(record.status, Some("text/plain"), body);
            response.headers_mut().insert(INTERNAL, HeaderValue::from_static("faas-middleware"));
            response.body_mut().set_record(record);
            return self.own(response, call);
        }
        let invocation = self.invocation(marks, call);
        let read_timeout = context.config.read_limit();
        let with_body = move |request: Request<Incoming>| {
            let (head, body) = request.into_parts();
            let (body, progress) = Body::incoming(body, read_timeout);
            (Request::from_parts(head, body), progress)
        };
        if context.auth.is_none() {
            let (request, progress) = with_body(request);
            return Uncancelled::new(invocation.run(request, progress, record));
        }
        Uncancelled::new(async move {
            if let Some(auth) = &invocation.context.auth {
                if let Err(denied) = auth.check(request.headers()).await {
                    let mut response = deny(denied, record);
                    if invocation.context.is_draining() {
                        response = closing(response);
                    }
                    response.body_mut().set_call(invocation.call);
                    return response;
                }
                if let Ok(seconds) = HeaderValue::try_from(format!("{:.6}", started.elapsed().as_secs_f64())) {
                    request.headers_mut().insert(AUTH_SECONDS, seconds);
                }
            }
            let (request, progress) = with_body(request);
            invocation.run(request, progress, record).await
        })
    }
}

/// Says that the connection ends with this answer. HTTP/2 has no such field.
pub(crate) fn closing<B>(mut response: Response<B>) -> Response<B> {
    if response.version() < Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn deny<B>(denied: Denied, mut record: Box<AccessRecord>) -> Response<ResponseBody<B>> {
    record.status = denied.status();
    record.set_denied();
    let mut response = own(record.status, Some("text/plain; charset=utf-8"), denied.message());
    let headers = response.headers_mut();
    if denied.status() == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=IAM function invoke"));
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(INTERNAL, HeaderValue::from_static("faas-middleware"));
    response.body_mut().set_record(record);
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
    let mut segments = path.strip_prefix('/')?.split('/').map(|segment| percent_decode(segment.as_bytes()));
    match (segments.next()?.as_slice(), segments.next()?.as_slice(), segments.next()) {
        (b"_", b"health", None) => Some(Endpoint::Health),
        (b"_", b"ready", None) => Some(Endpoint::Ready),
        _ => None,
    }
}

/// A broken escape stays as it is: it is no part of the two paths that matter.
fn percent_decode(segment: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(segment.len());
    let mut rest = segment;
    while let [byte, tail @ ..] = rest {
        let digit = |at: usize| char::from(*tail.get(at)?).to_digit(16);
        let escaped = (*byte == b'%').then(|| Some((digit(0)? << 4 | digit(1)?) as u8)).flatten();
        decoded.push(escaped.unwrap_or(*byte));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    decoded
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
