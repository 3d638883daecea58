//! The client against a server on loopback. Time stands still but where the client waits.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::{Json, Router, extract::Query, response::IntoResponse, routing::get};
use http::{StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

mod bodies;
mod extras;
mod setting;

use setting::Setting;

use super::*;
use crate::{
    provider::{Definition, Overrides, Provider},
    token::Mark,
};

const START: Timestamp = Timestamp::constant(1_800_000_000, 0);

fn token(request: &http::Request<axum::body::Body>) -> &str {
    request.headers()["authorization"].to_str().unwrap()
}

#[tokio::test]
async fn a8_many_401s_with_one_token_are_one_renewal_and_one_more_try_each() {
    let s = Setting::new(Facts::default(), |_, request| match token(&request) {
        "Bearer a1" => "{}".into_response(),
        _ => StatusCode::UNAUTHORIZED.into_response(),
    })
    .await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..19 {
        tasks.spawn(s.api.get("/x").json::<Value>());
    }
    assert!(tasks.join_all().await.iter().all(Result::is_ok));
    assert_eq!(s.renewals.load(Ordering::SeqCst), 1);
    assert!(s.calls().len() <= 38 && s.calls().iter().all(|call| call.starts_with("GET /v1/x ")));
}

#[tokio::test]
async fn e4_a_401_with_the_renewed_token_is_reported_and_not_looped_on() {
    let s = Setting::new(Facts::default(), |_, _| StatusCode::UNAUTHORIZED.into_response()).await;
    let err = s.api.get("x").send().await.unwrap_err();
    assert!(matches!(err, ApiError::Refused { .. }), "{err}");
    assert_eq!((s.calls().len(), s.renewals.load(Ordering::SeqCst)), (2, 1));
}

#[tokio::test]
async fn f10_another_status_can_say_that_the_token_has_ended() {
    let facts = Facts { expired: vec![StatusCode::FORBIDDEN], ..Facts::default() };
    let s = Setting::new(facts, |_, request| match token(&request) {
        "Bearer a0" => StatusCode::FORBIDDEN.into_response(),
        _ => "{}".into_response(),
    })
    .await;
    s.api.get("x").send().await.unwrap();
    assert_eq!(s.renewals.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn f10_the_body_of_a_success_can_say_so_too() {
    let ended = Mark { at: "status".into(), is: vec!["401".into()], ..Mark::default() };
    let facts = Facts { expired_in: vec![ended], ..Facts::default() };
    let s = Setting::new(facts, |_, request| match token(&request) {
        "Bearer a0" => r#"{"status":401}"#.into_response(),
        _ => r#"{"status":0}"#.into_response(),
    })
    .await;
    assert_eq!(&s.api.get("x").send().await.unwrap().body[..], br#"{"status":0}"#);
    assert_eq!(s.renewals.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn h13_a_code_in_a_500_or_a_403_says_that_the_token_has_ended_and_other_codes_do_not() {
    for status in [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::FORBIDDEN] {
        let ended = Mark { at: "error.code".into(), is: vec!["14".into()], ..Mark::default() };
        let facts = Facts { expired_in: vec![ended], ..Facts::default() };
        let s = Setting::new(facts, move |_, request| match (token(&request), request.uri().path()) {
            ("Bearer a0", "/v1/x") => (status, r#"{"error":{"code":14}}"#).into_response(),
            ("Bearer a1", "/v1/x") => "{}".into_response(),
            _ => (status, r#"{"error":{"code":15}}"#).into_response(),
        })
        .await;
        s.api.get("x").send().await.unwrap();
        assert_eq!((s.renewals.load(Ordering::SeqCst), s.calls().len()), (1, 2), "{status}");
        let err = s.api.get("y").send().await.unwrap_err();
        assert!(matches!(err, ApiError::Status { .. }), "{err}");
        assert_eq!(s.renewals.load(Ordering::SeqCst), 1, "another code is no end");
    }
}

#[tokio::test]
async fn h12_a_limit_that_the_body_of_a_200_tells_is_waited_for() {
    let told_in = vec![Mark { at: "status".into(), is: vec!["429".into()], ..Mark::default() }];
    let facts = Facts { limits: Limits { told_in, ..Limits::default() }, ..Facts::default() };
    let s = Setting::new(facts, |count, _| match count {
        1 => ([("retry-after", "20")], r#"{"status":429}"#).into_response(),
        _ => r#"{"status":200}"#.into_response(),
    })
    .await;
    assert_eq!(&s.api.post("x").send().await.unwrap().body[..], br#"{"status":200}"#);
    assert_eq!((s.waits(), s.calls().len()), (vec![21.0], 2));
}

#[tokio::test]
async fn o7_a_403_for_want_of_a_scope_is_told_as_such_and_asks_for_no_other_token() {
    let challenge = "Bearer realm=\"x\", error=\"insufficient_scope\", scope=\"reports.read\"";
    let s = Setting::new(Facts::default(), move |_, _| {
        (StatusCode::FORBIDDEN, [(header::WWW_AUTHENTICATE, challenge)]).into_response()
    })
    .await;
    let err = s.api.get("x").send().await.unwrap_err();
    assert!(err.to_string().contains("reports.read is wanted"), "{err}");
    assert_eq!((err.code(), err.status()), ("insufficient_scope", StatusCode::CONFLICT));
    assert!(err.next_step().contains("authorise again"));
    assert_eq!((s.calls().len(), s.renewals.load(Ordering::SeqCst)), (1, 0));
}

#[tokio::test]
async fn a_refusal_for_going_too_fast_is_waited_for_whatever_the_method() {
    let s = Setting::new(Facts::default(), |count, _| match count {
        1 => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "20")]).into_response(),
        _ => "{}".into_response(),
    })
    .await;
    s.api.post("x").body("text/plain", "body").send().await.unwrap();
    assert_eq!(s.waits(), [21.0], "a tenth, or a second, apart from the others");
    assert_eq!(s.calls().len(), 2);
}

#[tokio::test]
async fn a_limit_that_lasts_longer_than_patience_is_told_to_all_callers_without_a_call() {
    let s = Setting::new(Facts::default(), |_, _| {
        (StatusCode::TOO_MANY_REQUESTS, [("x-ratelimit-reset", "1800000900")]).into_response()
    })
    .await;
    let err = s.api.get("x").send().await.unwrap_err();
    assert_eq!(err.retry_after().unwrap().as_secs(), 901);
    assert!(s.api.with(s.api.keeper().clone()).get("y").send().await.is_err());
    assert_eq!(s.calls().len(), 1);
}

#[tokio::test]
async fn a_server_that_fails_is_asked_again_where_that_is_safe() {
    let s = Setting::new(Facts::default(), |count, request| match (count, request.method().as_str()) {
        (1 | 2, "GET") | (_, "POST") => StatusCode::BAD_GATEWAY.into_response(),
        _ => "{}".into_response(),
    })
    .await;
    s.api.get("x").send().await.unwrap();
    assert_eq!(s.waits(), [0.5, 1.0]);
    assert!(s.api.post("x").send().await.is_err());
    assert_eq!(s.calls().len(), 4, "the POST was sent once");
}

#[tokio::test]
async fn what_was_never_sent_is_sent_again_whatever_the_method() {
    let unused = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (api, _, waits) = Setting::client(format!("http://{unused}").parse().unwrap(), Facts::default()).await;
    let err = api.post("x").send().await.unwrap_err();
    assert!(matches!(err, ApiError::Unreachable { timed_out: false, .. }), "{err}");
    assert!(err.to_string().contains(&format!("{unused} refused the connection")), "o6: {err}");
    assert_eq!(waits.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn what_broke_after_it_was_sent_is_not_sent_again_unless_it_is_safe() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let mut some = [0; 16];
            let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut some).await;
        }
    });
    let (api, ..) = Setting::client(base, Facts::default()).await;
    assert!(api.post("x").send().await.is_err());
    assert_eq!(taken.load(Ordering::SeqCst), 1);
    assert!(api.get("x").send().await.is_err());
    assert_eq!(taken.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn pages_are_walked_and_the_next_is_fetched_while_one_is_read() {
    let s = Setting::new(Facts::default(), |count, _| {
        let link = format!("<?page={}>; rel=\"next\"", count + 1);
        let links = (count < 3).then_some([(header::LINK, link)]);
        (links.map(axum::response::AppendHeaders), format!("[{count}]")).into_response()
    })
    .await;
    let mut pages = s.api.get("/list?size=1").pages(Paging::Link, 10);
    let mut read = Vec::new();
    while let Some(page) = pages.next().await {
        read.push(page.unwrap().json::<[u32; 1]>().unwrap()[0]);
        // The next page is fetched before it is asked for, and no further one is.
        let wanted = (read.len() + 1).min(3);
        while s.calls().len() < wanted {
            tokio::task::yield_now().await;
        }
        assert_eq!(s.calls().len(), wanted);
    }
    assert_eq!(read, [1, 2, 3]);
    assert_eq!(s.calls()[2], "GET /v1/list?page=3 Bearer a0");
}

#[tokio::test]
async fn a_next_page_or_a_redirect_at_another_origin_never_gets_the_token() {
    let seen = Arc::<AtomicUsize>::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = format!("http://{}/", listener.local_addr().unwrap());
    let count = Arc::clone(&seen);
    let router = Router::new().fallback(get(move || {
        count.fetch_add(1, Ordering::SeqCst);
        std::future::ready("{}")
    }));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let to = other.clone();
    let s = Setting::new(Facts::default(), move |_, request| match request.uri().path() {
        "/v1/list" => Json(json!({ "next": to })).into_response(),
        "/v1/near" => (StatusCode::FOUND, [(header::LOCATION, "/v1/there")]).into_response(),
        "/v1/there" => "{}".into_response(),
        _ => (StatusCode::FOUND, [(header::LOCATION, to.clone())]).into_response(),
    })
    .await;
    let mut pages = s.api.get("list").pages(Paging::NextUrl { next: "next".into() }, 10);
    assert!(pages.next().await.unwrap().is_ok());
    assert_eq!(pages.next().await.unwrap().unwrap_err(), ApiError::Elsewhere { path: "list".into() });
    assert!(pages.next().await.is_none());
    let err = s.api.get("away").send().await.unwrap_err();
    assert!(matches!(err, ApiError::Status { status: StatusCode::FOUND, .. }), "{err}");
    s.api.get("near").send().await.unwrap();
    assert_eq!(seen.load(Ordering::SeqCst), 0);
    let refused = s.api.get(&format!("//{}", other.trim_start_matches("http://"))).send().await;
    assert!(refused.is_err() && seen.load(Ordering::SeqCst) == 0, "a path is a path");
}

#[tokio::test]
async fn pages_that_run_in_a_circle_or_have_no_end_are_an_error() {
    let s = Setting::new(Facts::default(), |count, request| {
        let Query(query): Query<BTreeMap<String, String>> = Query::try_from_uri(request.uri()).unwrap();
        let next = if query.contains_key("circle") { count % 2 } else { count };
        Json(json!({ "next": next, "again": query.get("c") })).into_response()
    })
    .await;
    let cursor = Paging::Cursor {
        parameter: "c".into(),
        next: Some("next".into()),
        last: None,
        more: None,
        records: String::new(),
    };
    for (path, why, most) in [("list?circle=1", "circle", 3), ("list", "too many", 5)] {
        let mut pages = s.api.get(path).pages(cursor.clone(), 5);
        let mut count = 0;
        let err = loop {
            match pages.next().await.unwrap() {
                Ok(_) => count += 1,
                Err(err) => break err,
            }
        };
        assert!(err.to_string().contains(why) && count <= most, "{err} after {count}");
    }
}

#[tokio::test]
async fn compressed_answers_are_read_and_headers_go_as_the_api_wants_them() {
    // `{"ok":true}`, by gzip.
    const ZIPPED: &[u8] = &[
        0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 3, 0xab, 0x56, 0xca, 0xcf, 0x56, 0xb2, 0x2a, 0x29, 0x2a, 0x4d, 0xad, 5, 0,
        0x90, 0x5f, 0xd4, 0xa7, 0x0b, 0, 0, 0,
    ];
    let facts = Facts {
        header: HeaderName::from_static("x-token"),
        prefix: "token ".into(),
        headers: HeaderMap::from_iter([(HeaderName::from_static("x-version"), HeaderValue::from_static("7"))]),
        ..Facts::default()
    };
    let s = Setting::new(facts, |_, request| {
        let headers = request.headers();
        assert!(headers["accept-encoding"].to_str().unwrap().contains("gzip"));
        assert!(headers["x-token"] == "token a0" && headers["x-version"] == "7");
        ([(header::CONTENT_ENCODING, "gzip")], ZIPPED).into_response()
    })
    .await;
    let answer: Result<Value, _> = s.api.get("x").json().await;
    assert_eq!(answer.unwrap(), json!({ "ok": true }));
}

#[tokio::test]
async fn an_account_can_have_its_api_at_a_host_of_its_own_and_headers_are_filled_in() {
    let text = "token_url = 'https://p.example/token'\napi_url = '{instance}/api'\n\
        [variables.instance]\nkind = 'origin'\nfrom = 'answer'\nhosts = ['*.acme.example']\n\
        [api]\nheader = 'X-Token'\nscheme = ''\n[api.headers]\nClient-Id = '{client_id}'\n\
        [api.limits]\nremaining = 'X-Left'\nreset = 'X-Reset'\nreset_unit = 'milliseconds'\n\
        [api.paging]\nstyle = 'link'\n";
    let definition = Definition::read("acme.toml", text).unwrap();
    let provider = Provider::new("custom", definition, Overrides::default()).unwrap();
    let facts = Facts::of(&provider, "my-app").unwrap();
    assert_eq!(facts.headers["client-id"], "my-app");
    assert_eq!((facts.header.as_str(), facts.prefix.as_str()), ("x-token", ""));
    let headers = HeaderMap::from_iter(
        [("x-left", "3"), ("x-reset", "1500")]
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))),
    );
    assert_eq!(facts.limits.left(&headers, START), Some((3, START + SignedDuration::from_millis(1500))));
    let (other, ..) = Setting::client("https://api.example".parse().unwrap(), Facts::default()).await;
    let keeper = other.keeper().clone();
    let api = Api::of(Arc::new(provider), "my-app", keeper).unwrap();
    assert_eq!(api.paging(), Some(Paging::Link));
}
