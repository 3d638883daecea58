//! Authentication over real sockets: the operator, the first visitor, anonymous runs, and authenticated callers.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what cannot be set up fails its test")]

use std::time::SystemTime;

use aws_lc_rs::{
    digest, hmac,
    signature::{Ed25519KeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tests::{Browser, Stage};

const PROGRAM: &str = env!("CARGO_BIN_EXE_etl-oauth-function");

/// The function as it is shipped, but for the operator's secret: it lists none.
async fn without_operator() -> Stage {
    let stack = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../stack.yaml")).unwrap();
    let open = stack.replace("      - etl-oauth-operator\n", "");
    assert_ne!(stack, open);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stack.yaml");
    std::fs::write(&file, open).unwrap();
    Stage::of(PROGRAM, &file).await
}

#[tokio::test]
async fn without_an_operator_whoever_comes_first_may_authorise_is_warned_and_closes_the_door() {
    let stage = without_operator().await;
    let browser = Browser::new();
    let page = browser.open(&stage.url("/enable")).await;
    assert!(page.status == 200 && page.body.contains("The first visitor connects"), "{}", page.body);
    assert!(stage.log().await.contains("the first visitor may authorise"));
    let consent = browser.submit(&page, &[]).await;
    let done = browser.submit(&consent, &[("decision", "allow")]).await;
    assert_eq!(done.status, 200);
    assert!(!done.body.contains("/status"), "a page that is not there is not linked to");
    let late = Browser::new().open(&stage.url("/enable")).await;
    assert_eq!(late.status, 403);
    assert!(late.body.contains("etl-oauth-operator"), "{}", late.body);
    let http = Client::new();
    for (method, path) in [("GET", "/status"), ("POST", "/refresh"), ("POST", "/revoke"), ("POST", "/reseal")] {
        let answer = http.request(method.parse().unwrap(), stage.url(path)).bearer_auth("").send().await.unwrap();
        assert_eq!(answer.status(), 404, "without an operator there is no {path}");
    }
    stage.stop().await;
}

#[tokio::test]
async fn everything_of_the_operators_asks_for_the_secret_and_takes_it_as_password_or_bearer() {
    let stage = Stage::start(PROGRAM).await;
    let secret = stage.secret("etl-oauth-operator");
    assert!(secret.len() > 30, "local makes one");
    let http = Client::new();
    let pages =
        [("GET", "/enable"), ("POST", "/enable"), ("GET", "/status"), ("POST", "/refresh"), ("POST", "/revoke")];
    for (method, path) in pages {
        let request = || http.request(method.parse().unwrap(), stage.url(path));
        let answer = request().send().await.unwrap();
        assert_eq!(answer.status(), 401, "{path}");
        assert_eq!(answer.headers()["www-authenticate"], "Bearer", "{path}");
        let answer =
            request().bearer_auth(&secret).header("x-callback-url", "http://127.0.0.1:1/").send().await.unwrap();
        assert_eq!(answer.json::<Value>().await.unwrap()["error"], "callback_url", "{path}");
    }
    for request in [
        http.get(stage.url("/status")).bearer_auth(&secret),
        http.get(stage.url("/status")).basic_auth("me", Some(&secret)),
    ] {
        assert_eq!(request.send().await.unwrap().status(), 200);
    }

    // A password that a browser sends unasked needs the form's token, and comes from no other site.
    let post = || http.post(stage.url("/refresh")).basic_auth("me", Some(&secret));
    let error = async |request: reqwest::RequestBuilder| {
        request.send().await.unwrap().json::<Value>().await.unwrap()["error"].clone()
    };
    assert_eq!(error(post().header("origin", "https://evil.example")).await, "cross_site");
    assert_eq!(error(post().header("sec-fetch-site", "same-site")).await, "cross_site");
    assert_eq!(error(post().header("origin", "null")).await, "bad_form");
    assert_eq!(error(post()).await, "disabled", "curl is no browser");
    assert_eq!(
        error(http.post(stage.url("/refresh")).bearer_auth(&secret).header("origin", "https://a.example")).await,
        "disabled"
    );
    stage.stop().await;
}

#[tokio::test]
async fn the_callback_is_the_operators_and_nothing_is_used_up_by_one_without_his_secret() {
    let stage = Stage::start(PROGRAM).await;
    let browser = stage.browser();
    let consent = browser.enable(&stage).await;
    let answer = browser.submit_once(&consent, &[("decision", "allow")]).await;
    let callback = answer.location().unwrap();
    let stranger = browser.signed_out(callback.as_str()).open(callback.as_str()).await;
    assert_eq!(stranger.url.as_str(), stage.url("/login?next=%2Fenable"), "the code is in no address of ours");
    assert_eq!(stage.provider().log()["outcomes"], json!({}), "no token request was made");
    assert_eq!(browser.open(callback.as_str()).await.status, 200);
    stage.stop().await;
}

#[tokio::test]
async fn wrong_operator_secrets_are_slowed_down_and_refused_and_the_right_one_is_soon_let_in() {
    let stage = Stage::start(PROGRAM).await;
    let http = Client::new();
    let status = async |secret: &str, address: &str| {
        let request = http.get(stage.url("/status")).bearer_auth(secret).header("x-forwarded-for", address);
        request.send().await.unwrap()
    };
    let secret = stage.secret("etl-oauth-operator");
    assert_eq!(status(&secret, "192.0.2.1").await.status(), 200);
    // Each under another address, as a guesser makes them up.
    let mut wrong = 0;
    let refused = loop {
        let answer = status("wrong", &format!("198.51.100.{wrong}")).await;
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            break answer;
        }
        assert_eq!(answer.status(), 401);
        wrong += 1;
        assert!(wrong <= 40, "never refused");
    };
    let seconds: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=10).contains(&seconds), "{seconds}");
    assert_eq!(refused.json::<Value>().await.unwrap()["error"], "too_many_tries");
    assert_eq!(status(&secret, "192.0.2.1").await.status(), 200, "who was let in before does not suffer");
    assert_eq!(status(&secret, "203.0.113.9").await.status(), 200, "the right one passes from everywhere");
    stage.stop().await;
}

