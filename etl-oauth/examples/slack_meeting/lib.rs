//! The Slack command `/meet 2026-12-01T10:00 30 Review`: makes a meeting of that many minutes, with a link to a call, and
//! answers in the channel. Slack sends a form, which is read like JSON; `invoke_auth=hmac` checks who sent it.

use etl_oauth::{
    BoxError, Handler,
    job::{Context, JobError},
};
use jiff::{Span, civil::DateTime};
use serde_json::{Value, json};

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Command {
    text: String,
    user_name: String,
    /// Another one for each command: Slack sends a command again that was not answered in time.
    trigger_id: String,
}

/// `2026-12-01T10:00 30 Review`: when, how many minutes, what.
fn read(text: &str) -> Option<(DateTime, DateTime, &str)> {
    let (start, rest) = text.trim().split_once(' ')?;
    let (minutes, title) = rest.split_once(' ')?;
    let start: DateTime = start.parse().ok()?;
    let minutes = minutes.parse::<i64>().ok().filter(|minutes| (1..=24 * 60).contains(minutes))?;
    Some((start, start.checked_add(Span::new().minutes(minutes)).ok()?, title))
}

async fn meet(context: Context, command: Command) -> Result<Value, BoxError> {
    let Some((start, end, title)) = read(&command.text) else {
        return Err(JobError::Input("text: write /meet 2026-12-01T10:00 30 Review".into()).into());
    };
    let at = |time: DateTime| json!({ "dateTime": time.to_string(), "timeZone": "Europe/Berlin" });
    let event = json!({
        "summary": title,
        "description": format!("Asked for by {}", command.user_name),
        "start": at(start),
        "end": at(end),
        "conferenceData": { "createRequest": { "requestId": command.trigger_id } },
    });
    let made: Value = context
        .api
        .post("/calendar/v3/calendars/primary/events?conferenceDataVersion=1")
        .idempotency_key(&command.trigger_id)
        .body_json(&event)
        .json()
        .await?;
    Ok(
        json!({ "response_type": "in_channel", "text": format!("{title}: {}", made["hangoutLink"].as_str().unwrap_or("no link")) }),
    )
}

pub async fn handler() -> Result<Handler, BoxError> {
    etl_oauth::with(meet).await
}

#[cfg(test)]
mod tests;
