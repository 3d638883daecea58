//! The function behind the record of of-watchdog: each path shows one side of what a watchdog does to requests and
//! answers. As an example it runs on the template's own server, configured by the environment like any function;
//! `--bare` serves it without a watchdog, to put it behind another one.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a function for tests, which may die of surprise")]

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use serde_json::json;
use sha1::{Digest as _, Sha1};
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

#[allow(dead_code, reason = "the replay includes this file as a module and calls `run`")]
fn main() -> ExitCode {
    run()
}

/// Runs the mirror as a process of its own.
pub(crate) fn run() -> ExitCode {
    if std::env::args().any(|argument| argument == "--bare") {
        return bare();
    }
    watchdog::main(async || Ok::<_, watchdog::BoxError>(Mirror::default()))
}

/// What the calls so far have left behind.
#[derive(Clone, Default)]
pub(crate) struct Mirror(Arc<Seen>);

#[derive(Default)]
struct Seen {
    calls: Mutex<Vec<String>>,
    cancelled: AtomicUsize,
}

impl<B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static> tower_service::Service<Request<B>> for Mirror {
    type Response = Answer;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        Box::pin(self.clone().answer(request))
    }
}

impl Mirror {
    async fn answer(self, mut request: Request<UnsyncBoxBody<Bytes, BoxError>>) -> Result<Answer, BoxError> {
        let uri = request.uri().clone();
        let path = uri.path().to_owned();
        let query = |name: &str| parameter(uri.query().unwrap_or(""), name);
        let number = |name: &str| query(name).and_then(|value| value.parse::<u64>().ok());
        let n = || usize::try_from(number("n").unwrap_or(1)).unwrap_or(1);
        let pause = Duration::from_millis(number("ms").unwrap_or(0));

        match path.as_str() {
            "/seen" => return Ok(json_answer(&json!(*self.0.calls.lock().unwrap()))),
            "/cancelled" => return Ok(text(&format!("{}\n", self.0.cancelled.load(Ordering::SeqCst)))),
            _ => self.0.calls.lock().unwrap().push(format!("{} {path}", request.method())),
        }
        Ok(match path.as_str() {
            "/" => text("root\n"),
            "/slow" => {
                let guard = Cancelled(Some(Arc::clone(&self.0)));
                tokio::time::sleep(pause).await;
                guard.disarm();
                text(&format!("slow {}\n", pause.as_millis()))
            }
            "/bytes" => answer("application/octet-stream", vec![b'x'; n()]),
            "/chunks" => self.pieces("text/plain", n(), pause, |i| format!("chunk {i}\n")),
            "/sse" => self.pieces("text/event-stream", n(), pause, |i| format!("data: {i}\n\n")),
            "/ndjson" => self.pieces("application/x-ndjson", n(), pause, |i| format!("{{\"i\":{i}}}\n")),
            "/upload" => upload(request.body_mut()).await?,
            "/early" => with(status(413, "too large\n"), &[("connection", "close")]),
            "/panic" | "/garbage" => panic!("asked to panic"),
            "/exit" => std::process::exit(number("code").and_then(|code| i32::try_from(code).ok()).unwrap_or(0)),
            "/abort" => stream("text/plain", Broken::new(n(), Some(1000))),
            "/abort-chunked" => stream("text/plain", Broken::new(n(), None)),
            "/headers" => with(
                text("headers\n"),
                &[
                    ("set-cookie", "a=1; Path=/"),
                    ("set-cookie", "b=2; HttpOnly"),
                    ("x-multi", "one"),
                    ("x-multi", "two"),
                    ("x-lower", "kept"),
                    ("x-empty", ""),
                    ("server", "probe/1"),
                    ("date", "Thu, 01 Jan 1970 00:00:00 GMT"),
                    ("x-duration-seconds", "99"),
                    ("x-call-id", "from-function"),
                    ("x-openfaas-internal", "from-function"),
                    ("cache-control", "no-store"),
                ],
            ),
            "/hop" => with(
                text("hop\n"),
                &[
                    ("connection", "x-hop, keep-alive"),
                    ("x-hop", "1"),
                    ("keep-alive", "timeout=5"),
                    ("proxy-authenticate", "Basic"),
                    ("upgrade", "h2c"),
                    ("trailer", "X-T"),
                ],
            ),
            "/close" => with(text("close\n"), &[("connection", "close")]),
            "/noct" => {
                let mut response = answer("", without_type(query("kind").as_deref().unwrap_or("text")));
                response.headers_mut().remove(header::CONTENT_TYPE);
                response
            }
            "/emptyct" => answer("", "<html>x</html>\n"),
            "/gzip" => gzip(&request),
            "/trailers" => with(stream("text/plain", Trailing::default()), &[("trailer", "X-Checksum")]),
            "/early-hints" => text("hints\n"),
            "/redirect" => {
                let to = query("to").unwrap_or_else(|| "/echo".into());
                let mut response = status(302, "moved\n");
                response.headers_mut().insert(header::LOCATION, HeaderValue::try_from(to)?);
                response
            }
            "/ws" => websocket(&mut request)?,
            "/log" => {
                #[allow(clippy::print_stdout, reason = "that is what this path is for")]
                if let Some(out) = query("out") {
                    println!("{out}");
                }
                if let Some(err) = query("err") {
                    eprintln!("{err}");
                }
                text("logged\n")
            }
            _ if path == "/echo" || path.starts_with("/echo/") => echo(request).await?,
            _ => match path.strip_prefix("/status/").and_then(|code| code.parse().ok()) {
                Some(code) => status(code, &format!("status {code}\n")),
                None => status(404, &format!("no such path: {path}\n")),
            },
        })
    }

