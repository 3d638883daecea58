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