#[tokio::test]
async fn s4_behind_the_gateway_every_connection_of_a_guesser_counts_as_one_and_the_operator_is_let_in() {
    let stage = Stage::start(PROGRAM).await;
    let secret = stage.secret("etl-oauth-operator");
    // Without a header of the caller's the gateway writes `ip:port`, with another port for each connection.
    let status = async |path: &str, secret: &str| {
        let request = Client::new().get(stage.url(path)).header("accept", "application/json").bearer_auth(secret);
        request.send().await.unwrap().status().as_u16()
    };
    let mut wrong = 0;
    while status("/status", "wrong").await == 401 {
        wrong += 1;
        assert!(wrong <= 20, "every connection is another address");
    }
    let mut throttled = 0;
    for _ in 0..20 {
        assert_eq!(status("/status", &secret).await, 200, "among {wrong} wrong ones");
        throttled += u32::from(status("/status", "wrong").await == 429);
    }
    assert!(throttled > 0, "wrong ones stay out, but for one in two seconds");
    stage.stop().await;

    // A job's stale credentials are no guess at the operator's secret.
    let stage = Stage::start(PROGRAM).await;
    let status = async |path: &str, secret: &str| {
        let request = Client::new().get(stage.url(path)).header("accept", "application/json").bearer_auth(secret);
        request.send().await.unwrap().status().as_u16()
    };
    for _ in 0..40 {
        assert_eq!(status("", "stale").await, 409);
    }
    assert_eq!(status("/status", "wrong").await, 401, "none of them was counted");
    assert_eq!(status("/status", &stage.secret("etl-oauth-operator")).await, 200);
    stage.stop().await;
}

