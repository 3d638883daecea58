//! One request, from its head to the end of its answer.

use std::{
    future::{Future, poll_fn},
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::{
    BoxError, Function,
    config::{Config, LogFormat},
    duration,
    gate::{Gate, Ticket},
    lock::Lock,
    log::{JsonStr, Log, Rfc3339, Stamp},
    metrics::Metrics,
    reply::{Reply, own},
};

const INTERNAL: HeaderName = HeaderName::from_static("x-openfaas-internal");
const DURATION: HeaderName = HeaderName::from_static("x-duration-seconds");
const CALL_ID: HeaderName = HeaderName::from_static("x-call-id");
const TIMEOUT: HeaderName = HeaderName::from_static("x-timeout");

/// What all calls of a watchdog share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) gate: Arc<Gate>,
    pub(crate) metrics: Metrics,
    pub(crate) log: Log,
    pub(crate) lock: Lock,
    pub(crate) draining: AtomicBool,
}

impl Shared {
    fn is_up(&self) -> bool {
        !self.draining.load(Ordering::Relaxed) && self.lock.is_there()
    }
}

/// Answers one request.
pub(crate) async fn answer<F: Function>(
    shared: Arc<Shared>,
    function: F,
    request: Request<Incoming>,
) -> Response<Reply<F::Body>> {
    let last_on_connection = shared.draining.load(Ordering::Relaxed) && request.version() <= http::Version::HTTP_11;
    let mut response = match request.uri().path() {
        "/_/health" => health(&shared, request.method()),
        "/_/ready" => ready(&shared, function, request).await,
        _ => limited(&shared, function, request).await,
    };
    if last_on_connection {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn health<B>(shared: &Shared, method: &Method) -> Response<Reply<B>> {
    match () {
        () if method != Method::GET => own(StatusCode::METHOD_NOT_ALLOWED, None, ""),
        () if shared.is_up() => own(StatusCode::OK, Some("text/plain; charset=utf-8"), "OK"),
        () => own(StatusCode::SERVICE_UNAVAILABLE, None, ""),
    }
}

async fn ready<F: Function>(shared: &Arc<Shared>, function: F, request: Request<Incoming>) -> Response<Reply<F::Body>> {
    match () {
        () if request.method() != Method::GET => own(StatusCode::METHOD_NOT_ALLOWED, None, ""),
        () if !shared.is_up() => own(StatusCode::SERVICE_UNAVAILABLE, None, ""),
        () if shared.gate.is_full() => own(StatusCode::TOO_MANY_REQUESTS, None, ""),
        () => match &shared.config.ready_path {
            None => own(StatusCode::OK, None, ""),
            Some(path) => {
                let (mut head, body) = request.into_parts();
                head.uri = Uri::from(path.clone());
                let request = Request::from_parts(head, body);
                let entry = Entry::new(shared, &request, None);
                run(shared, function, request, entry).await
            }
        },
    }
}

async fn limited<F: Function>(
    shared: &Arc<Shared>,
    function: F,
    request: Request<Incoming>,
) -> Response<Reply<F::Body>> {
    let Some(ticket) = shared.gate.enter() else {
        let mut entry = Entry::new(shared, &request, None);
        entry.counted = true;
        entry.status = StatusCode::TOO_MANY_REQUESTS;
        // The gate only refuses when it has a limit.
        let limit = shared.gate.limit().map_or(0, usize::from);
        let body = format!("Concurrent request limit exceeded. Max concurrent requests: {limit}\n");
        let mut response = own(StatusCode::TOO_MANY_REQUESTS, Some("text/plain"), body);
        response.headers_mut().insert(INTERNAL, HeaderValue::from_static("faas-middleware"));
        return response.map(|body| body.with_entry(entry));
    };
    let entry = Entry::new(shared, &request, Some(ticket));
    run(shared, function, request, entry).await
}

/// Why a function gave no answer.
enum Failure {
    Error(BoxError),
    Panic,
    Timeout,
}

async fn run<F: Function>(
    shared: &Arc<Shared>,
    function: F,
    request: Request<Incoming>,
    mut entry: Entry,
) -> Response<Reply<F::Body>> {
    let started = entry.started;
    let is_stream = wants_stream(request.headers());
    let exec = exec_limit(&shared.config, request.headers()).filter(|_| !is_stream);
    let write = started.checked_add(shared.config.write_timeout);
    let limit = exec.and_then(|limit| started.checked_add(limit)).into_iter().chain(write).min();

    let mut work = Box::pin(caught(invoke(function, request)));
    // Most handlers answer at once. Only one that waits is moved to a task of its own, where neither a caller that
    // hangs up nor a closed connection can stop it.
    let first = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await;
    let outcome = match first {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => {
            let task = tokio::spawn(async move {
                let outcome = match limit {
                    Some(limit) => tokio::time::timeout_at(limit, work).await.unwrap_or(Err(Failure::Timeout)),
                    None => work.await,
                };
                // Should the caller be gone, this is all that is left to tell of the call.
                entry.status = status_of(&outcome);
                (entry, outcome)
            });
            match task.await {
                Ok((back, outcome)) => {
                    entry = back;
                    outcome
                }
                // The runtime is shutting down; `caught` leaves no other way.
                Err(_) => return own(StatusCode::INTERNAL_SERVER_ERROR, None, ""),
            }
        }
    };

    entry.status = status_of(&outcome);
    let duration = format!("{:.6}", started.elapsed().as_secs_f64());
    let duration = HeaderValue::try_from(duration).unwrap_or(HeaderValue::from_static("0.000000"));
    match outcome {
        Ok(mut response) => {
            if !is_stream {
                response.headers_mut().insert(DURATION, duration);
            }
            entry.length = content_length(&response);
            let cut = if is_stream { write } else { limit };
            response.map(|body| Reply::function(body, entry, cut))
        }
        Err(failure) => {
            if let Failure::Error(error) = &failure {
                shared.log.say(format_args!("the function failed: {error}"));
            }
            let mut response = own(status_of_failure(&failure), None, "");
            response.headers_mut().insert(DURATION, duration);
            response.headers_mut().insert(INTERNAL, HeaderValue::from_static("of-watchdog"));
            response.map(|body: Reply<F::Body>| body.with_entry(entry))
        }
    }
}

async fn invoke<F: Function>(mut function: F, request: Request<Incoming>) -> Result<Response<F::Body>, BoxError> {
    poll_fn(|cx| function.poll_ready(cx)).await.map_err(Into::into)?;
    function.call(request).await.map_err(Into::into)
}

/// Turns a panic into a failure of the call.
async fn caught<B>(work: impl Future<Output = Result<Response<B>, BoxError>>) -> Result<Response<B>, Failure> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        let poll = std::panic::catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx)));
        match poll {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(result)) => Poll::Ready(result.map_err(Failure::Error)),
            Err(_) => Poll::Ready(Err(Failure::Panic)),
        }
    })
    .await
}

