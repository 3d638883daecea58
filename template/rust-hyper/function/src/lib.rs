//! The function: `handler` is called once, and what it returns answers each call.
use std::path::Path;

use axum::{Router, routing::get};

/// Called once, before the function is ready. An error ends the process with its message.
pub async fn handler() -> Result<Router, Box<dyn std::error::Error + Send + Sync>> {
    // Secrets are files; `secret_mount_path` says where, if not here.
    let secrets = std::env::var("secret_mount_path").unwrap_or("/var/openfaas/secrets".to_owned());
    let greeting = match std::fs::read_to_string(Path::new(&secrets).join("greeting")) {
        Ok(secret) => secret.trim().to_owned(),
        Err(_) => "hello".to_owned(), // the stack file lists no such secret
    };
    Ok(Router::new().route("/", get(async move || format!("{greeting}\n"))))
}

#[cfg(test)]
#[tokio::test]
async fn greets() {
    use tower::ServiceExt;
    let call = axum::http::Request::get("/").body(String::new()).unwrap();
    let answer = handler().await.unwrap().oneshot(call).await.unwrap();
    assert_eq!(answer.status(), 200);
}