#[tokio::test]
async fn s6_behind_the_gateway_a_browser_signs_in_on_the_form_and_holds_no_secret() {
    let stage = Stage::start(PROGRAM).await;
    let secret = stage.secret("etl-oauth-operator");
    let browser = Browser::new();
    let form = browser.open(&stage.url("/status")).await;
    assert_eq!((form.status.as_u16(), form.url.as_str()), (200, &*stage.url("/login?next=%2Fstatus")));
    assert!(form.way.iter().all(|url| url.path().starts_with("/function/etl-oauth/")));
    let wrong = browser.submit(&form, &[("password", "wrong")]).await;
    assert_eq!((wrong.status.as_u16(), wrong.headers["www-authenticate"].to_str().unwrap()), (401, "Bearer"));
    let answer = browser.submit_once(&form, &[("password", &secret)]).await;
    let cookie = answer.headers["set-cookie"].to_str().unwrap();
    assert!(cookie.starts_with("etl-oauth-session=") && cookie.contains("Path=/function/etl-oauth;"), "{cookie}");
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax") && !cookie.contains(&secret), "{cookie}");
    let page = browser.open(answer.location().unwrap().as_str()).await;
    assert_eq!((page.status.as_u16(), page.url.as_str()), (200, &*stage.url("/status")));
    // The last form of the page signs out.
    let at = page.body.rfind("<form").unwrap();
    let page = tests::Page { body: page.body[at..].to_owned(), ..page };
    let left = browser.submit(&page, &[]).await;
    assert_eq!((left.status.as_u16(), left.url.as_str()), (200, &*stage.url("/login")));
    let stale = Client::new().get(stage.url("/status")).header("accept", "text/html").header("cookie", cookie);
    let stale = stale.send().await.unwrap();
    assert_eq!(stale.url().as_str(), stage.url("/login?next=%2Fstatus"), "a copied cookie is over in this replica");
    assert!(!stage.log().await.contains(&secret));
    stage.stop().await;
}

#[tokio::test]
async fn a_flood_of_anonymous_runs_is_one_run_at_the_provider_and_the_operator_runs_when_he_likes() {
    let stage = Stage::with(PROGRAM, &[("min_run_interval", "1h")], |_| {}).await;
    // A run of what nobody has authorised is no reason to wait.
    assert_eq!(stage.run().await.0, 409);
    stage.authorise().await;
    let before = stage.calls();
    let runs: Vec<_> = (0..50)
        .map(|_| {
            let url = stage.url("");
            tokio::spawn(async move { Client::new().post(url).send().await.unwrap() })
        })
        .collect();
    let mut aged = 0;
    for run in runs {
        let answer = run.await.unwrap();
        assert_eq!(answer.status(), 200);
        aged += u32::from(answer.headers().contains_key("age"));
    }
    let one = stage.calls() - before;
    assert_eq!(aged, 49, "all but one shared a run");
    assert!(one > 0);
    let late = Client::new().get(stage.url("")).send().await.unwrap();
    assert!(late.headers().contains_key("age") && late.json::<Value>().await.unwrap()["week"].is_object());
    assert_eq!(stage.calls() - before, one, "one run's calls");
    let secret = stage.secret("etl-oauth-operator");
    let own = Client::new().get(stage.url("")).bearer_auth(secret).send().await.unwrap();
    assert!(!own.headers().contains_key("age"));
    assert_eq!(stage.calls() - before, 2 * one);
    stage.stop().await;
}

#[test]
fn s23_the_stack_file_that_is_shipped_shows_no_results() {
    let stack = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../stack.yaml")).unwrap();
    assert!(!stack.contains("show_result"), "{stack}");
}

