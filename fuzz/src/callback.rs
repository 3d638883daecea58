use std::sync::LazyLock;

use axum::{Router, body::Body};
use etl_oauth::{Config, Function};
use http::{HeaderMap, Request, header};
use http_body_util::BodyExt;
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;

struct Stage {
    runtime: Runtime,
    function: Router,
}

// Nobody listens at port 1: what gets as far as the provider fails there.
static STAGE: LazyLock<Stage> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let config = Config::read(|name| {
        let value = match name {
            "provider" => "custom",
            "issuer" => "http://127.0.0.1:1",
            "authorize_url" => "http://127.0.0.1:1/authorize",
            "token_url" => "http://127.0.0.1:1/token",
            "api_url" | "gateway_url" => "http://127.0.0.1:1",
            "public_url" => "http://127.0.0.1:8080/function/fuzz",
            "secret_mount_path" => crate::SECRETS,
            // What was used up is forgotten at its end, and there is room for so many at a time.
            "state_lifetime" => "1s",
            "enable_auth" => "first_visit",
            _ => return None,
        };
        Some(value.to_owned())
    })
    .unwrap();
    let function = runtime.block_on(Function::new(config)).unwrap().router();
    Stage { runtime, function }
});

/// The query of a callback; in it `STATE` stands for the state of an authorisation that this browser has begun. It is
/// refused with a page or with JSON, and neither shows a secret, nor has markup that the query brought along.
pub fn callback(data: &[u8]) {
    let Ok(query) = std::str::from_utf8(data) else { return };
    if query.len() > 8192 {
        return;
    }
    let Some(page) = arrive(query, "text/html") else { return };
    let harmless = query.replace("%3C", "_").replace("%3c", "_").replace('<', "_");
    if harmless != query
        && let Some(other) = arrive(&harmless, "text/html")
    {
        assert_eq!(page.matches('<').count(), other.matches('<').count(), "markup of the query:\n{page}");
    }
    if let Some(json) = arrive(query, "application/json") {
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert!(["error", "message", "next"].iter().all(|name| json[name].is_string()), "{json}");
    }
}

/// The body of the answer; `None` where such a query makes no URL.
fn arrive(query: &str, accept: &str) -> Option<String> {
    let (query, cookies) = if query.contains("STATE") { begun(query) } else { (query.to_owned(), HeaderMap::new()) };
    let mut request = Request::get(format!("/oauth2/callback?{query}")).header(header::ACCEPT, accept);
    request.headers_mut()?.extend(cookies);
    let (status, _, body) = send(request.body(Body::empty()).ok()?);
    assert!(matches!(status, 400 | 403 | 502), "{status}: {body}");
    crate::shows_no_secret(&body);
    Some(body)
}

fn begun(query: &str) -> (String, HeaderMap) {
    let page = Request::get("/enable").header(header::ACCEPT, "text/html").body(Body::empty()).unwrap();
    let (_, headers, html) = send(page);
    let form = cookie(&headers);
    let (_, csrf) = html.split_once("name=\"csrf\" value=\"").expect("a form's token");
    let start = Request::post("/enable")
        .header(header::COOKIE, &form)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::from(format!("csrf={}", csrf.split('"').next().unwrap())))
        .unwrap();
    let (status, headers, body) = send(start);
    assert_eq!(status, 303, "{body}");
    let url: url::Url = headers[header::LOCATION].to_str().unwrap().parse().unwrap();
    let state = url.query_pairs().find(|(name, _)| name == "state").expect("a state").1.into_owned();
    let cookies = HeaderMap::from_iter([(header::COOKIE, cookie(&headers).parse().unwrap())]);
    (query.replace("STATE", &state), cookies)
}

fn cookie(headers: &HeaderMap) -> String {
    headers[header::SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned()
}

fn send(request: Request<Body>) -> (u16, HeaderMap, String) {
    STAGE.runtime.block_on(async {
        let response = STAGE.function.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status.as_u16(), parts.headers, String::from_utf8(body.into()).expect("text"))
    })
}
