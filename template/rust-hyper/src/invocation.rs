//! One call of the function, from its request to the head of its answer.

use std::{
    future::{Future, poll_fn},
    panic::{self, AssertUnwindSafe},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use tokio::time::Instant;

use crate::{
    BoxError, Function,
    access_log::AccessRecord,
    body::{Body, Progress},
    config::Config,
    connection::{Activity, OpenCall},
    duration::{self, Go},
    headers::{Marks, prepare_response, wants_stream},
    response::{ResponseBody, own},
    server::ConnectionContext,
    service::{INTERNAL, closing},
};

const DURATION: HeaderName = HeaderName::from_static("x-duration-seconds");
const TIMEOUT: HeaderName = HeaderName::from_static("x-timeout");

/// Why a function gave no answer.
enum Failure {
    Error(BoxError),
    Panic,
    /// The name of the limit that was exceeded, and the limit.
    Timeout(&'static str, Duration),
}

/// When a call has to be over, and by which limit.
struct End {
    at: Option<Instant>,
    limit: (&'static str, Duration),
}

/// One call of the function.
pub(crate) struct Invocation<F> {
    pub(crate) context: Arc<ConnectionContext>,
    pub(crate) activity: Arc<Activity>,
    pub(crate) function: F,
    pub(crate) marks: Marks,
    pub(crate) call: OpenCall,
}

impl<F: Function> Invocation<F> {
    /// Calls the function and makes its answer, or why there is none, the client's.
    pub(crate) async fn run(
        self,
        request: Request<Body>,
        progress: Progress,
        record: Box<AccessRecord>,
    ) -> Response<ResponseBody<F::Body>> {
        let Self { context, activity, function, marks, call } = self;
        let is_stream = marks.stream && wants_stream(request.headers());
        let (is_head, version) = (request.method() == Method::HEAD, request.version());
        let end = end(&context.config, request.headers(), marks, is_stream, record.started());
        let mut outcome = invoke(function, request, &end).await;
        if progress.is_late() {
            outcome = Err(Failure::Timeout("read_timeout", context.config.read_timeout));
        }
        let mut response = match outcome {
            Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                upgraded(response, &activity, record)
            }
            Ok(response) => answered(response, is_head, is_stream, &end, record),
            Err(failure) => failed(&failure, &context, progress.is_unread(), version, record),
        };
        if (context.is_draining() || progress.is_broken()) && version < Version::HTTP_2 {
            response = closing(response);
        }
        response.body_mut().set_call(call);
        response
    }
}

/// `write_timeout`, or the shorter of `exec_timeout` and the caller's `X-Timeout`; those two do not limit streams. A caller
/// cannot lift the operator's limit.
fn end(config: &Config, headers: &HeaderMap, marks: Marks, is_stream: bool, started: Instant) -> End {
    let mut limit = ("write_timeout", config.write_timeout);
    if let Some(exec) = config.exec_timeout.filter(|_| !is_stream) {
        let asked = headers.get(TIMEOUT).filter(|_| marks.timeout);
        let asked = asked.and_then(|value| duration::parse_go(value.to_str().ok()?).ok());
        let exec = match asked.filter(|asked| !asked.is_zero() && *asked <= exec) {
            Some(asked) => ("X-Timeout", asked),
            None => ("exec_timeout", exec),
        };
        if exec.1 <= limit.1 {
            limit = exec;
        }
    }
    End { at: started.checked_add(limit.1), limit }
}

/// Calls the function; its panics and its time are its call's alone.
async fn invoke<F: Function>(mut function: F, request: Request<Body>, end: &End) -> Result<Response<F::Body>, Failure> {
    let work = pin!(async move {
        poll_fn(|cx| function.poll_ready(cx)).await?;
        function.call(request).await
    });
    let work = unpanicked(work);
    let outcome = match end.at {
        None => work.await,
        Some(at) => match tokio::time::timeout_at(at, work).await {
            Ok(outcome) => outcome,
            Err(_) => return Err(Failure::Timeout(end.limit.0, end.limit.1)),
        },
    };
    match outcome {
        Some(Ok(response)) => Ok(response),
        Some(Err(error)) => Err(Failure::Error(error.into())),
        None => Err(Failure::Panic),
    }
}

/// `None` of work that panics; the panic hook has logged it.
async fn unpanicked<W: Future + Unpin>(mut work: W) -> Option<W::Output> {
    poll_fn(|cx| match panic::catch_unwind(AssertUnwindSafe(|| pin!(&mut work).poll(cx))) {
        Ok(polled) => polled.map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await
}

/// From here on the connection is the function's; its call is logged when it closes.
fn upgraded<B>(
    mut response: Response<B>,
    activity: &Activity,
    mut record: Box<AccessRecord>,
) -> Response<ResponseBody<B>> {
    prepare_response(&mut response);
    record.status = response.status();
    record.set_upgraded();
    activity.upgrade(record);
    response.map(|_| ResponseBody::whole(""))
}

fn answered<B: http_body::Body<Error: Into<BoxError>>>(
    mut response: Response<B>,
    is_head: bool,
    is_stream: bool,
    end: &End,
    mut record: Box<AccessRecord>,
) -> Response<ResponseBody<B>> {
    prepare_response(&mut response);
    record.status = response.status();
    let announced = announced_length(&mut response, is_head);
    if is_stream {
        record.set_stream();
    } else {
        record.set_length(announced.or_else(|| response.body().size_hint().exact()));
        set_duration(response.headers_mut(), record.started());
    }
    let has_body = !is_head && !matches!(record.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let is_known = response.body().size_hint().exact().is_some();
    let mut response = response.map(|body| match has_body {
        true => ResponseBody::of_function(body, announced.filter(|_| !is_known), end.at),
        false => ResponseBody::whole(""),
    });
    response.body_mut().set_record(record);
    response
}

/// The function's Content-Length. One that is malformed, not allowed (RFC 9110, section 8.6), or not that of a body whose
/// length is known is removed; the answer to HEAD gets that of its body.
fn announced_length<B: http_body::Body>(response: &mut Response<B>, is_head: bool) -> Option<u64> {
    let known = response.body().size_hint().exact();
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

fn failed<B>(
    failure: &Failure,
    context: &ConnectionContext,
    is_unread: bool,
    version: Version,
    mut record: Box<AccessRecord>,
) -> Response<ResponseBody<B>> {
    let mut body = String::new();
    record.status = StatusCode::INTERNAL_SERVER_ERROR;
    match failure {
        // The panic hook has said where.
        Failure::Panic => {}
        Failure::Error(error) => tracing::error!(target: "watchdog", "the function failed: {}", with_causes(&**error)),
        Failure::Timeout(name, limit) => {
            record.status = StatusCode::GATEWAY_TIMEOUT;
            body = format!("the function did not answer within {name}={}\n", Go(*limit));
            record.timed_out(name, *limit);
            context.metrics.record_timeout(name);
        }
    }
    record.set_length(Some(body.len() as u64));
    let mut response = own(record.status, (!body.is_empty()).then_some("text/plain; charset=utf-8"), body);
    set_duration(response.headers_mut(), record.started());
    response.headers_mut().insert(INTERNAL, HeaderValue::from_static("of-watchdog"));
    response.body_mut().set_record(record);
    // A client that is still sending learns that its connection ends with this answer.
    let is_late = matches!(failure, Failure::Timeout(..)) && is_unread;
    if is_late && version < Version::HTTP_2 { closing(response) } else { response }
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
