use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::api::{Api, ApiError};

async fn orders(api: Api, (): ()) -> Result<Value, ApiError> {
    api.get("/orders").query("state", "open").json().await
}

#[tokio::test]
async fn answers_come_in_the_order_of_the_script_and_the_last_one_stays() {
    let mock = MockApi::start().await;
    mock.reply("GET /orders", Reply::status(429).header("retry-after", "30"))
        .reply("GET /orders", Reply::status(401))
        .reply("GET /orders", Reply::json(json!([1])));
    let start = mock.clock().now();
    assert_eq!(orders(mock.api(), ()).await.unwrap(), json!([1]));
    assert_eq!(orders(mock.api(), ()).await.unwrap(), json!([1]));
    let tokens: Vec<_> = mock.requests().iter().map(|request| request.token().unwrap().to_owned()).collect();
    assert_eq!(tokens, ["token-1", "token-1", "token-2", "token-2"], "a 401 renews the token");
    assert_eq!(mock.requests()[0].query("state"), Some("open"));
    // The pause took no time, and the clock shows it.
    assert!(mock.clock().waits()[0] >= Duration::from_secs(30));
    assert!(mock.clock().now().duration_since(start).as_secs() >= 30);
    let err = mock.api().delete("/orders/7").send().await.unwrap_err();
    assert!(err.to_string().contains("the test has no answer to DELETE /orders/7"), "{err}");
}

#[tokio::test]
async fn runs_share_a_ledger_and_an_answer_can_depend_on_the_request() {
    let mock = MockApi::start().await;
    mock.on("POST /double", |request| Reply::json(json!(request.json::<u64>() * 2)));
    for run in 1..=2_u64 {
        let context = mock.context();
        let mut entry = context.ledger.read::<u64>("runs").await.unwrap();
        entry.notes += 1;
        assert_eq!(context.ledger.write("runs", entry).await.unwrap().notes, run);
        assert_eq!(context.api.post("/double").body_json(&run).json::<u64>().await.unwrap(), run * 2);
        assert_eq!(context.now, mock.clock().now());
        mock.clock().advance(Duration::from_secs(7 * 24 * 3600));
    }
}

#[tokio::test]
async fn the_whole_function_is_authorised_runs_the_job_and_tells_its_errors() {
    let sandbox = Sandbox::start(orders).await;
    assert_eq!(sandbox.run("").await.json()["error"], "needs_authorisation");
    sandbox.authorize().await;
    sandbox.api().reply("GET /orders", Reply::json(json!([7]))).reply("GET /orders", Reply::status(404));
    assert_eq!(sandbox.run("").await.json(), json!([7]));
    let answer = sandbox.run("").await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]), (502, &json!("api_error")));
    let status = sandbox.operator(http::Method::GET, "/status", "").await;
    assert!(status.status.is_success());
}

#[tokio::test]
async fn what_an_api_answered_once_is_replayed_without_its_secrets() {
    let real = MockApi::start().await;
    real.reply("GET /v1/me", Reply::json(json!({ "name": "Ada", "api_key": "marker", "next_page_token": "p2" }))).on(
        "GET /v1/orders",
        |request| {
            let page = request.query("page").unwrap_or("1").to_owned();
            Reply::json(json!({ "page": page, "by": request.token() })).header("x-ratelimit-remaining", "9")
        },
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orders.json");
    let ask = async |mock: &MockApi| {
        let me: Value = mock.api().get("/me").query("access_token", "marker").json().await.unwrap();
        let first: Value = mock.api().get("/orders").json().await.unwrap();
        let second: Value = mock.api().get("/orders?page=2").json().await.unwrap();
        (me["name"].clone(), me["next_page_token"].clone(), first["page"].clone(), second["page"].clone())
    };
    let recording = MockApi::recording(&file, real.url("/v1").parse().unwrap(), "marker-of-the-token").await;
    let told = ask(&recording).await;
    assert_eq!(told, (json!("Ada"), json!("p2"), json!("1"), json!("2")));
    assert_eq!(real.requests()[0].token(), Some("marker-of-the-token"));
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains("marker") && text.contains("x-ratelimit-remaining"), "{text}");
    let replay = MockApi::replaying(&file).await;
    assert_eq!(ask(&replay).await, told);
    assert_eq!(real.calls().len(), 3, "the replay asks no API");
    let err = replay.api().get("/orders?page=3").send().await.unwrap_err();
    assert!(err.to_string().contains("was not recorded"), "{err}");
}
