use std::sync::{
    LazyLock,
    atomic::{AtomicU32, Ordering},
};

use axum::{Router, body::Body};
use etl_oauth::{Config, Function};
use http::{Request, header};
use http_body_util::BodyExt;
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;

struct Stage {
    runtime: Runtime,
    function: Router,
    token: String,
}

static STAGE: LazyLock<Stage> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let config = Config::read(|name| {
        let value = match name {
            "provider" => "gumroad",
            // Links are kept in memory.
            "store" => "gateway",
            "secret_prefix" => "link-",
            "gateway_url" => "http://127.0.0.1:1",
            "public_url" => "http://127.0.0.1:8080/function/fuzz",
            "secret_mount_path" => crate::SECRETS,
            _ => return None,
        };
        Some(value.to_owned())
    })
    .unwrap();
    let function = runtime.block_on(Function::new(config)).unwrap().router();
    let secret = std::fs::read_to_string(format!("{}/link-etl-oauth-operator", crate::SECRETS)).unwrap();
    let make = Request::post("/links")
        .header(header::AUTHORIZATION, format!("Bearer {}", secret.trim()))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(r#"{"account":"default"}"#))
        .unwrap();
    let (status, made) = runtime.block_on(send(&function, make));
    assert_eq!(status, 201, "{made}");
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    let token = made["url"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    Stage { runtime, function, token }
});

/// The token in a link's path. The first byte says what the rest is: `r` a path as it is, `e` changes to the genuine token.
/// Nothing but the token that was made here opens a link, and what is refused shows neither a secret nor the token.
pub fn link_token(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let token = &STAGE.token;
    let tried = match kind {
        b'r' => String::from_utf8_lossy(rest).into_owned(),
        b'e' => String::from_utf8_lossy(&crate::change(token.as_bytes(), rest)).into_owned(),
        _ => return,
    };
    if tried.len() > 8192 {
        return;
    }
    // Who tries often is slowed: each try is another's.
    static TRIES: AtomicU32 = AtomicU32::new(0);
    let number = TRIES.fetch_add(1, Ordering::Relaxed);
    let address = format!("10.{}.{}.{}:1", number >> 16 & 255, number >> 8 & 255, number & 255);
    let request = Request::get(format!("/connect/{tried}")).header("x-forwarded-for", address).body(Body::empty());
    let Ok(request) = request else { return };
    let is_genuine = request.uri().path().strip_prefix("/connect/") == Some(token);
    let (status, body) = STAGE.runtime.block_on(send(&STAGE.function, request));
    assert_eq!(status == 200, is_genuine, "{tried:?}: {status}");
    assert!(matches!(status, 200 | 400 | 404 | 405), "{tried:?}: {status}");
    assert!(is_genuine || !body.contains(token.as_str()), "a refusal shows the token");
    crate::shows_no_secret(&body);
}

async fn send(function: &Router, request: Request<Body>) -> (u16, String) {
    let response = function.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (parts.status.as_u16(), String::from_utf8(body.into()).expect("text"))
}
