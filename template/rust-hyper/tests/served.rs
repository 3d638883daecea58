//! What the record of of-watchdog cannot show: what is better, seen through the library.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test, which is to fail of a surprise")]

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body, routing::get};
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Frame, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{Notify, oneshot},
    task::JoinHandle,
};
use watchdog::{Config, Watchdog};

struct Running {
    address: SocketAddr,
    metrics: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

async fn start(function: Router, variables: &'static [(&'static str, &'static str)]) -> Running {
    let config = Config::from_strings(|name| {
        // One lock file for all: nobody looks at it.
        let own = [("suppress_lock", "true"), ("healthcheck_interval", "0s")];
        variables.iter().chain(&own).find(|variable| variable.0 == name).map(|variable| variable.1.to_owned())
    });
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let watchdog = Watchdog::bind(config.unwrap().with_address(any).with_metrics_address(any)).await.unwrap();
    let (address, metrics) = (watchdog.address(), watchdog.metrics_address().unwrap());
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(watchdog.run(function, async {
        let _ = stopped.await;
    }));
    Running { address, metrics, stop, task }
}

async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

const GET: &str = "GET / HTTP/1.1\r\nHost: fn\r\nConnection: close\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_caller_hung_up_is_finished_and_the_drain_waits_for_it() {
    let (begun, go_on, done) = (Arc::new(Notify::new()), Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let function = {
        let (begun, go_on, done) = (Arc::clone(&begun), Arc::clone(&go_on), Arc::clone(&done));
        Router::new().route(
            "/",
            get(async move || {
                begun.notify_one();
                go_on.notified().await;
                done.fetch_add(1, Ordering::SeqCst);
            }),
        )
    };
    let running = start(function, &[]).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(GET.as_bytes()).await.unwrap();
    begun.notified().await;
    // Resets the connection, the rudest way to go.
    stream.set_zero_linger().unwrap();
    drop(stream);
    running.stop.send(()).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!running.task.is_finished(), "the drain does not wait for the call");
    go_on.notify_one();
    running.task.await.unwrap();
    assert_eq!(done.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_is_spoken_with_prior_knowledge() {
    let running = start(Router::new().route("/", get(async || "hello\n")), &[]).await;
    let (mut client, _connection) = http2(running.address).await;
    let request = http::Request::get(format!("http://{}/", running.address)).body(Empty::new()).unwrap();
    let answer = client.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.headers().contains_key("x-duration-seconds"));
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "hello\n");
    drop(client);
    running.stop.send(()).unwrap();
    running.task.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_served_while_draining() {
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let function = {
        let (begun, go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
        Router::new().route(
            "/",
            get(async move || {
                begun.notify_one();
                go_on.notified().await;
            }),
        )
    };
    let running = start(function, &[]).await;
    let call = tokio::spawn(ask(running.address, GET));
    begun.notified().await;
    running.stop.send(()).unwrap();
    let scraped = ask(running.metrics, "GET /metrics HTTP/1.1\r\nHost: fn\r\nConnection: close\r\n\r\n").await;
    assert!(scraped.contains("\nhttp_requests_in_flight 1\n"), "{scraped}");
    go_on.notify_one();
    assert!(call.await.unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
    running.task.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_behind_a_good_request_waits_for_its_turn() {
    let running = start(Router::new().route("/", get(async || "hello\n")), &[]).await;
    let smuggled =
        "POST / HTTP/1.1\r\nHost: fn\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x";
    let answer = ask(running.address, &format!("GET / HTTP/1.1\r\nHost: fn\r\n\r\n{smuggled}")).await;
    let (first, second) = answer.split_once("hello\n").expect(&answer);
    assert!(first.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(second.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 2, "{answer}");
}

async fn http2(address: SocketAddr) -> (http2::SendRequest<Empty<bytes::Bytes>>, JoinHandle<()>) {
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (client, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    (client, tokio::spawn(async { drop(connection.await) }))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http2_connection_without_calls_is_closed_after_the_read_timeout() {
    let running = start(Router::new().route("/", get(async || "hello\n")), &[("read_timeout", "200ms")]).await;
    let (mut client, connection) = http2(running.address).await;
    let request = http::Request::get(format!("http://{}/", running.address)).body(Empty::new()).unwrap();
    assert_eq!(client.send_request(request).await.unwrap().status(), 200);
    tokio::time::timeout(Duration::from_secs(20), connection).await.expect("the connection is closed").unwrap();
}

/// More than a client's windows take unread, in pieces.
struct Endless;

impl hyper::body::Body for Endless {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Poll::Ready(Some(Ok(Frame::data(bytes::Bytes::from_static(&[0; 65536])))))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_http2_that_does_not_read_keeps_no_place_for_ever() {
    let function = Router::new().route("/", get(async || "hello\n")).route("/large", get(async || Body::new(Endless)));
    let running = start(function, &[("write_timeout", "200ms"), ("max_inflight", "1")]).await;
    let (mut client, connection) = http2(running.address).await;
    let request = http::Request::get(format!("http://{}/large", running.address)).body(Empty::new()).unwrap();
    let answer = client.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    let refused = ask(running.address, GET).await;
    assert!(refused.starts_with("HTTP/1.1 429 "), "{refused}");
    tokio::time::timeout(Duration::from_secs(20), connection).await.expect("the connection is cut").unwrap();
    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    while !ask(running.address, GET).await.starts_with("HTTP/1.1 200 ") {
        assert!(tokio::time::Instant::now() < until, "the place is free again");
    }
    drop(answer);
}

/// An answer of unknown length, for which the function announces `length`.
async fn announced(length: u64, body: &'static str) -> http::Response<Body> {
    let pieces = futures_util::stream::iter([Ok::<_, std::convert::Infallible>(body)]);
    http::Response::builder().header("content-length", length).body(Body::from_stream(pieces)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_length_ends_the_connection_and_no_answer_runs_into_another() {
    let function = Router::new()
        .route("/long", get(async || announced(50, "fourteen bytes").await))
        .route("/short", get(async || announced(5, "fourteen bytes").await))
        .route("/right", get(async || announced(14, "fourteen bytes").await))
        .route("/known", get(async || ([("content-length", "50")], "five\n")))
        .route("/next", get(async || "next\n"));
    let running = start(function, &[]).await;
    let next = "GET /next HTTP/1.1\r\nHost: fn\r\nConnection: close\r\n\r\n";
    for path in ["/long", "/short"] {
        let answers = ask(running.address, &format!("GET {path} HTTP/1.1\r\nHost: fn\r\n\r\n{next}")).await;
        assert!(answers.matches("HTTP/1.1 ").count() <= 1, "{path}: {answers}");
        assert!(!answers.contains("next\n"), "{path}: {answers}");
    }
    for (path, body) in [("/right", "fourteen bytes"), ("/known", "five\n")] {
        let answers = ask(running.address, &format!("GET {path} HTTP/1.1\r\nHost: fn\r\n\r\n{next}")).await;
        assert!(answers.contains(&format!("\r\n\r\n{body}HTTP/1.1 200 OK\r\n")), "{path}: {answers}");
        assert!(answers.contains(&format!("content-length: {}\r\n", body.len())), "{path}: {answers}");
    }
    running.stop.send(()).unwrap();
    running.task.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_a_body_has_no_length_that_is_forbidden() {
    let with_length = |status: u16| async move {
        let status = http::StatusCode::from_u16(status).unwrap();
        (status, [("content-length", "5")], "hello")
    };
    let function = Router::new()
        .route("/204", get(move || with_length(204)))
        .route("/304", get(move || with_length(304)))
        .route("/stream", get(async || announced(5, "hello").await))
        .route("/empty", axum::routing::any(async || ""));
    let running = start(function, &[]).await;
    let ask = async |request: &str| {
        ask(running.address, &format!("{request} HTTP/1.1\r\nHost: fn\r\nConnection: close\r\n\r\n")).await
    };
    for (request, length) in [
        ("GET /204", None),
        ("GET /304", None),
        ("HEAD /stream", Some("5")),
        ("HEAD /empty", Some("0")),
        ("GET /empty", Some("0")),
    ] {
        let answer = ask(request).await;
        let (head, body) = answer.split_once("\r\n\r\n").expect(&answer);
        let found = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        assert_eq!((found, body), (length, ""), "{request}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_written_as_it_comes_whatever_accept_says() {
    let go_on = Arc::new(Notify::new());
    let function = {
        let go_on = Arc::clone(&go_on);
        let second = move || {
            let go_on = Arc::clone(&go_on);
            async move {
                go_on.notified().await;
                Ok::<_, std::convert::Infallible>("second")
            }
        };
        let answer = async move || {
            use futures_util::StreamExt as _;
            let first = futures_util::stream::once(async { Ok::<_, std::convert::Infallible>("first") });
            Body::from_stream(first.chain(futures_util::stream::once(second())))
        };
        Router::new().route("/", get(answer))
    };
    let running = start(function, &[]).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(GET.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"5\r\nfirst\r\n") {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
    }
    go_on.notify_one();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.ends_with(b"6\r\nsecond\r\n0\r\n\r\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shutdown_hook_runs_after_the_last_call_and_before_the_end() {
    let tracker = tokio_util::task::TaskTracker::new();
    let (finish, finished) = oneshot::channel::<()>();
    let finished = Arc::new(std::sync::Mutex::new(Some(finished)));
    let written = Arc::new(AtomicUsize::new(0));
    let function = {
        let (tracker, written) = (tracker.clone(), Arc::clone(&written));
        Router::new().route(
            "/",
            get(async move || {
                let (finished, written) = (finished.lock().unwrap().take().unwrap(), Arc::clone(&written));
                tracker.spawn(async move {
                    finished.await.unwrap();
                    written.fetch_add(1, Ordering::SeqCst);
                });
                "answered\n"
            }),
        )
    };
    let running = watchdog::start(async || {
        let hook = async move {
            tracker.close();
            tracker.wait().await;
        };
        Ok((function, hook))
    })
    .await
    .unwrap();
    let address = running.url().strip_prefix("http://").unwrap().parse().unwrap();
    assert!(ask(address, GET).await.ends_with("answered\n"));
    assert_eq!(written.load(Ordering::SeqCst), 0);
    let ended = tokio::spawn(running.stop());
    finish.send(()).unwrap();
    ended.await.unwrap();
    assert_eq!(written.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_too_slow_is_a_504_on_both_protocols() {
    let function = Router::new().route("/", axum::routing::post(async |body: String| body));
    let running = start(function, &[("read_timeout", "200ms")]).await;
    let slow = "POST / HTTP/1.1\r\nHost: fn\r\nContent-Length: 9\r\n\r\nhalf";
    let answer = ask(running.address, slow).await;
    assert!(answer.starts_with("HTTP/1.1 504 ") && answer.contains("connection: close\r\n"), "{answer}");
    assert!(answer.ends_with("the function did not answer within read_timeout=200ms\n"), "{answer}");

    let stream = TokioIo::new(TcpStream::connect(running.address).await.unwrap());
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let never = futures_util::stream::pending::<Result<Frame<bytes::Bytes>, std::convert::Infallible>>();
    let request = http::Request::post(format!("http://{}/", running.address));
    let request = request.body(http_body_util::StreamBody::new(never)).unwrap();
    assert_eq!(client.send_request(request).await.unwrap().status(), 504);
}
