use etl_oauth::testing::{MockApi, Reply};
use serde_json::{Value, json};

use super::{Done, Event, Input, sync};

const EVENTS: &str = "/calendar/v3/calendars/primary/events";

fn event(id: &str, title: &str) -> Event {
    Event { id: id.into(), title: title.into(), start: "2026-12-01T10:00:00Z".into(), ..Event::default() }
}

#[tokio::test]
async fn only_what_changed_is_written_and_what_is_gone_is_deleted() {
    let mock = MockApi::start().await;
    mock.reply(&format!("PUT {EVENTS}/a"), Reply::status(404))
        .reply(&format!("PUT {EVENTS}/a"), Reply::json(json!({})));
    mock.reply(&format!("PUT {EVENTS}/b"), Reply::json(json!({})));
    mock.reply(&format!("POST {EVENTS}"), Reply::json(json!({})))
        .reply(&format!("DELETE {EVENTS}/b"), Reply::status(410));
    let run = async |events: &[Event]| sync(mock.context(), Input { events: events.to_vec() }).await.unwrap();

    let both = [event("a", "Review"), event("b", "Lunch")];
    assert_eq!(run(&both).await, Done { written: 2, deleted: 0 });
    let calls = mock.calls();
    assert_eq!(calls, [format!("PUT {EVENTS}/a"), format!("POST {EVENTS}"), format!("PUT {EVENTS}/b")]);
    assert_eq!(mock.requests()[1].json::<Value>()["summary"], "Review");
    assert_eq!(run(&both).await, Done { written: 0, deleted: 0 });
    assert_eq!(mock.calls().len(), calls.len(), "nothing changed, and nothing was asked");
    assert_eq!(run(&[event("a", "Review, moved")]).await, Done { written: 1, deleted: 1 });
}
