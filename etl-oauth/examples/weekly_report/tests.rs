use std::time::Duration;

use etl_oauth::testing::{MockApi, Reply};
use serde_json::{Value, json};

use super::weekly;

#[tokio::test]
async fn the_sum_of_all_pages_is_sent_once_a_week() {
    let mock = MockApi::start().await;
    mock.on("GET /v2/sales", |request| match request.query("page") {
        None => Reply::json(json!({ "sales": [{ "price": 250 }], "next_page_url": "/v2/sales?page=2" })),
        Some(_) => Reply::json(json!({ "sales": [{ "price": 1055 }] })),
    });
    mock.reply("POST /hook", Reply::status(200)).secret("etl-oauth-notify-url", &mock.url("/hook"));
    for sent in [true, false] {
        let report = weekly(mock.context(), ()).await.unwrap();
        assert_eq!((report.count, report.cents, report.sent), (2, 1305, sent));
    }
    let posts: Vec<_> = mock.requests().into_iter().filter(|request| request.path == "/hook").collect();
    assert_eq!(posts.len(), 1);
    assert_eq!(posts[0].json::<Value>()["text"], "Sales of the week\n\n2 sales, 13.05 USD");
    assert_eq!(mock.requests()[0].query("after"), Some("2026-11-14"));
    mock.clock().advance(Duration::from_secs(7 * 24 * 3600));
    assert!(weekly(mock.context(), ()).await.unwrap().sent);
}