    fn pieces(&self, kind: &str, n: usize, pause: Duration, piece: fn(usize) -> String) -> Answer {
        let guard = Cancelled(Some(Arc::clone(&self.0)));
        stream(kind, Pieces { next: 0, n, pause, sleep: None, piece, guard })
    }
}

/// Counts a call that was dropped before its end.
struct Cancelled(Option<Arc<Seen>>);

impl Cancelled {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Cancelled {
    fn drop(&mut self) {
        if let Some(seen) = self.0.take() {
            seen.cancelled.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// `n` pieces, a pause between each two.
struct Pieces {
    next: usize,
    n: usize,
    pause: Duration,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
    piece: fn(usize) -> String,
    guard: Cancelled,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.next == self.n {
            self.guard.0 = None;
            return Poll::Ready(None);
        }
        if self.next > 0 && !self.pause.is_zero() {
            let pause = self.pause;
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.sleep = None;
        }
        let piece = (self.piece)(self.next);
        self.next += 1;
        if self.next == self.n {
            self.guard.0 = None;
        }
        Poll::Ready(Some(Ok(Frame::data(piece.into()))))
    }
}

/// Breaks off after its only piece.
struct Broken {
    piece: Option<Bytes>,
    /// Kept open for a moment, so that the piece is on its way before the end.
    pause: Pin<Box<tokio::time::Sleep>>,
    length: Option<u64>,
}

impl Broken {
    fn new(n: usize, length: Option<u64>) -> Self {
        let pause = Box::pin(tokio::time::sleep(Duration::from_millis(50)));
        Self { piece: Some(vec![b'y'; n].into()), pause, length }
    }
}

impl Body for Broken {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.piece.take() {
            Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            None => self.pause.as_mut().poll(cx).map(|()| Some(Err("broken off, as asked".into()))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map(SizeHint::with_exact).unwrap_or_default()
    }
}

#[derive(Default)]
struct Trailing(u8);

impl Body for Trailing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0 += 1;
        Poll::Ready(match self.0 {
            1 => Some(Ok(Frame::data("with trailer\n".into()))),
            2 => {
                let checksum = (HeaderName::from_static("x-checksum"), HeaderValue::from_static("abc"));
                Some(Ok(Frame::trailers([checksum].into_iter().collect())))
            }
            _ => None,
        })
    }
}

async fn echo(request: Request<UnsyncBoxBody<Bytes, BoxError>>) -> Result<Answer, BoxError> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?;
    let trailers = body.trailers().map(named).unwrap_or_default();
    let body = body.to_bytes();
    let first = &body[..body.len().min(256)];
    Ok(json_answer(&json!({
        "method": head.method.as_str(),
        "path": head.uri.path(),
        "query": head.uri.query(),
        "headers": named(&head.headers),
        "body_len": body.len(),
        "body": latin1(first),
        "trailers": trailers,
    })))
}

fn named(headers: &http::HeaderMap) -> BTreeMap<String, Vec<String>> {
    let mut named: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        named.entry(name.to_string()).or_default().push(latin1(value.as_bytes()));
    }
    named
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

async fn upload(body: &mut UnsyncBoxBody<Bytes, BoxError>) -> Result<Answer, BoxError> {
    let (mut bytes, mut hash) = (0, Sha256::new());
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            bytes += data.len();
            hash.update(&data);
        }
    }
    let sha256: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(json_answer(&json!({"bytes": bytes, "sha256": sha256})))
}

