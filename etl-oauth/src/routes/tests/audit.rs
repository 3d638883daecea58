//! The audit: who did what, and what callers may use.

use super::session::{browse, csrf};
use super::*;

impl Scene {
    async fn audit(&self, query: &str) -> Vec<Value> {
        let (status, told) = self.operate(Method::GET, &format!("/audit{query}")).await;
        assert_eq!((status, &told["kept"]), (StatusCode::OK, &json!("store")), "{told}");
        told["events"].as_array().unwrap().clone()
    }
}

/// Actor, action, account and outcome of each, the oldest first.
fn short(events: &[Value]) -> Vec<String> {
    let word = |event: &Value, name: &str| event[name].as_str().unwrap_or("-").to_owned();
    let one = |event: &Value| ["actor", "action", "account", "outcome"].map(|name| word(event, name)).join(" ");
    events.iter().rev().map(one).collect()
}

#[tokio::test]
async fn the_audit_says_who_did_what_and_is_read_back_by_another_process() {
    let scene = Scene::running(Job::None, BY_USERINFO, &[("min_run_interval", "0s")]).await;
    let (refused, _) = browse(&scene, Method::POST, "/login", &[], &[("password", "wrong")]).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    let session = browse(&scene, Method::POST, "/login", &[], &[("password", SECRET)]).await.0.cookies;
    scene.authorise("ada:read write").await;
    scene.come_back("bob", "ada:read write", str::to_owned).await;
    assert_eq!(scene.run().await.0, StatusCode::NO_CONTENT);
    assert_eq!(scene.operate(Method::POST, "/refresh").await.0, StatusCode::OK);
    assert_eq!(scene.operate(Method::POST, "/reseal").await.0, StatusCode::OK);
    assert_eq!(scene.operate(Method::POST, "/revoke").await.0, StatusCode::OK);
    let (page, _) = browse(&scene, Method::GET, "/status", &[("cookie", &session)], &[]).await;
    let cookies = format!("{session}; {}", page.cookies);
    browse(&scene, Method::POST, "/logout", &[("cookie", &cookies)], &[("csrf", &csrf(&page))]).await;

    let all = scene.audit("").await;
    let told = short(&all);
    for wanted in [
        "stranger refuse - unauthorised",
        "operator sign_in - ok",
        "operator authorise default ok",
        "operator authorise bob ok",
        "job run default ok",
        "job run bob ok",
        "operator renew default renewed",
        "operator reseal - ok",
        "operator revoke default ok",
        "operator sign_out - ok",
    ] {
        assert_eq!(told.iter().filter(|line| *line == wanted).count(), 1, "{wanted}: {told:#?}");
    }
    let text = json!(all).to_string();
    assert!(!text.contains(SECRET) && !text.contains("wrong"), "{text}");
    let own = scene.audit("?account=default").await;
    assert!(own.iter().all(|event| event["account"] == "default" && event["connection"] == "default"), "{own:?}");
    assert_eq!(short(&own).last().map(String::as_str), Some("operator revoke default ok"), "newest first");

    let other = scene.restarted().await;
    assert_eq!(other.audit("").await, all);
    assert_eq!(other.audit("?account=default").await, own);
    assert_eq!(other.operate(Method::GET, "/audit?cursor=x").await.0, StatusCode::BAD_REQUEST);
    let stranger = Request::get("/audit").body(Body::empty()).unwrap();
    assert_eq!(other.ask(stranger).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_caller_is_known_by_its_name_and_uses_no_account_that_it_has_no_right_to() {
    let variables = [("invoke_auth", "secret"), ("proxy_allow", "token, GET /*"), ("min_run_interval", "0s")];
    let secrets = [(
        "etl-oauth-invoke",
        "the key of the reports name=reports allow=default/default\nanother key\nthe third key allow=google/*",
    )];
    let scene = Scene::prepared(Job::None, BY_USERINFO, &variables, &secrets).await;
    scene.authorise("ada:read write").await;
    scene.come_back("bob", "ada:read write", str::to_owned).await;
    let call = async |key: &str, path: &str, account: &str| {
        let request = Request::get(path).header("x-api-key", key);
        let request = if path.starts_with("/proxy") { request.header("x-etl-oauth-account", account) } else { request };
        scene.ask(request.body(Body::empty()).unwrap()).await.0.as_u16()
    };
    let reports = "the key of the reports";
    assert_eq!(call(reports, "/token", "").await, 200);
    assert_eq!(call(reports, "/token?account=bob", "").await, 403);
    assert_eq!(call(reports, "/proxy/me", "default").await, 200);
    assert_eq!(call(reports, "/proxy/me", "bob").await, 403);
    assert_eq!(call("another key", "/token?account=bob", "").await, 200);
    assert_eq!(call("the third key", "/token", "").await, 403);
    assert_eq!(
        call("the key of the reports name=reports", "/token", "").await,
        401,
        "the words are no part of the key"
    );
    // A run is one of the accounts that the caller may use.
    let run = Request::post("/").header("x-api-key", reports).body(Body::empty()).unwrap();
    let (status, told) = scene.ask(run).await;
    assert_eq!((status, &told["accounts"]), (StatusCode::OK, &Value::Null), "one account's result: {told}");
    let run = Request::post("/").header("x-api-key", "the third key").body(Body::empty()).unwrap();
    assert_eq!(scene.ask(run).await.0, StatusCode::FORBIDDEN);

    let told = short(&scene.audit("").await);
    let nameless = told.iter().find(|line| line.ends_with("token bob ok")).unwrap();
    assert!(nameless.starts_with("caller:") && nameless.split(' ').next().unwrap().len() == 7 + 8, "{nameless}");
    for wanted in
        ["caller:reports token default ok", "caller:reports proxy default ok", "caller:reports run default ok"]
    {
        assert!(told.iter().any(|line| line == wanted), "{wanted}: {told:#?}");
    }
    assert!(told.iter().any(|line| line == "stranger refuse - forbidden"), "{told:#?}");
}

#[tokio::test]
async fn a_right_that_cannot_be_read_is_a_mistake_of_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    for (name, value) in [("etl-oauth-invoke", "key allow=a/b/c"), ("etl-oauth-seal-keys", "x")] {
        std::fs::write(folder.path().join(name), value).unwrap();
    }
    let mistakes = Config::read(|name| match name {
        "provider" => Some("gumroad".into()),
        "public_url" => Some("http://127.0.0.1/function/f".into()),
        "invoke_auth" => Some("secret".into()),
        "secret_mount_path" => Some(folder.path().display().to_string()),
        _ => None,
    });
    let mistakes = mistakes.unwrap_err().to_string();
    assert!(mistakes.contains("etl-oauth-invoke has a line that cannot be read"), "{mistakes}");
    assert!(!mistakes.contains("a/b/c"), "a line may be a key");
}
