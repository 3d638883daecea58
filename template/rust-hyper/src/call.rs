//! One request, from its head to the answer's.

use std::{
    future::{Future, poll_fn},
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body::Body;
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::{
    BoxError, Function,
    auth::Denied,
    config::Config,
    duration,
    entry::Entry,
    leftover::Work,
    message::{prepare_request, prepare_response, wants_stream},
    reply::{Gathered, Reply, own},
    shared::Shared,
    sniff,
    target::{self, Endpoint},
    traffic::{Traffic, Turn},
};

const INTERNAL: HeaderName = HeaderName::from_static("x-openfaas-internal");
const DURATION: HeaderName = HeaderName::from_static("x-duration-seconds");
const AUTH_SECONDS: HeaderName = HeaderName::from_static("x-auth-seconds");
const TIMEOUT: HeaderName = HeaderName::from_static("x-timeout");

/// Answers one request. `traffic` is that of an HTTP/1 connection; requests of HTTP/2 have none of their own.
pub(crate) async fn answer<F: Function>(
    shared: Arc<Shared>,
    function: F,
    request: Request<Incoming>,
    traffic: Option<Arc<Traffic>>,
) -> Response<Reply<F::Body>> {
    let turn = traffic.as_ref().map(Turn::new);
    let mut response = dispatch(&shared, function, request, traffic.as_ref()).await;
    if let Some(traffic) = &traffic
        && response.status() != StatusCode::SWITCHING_PROTOCOLS
        && (shared.is_draining() || traffic.is_unread())
    {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    match turn {
        Some(turn) => response.map(|body| body.with_turn(turn)),
        None => response,
    }
}

async fn dispatch<F: Function>(
    shared: &Arc<Shared>,
    function: F,
    mut request: Request<Incoming>,
    traffic: Option<&Arc<Traffic>>,
) -> Response<Reply<F::Body>> {
    if let Some(response) = refuse(&request) {
        return response;
    }
    prepare_request(&mut request);
    if let Some(location) = target::redirect(request.uri()) {
        return redirect(request.method(), &location);
    }
    match target::endpoint(request.uri().path()) {
        Some(_) if request.method() != Method::GET => own(StatusCode::METHOD_NOT_ALLOWED, None, ""),
        Some(_) if !shared.is_up() => own(StatusCode::SERVICE_UNAVAILABLE, None, ""),
        Some(Endpoint::Health) => own(StatusCode::OK, Some("text/plain; charset=utf-8"), "OK"),
        Some(Endpoint::Ready) => ready(shared, function, request, traffic).await,
        None => limited(shared, function, request, traffic).await,
    }
}

/// What no function is asked: to be a proxy, something about the server as a whole, an expectation nobody knows.
fn refuse<B>(request: &Request<Incoming>) -> Option<Response<Reply<B>>> {
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
        _ if !request.headers().get_all(header::EXPECT).iter().all(knows) => {
            Some(close(StatusCode::EXPECTATION_FAILED))
        }
        _ => None,
    }
}

pub(crate) fn redirect<B>(method: &Method, location: &str) -> Response<Reply<B>> {
    let mut response = match *method {
        Method::GET | Method::HEAD => {
            let page = target::redirect_page(location);
            own(StatusCode::TEMPORARY_REDIRECT, Some("text/html; charset=utf-8"), page)
        }
        _ => own(StatusCode::TEMPORARY_REDIRECT, None, ""),
    };
    // A path and query that were in a request are a value of a header, too.
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

async fn ready<F: Function>(
    shared: &Arc<Shared>,
    function: F,
    request: Request<Incoming>,
    traffic: Option<&Arc<Traffic>>,
) -> Response<Reply<F::Body>> {
    if shared.gate.is_full() {
        return own(StatusCode::TOO_MANY_REQUESTS, None, "");
    }
    let Some(path) = &shared.config.ready_path else { return own(StatusCode::OK, None, "") };
    let (mut head, mut body) = request.into_parts();
    head.uri = Uri::from(path.clone());
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
    let entry = Entry::new(shared, &request, None).uncounted();
    run(shared, function, request, entry, traffic).await
}

async fn limited<F: Function>(
    shared: &Arc<Shared>,
    function: F,
    mut request: Request<Incoming>,
    traffic: Option<&Arc<Traffic>>,
) -> Response<Reply<F::Body>> {
    let ticket = shared.gate.enter();
    let is_in = ticket.is_some();
    let mut entry = Entry::new(shared, &request, ticket);
    if is_in {
        if let Some(auth) = &shared.auth {
            if let Err(denied) = auth.check(request.headers()).await {
                return deny(denied, entry);
            }
            let seconds = format!("{:.6}", entry.started().elapsed().as_secs_f64());
            if let Ok(seconds) = HeaderValue::try_from(seconds) {
                request.headers_mut().insert(AUTH_SECONDS, seconds);
            }
        }
        return run(shared, function, request, entry, traffic).await;
    }
    // The gate only refuses when it has a limit.
    let limit = shared.gate.limit().map_or(0, usize::from);
    let body = format!("Concurrent request limit exceeded. Max concurrent requests: {limit}\n");
    entry.status = StatusCode::TOO_MANY_REQUESTS;
    entry.set_length(Some(body.len() as u64));
    let mut response = own(entry.status, Some("text/plain"), body);
    response.headers_mut().insert(INTERNAL, HeaderValue::from_static("faas-middleware"));
    response.map(|body| body.with_entry(entry))
}

fn deny<B>(denied: Denied, mut entry: Entry) -> Response<Reply<B>> {
    entry.status = denied.status();
    entry.set_denied();
    let mut response = own(entry.status, Some("text/plain; charset=utf-8"), denied.message());
    let headers = response.headers_mut();
    if denied.status() == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=IAM function invoke"));
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(INTERNAL, HeaderValue::from_static("faas-middleware"));
    response.map(|body| body.with_entry(entry))
}

/// Why a function gave no answer.
enum Failure {
    Error(BoxError),
    Panic,
    Timeout,
}

impl Failure {
    fn status(&self) -> StatusCode {
        match self {
            Self::Error(_) | Self::Panic => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

type Outcome<B> = Result<Response<Gathered<B>>, Failure>;

/// What is to be found out about a function's answer before it is sent.
#[derive(Clone, Copy)]
struct Gather {
    /// Its length, if it is short.
    first: bool,
    /// Its type, if the function has not said it.
    kind: bool,
}

/// Calls the function and makes its answer, or why there is none, the client's.
async fn run<F: Function>(
    shared: &Arc<Shared>,
    function: F,
    request: Request<Incoming>,
    entry: Entry,
    traffic: Option<&Arc<Traffic>>,
) -> Response<Reply<F::Body>> {
    let started = entry.started();
    let is_stream = wants_stream(request.headers());
    let keep_trailers = request.version() == Version::HTTP_2;
    let gather =
        Gather { first: !is_stream && request.method() != Method::HEAD, kind: request.method() != Method::HEAD };
    let write_end = started.checked_add(shared.config.write_timeout);
    let exec_end = exec_limit(&shared.config, request.headers()).and_then(|limit| started.checked_add(limit));
    let end = exec_end.filter(|_| !is_stream).into_iter().chain(write_end).min();
    if let Some(traffic) = traffic {
        traffic.set_cut(write_end);
    }

    let work = caught(invoke(function, request, gather));
    let (mut entry, mut outcome) = supervise(work, entry, end).await;
    if traffic.is_some_and(|traffic| traffic.is_late()) {
        outcome = Err(Failure::Timeout);
    }

    match outcome {
        Ok(mut response) => {
            entry.status = response.status();
            if let Some(work) = response.extensions_mut().remove::<Work>() {
                shared.leftovers.add(work);
            }
            prepare_response(&mut response);
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                return upgrade(response, entry, traffic);
            }
            entry.set_length(length(&response));
            if is_stream {
                entry.set_stream();
                if let Some(traffic) = traffic {
                    traffic.set_streaming();
                }
            } else {
                set_duration(response.headers_mut(), started);
            }
            response.map(|body| Reply::new(body, end, keep_trailers).with_entry(entry))
        }
        Err(failure) => {
            if let Failure::Error(error) = &failure {
                shared.log.error(format_args!("the function failed: {error}"));
            }
            entry.status = failure.status();
            entry.set_length(Some(0));
            let mut response = own(entry.status, None, "");
            set_duration(response.headers_mut(), started);
            response.headers_mut().insert(INTERNAL, HeaderValue::from_static("of-watchdog"));
            response.map(|body: Reply<F::Body>| body.with_entry(entry))
        }
    }
}

/// Runs `work` to its end, whoever waits for it: most handlers answer at once; one that waits is moved to a task of its
/// own, where neither a caller that hangs up nor a closed connection can stop it.
async fn supervise<B: Send + 'static>(
    work: impl Future<Output = Outcome<B>> + Send + 'static,
    mut entry: Entry,
    end: Option<Instant>,
) -> (Entry, Outcome<B>) {
    let mut work = Box::pin(work);
    if let Poll::Ready(outcome) = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await {
        return (entry, outcome);
    }
    let (done, result) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let outcome = match end {
            Some(end) => tokio::time::timeout_at(end, work).await.unwrap_or(Err(Failure::Timeout)),
            None => work.await,
        };
        // Should the caller be gone, this is all that is left to tell of the call.
        entry.status = outcome.as_ref().map_or_else(Failure::status, Response::status);
        drop(done.send((entry, outcome)));
    });
    match result.await {
        Ok(result) => result,
        // The task is only dropped with the runtime, and this one with it.
        Err(_) => std::future::pending().await,
    }
}

async fn invoke<F: Function>(
    mut function: F,
    request: Request<Incoming>,
    gather: Gather,
) -> Result<Response<Gathered<F::Body>>, BoxError> {
    poll_fn(|cx| function.poll_ready(cx)).await.map_err(Into::into)?;
    let (mut head, body) = function.call(request).await.map_err(Into::into)?.into_parts();
    let body = match gather.first && body.size_hint().exact().is_none() {
        true => Gathered::read(body).await?,
        false => Gathered::Not(body),
    };
    if gather.kind && !head.headers.contains_key(header::CONTENT_TYPE) {
        return sniffed(Response::from_parts(head, body)).await;
    }
    // A length of the function's own would contradict the one that was found.
    if let Gathered::All(_) = body {
        head.headers.remove(header::CONTENT_LENGTH);
    }
    Ok(Response::from_parts(head, body))
}

/// Gives an answer without a type the one that its first bytes look like.
async fn sniffed<B: Body<Error: Into<BoxError>>>(
    response: Response<Gathered<B>>,
) -> Result<Response<Gathered<B>>, BoxError> {
    let (mut head, mut body) = response.into_parts();
    let has_body =
        !(head.status.is_informational() || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&head.status));
    if !has_body || body.length() == Some(0) {
        return Ok(Response::from_parts(head, body));
    }
    if let Gathered::Not(rest) = body {
        let length = rest.size_hint().exact();
        body = Gathered::read(rest).await?;
        if let (Some(length), Gathered::First(..)) = (length, &body) {
            head.headers.insert(header::CONTENT_LENGTH, length.into());
        }
    }
    if let Gathered::All(first) | Gathered::First(first, _) = &body
        && !first.is_empty()
    {
        let kind = sniff::content_type(&first[..first.len().min(512)]);
        head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    Ok(Response::from_parts(head, body))
}

/// Turns a panic into a failure of the call.
async fn caught<B>(work: impl Future<Output = Result<Response<Gathered<B>>, BoxError>>) -> Outcome<B> {
    let mut work = pin!(work);
    poll_fn(|cx| match std::panic::catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
        Ok(poll) => poll.map(|result| result.map_err(Failure::Error)),
        Err(_) => Poll::Ready(Err(Failure::Panic)),
    })
    .await
}

/// From here on the connection is the function's; it is told of when it closes.
fn upgrade<B>(response: Response<Gathered<B>>, mut entry: Entry, traffic: Option<&Arc<Traffic>>) -> Response<Reply<B>> {
    entry.set_upgraded();
    if let Some(traffic) = traffic {
        traffic.upgrade(entry);
    }
    response.map(|_| Reply::own(""))
}

/// `exec_timeout`, or a shorter `X-Timeout` of the caller; a caller cannot lift the operator's limit.
fn exec_limit(config: &Config, headers: &HeaderMap) -> Option<Duration> {
    let limit = config.exec_timeout?;
    let asked = headers.get(TIMEOUT).and_then(|value| duration::parse_go(value.to_str().ok()?).ok());
    Some(asked.filter(|asked| !asked.is_zero() && *asked <= limit).unwrap_or(limit))
}

fn length<B: Body<Error: Into<BoxError>>>(response: &Response<Gathered<B>>) -> Option<u64> {
    let declared = response.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    declared.or_else(|| response.body().length())
}

fn set_duration(headers: &mut HeaderMap, started: Instant) {
    // Whole numbers are written several times faster than floats.
    let micros = started.elapsed().as_micros();
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(DURATION, value);
    }
}
