//! One call of the function, from its request to the head of its answer.

use std::{
    future::Future,
    panic::{self, AssertUnwindSafe},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::Body;
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};

use crate::{
    BoxError, Function,
    config::Config,
    decimal, duration,
    entry::Entry,
    leftover,
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
    pub(crate) fn run(self, request: Request<Incoming>, entry: Box<Entry>) -> Run<F> {
        let Self { shared, function, ends, marks, turn } = self;
        let started = entry.started();
        let is_stream = marks.stream && wants_stream(request.headers());
        let keep_trailers = request.version() == Version::HTTP_2;
        let has_body = request.method() != Method::HEAD;
        let gather = Gather { first: !is_stream && has_body, kind: has_body };
        let write_end = started.checked_add(shared.config.write_timeout);
        let limit = exec_limit(&shared.config, request.headers(), marks);
        let exec_end = limit.and_then(|limit| started.checked_add(limit));
        let end = exec_end.filter(|_| !is_stream).into_iter().chain(write_end).min();
        if let Some(traffic) = ends.traffic() {
            traffic.set_cut(write_end);
        }
        Run {
            work: Work::Waiting { call: Some((function, request)) },
            timer: None,
            gather,
            end,
            closing: Some(Closing { shared, ends, turn, entry, is_stream, keep_trailers, end }),
        }
    }
}

pin_project! {
    /// A call under way. Not an `async fn`: those keep what they were called with beside what they made of it, and a piece of
    /// memory over a kilobyte costs a short call more than its answer.
    pub(crate) struct Run<F: Function> {
        #[pin]
        work: Work<F>,
        // Only made for work that does not end at once.
        timer: Option<Pin<Box<Sleep>>>,
        gather: Gather,
        end: Option<Instant>,
        closing: Option<Closing>,
    }
}

impl<F: Function> Future for Run<F> {
    type Output = Response<Reply<F::Body>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let work = this.work.as_mut();
        let outcome = match panic::catch_unwind(AssertUnwindSafe(|| work.poll(cx, *this.gather))) {
            Ok(Poll::Ready(result)) => result.map_err(Failure::Error),
            // A panic is a failure of the call.
            Err(_) => Err(Failure::Panic),
            Ok(Poll::Pending) => {
                let Some(end) = *this.end else { return Poll::Pending };
                let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
                ready!(timer.as_mut().poll(cx));
                Err(Failure::Timeout)
            }
        };
        // What is left of it ends here, and not when somebody gets round to it.
        this.work.set(Work::Waiting { call: None });
        // Gone only after an answer, which is the last of a future.
        let Some(closing) = this.closing.take() else { return Poll::Pending };
        Poll::Ready(closing.answer(outcome))
    }
}

pin_project! {
    /// What the function does for a call.
    #[project = WorkProjection]
    enum Work<F: Function> {
        Waiting { call: Option<(F, Request<Incoming>)> },
        Called { #[pin] answer: F::Future },
        Gathering { answer: Pin<Box<dyn Future<Output = Result<Response<Gathered<F::Body>>, BoxError>> + Send>> },
    }
}

impl<F: Function> Work<F> {
    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        gather: Gather,
    ) -> Poll<Result<Response<Gathered<F::Body>>, BoxError>> {
        loop {
            let next = match self.as_mut().project() {
                WorkProjection::Waiting { call } => {
                    if let Some((function, _)) = call {
                        ready!(function.poll_ready(cx)).map_err(Into::into)?;
                    }
                    // Taken once: it is called then.
                    let Some((mut function, request)) = call.take() else { return Poll::Pending };
                    Self::Called { answer: function.call(request) }
                }
                WorkProjection::Called { answer } => {
                    let response = ready!(answer.poll(cx)).map_err(Into::into)?;
                    if !gather.is_due(&response) {
                        return Poll::Ready(Ok(response.map(Gathered::Not)));
                    }
                    Self::Gathering { answer: Box::pin(gathered(response, gather)) }
                }
                WorkProjection::Gathering { answer } => return answer.as_mut().poll(cx),
            };
            self.set(next);
        }
    }
}

/// What makes the outcome of a call the answer to its client.
struct Closing {
    shared: Local,
    ends: Ends,
    turn: Turn,
    entry: Box<Entry>,
    is_stream: bool,
    keep_trailers: bool,
    end: Option<Instant>,
}

impl Closing {
    fn answer<B: Body<Error: Into<BoxError>>>(self, mut outcome: Outcome<B>) -> Response<Reply<B>> {
        let Self { shared, ends, turn, mut entry, is_stream, keep_trailers, end } = self;
        let traffic = ends.traffic();
        let started = entry.started();
        if traffic.is_some_and(Traffic::is_late) {
            outcome = Err(Failure::Timeout);
        }
        let mut response = match outcome {
            Ok(response) => response,
            Err(failure) => {
                if let Failure::Error(error) = &failure {
                    shared.log.error(format_args!("the function failed: {error}"));
                }
                entry.status = failure.status();
                entry.set_length(Some(0));
                let mut response = own(entry.status, None, "");
                set_duration(response.headers_mut(), started);
                response.headers_mut().insert(INTERNAL, HeaderValue::from_static("of-watchdog"));
                response.body_mut().set_entry(entry);
                finish(&mut response, &shared, traffic, turn);
                return response;
            }
        };
        entry.status = response.status();
        if let Some(work) = response.extensions_mut().remove::<leftover::Work>() {
            shared.leftovers.add(work);
        }
        prepare_response(&mut response);
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            // From here on the connection is the function's; it is told of when it closes.
            entry.set_upgraded();
            if let Some(traffic) = traffic {
                traffic.upgrade(entry);
            }
            let mut response = response.map(|_| Reply::own(""));
            response.body_mut().set_turn(turn);
            return response;
        }
        if is_stream {
            entry.set_stream();
            if let Some(traffic) = traffic {
                traffic.set_streaming();
            }
        } else {
            entry.set_length(length(response.headers(), response.body()));
            set_duration(response.headers_mut(), started);
        }
        let mut response = response.map(|body| Reply::new(body, end, keep_trailers));
        response.body_mut().set_entry(entry);
        finish(&mut response, &shared, traffic, turn);
        response
    }
}

/// Gives an answer its place in the connection, and says so where nothing can come behind it.
pub(crate) fn finish<B>(response: &mut Response<Reply<B>>, shared: &Local, traffic: Option<&Traffic>, turn: Turn) {
    if traffic.is_some_and(|traffic| shared.is_draining() || traffic.is_unread()) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response.body_mut().set_turn(turn);
}

/// What is to be found out about a function's answer before it is sent.
#[derive(Clone, Copy)]
struct Gather {
    /// Its length, if it is short.
    first: bool,
    /// Its type, if the function has not said it.
    kind: bool,
}

impl Gather {
    /// Whether `response` leaves anything to be found out.
    fn is_due<B: Body>(self, response: &Response<B>) -> bool {
        (self.first && response.body().size_hint().exact().is_none())
            || (self.kind && !response.headers().contains_key(header::CONTENT_TYPE))
    }
}

async fn gathered<B: Body<Error: Into<BoxError>>>(
    response: Response<B>,
    gather: Gather,
) -> Result<Response<Gathered<B>>, BoxError> {
    let (mut head, body) = response.into_parts();
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
    // As long as that of any call below ten seconds: then it becomes the value without a copy.
    let mut seconds = Vec::with_capacity("0.000000".len());
    decimal::seconds::<6>(&mut seconds, started.elapsed());
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(seconds)) {
        headers.insert(DURATION, value);
    }
}
