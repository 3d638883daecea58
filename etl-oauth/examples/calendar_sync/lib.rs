//! Keeps a calendar as a caller's list of events is: new and changed ones are written, those that are gone are deleted. What
//! was written is remembered, so that a list without changes asks nothing of the calendar.

use std::collections::BTreeMap;

use etl_oauth::{BoxError, Handler, api::ApiError, http::StatusCode, job::Context};
use serde_json::json;

#[derive(Default, serde::Deserialize)]
struct Input {
    events: Vec<Event>,
}

/// An event of the caller's. Google takes an id of the letters a-v and digits.
#[derive(Clone, Default, PartialEq, serde::Deserialize, serde::Serialize)]
struct Event {
    id: String,
    title: String,
    start: String,
    end: String,
}

#[derive(Debug, PartialEq, serde::Serialize)]
struct Done {
    written: usize,
    deleted: usize,
}

async fn sync(context: Context, input: Input) -> Result<Done, BoxError> {
    const EVENTS: &str = "/calendar/v3/calendars/primary/events";
    let mut ledger = context.ledger.read::<BTreeMap<String, Event>>("calendar").await?;
    let wanted: BTreeMap<_, _> = input.events.into_iter().map(|event| (event.id.clone(), event)).collect();
    let mut done = Done { written: 0, deleted: 0 };
    for (id, event) in wanted.iter().filter(|(id, event)| ledger.notes.get(*id) != Some(event)) {
        let body = json!({ "id": id, "summary": event.title, "start": { "dateTime": event.start }, "end": { "dateTime": event.end } });
        // A PUT of an event that is not there yet is a 404.
        match context.api.put(&format!("{EVENTS}/{id}")).body_json(&body).send().await {
            Err(ApiError::Status { status: StatusCode::NOT_FOUND, .. }) => {
                context.api.post(EVENTS).body_json(&body).send().await?;
            }
            other => drop(other?),
        }
        done.written += 1;
    }
    for id in ledger.notes.keys().filter(|id| !wanted.contains_key(*id)) {
        match context.api.delete(&format!("{EVENTS}/{id}")).send().await {
            Err(ApiError::Status { status: StatusCode::GONE | StatusCode::NOT_FOUND, .. }) | Ok(_) => done.deleted += 1,
            Err(err) => return Err(err.into()),
        }
    }
    ledger.notes = wanted;
    context.ledger.write("calendar", ledger).await?;
    Ok(done)
}

pub async fn handler() -> Result<Handler, BoxError> {
    etl_oauth::with(sync).await
}

#[cfg(test)]
mod tests;