fn status_of<B>(outcome: &Result<Response<B>, Failure>) -> StatusCode {
    match outcome {
        Ok(response) => response.status(),
        Err(failure) => status_of_failure(failure),
    }
}

fn status_of_failure(failure: &Failure) -> StatusCode {
    match failure {
        Failure::Error(_) | Failure::Panic => StatusCode::INTERNAL_SERVER_ERROR,
        Failure::Timeout => StatusCode::GATEWAY_TIMEOUT,
    }
}

/// `exec_timeout`, or a shorter `X-Timeout` of the caller; a caller cannot lift the operator's limit.
fn exec_limit(config: &Config, headers: &HeaderMap) -> Option<Duration> {
    let limit = config.exec_timeout?;
    let asked = headers.get(TIMEOUT).and_then(|value| value.to_str().ok()).and_then(|v| duration::parse_go(v).ok());
    Some(asked.filter(|asked| !asked.is_zero() && *asked <= limit).unwrap_or(limit))
}

fn wants_stream(headers: &HeaderMap) -> bool {
    let Some(accept) = headers.get(header::ACCEPT) else { return false };
    let accept = accept.as_bytes().to_ascii_lowercase();
    let has = |kind: &[u8]| accept.windows(kind.len()).any(|window| window == kind);
    has(b"text/event-stream") || has(b"application/x-ndjson")
}

