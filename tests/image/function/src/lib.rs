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
    // The folder of static files lies where the program starts.
    let note = async || std::fs::read_to_string("assets/note.txt").unwrap_or_else(|error| error.to_string());
    Ok(Router::new().route("/", get(fetch)).route("/note", get(note)))
}
