mod bodies;

use std::sync::Mutex;

use axum::{Router, extract::FromRequestParts, routing::any};
use http::Method;
use jiff::Timestamp;

use super::*;
use crate::{Config, Function};
use token_keeper::token::{AnswerShape, TokenResponse};

type Seen = Arc<Mutex<Vec<String>>>;

/// A function whose provider and API are on loopback; what the API saw, a line a request.
async fn function() -> (Arc<App>, Seen, tempfile::TempDir) {
    defined("").await
}

/// The same with more in the provider's definition.
async fn defined(more: &str) -> (Arc<App>, Seen, tempfile::TempDir) {
    let seen = Seen::default();
    let lines = Arc::clone(&seen);
    let api = move |request: Request<Body>| async move {
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        if parts.uri.path() == "/token" {
            let token = r#"{"access_token":"new","refresh_token":"r2","token_type":"Bearer","expires_in":3600}"#;
            return token.into_response();
        }
        let names: Vec<_> = parts.headers.keys().map(HeaderName::as_str).collect();
        let token = parts.headers[header::AUTHORIZATION].to_str().unwrap();
        lines.lock().unwrap().push(format!("{} {} {token} {names:?} {}", parts.method, parts.uri, body.len()));
        match (parts.uri.path(), token) {
            ("/api/v2/old", "Bearer old") => StatusCode::UNAUTHORIZED.into_response(),
            (path, _) if path.starts_with("/api/v2/told/") => bodies::told(path, token, &parts.headers, body),
            ("/api/v2/nonce", _) => {
                let headers = [("dpop-nonce", "n"), ("www-authenticate", r#"DPoP error="use_dpop_nonce""#)];
                (StatusCode::UNAUTHORIZED, headers).into_response()
            }
            ("/api/v2/moved/x", _) => (StatusCode::FOUND, [("location", "../new?a=b")]).into_response(),
            ("/api/v2/top", _) => (StatusCode::FOUND, [("location", "/api/v3")]).into_response(),
            ("/api/v2/out", _) => (StatusCode::FOUND, [("location", "/login")]).into_response(),
            ("/api/v2/away", _) => (StatusCode::FOUND, [("location", "http://127.0.0.1:1/")]).into_response(),
            ("/api/v2/fast", _) => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "99")]).into_response(),
            ("/api/v2/loud", _) => {
                let headers = [
                    ("cache-control", "public, max-age=600"),
                    ("expires", "Thu, 01 Dec 2033 16:00:00 GMT"),
                    ("cdn-cache-control", "max-age=600"),
                    ("access-control-allow-origin", "*"),
                    ("access-control-allow-credentials", "true"),
                    ("clear-site-data", "\"cookies\""),
                    ("strict-transport-security", "max-age=63072000; includeSubDomains"),
                    ("content-security-policy", "default-src *"),
                    ("content-security-policy-report-only", "default-src *"),
                    ("cross-origin-opener-policy", "unsafe-none"),
                    ("service-worker-allowed", "/"),
                    ("x-accel-redirect", "/internal"),
                    ("refresh", "0; url=https://evil.example"),
                    ("etag", "\"1\""),
                    ("link", "<x>; rel=next"),
                    ("x-ratelimit-remaining", "7"),
                    ("nelson", "1"),
                ];
                axum::response::AppendHeaders(headers).into_response()
            }
            ("/api/v2/teapot", _) => (StatusCode::IM_A_TEAPOT, "short and stout").into_response(),
            _ => {
                let headers = [
                    ("set-cookie", "session=1"),
                    ("connection", "x-hop"),
                    ("x-hop", "1"),
                    ("x-kept", "1"),
                    ("keep-alive", "timeout=5"),
                ];
                (axum::response::AppendHeaders(headers), body).into_response()
            }
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(any(api))).await });
    let folder = tempfile::tempdir().unwrap();
    for name in ["oauth2-client-id", "oauth2-client-secret"] {
        std::fs::write(folder.path().join(name), "value").unwrap();
    }
    let key = "1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    std::fs::write(folder.path().join("etl-oauth-seal-keys"), key).unwrap();
    let urls = format!("authorize_url = '{url}/authorize'\ntoken_url = '{url}/token'\napi_url = '{url}/api'\n");
    std::fs::write(folder.path().join("here.toml"), urls + more).unwrap();
    let config = Config::read(|name| match name {
        "provider_file" => Some(folder.path().join("here.toml").display().to_string()),
        "public_url" => Some("https://g.example/function/etl-oauth".into()),
        "store" => Some("file".into()),
        "store_path" => Some(folder.path().join("store").display().to_string()),
        "allow_ephemeral_store" => Some("true".into()),
        "sweep" => Some("off".into()),
        "secret_mount_path" => Some(folder.path().display().to_string()),
        "proxy_allow" => Some("GET /v2/*, POST /v2/*, PROPFIND /v2/*".into()),
        _ => None,
    });
    let app = Function::new(config.unwrap()).await.unwrap().0;
    let old = br#"{"access_token":"old","refresh_token":"r1","expires_in":3600}"#;
    let keeper = app.home().keepers.get(DEFAULT_ACCOUNT).unwrap();
    let _ = keeper.authorise(AnswerShape::default().read(old).unwrap(), Timestamp::now()).await;
    (app, seen, folder)
}