fn websocket(request: &mut Request<UnsyncBoxBody<Bytes, BoxError>>) -> Result<Answer, BoxError> {
    let key = request.headers().get("sec-websocket-key").map(|key| key.as_bytes().to_vec()).unwrap_or_default();
    let is_upgrade = request
        .headers()
        .get(header::UPGRADE)
        .is_some_and(|upgrade| upgrade.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if !is_upgrade {
        return Ok(status(426, "websocket only\n"));
    }
    let accept = Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    let upgraded = hyper::upgrade::on(request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgraded.await else { return };
        let mut stream = hyper_util::rt::TokioIo::new(upgraded);
        let mut buffer = [0; 1024];
        while let Ok(n @ 1..) = stream.read(&mut buffer).await {
            if stream.write_all(&buffer[..n]).await.is_err() {
                return;
            }
        }
    });
    let mut response = status(101, "");
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert("sec-websocket-accept", HeaderValue::try_from(BASE64_STANDARD.encode(accept))?);
    Ok(response)
}

fn gzip(request: &Request<UnsyncBoxBody<Bytes, BoxError>>) -> Answer {
    /// `hello gzip\n`.
    const HELLO: &[u8] =
        b"\x1f\x8b\x08\0\0\0\0\0\x02\xff\xcaH\xcd\xc9\xc9WH\xaf\xca,\xe0\x02\x04\0\0\xff\xff\xe6\x92\x86\x87\x0b\0\0\0";
    let accepts = request.headers().get_all(header::ACCEPT_ENCODING).iter();
    if accepts.filter_map(|value| value.to_str().ok()).any(|value| value.contains("gzip")) {
        with(answer("text/plain", HELLO), &[("content-encoding", "gzip"), ("vary", "Accept-Encoding")])
    } else {
        text("hello plain\n")
    }
}

fn without_type(kind: &str) -> Vec<u8> {
    match kind {
        "html" => b"<!DOCTYPE html><p>hi</p>\n".to_vec(),
        "json" => b"{\"a\":1}\n".to_vec(),
        "png" => b"\x89PNG\r\n\x1a\n\0\0\0\0\0\0\0\0".to_vec(),
        "bin" => (0..8).collect(),
        "empty" => Vec::new(),
        _ => b"plain words\n".to_vec(),
    }
}

fn text(body: &str) -> Answer {
    answer("text/plain", body.to_owned())
}

fn status(code: u16, body: &str) -> Answer {
    let body = if code < 200 || code == 204 || code == 304 { "" } else { body };
    let mut response = text(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_REQUEST);
    response
}

fn json_answer(value: &serde_json::Value) -> Answer {
    answer("application/json", value.to_string())
}

fn answer(kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let body: Bytes = body.into();
    stream(kind, Full::new(body).map_err(|never| match never {}))
}

fn stream(kind: &str, body: impl Body<Data = Bytes, Error = BoxError> + Send + 'static) -> Answer {
    let mut response = Response::new(body.boxed_unsync());
    if let Ok(kind) = HeaderValue::try_from(kind) {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    response
}

fn with(mut response: Answer, headers: &[(&'static str, &'static str)]) -> Answer {
    for (name, value) in headers {
        response.headers_mut().append(*name, HeaderValue::from_static(value));
    }
    response
}

/// The value of one parameter, percent-decoded.
fn parameter(query: &str, name: &str) -> Option<String> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    let mut decoded = Vec::new();
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        let digits = (byte == b'%').then(|| [bytes.next().unwrap_or(0), bytes.next().unwrap_or(0)]);
        let escaped = digits.and_then(|digits| u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok());
        decoded.push(escaped.unwrap_or(byte));
    }
    String::from_utf8(decoded).ok()
}

/// The function alone, as another watchdog's child.
fn bare() -> ExitCode {
    let port = std::env::var("upstream_port").ok().and_then(|port| port.parse().ok()).unwrap_or(8082);
    // A watchdog that is killed cannot end its child.
    let parent = std::os::unix::process::parent_id();
    std::thread::spawn(move || {
        while std::os::unix::process::parent_id() == parent {
            std::thread::sleep(Duration::from_millis(200));
        }
        std::process::exit(0);
    });
    // What it says of a panic would stand in the log of the watchdog in front.
    std::panic::set_hook(Box::new(|_| {}));
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.expect("upstream_port is free");
        let mirror = Mirror::default();
        // The watchdog in front passes the signal on at once; what drains is the watchdog.
        let _ignored = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).expect("a signal");
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let mirror = mirror.clone();
            let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                let mut mirror = mirror.clone();
                async move { tower_service::Service::call(&mut mirror, request).await }
            });
            let stream = hyper_util::rt::TokioIo::new(stream);
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.max_headers(24_000).max_buf_size(2 << 20);
            tokio::spawn(builder.serve_connection(stream, service).with_upgrades());
        }
    })
}
