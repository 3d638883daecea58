//! Accounts of one function over a store that holds several, and the keys that their records are sealed with.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what cannot be set up fails its test")]

use serde_json::{Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tests::{Browser, Fleet, Rogue, rogue};

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

/// What the operator gets from the first process.
async fn asked(fleet: &Fleet, method: &str, path: &str) -> Value {
    let request = reqwest::Client::new().request(method.parse().unwrap(), fleet.url(0, path));
    request.bearer_auth("the operator's password").send().await.unwrap().json().await.unwrap()
}

#[tokio::test]
async fn revoking_all_accounts_goes_on_after_a_kill_and_nothing_begins_again() {
    let down = Arc::new(AtomicBool::new(true));
    let is_down = Arc::clone(&down);
    let provider = Rogue::start(move |_| {
        if is_down.load(Ordering::SeqCst) {
            return rogue::json("{}").replacen("200 OK", "503 Service Unavailable", 1);
        }
        rogue::json("{}")
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens").display().to_string();
    let revoke_url = format!("{}/revoke", provider.url());
    let variables = [
        ("store", "file"),
        ("store_path", &*path),
        ("allow_ephemeral_store", "true"),
        ("grant", "client_credentials"),
        ("revoke_url", &*revoke_url),
        ("job", "none"),
    ];
    let secrets = [("etl-oauth-operator", "the operator's password")];
    let mut fleet = Fleet::unauthorised(PROGRAM, 1, &variables, &secrets).await;
    for index in 0..12 {
        let begun = reqwest::Client::new().post(fleet.url(0, "/enable")).bearer_auth("the operator's password");
        let begun = begun.form(&[("account", format!("a{index}"))]).send().await.unwrap();
        assert_eq!(begun.status(), 200);
    }
    let states = async |fleet: &Fleet| {
        let status = asked(fleet, "GET", "/status").await;
        let states = status["accounts"].as_array().unwrap().iter();
        states.filter(|account| account["state"] == "enabled").count()
    };
    assert_eq!(states(&fleet).await, 12);
    assert_eq!(asked(&fleet, "POST", "/revoke?all=true").await, json!({"revoking": 12}));
    // Some were tried, none is revoked, and the process is killed in the middle of it.
    while asked(&fleet, "GET", "/revoke").await["failed"] == json!([]) {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    fleet.kill(0).await;
    assert_eq!(states_after(&fleet).await, 12, "their tokens are still there");
    down.store(false, Ordering::SeqCst);
    let report = loop {
        let report = asked(&fleet, "GET", "/revoke").await;
        if report["left"] == 0 {
            break report;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert_eq!(report, json!({"left": 0, "revoked": 12, "impossible": 0, "failed": []}));
    assert_eq!(states(&fleet).await, 0);

    // What is begun afterwards stays, and another process finds nothing to do.
    let begun = reqwest::Client::new().post(fleet.url(0, "/enable")).bearer_auth("the operator's password");
    assert_eq!(begun.form(&[("account", "a0")]).send().await.unwrap().status(), 200);
    let asked_for = provider.seen().len();
    fleet.kill(0).await;
    fleet.until_up(0).await;
    assert_eq!(asked(&fleet, "GET", "/revoke").await["revoked"], 12);
    assert_eq!((states(&fleet).await, provider.seen().len()), (1, asked_for));
    fleet.stop().await;
}

/// How many accounts are enabled, once the process is there again.
async fn states_after(fleet: &Fleet) -> usize {
    fleet.until_up(0).await;
    let status = asked(fleet, "GET", "/status").await;
    status["accounts"].as_array().unwrap().iter().filter(|account| account["state"] == "enabled").count()
}
