//! One call of the function, from its request to the head of its answer.

use std::{
    future::{Future, poll_fn},
    panic::{self, AssertUnwindSafe},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::Body;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::{
    BoxError, Function,
    config::Config,
    decimal, duration,
    entry::Entry,
    leftover::Work,
    message::{Marks, prepare_response, wants_stream},
    reply::{Gathered, Reply, own},
    shared::Local,
    sniff,
    streams::Streams,
    traffic::{Traffic, Turn},
};

const INTERNAL: HeaderName = HeaderName::from_static("x-openfaas-internal");
const DURATION: HeaderName = HeaderName::from_static("x-duration-seconds");
const TIMEOUT: HeaderName = HeaderName::from_static("x-timeout");

/// What the calls of a connection tell its other end, the wire.
#[derive(Clone)]
pub(crate) enum Ends {
    Http1(Arc<Traffic>),
    Http2(Streams),
}

impl Ends {
    pub(crate) fn turn(&self) -> Turn {
        match self {
            Self::Http1(traffic) => Turn::new(traffic),
            Self::Http2(streams) => Turn::Http2(streams.begin()),
        }
    }

    pub(crate) fn traffic(&self) -> Option<&Traffic> {
        match self {
            Self::Http1(traffic) => Some(traffic),
            Self::Http2(_) => None,
        }
    }
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

/// One call of the function.
pub(crate) struct Call<F> {
    pub(crate) shared: Local,
    pub(crate) function: F,
    pub(crate) ends: Ends,
    pub(crate) marks: Marks,
    pub(crate) turn: Turn,
}

impl<F: Function> Call<F> {
    /// Calls the function and makes its answer, or why there is none, the client's.
    pub(crate) async fn run(self, request: Request<Incoming>, mut entry: Box<Entry>) -> Response<Reply<F::Body>> {
        let Self { shared, function, ends, marks, turn } = self;
        let traffic = ends.traffic();
        let started = entry.started();
        let is_stream = marks.stream && wants_stream(request.headers());
        let keep_trailers = request.version() == Version::HTTP_2;
        let has_body = request.method() != Method::HEAD;
        let gather = Gather { first: !is_stream && has_body, kind: has_body };
        let write_end = started.checked_add(shared.config.write_timeout);
        let limit = exec_limit(&shared.config, request.headers(), marks);
        let exec_end = limit.and_then(|limit| started.checked_add(limit));
        let end = exec_end.filter(|_| !is_stream).into_iter().chain(write_end).min();
        if let Some(traffic) = traffic {
            traffic.set_cut(write_end);
        }

        let mut outcome = supervise(invoke(function, request, gather), end).await;
        if traffic.is_some_and(Traffic::is_late) {
            outcome = Err(Failure::Timeout);
        }

        let (mut head, body) = match outcome {
            Ok(response) => response.into_parts(),
            Err(failure) => {
                if let Failure::Error(error) = &failure {
                    shared.log.error(format_args!("the function failed: {error}"));
                }
                entry.status = failure.status();
                entry.set_length(Some(0));
                let mut response = own(entry.status, None, "");
                set_duration(response.headers_mut(), started);
                response.headers_mut().insert(INTERNAL, HeaderValue::from_static("of-watchdog"));
                let response = response.map(|body: Reply<F::Body>| body.with_entry(entry));
                return finish(response, &shared, traffic, turn);
            }
        };
        entry.status = head.status;
        if let Some(work) = head.extensions.remove::<Work>() {
            shared.leftovers.add(work);
        }
        prepare_response(&mut head);
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            // From here on the connection is the function's; it is told of when it closes.
            entry.set_upgraded();
            if let Some(traffic) = traffic {
                traffic.upgrade(entry);
            }
            return Response::from_parts(head, Reply::own("").with_turn(turn));
        }
        if is_stream {
            entry.set_stream();
            if let Some(traffic) = traffic {
                traffic.set_streaming();
            }
        } else {
            entry.set_length(length(&head.headers, &body));
            set_duration(&mut head.headers, started);
        }
        let body = Reply::new(body, end, keep_trailers).with_entry(entry);
        finish(Response::from_parts(head, body), &shared, traffic, turn)
    }
}

/// Gives an answer its place in the connection, and says so where nothing can come behind it.
pub(crate) fn finish<B>(
    mut response: Response<Reply<B>>,
    shared: &Local,
    traffic: Option<&Traffic>,
    turn: Turn,
) -> Response<Reply<B>> {
    if traffic.is_some_and(|traffic| shared.is_draining() || traffic.is_unread()) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response.map(|body| body.with_turn(turn))
}

/// Waits for `work`, at most until `end`. A panic is a failure of the call; the timer is only made for work that does
/// not end at once.
async fn supervise<B>(
    work: impl Future<Output = Result<Response<Gathered<B>>, BoxError>>,
    end: Option<Instant>,
) -> Outcome<B> {
    let mut work = pin!(work);
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|cx| match panic::catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
        Ok(Poll::Ready(result)) => Poll::Ready(result.map_err(Failure::Error)),
        Err(_) => Poll::Ready(Err(Failure::Panic)),
        Ok(Poll::Pending) => {
            let Some(end) = end else { return Poll::Pending };
            let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
            timer.as_mut().poll(cx).map(|()| Err(Failure::Timeout))
        }
    })
    .await
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

/// `exec_timeout`, or a shorter `X-Timeout` of the caller; a caller cannot lift the operator's limit.
fn exec_limit(config: &Config, headers: &HeaderMap, marks: Marks) -> Option<Duration> {
    let limit = config.exec_timeout?;
    if !marks.timeout {
        return Some(limit);
    }
    let asked = headers.get(TIMEOUT).and_then(|value| duration::parse_go(value.to_str().ok()?).ok());
    Some(asked.filter(|asked| !asked.is_zero() && *asked <= limit).unwrap_or(limit))
}

fn length<B: Body<Error: Into<BoxError>>>(headers: &HeaderMap, body: &Gathered<B>) -> Option<u64> {
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    declared.or_else(|| body.length())
}

fn set_duration(headers: &mut HeaderMap, started: Instant) {
    let mut seconds = Vec::with_capacity(24);
    decimal::seconds(&mut seconds, started.elapsed(), 6);
    if let Ok(value) = HeaderValue::from_bytes(&seconds) {
        headers.insert(DURATION, value);
    }
}
