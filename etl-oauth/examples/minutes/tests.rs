use etl_oauth::testing::{Reply, Sandbox};
use serde_json::json;

use super::*;

#[tokio::test]
async fn the_meetings_of_one_provider_are_posted_at_another_each_with_a_token_of_its_own() {
    let sandbox = Sandbox::with_connections(minutes, &["google", "slack"]).await;
    let items = json!({ "items": [{ "summary": "Review" }, { "summary": "Lunch" }] });
    sandbox.api_of("google").reply("GET /calendar/v3/calendars/primary/events", Reply::json(items));
    sandbox.api_of("slack").reply("POST /chat.postMessage", Reply::json(json!({ "ok": true })));
    sandbox.authorize_connection("google").await;
    // Without the second account the run fails, and posts nothing.
    let failed = sandbox.run("").await;
    assert_eq!(failed.status, 409, "{}", failed.json());
    sandbox.authorize_connection("slack").await;
    let done = sandbox.run(r##"{"channel":"#day"}"##).await;
    assert_eq!(done.json(), json!({ "meetings": 2 }));
    let posted = sandbox.api_of("slack").requests();
    let posted = posted.last().unwrap();
    assert_eq!(posted.json::<Value>(), json!({ "channel": "#day", "text": "• Review\n• Lunch" }));
}

#[test]
fn it_takes_at_most_forty_lines() {
    let text = include_str!("lib.rs");
    assert!(text.lines().count() <= 40);
}
