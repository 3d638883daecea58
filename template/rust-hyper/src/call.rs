//! One request, from its head to the answer's.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    panic::{self, AssertUnwindSafe},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body::Body;
use hyper::body::Incoming;
use tokio::{
    runtime::Handle,
    time::{Instant, Sleep},
};

use crate::{
    BoxError, Function,
    auth::Denied,
    config::Config,
    decimal, duration,
    entry::Entry,
    leftover::Work,
    message::{Marks, prepare_request, prepare_response, wants_stream},
    reply::{Gathered, Reply, own},
    shared::Local,
    sniff,
    target::{self, Endpoint},
    traffic::{Traffic, Turn},
};

const INTERNAL: HeaderName = HeaderName::from_static("x-openfaas-internal");
const DURATION: HeaderName = HeaderName::from_static("x-duration-seconds");
const AUTH_SECONDS: HeaderName = HeaderName::from_static("x-auth-seconds");
const TIMEOUT: HeaderName = HeaderName::from_static("x-timeout");

/// What the calls of one connection have in common.
pub(crate) struct Caller<F> {
    pub(crate) shared: Local,
    pub(crate) function: F,
    /// That of an HTTP/1 connection; the calls of HTTP/2 take no turns.
    pub(crate) traffic: Option<Arc<Traffic>>,
}

impl<F: Function> Caller<F> {
    /// Answers one request.
    pub(crate) fn answer(&self, mut request: Request<Incoming>) -> Answer<F::Body> {
        let turn = self.traffic.as_ref().map(Turn::new);
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
    fn own(&self, mut response: Response<Reply<F::Body>>, turn: Option<Turn>) -> Answer<F::Body> {
        if is_last(&self.shared, self.traffic.as_deref()) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Answer::new(std::future::ready(response.map(|body| body.with_turn(turn))))
    }

    fn ready(&self, request: Request<Incoming>, marks: Marks, turn: Option<Turn>) -> Answer<F::Body> {
        if self.shared.gate.is_full() {
            return self.own(own(StatusCode::TOO_MANY_REQUESTS, None, ""), turn);
        }
        let Some(path) = self.shared.config.ready_path.clone() else {
            return self.own(own(StatusCode::OK, None, ""), turn);
        };
        let call = Call::new(self, marks, turn);
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
            let entry = Entry::new(&call.shared, &request, None).uncounted();
            call.run(request, entry).await
        })
    }

    fn limited(&self, mut request: Request<Incoming>, marks: Marks, turn: Option<Turn>) -> Answer<F::Body> {
        let ticket = self.shared.gate.enter();
        let is_in = ticket.is_some();
        let mut entry = Entry::new(&self.shared, &request, ticket);
        if !is_in {
            // The gate only refuses when it has a limit.
            let limit = self.shared.gate.limit().map_or(0, usize::from);
            let body = format!("Concurrent request limit exceeded. Max concurrent requests: {limit}\n");
            entry.status = StatusCode::TOO_MANY_REQUESTS;
            entry.set_length(Some(body.len() as u64));
            let mut response = own(entry.status, Some("text/plain"), body);
            response.headers_mut().insert(INTERNAL, HeaderValue::from_static("faas-middleware"));
            return self.own(response.map(|body| body.with_entry(entry)), turn);
        }
        let call = Call::new(self, marks, turn);
        if self.shared.auth.is_none() {
            return Answer::new(call.run(request, entry));
        }
        Answer::new(async move {
            if let Some(auth) = &call.shared.auth {
                if let Err(denied) = auth.check(request.headers()).await {
                    return finish(deny(denied, entry), &call.shared, call.traffic.as_deref(), call.turn);
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

/// Whether nothing can come on a connection behind the answer that is given now.
fn is_last(shared: &Local, traffic: Option<&Traffic>) -> bool {
    traffic.is_some_and(|traffic| shared.is_draining() || traffic.is_unread())
}

/// The answer to one request, which is worked on where the request was read: most functions answer at once, and a task
/// of its own would cost them more than all the rest. Work that was begun is finished all the same when nobody waits
/// for it any more: then it goes on as a task.
pub(crate) struct Answer<B: Send + 'static>(Option<Pin<Box<dyn Future<Output = Response<Reply<B>>> + Send>>>);

impl<B: Send + 'static> Answer<B> {
    fn new(work: impl Future<Output = Response<Reply<B>>> + Send + 'static) -> Self {
        Self(Some(Box::pin(work)))
    }
}

impl<B: Send + 'static> Future for Answer<B> {
    type Output = Result<Response<Reply<B>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = &mut self.0 else { return Poll::Pending };
        let response = ready!(work.as_mut().poll(cx));
        self.0 = None;
        Poll::Ready(Ok(response))
    }
}

impl<B: Send + 'static> Drop for Answer<B> {
    fn drop(&mut self) {
        // Without a runtime the process is about to end.
        if let Some(work) = self.0.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(work);
        }
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

/// One call of the function.
struct Call<F> {
    shared: Local,
    function: F,
    traffic: Option<Arc<Traffic>>,
    marks: Marks,
    turn: Option<Turn>,
}

impl<F: Function> Call<F> {
    fn new(caller: &Caller<F>, marks: Marks, turn: Option<Turn>) -> Self {
        let Caller { shared, function, traffic } = caller;
        Self { shared: Arc::clone(shared), function: function.clone(), traffic: traffic.clone(), marks, turn }
    }

    /// Calls the function and makes its answer, or why there is none, the client's.
    async fn run(self, request: Request<Incoming>, mut entry: Box<Entry>) -> Response<Reply<F::Body>> {
        let Self { shared, function, traffic, marks, turn } = self;
        let traffic = traffic.as_deref();
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

/// Gives an answer its place in the connection.
fn finish<B>(
    mut response: Response<Reply<B>>,
    shared: &Local,
    traffic: Option<&Traffic>,
    turn: Option<Turn>,
) -> Response<Reply<B>> {
    if is_last(shared, traffic) {
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
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(seconds)) {
        headers.insert(DURATION, value);
    }
}
