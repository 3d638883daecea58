//! The recipes of the README, as functions that are called.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test, which is to fail of a surprise")]

use std::{
    convert::Infallible,
    future::Future,
    io::{self, ErrorKind},
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, State},
    response::sse::{Event, Sse},
    routing::{get, post},
};
use futures_util::{Stream, StreamExt as _, stream};
use http::{Request, StatusCode};
use tokio_util::task::TaskTracker;
use watchdog::BoxError;

mod state {
    use super::*;

    pub(super) async fn handler() -> Result<Router, BoxError> {
        let calls = Arc::new(AtomicU64::new(0));
        Ok(Router::new().route("/", get(count)).with_state(calls))
    }

    async fn count(State(calls): State<Arc<AtomicU64>>) -> String {
        format!("{}\n", calls.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

#[tokio::test]
async fn state_lives_as_long_as_the_process() {
    let function = watchdog::test(state::handler).await.unwrap();
    for expected in ["1\n", "2\n"] {
        let answer = function.call(Request::get("/").body("").unwrap()).await.unwrap();
        assert_eq!(answer.body(), expected);
    }
}

#[tokio::test]
async fn a_start_up_that_fails_says_why() {
    async fn handler() -> Result<Router, BoxError> {
        Err(io::Error::new(ErrorKind::InvalidInput, "api_url is not set"))?
    }
    let error = watchdog::test(handler).await.unwrap_err();
    assert_eq!(error.downcast_ref::<io::Error>().unwrap().kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn work_after_the_answer_is_finished_before_the_process_ends() {
    type Hook = Pin<Box<dyn Future<Output = ()> + Send>>;
    let written = Arc::new(AtomicU64::new(0));
    let handler = {
        let written = Arc::clone(&written);
        async || -> Result<(Router, Hook), BoxError> {
            let tracker = TaskTracker::new();
            let on_shutdown = tracker.clone();
            let answer = async move || {
                tracker.spawn(async move { written.fetch_add(1, Ordering::Relaxed) });
                "accepted\n"
            };
            let hook: Hook = Box::pin(async move {
                on_shutdown.close();
                on_shutdown.wait().await;
            });
            Ok((Router::new().route("/", get(answer)), hook))
        }
    };
    let running = watchdog::start(handler).await.unwrap();
    let host = running.url().strip_prefix("http://").unwrap().to_owned();
    let stream = hyper_util::rt::TokioIo::new(tokio::net::TcpStream::connect(&host).await.unwrap());
    let (mut client, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("/").header("host", host).body(Body::empty()).unwrap();
    assert_eq!(client.send_request(request).await.unwrap().status(), 200);
    drop(client);
    running.stop().await;
    assert_eq!(written.load(Ordering::Relaxed), 1);
}

mod secrets {
    use super::*;

    /// Read with each use: secrets change while the function runs.
    fn secret(folder: &std::path::Path, name: &str) -> io::Result<String> {
        Ok(std::fs::read_to_string(folder.join(name))?.trim().to_owned())
    }

    pub(super) async fn handler(folder: PathBuf) -> Result<Router, BoxError> {
        let key = async move || secret(&folder, "api-key").map_err(|_| StatusCode::SERVICE_UNAVAILABLE);
        Ok(Router::new().route("/", get(key)))
    }
}

#[tokio::test]
async fn a_secret_may_come_and_change_while_the_function_runs() {
    let folder = std::env::temp_dir().join(format!("recipes-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let function = watchdog::test(|| secrets::handler(folder.clone())).await.unwrap();
    let ask = async || function.call(Request::get("/").body("").unwrap()).await.unwrap();
    assert_eq!(ask().await.status(), 503);
    for value in ["first", "second"] {
        std::fs::write(folder.join("api-key"), format!("{value}\n")).unwrap();
        assert_eq!(ask().await.body(), value);
    }
    std::fs::remove_dir_all(folder).unwrap();
}

mod streaming {
    use super::*;

    pub(super) async fn handler() -> Result<Router, BoxError> {
        Ok(Router::new().route("/tail", get(tail)).route("/store", post(store)))
    }

    async fn tail() -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
        Sse::new(stream::iter(0..3).map(|n| Ok(Event::default().data(n.to_string()))))
    }

    async fn store(body: Body) -> Result<String, StatusCode> {
        let (mut chunks, mut length) = (body.into_data_stream(), 0);
        while let Some(chunk) = chunks.next().await {
            length += chunk.map_err(|_| StatusCode::BAD_REQUEST)?.len();
        }
        Ok(length.to_string())
    }
}

#[tokio::test]
async fn bodies_are_streams_both_ways() {
    let function = watchdog::test(streaming::handler).await.unwrap();
    let events = function.call(Request::get("/tail").body("").unwrap()).await.unwrap();
    assert_eq!(events.body(), "data: 0\n\ndata: 1\n\ndata: 2\n\n");
    let stored = function.call(Request::post("/store").body(vec![0; 3 << 20]).unwrap()).await.unwrap();
    assert_eq!(stored.body(), &(3 << 20).to_string());
}

#[tokio::test]
async fn axums_extractors_take_two_megabytes_unless_told_otherwise() {
    async fn length(body: bytes::Bytes) -> String {
        body.len().to_string()
    }
    async fn handler() -> Result<Router, BoxError> {
        let large = post(length).layer(DefaultBodyLimit::max(50 << 20));
        Ok(Router::new().route("/small", post(length)).route("/large", large))
    }
    let function = watchdog::test(handler).await.unwrap();
    for (path, status) in [("/small", 413), ("/large", 200)] {
        let answer = function.call(Request::post(path).body(vec![0; 3 << 20]).unwrap()).await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
    }
}
