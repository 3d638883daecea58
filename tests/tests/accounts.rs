//! Several accounts of one function, over a store that holds them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what cannot be set up fails its test")]

use serde_json::{Value, json};
use tests::{Browser, Fleet};

const PROGRAM: &str = env!("CARGO_BIN_EXE_etl-oauth-function");

async fn run(fleet: &Fleet) -> (u16, Value) {
    let answer = reqwest::Client::new().post(fleet.url(0, "/")).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn each_account_is_authorised_by_name_run_listed_and_failing_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens").display().to_string();
    let store =
        [("store", "file"), ("store_path", &*path), ("allow_ephemeral_store", "true"), ("enable_auth", "first_visit")];
    let fleet = Fleet::start(PROGRAM, 1, &store, &[("etl-oauth-operator", "password")]).await;

    // Whoever comes first has taken the account `default`; another name is the operator's to give.
    let stranger = Browser::new().open(&fleet.url(0, "/enable?account=second")).await;
    assert_eq!(stranger.status, 401);
    let operator = Browser::of_operator("password");
    assert_eq!(operator.open(&fleet.url(0, "/enable?account=No%2Fname")).await.status, 400);
    let page = operator.open(&fleet.url(0, "/enable?account=second")).await;
    assert!(page.body.contains("second"));
    let consent = operator.submit(&page, &[]).await;
    fleet.provider().set_faults(&json!({"token_lifetime": 1})).unwrap();
    let done = operator.submit(&consent, &[("decision", "allow")]).await;
    assert_eq!(done.status, 200, "{}", done.body);
    assert!(done.body.contains("second"));

    let (status, answer) = run(&fleet).await;
    assert_eq!(status, 200, "{answer}");
    let names: Vec<_> = answer["accounts"].as_array().unwrap().iter().map(|a| a["account"].clone()).collect();
    assert_eq!(names, ["default", "second"]);
    assert!(answer["accounts"][1]["result"]["week"].is_object());

    // One of the two renewals is refused for good; the other account goes on.
    let refuse = json!({"token_lifetime": 3600, "status": {"status": 400, "error": "invalid_grant", "times": 1}});
    fleet.provider().set_faults(&refuse).unwrap();
    let (status, answer) = loop {
        let (status, answer) = run(&fleet).await;
        if status != 200 {
            break (status, answer);
        }
    };
    assert_eq!(status, 409, "{answer}");
    let outcomes: Vec<_> =
        answer["accounts"].as_array().unwrap().iter().map(|a| a["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == "needs_authorisation").count(), 1, "{answer}");

    let status = reqwest::Client::new().get(fleet.url(0, "/status")).bearer_auth("password").send().await.unwrap();
    let status: Value = status.json().await.unwrap();
    let states: Vec<_> = status["accounts"].as_array().unwrap().iter().map(|a| a["state"].as_str().unwrap()).collect();
    assert_eq!(states.len(), 2);
    assert_eq!(states.iter().filter(|state| **state == "needs_authorisation").count(), 1, "{status}");
    fleet.stop().await;
}
