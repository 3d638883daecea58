//! One call of the function, from its request to the head of its answer.

use std::{
    future::{Future, poll_fn},
    panic::{self, AssertUnwindSafe},
    pin::pin,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header, uri::PathAndQuery};
use tokio::time::Instant;

use crate::{
    BoxError, Function,
    access_log::AccessRecord,
    body::{Body, Progress},
    config::Config,
    duration::{self, Go},
    framing::Marks,
    headers::{prepare_response, wants_stream},
    response::{Deadline, ResponseBody, own},
    service::INTERNAL,
};

const DURATION: HeaderName = HeaderName::from_static("x-duration-seconds");
const TIMEOUT: HeaderName = HeaderName::from_static("x-timeout");

/// Why a function gave no answer.
enum Failure {
    Error(BoxError),
    Panic,
    Timeout(Limit),
}

/// The name of a time limit, and the limit.
type Limit = (&'static str, Duration);

/// Calls the function, and makes its answer, or why there is none, the client's.
pub(crate) async fn invoke<F: Function>(
    function: F,
    request: Request<Body>,
    progress: Progress,
    marks: Marks,
    record: &mut AccessRecord,
) -> Response<ResponseBody<F::Body>> {
    let config = &record.connection().context.config;
    let (read_timeout, is_head) = (config.read_timeout, request.method() == Method::HEAD);
    let is_stream = marks.stream && wants_stream(request.headers());
    let limit = limit(config, request.headers(), marks, is_stream);
    let mut deadline = Deadline::new(record.started().checked_add(limit.1));
    let mut outcome = call(function, request, limit, &mut deadline).await;
    if progress.is_late() {
        outcome = Err(Failure::Timeout(("read_timeout", read_timeout)));
    }
    record.is_last |= progress.is_broken();
    match outcome {
        Ok(response) => answered(response, is_head, is_stream, deadline, record),
        Err(failure) => {
            // A client that is still sending learns that its connection ends with this answer.
            record.is_last |= matches!(failure, Failure::Timeout(..)) && progress.is_unread();
            failed(&failure, record)
        }
    }
}

/// `write_timeout`, or the shorter of `exec_timeout` and the caller's `X-Timeout`; those two do not limit streams. A caller
/// cannot lift the operator's limit.
fn limit(config: &Config, headers: &HeaderMap, marks: Marks, is_stream: bool) -> Limit {
    let write = ("write_timeout", config.write_timeout);
    let Some(exec) = config.exec_timeout.filter(|_| !is_stream) else { return write };
    let asked = headers.get(TIMEOUT).filter(|_| marks.timeout);
    let asked = asked.and_then(|value| duration::parse_go(value.to_str().ok()?).ok());
    let exec = match asked.filter(|asked| !asked.is_zero() && *asked <= exec) {
        Some(asked) => ("X-Timeout", asked),
        None => ("exec_timeout", exec),
    };
    if exec.1 <= write.1 { exec } else { write }
}

/// Calls the function; its panics and its time are its call's alone.
async fn call<F: Function>(
    mut function: F,
    request: Request<Body>,
    limit: Limit,
    deadline: &mut Deadline,
) -> Result<Response<F::Body>, Failure> {
    let mut work = pin!(async move {
        poll_fn(|cx| function.poll_ready(cx)).await?;
        function.call(request).await
    });
    poll_fn(|cx| match panic::catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
        Ok(Poll::Ready(outcome)) => Poll::Ready(outcome.map_err(|error| Failure::Error(error.into()))),
        Ok(Poll::Pending) => deadline.poll(cx).map(|()| Err(Failure::Timeout(limit))),
        // The panic hook has logged it.
        Err(_) => Poll::Ready(Err(Failure::Panic)),
    })
    .await
}

fn answered<B: http_body::Body<Error: Into<BoxError>>>(
    mut response: Response<B>,
    is_head: bool,
    is_stream: bool,
    deadline: Deadline,
    record: &mut AccessRecord,
) -> Response<ResponseBody<B>> {
    if let Some(shown) = response.extensions_mut().remove::<PathAndQuery>() {
        record.set_path(shown);
    }
    prepare_response(&mut response);
    let status = response.status();
    if status == StatusCode::SWITCHING_PROTOCOLS {
        // From here on the connection is the function's; its call is logged when it closes.
        record.set_upgraded();
        return response.map(|_| ResponseBody::whole(""));
    }
    let known = response.body().size_hint().exact();
    let announced = announced_length(&mut response, known, is_head);
    if is_stream {
        record.set_stream();
    } else {
        record.set_length(announced.or(known));
        set_duration(response.headers_mut(), record.started());
    }
    if is_head || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return response.map(|_| ResponseBody::whole(""));
    }
    response.map(|body| ResponseBody::of_function(body, announced.filter(|_| known.is_none()), deadline))
}

/// The function's Content-Length. One that is malformed, not allowed (RFC 9110, section 8.6), or not that of a body whose
/// length is known is removed; the answer to HEAD gets that of its body.
fn announced_length<B>(response: &mut Response<B>, known: Option<u64>, is_head: bool) -> Option<u64> {
    let status = response.status();
    let headers = response.headers_mut();
    let first = headers.get(header::CONTENT_LENGTH);
    let is_one = || headers.get_all(header::CONTENT_LENGTH).iter().count() == 1;
    let announced = first.filter(|_| is_one()).and_then(|value| value.to_str().ok()?.parse().ok());
    if first.is_some() {
        let is_allowed = !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let is_true = is_head || known.is_none() || known == announced;
        if !(announced.is_some() && is_allowed && is_true) {
            headers.remove(header::CONTENT_LENGTH);
            return None;
        }
    } else if is_head && let Some(length) = known.filter(|&length| length > 0) {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    announced
}

fn failed<B>(failure: &Failure, record: &mut AccessRecord) -> Response<ResponseBody<B>> {
    let (mut status, mut body) = (StatusCode::INTERNAL_SERVER_ERROR, String::new());
    match failure {
        Failure::Panic => {}
        Failure::Error(error) => tracing::error!(target: "watchdog", "the function failed: {}", with_causes(&**error)),
        Failure::Timeout((name, limit)) => {
            status = StatusCode::GATEWAY_TIMEOUT;
            body = format!("the function did not answer within {name}={}\n", Go(*limit));
            record.timed_out(name, *limit);
        }
    }
    record.set_length(Some(body.len() as u64));
    let mut response = own(status, (!body.is_empty()).then_some("text/plain; charset=utf-8"), body);
    set_duration(response.headers_mut(), record.started());
    response.headers_mut().insert(INTERNAL, HeaderValue::from_static("of-watchdog"));
    response
}

/// An error with its causes, on one line.
pub(crate) fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn set_duration(headers: &mut HeaderMap, started: Instant) {
    let mut seconds = Vec::with_capacity("0.000000".len());
    duration::push_seconds(&mut seconds, started.elapsed(), 6);
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(seconds)) {
        headers.insert(DURATION, value);
    }
}
