//! What the body of an answer tells, where the provider's definition names signs in it.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;

use super::*;

const SIGNS: &str = "
[api]
expired_in = { at = 'status', is = ['14'] }
[[api.limits.told_in]]
at = 'status'
is = ['429']
[[api.limits.told_in]]
at = '/error/text'
has = ['too many requests']
";

/// A body that begins and never ends.
struct Drip(Option<Bytes>);

impl Stream for Drip {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.take().map_or(Poll::Pending, |first| Poll::Ready(Some(Ok(first))))
    }
}

/// The API's answer at `/api/v2/told/STATUS`: the request's own body for the old token, and `fine` for a new one.
pub(super) fn told(path: &str, token: &str, headers: &HeaderMap, body: Bytes) -> Response {
    let (_, what) = path.rsplit_once('/').unwrap();
    let seen = headers.get(header::ACCEPT_ENCODING).map_or("none", |coding| coding.to_str().unwrap()).to_owned();
    let headers = [("content-type", "application/json; charset=utf-8".to_owned()), ("x-seen-encoding", seen)];
    match (what, token) {
        ("drip", _) => ([("content-type", "text/event-stream")], Body::from_stream(Drip(Some(body)))).into_response(),
        (status, "Bearer old") => (StatusCode::from_bytes(status.as_bytes()).unwrap(), headers, body).into_response(),
        _ => (headers, r#"{"fine":true}"#).into_response(),
    }
}

async fn post(app: &App, status: &str, body: &str) -> Response {
    let length = body.len().to_string();
    let headers = [("content-length", &*length), ("accept-encoding", "gzip")];
    ask(app, Method::POST, &format!("/proxy/v2/told/{status}"), &headers, body.to_owned().into()).await
}

async fn text(answer: Response) -> (u16, String) {
    let status = answer.status().as_u16();
    let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn h13_the_end_of_a_token_that_a_body_tells_the_proxy_is_renewed_and_the_request_sent_again() {
    for status in ["500", "403", "200"] {
        let (app, seen, _folder) = defined(SIGNS).await;
        let answer = post(&app, status, r#"{"status":14}"#).await;
        assert_eq!(answer.headers()["x-seen-encoding"], "none", "a compressed body would tell nothing");
        assert_eq!(text(answer).await, (200, r#"{"fine":true}"#.to_owned()), "{status}");
        assert_eq!(seen.lock().unwrap().len(), 2);
    }
    // Another code is the caller's, as it came.
    let (app, seen, _folder) = defined(SIGNS).await;
    assert_eq!(text(post(&app, "500", r#"{"status":15}"#).await).await, (500, r#"{"status":15}"#.to_owned()));
    assert_eq!(
        (seen.lock().unwrap().len(), app.home().keepers.get(DEFAULT_ACCOUNT).unwrap().state().as_str()),
        (1, "enabled")
    );
}

#[tokio::test]
async fn h12_a_limit_that_a_body_tells_the_proxy_is_kept_from_then_on() {
    for (status, body) in [("200", r#"{"status":429}"#), ("403", r#"{"error":{"text":"Too many requests, wait"}}"#)] {
        let (app, seen, _folder) = defined(SIGNS).await;
        let answer = post(&app, status, body).await;
        assert_eq!(text(answer).await, (status.parse().unwrap(), body.to_owned()), "the answer is the caller's");
        let next = post(&app, status, body).await;
        assert!(next.status() == StatusCode::TOO_MANY_REQUESTS && next.headers().contains_key("retry-after"));
        assert_eq!(seen.lock().unwrap().len(), 1, "the limit is known, and told without a call");
    }
}

#[tokio::test]
async fn h12_h13_long_bodies_and_streams_go_through_the_proxy_as_they_come() {
    let (app, seen, _folder) = defined(SIGNS).await;
    let long = format!(r#"{{"status":14,"data":"{}"}}"#, "x".repeat(40 << 10));
    assert_eq!(text(post(&app, "200", &long).await).await, (200, long));
    let mut answer = post(&app, "drip", "data: first\n\n").await.into_body();
    let first = std::future::poll_fn(|cx| http_body_poll(&mut answer, cx));
    let first = tokio::time::timeout(Duration::from_secs(10), first).await.unwrap();
    assert_eq!(first.unwrap(), "data: first\n\n");
    assert_eq!(seen.lock().unwrap().len(), 2, "nothing was renewed or sent again");
    // Where the definition names no signs, bodies are the caller's alone.
    let (app, seen, _folder) = function().await;
    let answer = post(&app, "200", r#"{"status":14}"#).await;
    assert_eq!(answer.headers()["x-seen-encoding"], "gzip");
    assert_eq!((text(answer).await.1, seen.lock().unwrap().len()), (r#"{"status":14}"#.to_owned(), 1));
}

/// The next piece of a body.
fn http_body_poll(body: &mut Body, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
    let frame = axum::body::HttpBody::poll_frame(Pin::new(body), cx);
    frame.map(|frame| frame?.ok()?.into_data().ok())
}
