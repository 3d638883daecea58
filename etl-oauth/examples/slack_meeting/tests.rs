use etl_oauth::testing::{Reply, Sandbox};
use serde_json::{Value, json};

use super::meet;

const EVENTS: &str = "POST /calendar/v3/calendars/primary/events";

#[tokio::test]
async fn a_command_makes_a_meeting_and_answers_with_its_link() {
    let sandbox = Sandbox::start(meet).await;
    sandbox.authorize().await;
    sandbox.api().reply(EVENTS, Reply::json(json!({ "hangoutLink": "https://meet.example/abc" })));
    let answer = sandbox.run("text=2026-12-01T23%3A45+30+Review+of+Q4&user_name=ada&trigger_id=13.37").await;
    assert_eq!(answer.json()["text"], "Review of Q4: https://meet.example/abc", "{:?}", answer.status);
    let request = &sandbox.api().requests()[0];
    let event: Value = request.json();
    assert_eq!(event["end"]["dateTime"], "2026-12-02T00:15:00");
    assert_eq!(request.header("idempotency-key"), Some("13.37"));
    for wrong in ["text=tomorrow", "text=2026-12-01T10:00+0+x", ""] {
        let answer = sandbox.run(wrong).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["error"]), (400, &json!("bad_input")), "{wrong}");
    }
    assert_eq!(sandbox.api().requests().len(), 1);
}
