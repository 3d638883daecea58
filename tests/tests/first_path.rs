//! Authorise once in a browser, then run for ever: the whole path over real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what cannot be set up fails its test")]

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::json;
use tests::{Browser, Relay, Stage};

const PROGRAM: &str = env!("CARGO_BIN_EXE_etl-oauth-function");

async fn stage() -> Stage {
    Stage::start(PROGRAM).await
}

async fn enabled() -> Stage {
    let stage = stage().await;
    let done = stage.authorise().await;
    assert_eq!(done.status, 200, "{}", done.body);
    stage
}

/// Waits for what happens by itself, in small steps.
async fn until(what: &str, mut happened: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !happened().await {
        assert!(start.elapsed() < Duration::from_secs(20), "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn without_a_token_a_browser_is_led_to_the_enable_page_and_a_machine_is_told_what_to_do() {
    let stage = stage().await;
    let page = Browser::new().once(&stage.url("")).await;
    assert_eq!(page.status, 307);
    assert_eq!(page.headers["location"], stage.url("/enable"));
    let (status, answer) = stage.run().await;
    assert_eq!(status, 409);
    assert_eq!(answer["error"], "needs_authorisation");
    assert_eq!(answer["enable_url"], stage.url("/enable"));
    let post = reqwest::Client::new().post(stage.url("")).header("accept", "text/html").send().await.unwrap();
    assert_eq!(post.status(), 409);
    stage.stop().await;
}

#[tokio::test]
async fn the_enable_page_says_what_is_asked_and_its_button_leads_to_the_provider() {
    let stage = stage().await;
    let browser = stage.browser();
    let page = browser.open(&stage.url("/enable")).await;
    for wanted in ["Gumroad", "view_sales", &stage.url("/oauth2/callback")] {
        assert!(page.body.contains(wanted), "{wanted}");
    }
    let led = browser.submit_once(&page, &[]).await;
    assert_eq!(led.status, 303);
    let url = led.location().unwrap();
    assert!(url.as_str().starts_with(&format!("{}/oauth/authorize?", stage.provider().url())));
    let query = |name: &str| url.query_pairs().find(|(n, _)| n == name).map(|(_, value)| value.into_owned());
    assert_eq!(query("response_type").as_deref(), Some("code"));
    assert_eq!(query("code_challenge_method").as_deref(), Some("S256"));
    assert_eq!(query("code_challenge").unwrap().len(), 43);
    assert_eq!(query("redirect_uri"), Some(stage.url("/oauth2/callback")));
    assert!(query("state").unwrap().len() > 100);
    stage.stop().await;
}

#[tokio::test]
async fn a_person_clicks_allow_and_the_job_runs_from_then_on() {
    let stage = stage().await;
    let done = stage.authorise().await;
    assert_eq!(done.url.as_str(), stage.url("/done"));
    assert!(done.body.contains("Connected to Gumroad") && done.body.contains("saved"), "{}", done.body);
    let tokens = [stage.secret("oauth2-access-token"), stage.secret("oauth2-refresh-token")];
    assert!(tokens.iter().all(|token| token.len() > 20), "the tokens are in the secrets");

    let (status, sales) = stage.run().await;
    assert_eq!(status, 200);
    let text = sales["last_sale"]["amount"]["text"].as_str().unwrap();
    assert!(
        text.split_once(' ').is_some_and(|(number, currency)| number.contains('.') && currency.len() == 3),
        "{text}"
    );
    assert!(sales["week"]["by_country"].as_array().is_some_and(|countries| countries.len() > 1));
    assert!(sales["change"].as_array().is_some_and(|change| !change.is_empty()));
    let page = Browser::new().open(&stage.url("")).await;
    assert!(page.status == 200 && page.body.contains(text) && page.body.contains(">Country<"), "{}", page.body);

    // What cron-connector sends.
    let http = reqwest::Client::new();
    let post = http.post(stage.url("")).header("x-topic", "cron-function").header("content-length", "0");
    assert_eq!(post.send().await.unwrap().status(), 200);

    let log = stage.log().await;
    let way: Vec<_> = done.way.iter().filter(|url| url.as_str().starts_with(&stage.gateway())).collect();
    for token in &tokens {
        for place in [&done.body, &page.body, &log, &format!("{way:?}")] {
            assert!(!place.contains(token.as_str()), "a token is shown");
        }
    }
    let code =
        done.way.iter().find_map(|url| url.query_pairs().find(|(name, _)| name == "code")).unwrap().1.into_owned();
    assert!(!log.contains(&code), "the code is in the log");
    stage.stop().await;
}

#[tokio::test]
async fn after_a_restart_it_is_still_enabled() {
    let stage = enabled().await.restart().await;
    assert_eq!(stage.run().await.0, 200);
    assert_eq!(stage.outcomes("refresh_token issued"), 0);
    stage.stop().await;
}

#[tokio::test]
async fn the_record_layout_holds_the_whole_record_in_one_secret() {
    let stack = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../stack.yaml")).unwrap();
    let one = stack.replace("      - oauth2-access-token\n      - oauth2-refresh-token\n", "      - oauth2-token\n");
    assert_ne!(stack, one);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stack.yaml");
    std::fs::write(&file, one).unwrap();
    let stage = Stage::of(PROGRAM, &file).await;
    assert_eq!(stage.authorise().await.status, 200);
    let record: serde_json::Value = serde_json::from_str(&stage.secret("oauth2-token")).unwrap();
    assert_eq!(record["generation"], 1);
    assert!(record["tokens"]["expires_at"].is_string() && record["tokens"]["refresh_token"].is_string());
    let stage = stage.restart().await;
    assert_eq!(stage.run().await.0, 200);
    stage.stop().await;
}

#[tokio::test]
async fn an_expired_token_is_renewed_first_and_what_came_back_is_stored() {
    let stage = stage().await;
    stage.provider().set_faults(&json!({"token_lifetime": 1})).unwrap();
    stage.authorise().await;
    let first = stage.secret("oauth2-refresh-token");
    stage.provider().set_faults(&json!({"token_lifetime": 3600})).unwrap();
    until("the token ends", async || {
        assert_eq!(stage.run().await.0, 200);
        stage.outcomes("refresh_token issued") > 0
    })
    .await;
    assert_ne!(stage.secret("oauth2-refresh-token"), first);
    let stage = stage.restart().await;
    assert_eq!(stage.run().await.0, 200);
    assert_eq!(stage.outcomes("refresh_token reuse_detected"), 0);
    stage.stop().await;
}

#[tokio::test]
async fn a_401_forces_one_renewal_and_one_retry() {
    let stage = enabled().await;
    stage.provider().revoke_all(true, false);
    assert_eq!(stage.run().await.0, 200);
    assert_eq!(stage.outcomes("refresh_token issued"), 1);
    stage.provider().set_faults(&json!({"api_unauthorized": true})).unwrap();
    let (status, answer) = stage.run().await;
    assert_eq!((status, answer["error"].as_str()), (502, Some("token_refused")));
    assert_eq!(stage.outcomes("refresh_token issued"), 2);
    stage.stop().await;
}

#[tokio::test]
async fn e7_a_revoked_grant_is_a_409_and_authorising_again_needs_the_operator() {
    let stage = enabled().await;
    stage.provider().revoke_all(true, true);
    let (status, answer) = stage.run().await;
    assert_eq!((status, answer["error"].as_str()), (409, Some("needs_authorisation")));
    let stranger = Browser::new().once(&stage.url("/enable")).await;
    assert_eq!(stranger.status, 303, "{}", stranger.body);
    let page = Browser::new().open(&stage.url("/enable")).await;
    assert!(page.url.path().ends_with("/login") && page.body.contains("etl-oauth-operator"), "{}", page.body);
    assert_eq!(stage.authorise().await.status, 200);
    assert_eq!(stage.run().await.0, 200);
    stage.stop().await;
}

#[tokio::test]
async fn a_callback_with_a_missing_foreign_or_used_state_is_refused_and_stores_nothing() {
    let stage = stage().await;
    let browser = stage.browser();
    let consent = browser.enable(&stage).await;
    let callback = browser.submit_once(&consent, &[("decision", "allow")]).await.location().unwrap();
    let state = callback.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();

    let missing = browser.open(&stage.url("/oauth2/callback?code=x")).await;
    let foreign = browser.open(&stage.url("/oauth2/callback?code=x&state=nonsense")).await;
    let other = stage.browser().open(callback.as_str()).await;
    let twice = browser.open(&stage.url(&format!("/oauth2/callback?code=x&code=y&state={state}"))).await;
    for page in [&missing, &foreign, &other, &twice] {
        assert_eq!(page.status, 400, "{}", page.url);
        assert!(page.body.contains(&stage.url("/enable")), "the page says where to begin again");
    }
    assert_eq!(stage.secret("oauth2-access-token"), "empty");
    assert_eq!(stage.provider().log()["outcomes"], json!({}), "no token request was made");

    // HEAD and prefetches use nothing up.
    let http = reqwest::Client::new();
    assert!(http.head(callback.as_str()).send().await.unwrap().status().is_success());
    let ahead = http.get(callback.as_str()).header("sec-purpose", "prefetch").send().await.unwrap();
    assert_eq!(ahead.status(), StatusCode::NO_CONTENT);

    assert_eq!(browser.open(callback.as_str()).await.status, 200);
    let again = browser.open(callback.as_str()).await;
    assert_eq!(again.status, 400);
    assert_eq!(stage.outcomes("authorization_code issued"), 1);
    assert_eq!(stage.run().await.0, 200);
    stage.stop().await;
}

#[tokio::test]
async fn a_state_that_took_too_long_is_refused() {
    let stage = Stage::with(PROGRAM, &[("state_lifetime", "1s")], |_| {}).await;
    let browser = stage.browser();
    let consent = browser.enable(&stage).await;
    let callback = browser.submit_once(&consent, &[("decision", "allow")]).await.location().unwrap();
    // The state's own second must pass: time is what is tested.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let page = browser.open(callback.as_str()).await;
    assert_eq!(page.status, 400);
    assert_eq!(stage.secret("oauth2-access-token"), "empty");
    stage.stop().await;
}

#[tokio::test]
async fn a_refusal_by_the_person_is_told_and_stores_nothing() {
    let stage = stage().await;
    let browser = stage.browser();
    let consent = browser.enable(&stage).await;
    let page = browser.submit(&consent, &[("decision", "deny")]).await;
    assert_eq!(page.status, 403);
    assert!(page.body.contains("did not allow"), "{}", page.body);
    assert_eq!(stage.secret("oauth2-access-token"), "empty");
    // Words that anybody can put into an address are not repeated.
    let consent = browser.enable(&stage).await;
    let deny = browser.submit_once(&consent, &[("decision", "deny")]).await.location().unwrap();
    let mut forged = deny.clone();
    forged.query_pairs_mut().clear().extend_pairs(deny.query_pairs().filter(|(name, _)| name == "state"));
    forged
        .query_pairs_mut()
        .append_pair("error", "<script>x</script>")
        .append_pair("error_description", "<b>marker</b>");
    let page = browser.open(forged.as_str()).await;
    assert_eq!(page.status, 502);
    assert!(!page.body.contains("<script>x") && !page.body.contains("marker"));
    stage.stop().await;
}

#[tokio::test]
async fn a_refusal_by_the_token_endpoint_is_a_502_with_its_code_and_no_secret() {
    let stage = stage().await;
    let status = json!({"status": 401, "error": "invalid_client", "times": true});
    stage.provider().set_faults(&json!({"status": status})).unwrap();
    let page = stage.authorise().await;
    assert_eq!(page.status, 502);
    assert!(page.body.contains("invalid_client"), "{}", page.body);
    assert!(!page.body.contains(&stage.secret("oauth2-client-secret")));
    assert_eq!(stage.secret("oauth2-access-token"), "empty");
    stage.stop().await;
}

#[tokio::test]
async fn b1_an_authorisation_that_cannot_be_saved_is_told_kept_in_use_and_saved_later() {
    let relay = Relay::closed().await;
    let stage = Stage::with(PROGRAM, &[("gateway_url", &relay.url())], |_| {}).await;
    relay.lead_to(&stage.gateway());
    let page = stage.authorise().await;
    assert_eq!(page.status, 200);
    assert!(page.body.contains("not saved yet"), "{}", page.body);
    assert_eq!(stage.secret("oauth2-access-token"), "empty");
    assert_eq!(stage.run().await.0, 200, "the token is in use already");
    relay.open();
    until("the tokens are saved", async || stage.secret("oauth2-access-token") != "empty").await;
    let stage = stage.restart().await;
    assert_eq!(stage.run().await.0, 200);
    stage.stop().await;
}

#[tokio::test]
async fn unknown_paths_are_404_and_wrong_methods_405_with_allow() {
    let stage = stage().await;
    let http = reqwest::Client::new();
    let (lost, wrong) = (http.get(stage.url("/nowhere")), http.delete(stage.url("/enable")));
    let lost = lost.header("accept", "application/json").send().await.unwrap();
    assert_eq!(lost.status(), 404);
    assert_eq!(lost.json::<serde_json::Value>().await.unwrap()["error"], "not_found");
    let wrong = wrong.send().await.unwrap();
    assert_eq!(wrong.status(), 405);
    let allow = wrong.headers()["allow"].to_str().unwrap().to_owned();
    assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
    stage.stop().await;
}

#[tokio::test]
async fn nothing_of_a_form_is_taken_that_this_browser_was_not_given() {
    let stage = stage().await;
    let page = stage.browser().open(&stage.url("/enable")).await;
    let other = stage.browser();
    other.sign_in(&stage.url("")).await;
    assert_eq!(other.submit(&page, &[]).await.status, 400);
    other.open(&stage.url("/enable")).await;
    assert_eq!(other.submit(&page, &[]).await.status, 400);
    let forwarded = reqwest::Client::new().get(stage.url("/enable")).header("x-callback-url", "http://127.0.0.1:1/");
    assert_eq!(forwarded.send().await.unwrap().status(), 400);
    stage.stop().await;
}
