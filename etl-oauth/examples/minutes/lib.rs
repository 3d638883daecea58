//! Reads the day's meetings from one provider and posts them at another: two connections of one function.

use etl_oauth::{BoxError, Handler, job::Context};
use serde_json::{Value, json};

#[derive(Default, serde::Deserialize)]
struct Input {
    channel: Option<String>,
}

#[derive(serde::Serialize)]
struct Posted {
    meetings: usize,
}

async fn minutes(context: Context, input: Input) -> Result<Posted, BoxError> {
    // The job runs for the accounts of `job_connection=google`; the other API is that of the same account at `slack`.
    let slack = context.api_of("slack").await?;
    let day = context.now.to_string();
    let events = context.api.get("/calendar/v3/calendars/primary/events").query("timeMin", &day);
    let events: Value = events.query("maxResults", "20").json().await?;
    let titles = events["items"].as_array().into_iter().flatten().filter_map(|event| event["summary"].as_str());
    let titles: Vec<String> = titles.map(|title| format!("• {title}")).collect();
    if !titles.is_empty() {
        let text = titles.join("\n");
        let message = json!({ "channel": input.channel.unwrap_or("#general".into()), "text": text });
        slack.post("/chat.postMessage").body_json(&message).send().await?;
    }
    Ok(Posted { meetings: titles.len() })
}

pub async fn handler() -> Result<Handler, BoxError> {
    etl_oauth::with(minutes).await
}

#[cfg(test)]
mod tests;