#[tokio::test]
async fn without_show_result_anonymous_callers_learn_that_it_ran_and_the_operator_what_came_of_it() {
    let stage = Stage::with(PROGRAM, &[("show_result", "false")], |_| {}).await;
    stage.authorise().await;
    let machine = Client::new().post(stage.url("")).send().await.unwrap();
    assert_eq!(machine.status(), 204);
    let person = Browser::new().open(&stage.url("")).await;
    assert!(person.status == 200 && person.body.contains("The job ran"), "{}", person.body);
    let browser = stage.browser();
    browser.sign_in(&stage.url("")).await;
    let operator = browser.open(&stage.url("")).await;
    assert!(operator.status == 200 && operator.body.contains(">Country<"), "{}", operator.body);
    // Another site's page has it shown to nobody.
    let secret = stage.secret("etl-oauth-operator");
    let lured = Client::new().get(stage.url("")).basic_auth("me", Some(secret)).header("sec-fetch-site", "cross-site");
    assert_eq!(lured.send().await.unwrap().status(), 204);
    stage.stop().await;
}

#[tokio::test]
async fn a_grant_that_takes_something_away_is_asked_about_and_stored_when_a_person_wants_it() {
    let stage = Stage::start(PROGRAM).await;
    stage.authorise().await;
    let tokens = || ["oauth2-access-token", "oauth2-refresh-token"].map(|name| stage.secret(name));
    let before = tokens();
    stage.provider().set_faults(&json!({"omit_refresh_token": true})).unwrap();
    let browser = stage.browser();
    let consent = browser.enable(&stage).await;
    let page = browser.submit(&consent, &[("decision", "allow")]).await;
    assert!(page.status == 200 && page.body.contains("There is no refresh token"), "{}", page.body);
    assert_eq!(tokens(), before, "nothing was changed");

    // What waits is for the operator, in this browser.
    assert_eq!(browser.signed_out(page.url.as_str()).submit(&page, &[]).await.status, 403);
    let other = stage.browser();
    other.sign_in(&stage.url("")).await;
    assert_eq!(other.submit(&page, &[]).await.status, 400);
    assert_eq!(browser.submit(&page, &[("grant", "nonsense")]).await.status, 400);
    assert_eq!(tokens(), before);
    let done = browser.submit(&page, &[]).await;
    assert_eq!((done.status.as_u16(), done.url.as_str()), (200, &*stage.url("/done")));
    assert_ne!(tokens()[0], before[0]);
    assert_eq!(browser.submit(&page, &[]).await.status, 400, "good once");
    stage.stop().await;
}

/// The page after a run of the operator's.
async fn run_by_operator(stage: &Stage) -> String {
    let browser = stage.browser();
    browser.sign_in(&stage.url("")).await;
    browser.open(&stage.url("")).await.body
}

/// The function with callers of that kind, whose secret is `invoke`; authorised.
async fn closed(invoke_auth: &str, invoke: &str) -> Stage {
    let shipped = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../stack.yaml")).unwrap();
    let stack =
        shipped.replace("      - etl-oauth-operator\n", "      - etl-oauth-operator\n      - etl-oauth-invoke\n");
    let stack = stack.replace("    environment:\n", &format!("    environment:\n      invoke_auth: {invoke_auth}\n"));
    let stack = stack.replace("val: 10s", "val: 1h\n      show_result: \"false\"");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stack.yaml");
    std::fs::write(&file, stack).unwrap();
    let stage = Stage::from(PROGRAM, Some(&file), &[], |secrets| {
        std::fs::write(secrets.join("etl-oauth-invoke"), invoke).unwrap();
    })
    .await;
    assert_eq!(stage.authorise().await.status, 200);
    // Whose account it is was asked.
    let authorised = stage.calls();
    let anonymous = Client::new().post(stage.url("")).send().await.unwrap();
    assert_eq!(anonymous.status(), 401);
    assert_eq!(anonymous.json::<Value>().await.unwrap()["error"], "unauthorised");
    let head = Client::new().head(stage.url("")).send().await.unwrap();
    assert_eq!((head.status().as_u16(), stage.calls()), (401, authorised));
    assert!(run_by_operator(&stage).await.contains(">Country<"), "the operator may, too");
    stage
}

