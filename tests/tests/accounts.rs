//! Accounts of one function over a store that holds several, and the keys that their records are sealed with.

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
    assert_eq!(stranger.url.as_str(), fleet.url(0, "/login?next=%2Fenable%3Faccount%3Dsecond"));
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

#[tokio::test]
async fn a_new_first_key_takes_over_by_post_reseal_and_the_old_one_may_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    let place = path.display().to_string();
    let store =
        [("store", "file"), ("store_path", &*place), ("allow_ephemeral_store", "true"), ("enable_auth", "first_visit")];
    let mut fleet = Fleet::unauthorised(PROGRAM, 1, &store, &[("etl-oauth-operator", "password")]).await;
    // Nothing but the reseal is to write.
    fleet.provider().set_faults(&json!({"token_lifetime": 3600})).unwrap();
    let operator = Browser::of_operator("password");
    let page = operator.open(&fleet.url(0, "/enable")).await;
    let consent = operator.submit(&page, &[]).await;
    assert_eq!(operator.submit(&consent, &[("decision", "allow")]).await.status, 200);
    let is_sealed_with =
        |key: &str| std::fs::read_to_string(path.join("default.json")).unwrap().contains(&format!(r#""key":"{key}""#));
    assert!(is_sealed_with("1"));

    let new = "2:ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";
    fleet.mount("etl-oauth-seal-keys", &format!("{new}\n{}", Fleet::KEY));
    let reseal = reqwest::Client::new().post(fleet.url(0, "/reseal")).bearer_auth("password");
    let answer: Value = reseal.send().await.unwrap().json().await.unwrap();
    assert_eq!(answer, json!({"resealed": 1}));
    assert!(is_sealed_with("2"));

    fleet.mount("etl-oauth-seal-keys", new);
    fleet.kill(0).await;
    fleet.until_up(0).await;
    let (status, answer) = run(&fleet).await;
    assert_eq!(status, 200, "{answer}");

    // Without its key it is no account that nobody has authorised, and no stranger may be the first.
    fleet.mount("etl-oauth-seal-keys", Fleet::KEY);
    fleet.kill(0).await;
    fleet.until_up(0).await;
    let (status, answer) = run(&fleet).await;
    assert_eq!((status, answer["error"].as_str()), (503, Some("record_damaged")), "{answer}");
    assert_eq!(Browser::new().open(&fleet.url(0, "/enable")).await.status, 503);
    operator.sign_in(&fleet.url(0, "")).await;
    assert_eq!(operator.open(&fleet.url(0, "/enable")).await.status, 200);
    fleet.stop().await;
}
