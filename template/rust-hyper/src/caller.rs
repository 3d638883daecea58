//! What becomes of a request: refused, answered by the watchdog itself, or the function's to answer.

use std::{future::poll_fn, pin::Pin, sync::Arc};

use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body::Body;
use hyper::body::Incoming;

use crate::{
    Function,
    answer::Answer,
    auth::Denied,
    call::{Call, Ends, finish},
    call_id,
    entry::Entry,
    message::{Marks, prepare_request},
    reply::{Reply, own, redirect},
    shared::Local,
    target::{self, Endpoint},
    traffic::Turn,
};

const INTERNAL: HeaderName = HeaderName::from_static("x-openfaas-internal");
const CALL_ID: HeaderName = HeaderName::from_static("x-call-id");
const AUTH_SECONDS: HeaderName = HeaderName::from_static("x-auth-seconds");

/// What the calls of one connection have in common.
pub(crate) struct Caller<F> {
    pub(crate) shared: Local,
    pub(crate) function: F,
    pub(crate) ends: Ends,
}

impl<F: Function> Caller<F> {
    /// Answers one request.
    pub(crate) fn answer(&self, mut request: Request<Incoming>) -> Answer<F::Body> {
        let turn = self.ends.turn();
        let marks = Marks::of(request.headers());
        if let Some(response) = refuse(&request, marks) {
            return self.own(response, turn);
        }
        prepare_request(&mut request, marks);
        if let Some(location) = target::redirect(request.uri()) {
            return self.own(redirect(request.method(), &location), turn);
        }
        match target::endpoint(request.uri().path()) {
            Some(_) if request.method() != Method::GET => self.own(own(StatusCode::METHOD_NOT_ALLOWED, None, ""), turn),
            Some(_) if !self.shared.is_up() => self.own(own(StatusCode::SERVICE_UNAVAILABLE, None, ""), turn),
            Some(Endpoint::Health) => self.own(own(StatusCode::OK, Some("text/plain; charset=utf-8"), "OK"), turn),
            Some(Endpoint::Ready) => self.ready(request, marks, turn),
            None => self.limited(request, marks, turn),
        }
    }

    /// An answer that is there already.
    fn own(&self, mut response: Response<Reply<F::Body>>, turn: Turn) -> Answer<F::Body> {
        finish(&mut response, &self.shared, self.ends.traffic(), turn);
        Answer::new(std::future::ready(response))
    }

    fn call(&self, marks: Marks, turn: Turn) -> Call<F> {
        let Self { shared, function, ends } = self;
        Call { shared: Arc::clone(shared), function: function.clone(), ends: ends.clone(), marks, turn }
    }

    fn ready(&self, request: Request<Incoming>, marks: Marks, turn: Turn) -> Answer<F::Body> {
        if self.shared.gate.is_full() {
            return self.own(own(StatusCode::TOO_MANY_REQUESTS, None, ""), turn);
        }
        let Some(path) = self.shared.config.ready_path.clone() else {
            return self.own(own(StatusCode::OK, None, ""), turn);
        };
        let call = self.call(marks, turn);
        Answer::new(async move {
            let (mut head, mut body) = request.into_parts();
            head.uri = Uri::from(path);
            // The question is the watchdog's own, and has no body.
            head.headers.remove(header::CONTENT_LENGTH);
            head.headers.remove(header::TRANSFER_ENCODING);
            while !body.is_end_stream() {
                match poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => break,
                }
            }
            let request = Request::from_parts(head, body);
            let entry = Entry::new(&call.shared, &request, marks, None).uncounted();
            call.run(request, entry).await
        })
    }

    fn limited(&self, mut request: Request<Incoming>, marks: Marks, turn: Turn) -> Answer<F::Body> {
        if !marks.call_id {
            request.headers_mut().insert(CALL_ID, call_id::new());
        }
        let ticket = self.shared.gate.enter();
        let is_in = ticket.is_some();
        let mut entry = Entry::new(&self.shared, &request, marks, ticket);
        if !is_in {
            // The gate only refuses when it has a limit.
            let limit = self.shared.gate.limit().map_or(0, usize::from);
            let body = format!("Concurrent request limit exceeded. Max concurrent requests: {limit}\n");
            entry.status = StatusCode::TOO_MANY_REQUESTS;
            entry.set_length(Some(body.len() as u64));
            let mut response = own(entry.status, Some("text/plain"), body);
            response.headers_mut().insert(INTERNAL, HeaderValue::from_static("faas-middleware"));
            response.body_mut().set_entry(entry);
            return self.own(response, turn);
        }
        let call = self.call(marks, turn);
        if self.shared.auth.is_none() {
            return Answer::new(call.run(request, entry));
        }
        Answer::new(async move {
            if let Some(auth) = &call.shared.auth {
                if let Err(denied) = auth.check(request.headers()).await {
                    let mut response = deny(denied, entry);
                    finish(&mut response, &call.shared, call.ends.traffic(), call.turn);
                    return response;
                }
                let seconds = format!("{:.6}", entry.started().elapsed().as_secs_f64());
                if let Ok(seconds) = HeaderValue::try_from(seconds) {
                    request.headers_mut().insert(AUTH_SECONDS, seconds);
                }
            }
            call.run(request, entry).await
        })
    }
}

/// What no function is asked: to be a proxy, something about the server as a whole, an expectation nobody knows.
fn refuse<B>(request: &Request<Incoming>, marks: Marks) -> Option<Response<Reply<B>>> {
    let close = |status| {
        let mut response = own(status, None, "");
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        response
    };
    let knows = |expected: &HeaderValue| expected.as_bytes().eq_ignore_ascii_case(b"100-continue");
    match (request.method(), request.uri().path()) {
        (&Method::CONNECT, _) => Some(close(StatusCode::METHOD_NOT_ALLOWED)),
        (&Method::OPTIONS, "*") => Some(own(StatusCode::OK, None, "")),
        (_, "*") => Some(close(StatusCode::BAD_REQUEST)),
        _ if marks.expect && !request.headers().get_all(header::EXPECT).iter().all(knows) => {
            Some(close(StatusCode::EXPECTATION_FAILED))
        }
        _ => None,
    }
}

fn deny<B>(denied: Denied, mut entry: Box<Entry>) -> Response<Reply<B>> {
    entry.status = denied.status();
    entry.set_denied();
    let mut response = own(entry.status, Some("text/plain; charset=utf-8"), denied.message());
    let headers = response.headers_mut();
    if denied.status() == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=IAM function invoke"));
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(INTERNAL, HeaderValue::from_static("faas-middleware"));
    response.body_mut().set_entry(entry);
    response
}
