//! Fetches `url` and says what came, or why nothing did.
use axum::{Router, extract::Query, routing::get};

// A module of that name is no build output, for .dockerignore neither.
mod target;
use target::Target;

/// Made once: the client reads the roots when it is made.
pub async fn handler() -> Result<Router, Box<dyn std::error::Error + Send + Sync>> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let fetch = async move |Query(target): Query<Target>| match client.get(target.url).send().await {
        Ok(answer) => format!("{}\n", answer.status().as_u16()),
        Err(error) => format!("{error:?}\n"),
    };
    Ok(Router::new().route("/", get(fetch)))
}
