//! A function: called once at start, it returns the service that answers each call.
use axum::{Router, routing::get};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Called once, before the function is ready.
pub async fn handler() -> Result<Router, BoxError> {
    Ok(Router::new().route("/", get(async || "hello\n")))
}