async fn ask(app: &App, method: Method, path: &str, headers: &[(&'static str, &str)], body: Body) -> Response {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (mut parts, body) = request.body(body).unwrap().into_parts();
    let asked = Asked::from_request_parts(&mut parts, &()).await.unwrap();
    let named = match app.by_headers(&asked) {
        Ok(named) => named,
        Err(response) => return response,
    };
    match pass_on(app, &asked, (&named, "caller:test"), Request::from_parts(parts, body)).await {
        Ok(response) | Err(response) => response,
    }
}

async fn get(app: &App, path: &str) -> Response {
    ask(app, Method::GET, path, &[], Body::empty()).await
}

#[tokio::test]
async fn the_token_goes_on_and_what_is_not_the_apis_stays_behind() {
    let (app, seen, _folder) = function().await;
    let headers = [
        ("authorization", "Bearer of-the-caller"),
        ("cookie", "a=b"),
        ("dpop", "proof-of-the-caller"),
        ("x-api-key", "secret-of-the-caller"),
        ("webhook-signature", "v1,tag"),
        ("connection", "x-mine"),
        ("x-mine", "1"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-http-method-override", "DELETE"),
        ("x-call-id", "1"),
        ("x-custom", "1"),
        ("content-length", "5"),
    ];
    let answer = ask(&app, Method::POST, "/proxy/v2/echo?a=b%20c", &headers, "hello".into()).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let kept = answer.headers();
    assert!(kept.contains_key("x-kept") && kept["cache-control"] == "private, no-store");
    assert!(
        ["set-cookie", "x-hop", "keep-alive", "connection"].iter().all(|name| !kept.contains_key(*name)),
        "{kept:?}"
    );
    assert_eq!(to_bytes(answer.into_body(), 99).await.unwrap(), "hello");
    let line = seen.lock().unwrap().pop().unwrap();
    assert!(line.starts_with("POST /api/v2/echo?a=b%20c Bearer old ") && line.contains("x-custom"), "{line}");
    for name in
        ["cookie", "dpop", "api-key", "webhook", "x-mine", "forwarded", "override", "x-call-id", "of-the-caller"]
    {
        assert!(!line.contains(name), "{name}: {line}");
    }
}

#[tokio::test]
async fn s10_names_with_underscores_and_those_that_steer_servers_stay_behind_and_the_apis_own_go_on() {
    let (app, seen, _folder) = function().await;
    let steering = [
        "x_http_method_override",
        "x_original_url",
        "x_real_ip",
        "stripe_account",
        "x-http-method-override",
        "x-method-override",
        "x-http-method",
        "x-original-url",
        "x-original-method",
        "x-rewrite-url",
        "x-real-ip",
        "x-forwarded",
        "x-forwarded-host",
        "forwarded",
        "client-ip",
        "true-client-ip",
        "cf-connecting-ip",
        "x-client-ip",
        "x-azure-clientip",
        "x-host",
        "x-envoy-original-path",
        "x-etl-oauth-ticket",
    ];
    let own =
        ["stripe-account", "notion-version", "x-custom", "anthropic-version", "if-none-match", "x-goog-user-project"];
    let headers: Vec<_> = steering.iter().chain(&own).map(|name| (*name, "DELETE")).collect();
    assert_eq!(ask(&app, Method::GET, "/proxy/v2/echo", &headers, Body::empty()).await.status(), StatusCode::OK);
    let line = seen.lock().unwrap().pop().unwrap();
    for name in steering {
        assert!(!line.contains(&format!("{name:?}")), "{name}: {line}");
    }
    for name in own {
        assert!(line.contains(&format!("{name:?}")), "{name}: {line}");
    }
}

#[tokio::test]
async fn s13_an_answer_is_for_its_caller_alone_and_sets_nothing_for_the_origin() {
    let (app, _seen, _folder) = function().await;
    let answer = get(&app, "/proxy/v2/loud").await;
    assert_eq!(answer.status(), StatusCode::OK);
    let mut names: Vec<_> = answer.headers().keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["cache-control", "content-length", "date", "etag", "link", "nelson", "x-ratelimit-remaining"]);
    assert_eq!(answer.headers()["cache-control"], "private, no-store");
}

#[tokio::test]
async fn s3_the_header_makes_no_account_and_two_of_them_name_none() {
    let (app, seen, _folder) = function().await;
    for account in ["x1", "x2"] {
        let named = [("x-etl-oauth-account", account)];
        let answer = ask(&app, Method::GET, "/proxy/v2/echo", &named, Body::empty()).await;
        assert_eq!(answer.status(), StatusCode::CONFLICT);
    }
    let two = [("x-etl-oauth-account", "default"), ("x-etl-oauth-account", "default")];
    assert_eq!(ask(&app, Method::GET, "/proxy/v2/echo", &two, Body::empty()).await.status(), StatusCode::BAD_REQUEST);
    assert!(seen.lock().unwrap().is_empty());
    assert_eq!(app.home().keepers.all().await.len(), 1);
}

#[tokio::test]
async fn a_401_is_renewed_and_the_request_sent_again_if_its_body_can_be() {
    let (app, seen, _folder) = function().await;
    // A body of unknown length streams, and is gone.
    let chunked = [("transfer-encoding", "chunked")];
    let answer = ask(&app, Method::POST, "/proxy/v2/old", &chunked, Body::from("x".repeat(100_000))).await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(seen.lock().unwrap().len(), 1);
    // The next caller profits.
    let answer = ask(&app, Method::POST, "/proxy/v2/old", &[("content-length", "2")], "ab".into()).await;
    assert_eq!((answer.status(), seen.lock().unwrap().len()), (StatusCode::OK, 2));

    let (app, seen, _folder) = function().await;
    let answer = ask(&app, Method::POST, "/proxy/v2/old", &[("content-length", "2")], "ab".into()).await;
    assert_eq!((answer.status(), seen.lock().unwrap().len()), (StatusCode::OK, 2));
    assert_eq!(to_bytes(answer.into_body(), 99).await.unwrap(), "ab");
}

#[tokio::test]
async fn a_stream_that_meets_a_new_nonce_costs_no_token() {
    let (app, seen, _folder) = function().await;
    let keeper = app.home().keepers.get(DEFAULT_ACCOUNT).unwrap();
    let bound = br#"{"access_token":"old","refresh_token":"r1","expires_in":3600,"token_type":"DPoP"}"#;
    let bound_to = token_keeper::grant::SigningKey::generate().unwrap().to_text();
    let answer = TokenResponse { bound_to, ..AnswerShape::default().read(bound).unwrap() };
    let _ = keeper.authorise(answer, Timestamp::now()).await;
    let before = keeper.current().unwrap().record.generation;
    let chunked = [("transfer-encoding", "chunked")];
    let answer = ask(&app, Method::POST, "/proxy/v2/nonce", &chunked, "x".into()).await;
    assert_eq!((answer.status(), seen.lock().unwrap().len()), (StatusCode::UNAUTHORIZED, 1));
    assert_eq!(keeper.current().unwrap().record.generation, before);
    // What can be sent again is, with the nonce, before any token is doubted.
    let short = [("content-length", "1")];
    ask(&app, Method::POST, "/proxy/v2/nonce", &short, "x".into()).await;
    assert!(seen.lock().unwrap().len() >= 3);
}

#[tokio::test]
async fn what_the_api_says_is_passed_on_and_redirects_are_not_followed() {
    let (app, seen, _folder) = function().await;
    let method = Method::from_bytes(b"PROPFIND").unwrap();
    let answer = ask(&app, method, "/proxy/v2/teapot", &[], Body::empty()).await;
    assert_eq!(answer.status(), StatusCode::IM_A_TEAPOT, "any method that is allowed");
    assert!(seen.lock().unwrap().pop().unwrap().starts_with("PROPFIND "));
    let answer = get(&app, "/proxy/v2/teapot").await;
    assert_eq!(answer.status(), StatusCode::IM_A_TEAPOT);
    assert_eq!(to_bytes(answer.into_body(), 99).await.unwrap(), "short and stout");
    let answer = get(&app, "/proxy/v2/away").await;
    assert_eq!(
        (answer.status(), answer.headers()["location"].to_str().unwrap()),
        (StatusCode::FOUND, "http://127.0.0.1:1/")
    );
    assert_eq!(get(&app, "/proxy/v2/fast").await.status(), StatusCode::TOO_MANY_REQUESTS);
    // Now the limit is known, and is told without a call.
    let calls = seen.lock().unwrap().len();
    let answer = get(&app, "/proxy/v2/teapot").await;
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(answer.headers().contains_key("retry-after"));
    assert_eq!(seen.lock().unwrap().len(), calls);
}

#[tokio::test]
async fn a_redirect_within_the_api_leads_back_to_the_proxy_and_any_other_says_its_whole_address() {
    let (app, _seen, _folder) = function().await;
    let place = async |path: &str| get(&app, path).await.headers()["location"].to_str().unwrap().to_owned();
    // As a client of any gateway resolves it.
    let here = |path: &str, place: &str| {
        let asked: url::Url = format!("https://g.example/function/etl-oauth{path}").parse().unwrap();
        asked.join(place).unwrap().to_string()
    };
    for (path, leads_to) in [("/proxy/v2/moved/x", "/proxy/v2/new?a=b"), ("/proxy/v2/top", "/proxy/v3")] {
        let place = place(path).await;
        assert_eq!(here(path, &place), format!("https://g.example/function/etl-oauth{leads_to}"), "{place}");
    }
    let out = place("/proxy/v2/out").await;
    assert!(out.starts_with("http://127.0.0.1:") && out.ends_with("/login"), "{out}");
    assert_eq!(here("/proxy/x", &back_here(0, "y:z")), "https://g.example/function/etl-oauth/proxy/y:z");
}

#[tokio::test]
async fn what_is_not_allowed_never_reaches_the_api() {
    let (app, seen, _folder) = function().await;
    for path in [
        "/proxy/v3/x",
        "/proxy/v2/../v3/x",
        "/proxy/v2/%2e%2e/x",
        "/proxy/v2/%252e%252e/x",
        "/proxy//v2/x",
        "/proxy/v2/a;b",
    ] {
        assert_eq!(get(&app, path).await.status(), StatusCode::FORBIDDEN, "{path}");
    }
    let answer = ask(&app, Method::DELETE, "/proxy/v2/x", &[], Body::empty()).await;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert!(seen.lock().unwrap().is_empty());
}
