//! `/proxy/{path}`: the provider's API, for a sibling function that never sees a token.

use std::sync::Arc;

use axum::{
    body::{Body, to_bytes},
    extract::State,
    response::{IntoResponse, Response},
    routing::{self, MethodRouter},
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};

use super::{
    App, State as AppState,
    reply::{Asked, problem},
};
use crate::{
    api::{ApiError, Forward, Payload},
    guard::{ApiPath, Door},
    store::DEFAULT_ACCOUNT,
};

/// The longest body that is held back, so that it can be sent again with a new token.
const HELD: usize = 64 << 10;

/// Who names another account than `default`, names it here: the query is the API's.
const ACCOUNT: HeaderName = HeaderName::from_static("x-etl-oauth-account");

/// What concerns one connection alone (RFC 9110 §7.6.1).
const HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What the caller or the platform told this function, and not the API: how a caller proves who it is would let the API prove
/// the same. Some servers take another method from a header, and another host or path from others: what was allowed would not
/// be what is done.
const OURS: [&str; 22] = [
    "authorization",
    "cookie",
    "dpop",
    "expect",
    "forwarded",
    "host",
    "signature",
    "signature-input",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
    "x-api-key",
    "x-call-id",
    "x-callback-url",
    "x-etl-oauth-account",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
    "x-start-time",
];

/// Any method, but for those that are of connections: a server answers TRACE with the request itself, token and all.
pub(super) fn methods() -> MethodRouter<Arc<App>> {
    routing::any(pass).trace(never).connect(never)
}

async fn never(state: AppState, asked: Asked) -> Response {
    let mut response = super::not_allowed(state, asked).await;
    let methods = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    response.headers_mut().insert(header::ALLOW, methods);
    response
}

/// Whatever `proxy_allow` allows on this path.
pub(super) async fn pass(State(app): AppState, asked: Asked, request: Request<Body>) -> Result<Response, Response> {
    let (parts, body) = request.into_parts();
    let (signed, body) = app.signed_part(&asked, body).await?;
    app.admit_caller(Door::Proxy, &asked, &signed, app.config.proxy_allow.proxy()).await?;
    pass_on(&app, &asked, Request::from_parts(parts, body)).await
}

/// The same for a caller who is let in.
pub(super) async fn pass_on(app: &App, asked: &Asked, request: Request<Body>) -> Result<Response, Response> {
    let (parts, body) = request.into_parts();
    let asked_for = parts.uri.path().strip_prefix("/proxy/");
    let depth = asked_for.map_or(0, |path| path.matches('/').count());
    let path = asked_for.and_then(ApiPath::read);
    let Some(path) = path.filter(|path| app.config.proxy_allow.allows(&parts.method, path)) else {
        let words = (
            "The proxy does not do this",
            "proxy_allow has no entry for this method and path",
            "Ask whoever operates this function to add `METHOD /path` to proxy_allow.",
        );
        return Err(asked.problem(app, &problem("not_allowed", StatusCode::FORBIDDEN, words)));
    };
    let account = parts.headers.get(ACCOUNT).map_or(Some(DEFAULT_ACCOUNT), |name| name.to_str().ok());
    let keeper = app.keeper(asked, account.unwrap_or_default())?;
    let failed = |err: ApiError| app.api_failed(asked, &err);
    let api = app.api(keeper).map_err(failed)?;
    let body = payload(&parts.headers, body).await.map_err(|()| {
        let words = ("The body broke off", "it ended before its length", "Send the request again.");
        asked.problem(app, &problem("bad_body", StatusCode::BAD_REQUEST, words))
    })?;
    let mut headers = without_hops(parts.headers);
    remove(&mut headers, |name| OURS.contains(&name) || name.starts_with("x-forwarded-"));
    let forward = Forward {
        method: parts.method,
        path: path.segments().to_vec(),
        query: parts.uri.query().map(str::to_owned),
        headers,
        body,
    };
    let forwarded = api.forward(forward).await.map_err(failed)?;
    let (parts, body) = forwarded.answer.into_parts();
    let mut headers = without_hops(parts.headers);
    headers.remove(header::SET_COOKIE);
    if let Some(place) = forwarded.leads_to.and_then(|place| HeaderValue::try_from(back_here(depth, &place)).ok()) {
        headers.insert(header::LOCATION, place);
    }
    // What a token was needed for is nothing for a cache that nobody told so.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = parts.status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// A place below the API's base URL as one of the proxy: relative, for callers come by more than one address.
fn back_here(depth: usize, place: &str) -> String {
    let up = if depth == 0 { "./".to_owned() } else { "../".repeat(depth) };
    up + place
}

/// A short body, held; else the stream itself.
async fn payload(headers: &HeaderMap, body: Body) -> Result<Payload, ()> {
    let length = match headers.get(header::CONTENT_LENGTH) {
        Some(length) => length.to_str().ok().and_then(|length| length.parse::<usize>().ok()),
        None if headers.contains_key(header::TRANSFER_ENCODING) => None,
        None => Some(0),
    };
    match length {
        Some(length) if length <= HELD => to_bytes(body, HELD).await.map(Payload::Whole).map_err(|_| ()),
        _ => Ok(Payload::Stream(reqwest::Body::wrap_stream(body.into_data_stream()))),
    }
}

/// The headers without those of the connection, and those that `Connection` names.
fn without_hops(mut headers: HeaderMap) -> HeaderMap {
    let named: Vec<_> = headers.get_all(header::CONNECTION).iter().cloned().collect();
    for name in named.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')) {
        headers.remove(name.trim());
    }
    remove(&mut headers, |name| HOP.contains(&name));
    headers
}