#[tokio::test]
async fn callers_with_a_shared_secret_see_the_result_and_run_when_they_like() {
    let stage = closed("secret", "a word").await;
    let before = stage.calls();
    run_by_operator(&stage).await;
    let one = stage.calls() - before;
    let before = stage.calls();
    for request in [
        Client::new().get(stage.url("")).bearer_auth("a word"),
        Client::new().post(stage.url("")).header("x-api-key", "a word"),
    ] {
        let answer = request.send().await.unwrap();
        assert!(answer.status() == 200 && !answer.headers().contains_key("age"));
        assert!(answer.json::<Value>().await.unwrap()["week"].is_object());
    }
    assert_eq!(stage.calls() - before, one * 2, "each ran as the operator did");
    assert_eq!(Client::new().get(stage.url("")).bearer_auth("no word").send().await.unwrap().status(), 401);
    stage.stop().await;
}

#[tokio::test]
async fn a_signed_webhook_runs_the_job_once() {
    let key = [7; 32];
    let stage = closed("hmac", &format!("whsec_{}", STANDARD.encode(key))).await;
    let post = async |id: &str, body: &'static str, signed: &str| {
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), format!("{id}.{at}.{signed}").as_bytes());
        let request = Client::new().post(stage.url("")).header("webhook-id", id).header("webhook-timestamp", at);
        let signature = format!("v1,{}", STANDARD.encode(tag));
        request.header("webhook-signature", signature).body(body).send().await.unwrap().status()
    };
    assert_eq!(post("one", "{\"a\":1}", "{\"a\":1}").await, 200);
    assert_eq!(post("one", "{\"a\":1}", "{\"a\":1}").await, 200, "s22: a sender that repeats itself is to stop");
    assert_eq!(post("two", "{\"a\":2}", "{\"a\":1}").await, 401, "another body");
    // One that failed may come again.
    stage.provider().set_faults(&json!({"api_status": {"status": 500, "times": 100}})).unwrap();
    assert!(post("three", "", "").await.is_server_error());
    stage.provider().set_faults(&json!({"api_status": null})).unwrap();
    assert_eq!(post("three", "", "").await, 200);
    let large = Client::new().post(stage.url("")).body(vec![b'x'; (1 << 20) + 1]).send().await.unwrap();
    assert_eq!(large.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let long: &'static str = "x".repeat((64 << 10) + 1).leak();
    assert_eq!(post("four", long, long).await, StatusCode::PAYLOAD_TOO_LARGE, "it is read before its sender is known");
    stage.stop().await;
}

#[tokio::test]
async fn a_signed_message_runs_the_job_behind_the_gateway() {
    let key = Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap();
    let der = [&[0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0][..], key.public_key().as_ref()].concat();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der));
    let stage = closed("public_key", &pem).await;
    let post = async |url: &str, nonce: &str| {
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let digest = STANDARD.encode(digest::digest(&digest::SHA256, b"body"));
        let input = format!("(\"@method\" \"@target-uri\" \"content-digest\");created={at};nonce=\"{nonce}\"");
        let base = format!(
            "\"@method\": POST\n\"@target-uri\": {url}\n\"content-digest\": sha-256=:{digest}:\n\"@signature-params\": {input}"
        );
        let request = Client::new().post(url).header("content-digest", format!("sha-256=:{digest}:"));
        let request = request.header("signature-input", format!("s={input}"));
        let signature = format!("s=:{}:", STANDARD.encode(key.sign(base.as_bytes())));
        request.header("signature", signature).body("body").send().await.unwrap().status()
    };
    assert_eq!(post(&stage.url(""), "a").await, 200);
    assert_eq!(post(&stage.url("/"), "b").await, 200);
    assert_eq!(post(&stage.url("/?x=y"), "c").await, 200);
    assert_eq!(post(&stage.url(""), "a").await, 409, "s22: a replay");
    stage.stop().await;
}
