//! Verbs, bodies and errors of requests, as a server sees them.

use std::{convert::Infallible, pin::Pin, task};

use axum::{body, response::Response as Answer};
use bytes::Bytes;
use futures_core::Stream;
use http::Request as Seen;
use tokio::sync::Notify;

use super::*;

/// An API on loopback whose handler may wait.
async fn api<F>(facts: Facts, handler: impl Fn(Seen<body::Body>) -> F + Clone + Send + Sync + 'static) -> Api
where
    F: Future<Output = Answer> + Send + 'static,
{
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/v1", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(handler)).await });
    Setting::client(base, facts).await.0
}

/// Answers with the request.
async fn echo(request: Seen<body::Body>) -> Answer {
    let (head, body) = request.into_parts();
    let header = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let body = body::to_bytes(body, usize::MAX).await.unwrap();
    let seen = json!({
        "method": head.method.as_str(),
        "uri": head.uri.to_string(),
        "type": header("content-type"),
        "region": header("x-region"),
        "key": header("idempotency-key"),
        "body": String::from_utf8_lossy(&body),
    });
    Json(seen).into_response()
}

/// A stream of pieces.
struct Pieces(std::vec::IntoIter<&'static str>);

impl Stream for Pieces {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut task::Context<'_>) -> task::Poll<Option<Self::Item>> {
        task::Poll::Ready(self.0.next().map(|piece| Ok(Bytes::from_static(piece.as_bytes()))))
    }
}

fn pieces(pieces: &[&'static str]) -> Pieces {
    let pieces: Vec<_> = pieces.to_vec();
    Pieces(pieces.into_iter())
}

#[tokio::test]
async fn every_verb_and_every_kind_of_body_arrives_as_it_was_given() {
    let api = api(Facts::default(), echo).await;
    for (request, method) in [
        (api.get("/a?x=1&y="), "GET"),
        (api.post("/a?x=1&y="), "POST"),
        (api.put("/a?x=1&y="), "PUT"),
        (api.patch("/a?x=1&y="), "PATCH"),
        (api.delete("/a?x=1&y="), "DELETE"),
    ] {
        let seen: Value = request.query("q", "ü&").header("X-Region", "eu").json().await.unwrap();
        assert_eq!((&seen["method"], &seen["uri"]), (&json!(method), &json!("/v1/a?x=1&y=&q=%C3%BC%26")));
        assert_eq!(seen["region"], "eu");
    }
    let answer = api.head("/a").send().await.unwrap();
    assert!(answer.status.is_success() && answer.body.is_empty());

    let form = Multipart::new().text("a", "1");
    for (request, kind, body) in [
        (api.post("/").body_json(&json!({ "a": 1 })), "application/json", r#"{"a":1}"#),
        (api.post("/").body_form([("a", "b c"), ("ü", "&")]), "application/x-www-form-urlencoded", "a=b+c&%C3%BC=%26"),
        (api.put("/").body("text/csv", "a,b"), "text/csv", "a,b"),
        (api.put("/").body_stream("text/plain", pieces(&["one ", "two"])), "text/plain", "one two"),
        (api.post("/").body_multipart(&form), "multipart/form-data; boundary=", "form-data; name=\"a\"\r\n\r\n1"),
    ] {
        let seen: Value = request.json().await.unwrap();
        assert!(seen["type"].as_str().unwrap().starts_with(kind), "{seen}");
        assert!(seen["body"].as_str().unwrap().contains(body), "{seen}");
    }
    assert!(api.get("/").bytes().await.unwrap().starts_with(b"{\"body\""));
}

#[tokio::test]
async fn a_body_comes_piece_by_piece_however_long_it_is() {
    let gate = Arc::new(Notify::new());
    let opened = Arc::clone(&gate);
    let api = api(Facts::default(), move |_| {
        let gate = Arc::clone(&opened);
        async move {
            let (sender, receiver) = tokio::sync::mpsc::channel(1);
            tokio::spawn(async move {
                sender.send("first").await.unwrap();
                // The second piece exists only after the first was read.
                gate.notified().await;
                sender.send("second").await.unwrap();
            });
            body::Body::from_stream(Received(receiver)).into_response()
        }
    })
    .await;
    let mut download = api.get("/").stream().await.unwrap();
    assert_eq!(download.next().await.unwrap().unwrap(), "first");
    gate.notify_one();
    assert_eq!(download.next().await.unwrap().unwrap(), "second");
    assert!(download.next().await.is_none());
}

struct Received(tokio::sync::mpsc::Receiver<&'static str>);

impl Stream for Received {
    type Item = Result<&'static str, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> task::Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|piece| piece.map(Ok))
    }
}

#[tokio::test]
async fn a_mistake_in_a_request_is_the_error_of_sending_it_and_shows_no_value() {
    let api = api(Facts::default(), echo).await;
    let by_number = std::collections::HashMap::from([(vec![1], "a")]);
    for (request, words) in [
        (api.get("/a").header("x y", "1"), "a header's name is none"),
        (api.get("/a").header("x", "marker\n"), "the value of the header x"),
        (api.post("/a").body_json(&by_number), "nothing that JSON can say"),
    ] {
        let err = request.send().await.unwrap_err();
        let shown = err.to_string();
        assert!(shown.contains(words) && shown.contains(" /a ") && !shown.contains("marker"), "{shown}");
        assert_eq!(err.code(), "unsendable_request");
    }
}

#[tokio::test]
async fn an_error_carries_status_method_path_and_the_words_of_the_api_without_tokens() {
    let facts = Facts { message: vec!["error.message".into()], ..Facts::default() };
    let api = api(facts, |_| async move {
        let body = json!({ "error": { "message": "Bearer sk_live_0123456789abcdef may not do this" } });
        (StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response()
    })
    .await;
    let err = api.patch("/orders/7?secret=marker").send().await.unwrap_err();
    assert_eq!(err.to_string(), "the API answered 422 to PATCH /orders/7: Bearer … may not do this");
    assert_eq!(err.message(), Some("Bearer … may not do this"));
    assert_eq!(err.without_message().to_string(), "the API answered 422 to PATCH /orders/7");
    let boxed: Box<dyn std::error::Error + Send + Sync> = api.get("/").send().await.unwrap_err().into();
    assert!(boxed.downcast_ref::<ApiError>().is_some());
}

#[tokio::test]
async fn a_post_that_broke_is_sent_again_where_the_api_knows_it_by_its_key() {
    for idempotency in [Some(HeaderName::from_static("idempotency-key")), None] {
        let named = idempotency.is_some();
        let keys = Arc::<Mutex<Vec<Option<String>>>>::default();
        let (seen, facts) = (Arc::clone(&keys), Facts { idempotency, ..Facts::default() });
        let api = api(facts, move |request: Seen<body::Body>| {
            let key = request.headers().get("idempotency-key").map(|key| key.to_str().unwrap().to_owned());
            let mut keys = seen.lock().unwrap();
            keys.push(key);
            let fails = keys.len() % 2 == 1;
            std::future::ready(if fails { StatusCode::BAD_GATEWAY.into_response() } else { "{}".into_response() })
        })
        .await;
        assert_eq!(api.post("/orders").send().await.is_ok(), named);
        let first = std::mem::take(&mut *keys.lock().unwrap());
        if named {
            assert!(first.len() == 2 && first[0] == first[1] && first[0].as_ref().unwrap().len() == 36, "{first:?}");
            api.patch("/orders").send().await.unwrap();
            assert_ne!(keys.lock().unwrap()[0], first[0], "another request has another key");
        } else {
            assert_eq!(first, [None]);
        }
        keys.lock().unwrap().clear();
        // A key of the job's own goes along; the API is not known to look at it, so that the request is not sent again.
        assert_eq!(api.post("/orders").idempotency_key("order-17").send().await.is_ok(), named);
        assert_eq!(keys.lock().unwrap()[0].as_deref(), Some("order-17"));
        keys.lock().unwrap().clear();
        api.put("/orders").send().await.unwrap();
        assert_eq!(*keys.lock().unwrap(), [None, None], "a PUT needs no key");
    }
}

#[tokio::test]
async fn a_stream_is_sent_once_and_the_error_says_what_to_do() {
    let s = Setting::new(Facts::default(), |_, request| match token(&request) {
        "Bearer a0" => StatusCode::UNAUTHORIZED.into_response(),
        _ => "{}".into_response(),
    })
    .await;
    let put = || s.api.put("/file").body_stream("text/plain", pieces(&["x"]));
    let err = put().send().await.unwrap_err();
    assert!(err.to_string().contains("PUT /file cannot be sent: its body was a stream that is gone"), "{err}");
    // The token was renewed for the next one.
    put().send().await.unwrap();
    assert_eq!(s.calls().len(), 2);
}

#[tokio::test]
async fn no_more_requests_go_on_at_a_time_than_the_api_serves() {
    let (now, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let (seen, peak) = (Arc::clone(&now), Arc::clone(&most));
    let facts = Facts { limits: Limits { concurrent: Some(2), ..Limits::default() }, ..Facts::default() };
    let api = api(facts, move |_| {
        let (now, most) = (Arc::clone(&seen), Arc::clone(&peak));
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // Every other request that may come has time to.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            now.fetch_sub(1, Ordering::SeqCst);
            "{}".into_response()
        }
    })
    .await;
    let other = api.with(api.keeper().clone());
    let mut tasks = tokio::task::JoinSet::new();
    for at in 0..12 {
        tasks.spawn(if at % 2 == 0 { &api } else { &other }.get("/").send());
    }
    assert!(tasks.join_all().await.iter().all(Result::is_ok));
    assert_eq!(most.load(Ordering::SeqCst), 2, "both places are used, and no third");
    // A body that is still read has its place.
    let (one, two) = (api.get("/").stream().await.unwrap(), api.get("/").stream().await.unwrap());
    let third = tokio::spawn(api.get("/").send());
    tokio::task::yield_now().await;
    assert!(!third.is_finished());
    drop((one, two));
    third.await.unwrap().unwrap();
}