/// Removes what goes no further. Requests have few headers: looking at those is less work than at each that there could be.
fn remove(headers: &mut HeaderMap, goes: impl Fn(&str) -> bool) {
    let gone: Vec<_> = headers.keys().filter(|name| goes(name.as_str())).cloned().collect();
    gone.iter().for_each(|name| drop(headers.remove(name)));
}

impl App {
    /// What a sibling is told when there is no token or no answer.
    pub(super) fn api_failed(&self, asked: &Asked, err: &ApiError) -> Response {
        let status = match err {
            ApiError::Limited { .. } => StatusCode::TOO_MANY_REQUESTS,
            err => err.status(),
        };
        let words = ("The API cannot be used", &*err.to_string(), err.next_step());
        let mut response = asked.problem(self, &problem(err.code(), status, words)).into_response();
        if let Some(wait) = err.retry_after() {
            response.headers_mut().insert(header::RETRY_AFTER, wait.as_secs().max(1).into());
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use axum::{Router, extract::FromRequestParts, routing::any};
    use http::Method;
    use jiff::Timestamp;

    use super::*;
    use crate::{
        Config, Function,
        token::{Answer, AnswerShape},
    };

    type Seen = Arc<Mutex<Vec<String>>>;

    /// A function whose provider and API are on loopback; what the API saw, a line a request.
    async fn function() -> (Arc<App>, Seen, tempfile::TempDir) {
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
                ("/api/v2/nonce", _) => {
                    let headers = [("dpop-nonce", "n"), ("www-authenticate", r#"DPoP error="use_dpop_nonce""#)];
                    (StatusCode::UNAUTHORIZED, headers).into_response()
                }
                ("/api/v2/moved/x", _) => (StatusCode::FOUND, [("location", "../new?a=b")]).into_response(),
                ("/api/v2/top", _) => (StatusCode::FOUND, [("location", "/api/v3")]).into_response(),
                ("/api/v2/out", _) => (StatusCode::FOUND, [("location", "/login")]).into_response(),
                ("/api/v2/away", _) => (StatusCode::FOUND, [("location", "http://127.0.0.1:1/")]).into_response(),
                ("/api/v2/fast", _) => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "99")]).into_response(),
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
        let config = Config::read(|name| match name {
            "provider" => Some("custom".into()),
            "public_url" => Some("https://g.example/function/etl-oauth".into()),
            "authorize_url" => Some(format!("{url}/authorize")),
            "token_url" => Some(format!("{url}/token")),
            "api_url" => Some(format!("{url}/api")),
            "store" => Some("file".into()),
            "store_path" => Some(folder.path().join("store").display().to_string()),
            "allow_ephemeral_store" => Some("true".into()),
            "secret_mount_path" => Some(folder.path().display().to_string()),
            "proxy_allow" => Some("GET /v2/*, POST /v2/*, PROPFIND /v2/*".into()),
            _ => None,
        });
        let app = Function::new(config.unwrap()).await.unwrap().0;
        let old = br#"{"access_token":"old","refresh_token":"r1","expires_in":3600}"#;
        let keeper = app.keepers.get(DEFAULT_ACCOUNT).unwrap();
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
        match pass_on(app, &asked, Request::from_parts(parts, body)).await {
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
        assert!(kept.contains_key("x-kept") && kept["cache-control"] == "no-store");
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
        let keeper = app.keepers.get(DEFAULT_ACCOUNT).unwrap();
        let bound = br#"{"access_token":"old","refresh_token":"r1","expires_in":3600,"token_type":"DPoP"}"#;
        let bound_to = crate::grant::SigningKey::generate().unwrap().to_text();
        let answer = Answer { bound_to, ..AnswerShape::default().read(bound).unwrap() };
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
}
