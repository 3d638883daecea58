//! What strangers can cost the function, behind the gateway: time, memory, accounts.

use super::*;
use std::time::{Duration, Instant, SystemTime};

/// The shipped function with `invoke_auth` and its secret.
pub(crate) async fn closed(invoke_auth: &str, invoke: &str, variables: &[(&str, &str)]) -> Stage {
    let stack = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../stack.yaml")).unwrap();
    let stack = stack.replace("      - etl-oauth-operator\n", "      - etl-oauth-operator\n      - etl-oauth-invoke\n");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stack.yaml");
    std::fs::write(&file, stack).unwrap();
    let variables = [&[("invoke_auth", invoke_auth)], variables].concat();
    let prepare = |secrets: &Path| std::fs::write(secrets.join("etl-oauth-invoke"), invoke).unwrap();
    Stage::from(PROGRAM, Some(&file), &variables, prepare).await
}

#[tokio::test]
async fn s1_a_flood_of_unfit_webhook_signatures_leaves_the_function_alive() {
    let stage = closed("hmac", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", &[]).await;
    let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let entries = "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4= ".repeat(300);
    let flood: Vec<_> = (0..20)
        .map(|index| {
            let request = raw().post(stage.url("")).header("webhook-id", format!("m{index}"));
            let request = request.header("webhook-timestamp", at).header("webhook-signature", entries.trim());
            let body = vec![b'x'; if index % 2 == 0 { 60 << 10 } else { 1 << 20 }];
            tokio::spawn(async move { request.body(body).send().await.map(|answer| answer.status().as_u16()) })
        })
        .collect();
    let started = Instant::now();
    let alive = raw().get(stage.url("/_/health")).send().await.unwrap();
    assert_eq!(alive.status(), 200);
    // An HMAC for each entry took a minute.
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    for one in flood {
        // What is too long may be refused before all of it is sent.
        assert!(matches!(one.await.unwrap(), Ok(401 | 413) | Err(_)));
    }
    stage.stop().await;
}

#[tokio::test]
async fn s2_s3_names_that_strangers_and_callers_make_up_are_no_accounts() {
    const WORD: &str = "a word that is long enough";
    let folder = tempfile::tempdir().unwrap();
    let secrets = [("etl-oauth-operator", "the operator's secret"), ("etl-oauth-invoke", WORD)];
    let path = folder.path().join("tokens").display().to_string();
    let variables = [
        ("store", "file"),
        ("store_path", &*path),
        ("allow_ephemeral_store", "true"),
        ("grant", "client_credentials"),
        ("invoke_auth", "secret"),
        ("proxy_allow", "token, GET /v2/*"),
    ];
    let fleet = Fleet::unauthorised(PROGRAM, 1, &variables, &secrets).await;
    let http = raw();
    for index in 0..100 {
        let page = http.get(fleet.url(0, &format!("/enable?account=a{index}&wait=1"))).header("accept", "text/html");
        assert_eq!(page.send().await.unwrap().status(), 303, "to the sign-in form");
        let token = http.get(fleet.url(0, &format!("/token?account=b{index}"))).header("x-api-key", WORD);
        assert_eq!(token.send().await.unwrap().status(), 409);
        let proxy = http.get(fleet.url(0, "/proxy/v2/sales")).header("x-api-key", WORD);
        let proxy = proxy.header("x-etl-oauth-account", format!("c{index}"));
        assert_eq!(proxy.send().await.unwrap().status(), 409);
    }
    assert_eq!(fleet.provider_log()["outcomes"], json!({}), "no token request was made");
    let status = http.get(fleet.url(0, "/status")).bearer_auth("the operator's secret").send().await.unwrap();
    let status: Value = status.json().await.unwrap();
    assert_eq!(status["accounts"].as_array().unwrap().len(), 1, "{status}");
    fleet.stop().await;
}

#[tokio::test]
async fn s7_large_forms_of_strangers_are_not_held() {
    let stage = shipped().await;
    let before = super::floods::resident(&stage).await;
    let form = format!("csrf={}", "a".repeat(2 << 20));
    let http = raw();
    let flood: Vec<_> = (0..60)
        .map(|index| {
            let path = ["/enable", "/refresh", "/revoke", "/login", "/logout", "/oauth2/confirm"][index % 6];
            let request = http.post(stage.url(path)).header("content-type", "application/x-www-form-urlencoded");
            let request = request.body(form.clone());
            tokio::spawn(async move { request.send().await.map(|answer| answer.status().as_u16()) })
        })
        .collect();
    for one in flood {
        assert!(matches!(one.await.unwrap(), Ok(400..=499 | 502) | Err(_)));
    }
    let grown = super::floods::resident(&stage).await.saturating_sub(before);
    assert!(grown < 24 << 20, "60 forms of 2 MiB are held in {grown} bytes");
    stage.stop().await;
}