fn content_length<B>(response: &Response<B>) -> Option<u64>
where
    B: http_body::Body,
{
    response.body().size_hint().exact()
}

/// What is told of a call when it has ended, however it ended: one line of the log, one count of the metrics.
pub(crate) struct Entry {
    shared: Arc<Shared>,
    ticket: Option<Ticket>,
    method: Method,
    uri: Uri,
    call_id: Option<HeaderValue>,
    /// The platform's own probes would fill the log.
    is_probe: bool,
    counted: bool,
    started: Instant,
    status: StatusCode,
    length: Option<u64>,
    written: u64,
}

impl Entry {
    fn new<B>(shared: &Arc<Shared>, request: &Request<B>, ticket: Option<Ticket>) -> Self {
        let headers = request.headers();
        let is_probe = headers.get(header::USER_AGENT).is_some_and(|agent| agent.as_bytes().starts_with(b"kube-probe"));
        Self {
            shared: Arc::clone(shared),
            counted: ticket.is_some(),
            ticket,
            method: request.method().clone(),
            uri: request.uri().clone(),
            call_id: headers.get(CALL_ID).cloned(),
            is_probe,
            started: Instant::now(),
            status: StatusCode::INTERNAL_SERVER_ERROR,
            length: None,
            written: 0,
        }
    }

    pub(crate) fn wrote(&mut self, bytes: usize) {
        self.written += bytes as u64;
    }

    pub(crate) fn broke_off(self, error: &(dyn std::error::Error + Send + Sync)) {
        self.shared.log.say(format_args!("{} {} broke off: {error}", self.method, self.uri.path()));
    }

    fn log(&self, took: Duration) {
        let (log, seconds) = (&self.shared.log, took.as_secs_f64());
        let (method, path, status) = (&self.method, self.uri.path(), self.status);
        let call_id = self.call_id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or("none");
        match log.format() {
            LogFormat::Text => {
                let reason = status.canonical_reason().unwrap_or("");
                let stamp = Stamp(crate::clock::Utc::now());
                let size = Size(self.length.map_or(-1, u64::cast_signed));
                let line = format_args!("{stamp} {method} {path} - {status} {reason} - ContentLength: {size} ({seconds:.4}s)", status = status.as_str());
                if self.shared.config.log_callid {
                    log.line(format_args!("{line} [{call_id}]"));
                } else {
                    log.line(line);
                }
            }
            LogFormat::Json => log.line(format_args!(
                "{{\"time\":\"{}\",\"level\":\"INFO\",\"method\":{},\"path\":{},\"status\":{},\"bytes\":{},\"duration_seconds\":{seconds:.6},\"call_id\":{}}}",
                Rfc3339(crate::clock::Utc::now()),
                JsonStr(method.as_str()),
                JsonStr(path),
                status.as_u16(),
                self.written,
                JsonStr(call_id),
            )),
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        if self.counted {
            self.shared.metrics.record(&self.method, self.status, took);
        }
        if !self.is_probe {
            self.log(took);
        }
        drop(self.ticket.take());
    }
}

/// A size in decimal units: `5B`, `1.5kB`, `-1B` when it is not known.
struct Size(i64);

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 < 1000 {
            return write!(f, "{}B", self.0);
        }
        let mut size = self.0 as f64;
        let mut units = ["kB", "MB", "GB", "TB", "PB", "EB"].into_iter();
        let mut unit = "B";
        while size >= 1000.0 {
            let Some(next) = units.next() else { break };
            size /= 1000.0;
            unit = next;
        }
        write!(f, "{size:.1}{unit}")
    }
}
