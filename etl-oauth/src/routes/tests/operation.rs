//! What the operator sees of runs, renewals and the store.

use super::*;

/// A job of one's own that takes so long.
fn slow(pause: std::time::Duration) -> Job {
    Job::Own(Own::new(move |_: Api, (): ()| async move {
        tokio::time::sleep(pause).await;
        Ok::<_, ApiError>(())
    }))
}

impl Scene {
    pub(super) async fn ask(&self, request: Request<Body>) -> (StatusCode, Value) {
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    pub(super) async fn run(&self) -> (StatusCode, Value) {
        self.ask(Request::post("/").body(Body::empty()).unwrap()).await
    }

    /// A machine's call as the operator.
    pub(super) async fn operate(&self, method: Method, path: &str) -> (StatusCode, Value) {
        let request = Request::builder().method(method).uri(path);
        self.ask(request.header(header::AUTHORIZATION, format!("Bearer {SECRET}")).body(Body::empty()).unwrap()).await
    }

    async fn status(&self) -> Value {
        self.operate(Method::GET, "/status").await.1
    }

    /// The file of the account's record.
    fn record(&self) -> std::path::PathBuf {
        self.folder.path().join("store/default.json")
    }
}

#[tokio::test]
async fn o3_a_job_over_exec_timeout_is_a_failed_run_with_its_own_code() {
    let variables = [("min_run_interval", "0s"), ("exec_timeout", "300ms")];
    let scene = Scene::running(slow(std::time::Duration::from_secs(60)), BY_USERINFO, &variables).await;
    scene.authorise("ada:read write").await;
    let (status, told) = scene.run().await;
    assert_eq!((status, &told["error"]), (StatusCode::GATEWAY_TIMEOUT, &json!("job_timed_out")), "{told}");
    assert!(
        told["message"].as_str().unwrap().contains("0.2 s") && told["next"].as_str().unwrap().contains("exec_timeout")
    );
    let account = scene.status().await["accounts"][0].clone();
    assert_eq!(account["last_run"]["outcome"], "job_timed_out", "{account}");
    // A caller that gives it less time gets an answer within that.
    let short = Request::post("/").header("x-timeout", "150ms").body(Body::empty()).unwrap();
    let (status, told) = scene.ask(short).await;
    assert!(status == StatusCode::GATEWAY_TIMEOUT && told["message"].as_str().unwrap().contains("0.1 s"), "{told}");
}

#[tokio::test]
async fn the_sweeper_keeps_an_idle_refresh_token_alive_though_no_caller_comes_and_there_is_no_job() {
    // It lapses when it is idle for two seconds: it is renewed after one at the latest.
    let variables = [("sweep", "on"), ("sweep_interval", "1s"), ("refresh_idle", "2s")];
    let scene = Scene::running(Job::None, BY_USERINFO, &variables).await;
    scene.authorise("ada:read write").await;
    let renewed = async {
        loop {
            let status = scene.status().await;
            let account = &status["accounts"][0];
            if account["generation"].as_u64() > Some(1) {
                assert_eq!(account["last_renewal"]["outcome"], "renewed", "{status}");
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), renewed).await.expect("nothing renews");
}

#[tokio::test]
async fn o5_a_function_without_a_job_fails_where_there_is_no_token() {
    let scene = Scene::running(Job::None, BY_USERINFO, &[("min_run_interval", "0s"), ("show_result", "true")]).await;
    assert_eq!(scene.run().await.0, StatusCode::CONFLICT);
    scene.authorise("ada:read write").await;
    let (status, told) = scene.run().await;
    assert_eq!((status, &told["generation"]), (StatusCode::OK, &json!(1)), "{told}");
}

#[tokio::test]
async fn o6_the_providers_own_reason_is_a_field_of_its_own_and_tokens_in_it_are_not_shown() {
    let definition = format!("{BY_USERINFO}refresh_url = 'URL/refuse'\nanswer.reason = ['error_subtype', 'trace']");
    let scene = Scene::with(&definition, &[("min_run_interval", "0s"), ("renew", "each_run")]).await;
    scene.authorise("ada:read write").await;
    let (status, told) = scene.operate(Method::POST, "/refresh").await;
    assert_eq!((status, &told["error"]), (StatusCode::CONFLICT, &json!("needs_authorisation")), "{told}");
    let reason = "error_subtype=invalid_rapt, trace=token … is dead";
    assert_eq!(told["reason"], reason, "{told}");
    let status = scene.status().await;
    let error = &status["accounts"][0]["error"];
    assert_eq!((&error["error"], &error["reason"]), (&json!("invalid_grant"), &json!(reason)), "{status}");
    assert!(error["message"].as_str().unwrap().contains("(invalid_grant: error_subtype=invalid_rapt"), "{status}");
    let page = scene.send(Method::GET, "/status", "", &[]).await;
    assert!(page.body.contains("The provider's own reason: <code>error_subtype=invalid_rapt"), "{}", page.body);
    assert!(!page.body.contains("gAbCdEfGhIjKlMnOpQr") && !page.body.contains("marker"), "{}", page.body);
}

#[tokio::test]
async fn o7_a_store_that_refuses_is_told_alike_on_every_route() {
    use std::os::unix::fs::PermissionsExt as _;
    let variables = [("invoke_auth", "secret"), ("proxy_allow", "token, GET /*"), ("min_run_interval", "0s")];
    let secrets = [("etl-oauth-invoke", "a word that is long enough")];
    let scene = Scene::prepared(Job::None, BY_USERINFO, &variables, &secrets).await;
    scene.authorise("ada:read write").await;
    // Anybody on the host may have written it.
    std::fs::set_permissions(scene.record(), std::fs::Permissions::from_mode(0o666)).unwrap();
    let Scene { folder, provider, .. } = scene;
    let scene = Scene::start(Job::None, BY_USERINFO, &variables, folder, provider).await;
    let call = |method: Method, path: &str| {
        let request = Request::builder().method(method).uri(path).header("x-api-key", "a word that is long enough");
        scene.ask(request.body(Body::empty()).unwrap())
    };
    let mut told = vec![scene.operate(Method::POST, "/refresh").await];
    for (method, path) in [(Method::POST, "/"), (Method::GET, "/token"), (Method::GET, "/proxy/me")] {
        told.push(call(method, path).await);
    }
    for (status, problem) in &told {
        assert_eq!(
            (*status, &problem["error"]),
            (StatusCode::SERVICE_UNAVAILABLE, &json!("store_unavailable")),
            "{told:?}"
        );
        assert!(problem["message"].as_str().unwrap().contains("can be written by others"), "{problem}");
        assert_eq!(problem["next"], told[0].1["next"]);
    }
    let status = scene.status().await;
    assert_eq!(
        (&status["store"]["ok"], &status["verdict"]["code"]),
        (&json!(false), &json!("store_unavailable")),
        "{status}"
    );
}

#[tokio::test]
async fn o7_the_enable_page_of_the_function_names_the_callback_domain_where_that_is_registered() {
    let definition = format!("{BY_USERINFO}callback.registered = 'domain'");
    let scene = Scene::new(&definition).await;
    let page = scene.send(Method::GET, "/enable", "", &[]).await;
    assert!(page.body.contains("Register this callback domain"), "{}", page.body);
    assert!(page.body.contains("<code class=\"copy\">127.0.0.1</code>"), "{}", page.body);
    // Once it is connected, that is folded away.
    scene.authorise("ada:read write").await;
    let page = scene.send(Method::GET, "/enable", "", &[]).await;
    assert!(!page.body.contains("First time?") && page.body.contains("<details>"), "{}", page.body);
}

#[tokio::test]
async fn o8_a_run_for_want_of_an_account_is_no_failed_run() {
    let scene = Scene::with(BY_USERINFO, &[("min_run_interval", "0s")]).await;
    for _ in 0..3 {
        assert_eq!(scene.run().await.0, StatusCode::CONFLICT);
    }
    let status = scene.status().await;
    let account = &status["accounts"][0];
    assert_eq!((&account["last_run"], &account["runs"]), (&Value::Null, &json!([])), "{account}");
    assert_eq!(status["verdict"]["code"], "not_connected");
}

#[tokio::test]
async fn o11_the_last_runs_survive_the_replica() {
    let variables = [("min_run_interval", "0s")];
    let job = || slow(std::time::Duration::ZERO);
    let scene = Scene::running(job(), BY_USERINFO, &variables).await;
    scene.authorise("ada:read write").await;
    assert_eq!(scene.run().await.0, StatusCode::NO_CONTENT);
    let before = scene.status().await["accounts"][0].clone();
    assert_eq!(before["runs"].as_array().unwrap().len(), 1);
    let Scene { folder, provider, .. } = scene;
    // The write may come a moment after the answer.
    let job_state = folder.path().join("store");
    for _ in 0..200 {
        if std::fs::read_dir(&job_state).unwrap().any(|entry| entry.unwrap().path().is_dir()) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let again = Scene::start(job(), BY_USERINFO, &variables, folder, provider).await;
    let after = again.status().await["accounts"][0].clone();
    assert_eq!((&after["runs"], &after["last_run"]), (&before["runs"], &before["last_run"]));
}

#[tokio::test]
async fn o12_an_empty_body_of_any_content_type_is_an_empty_body() {
    let scene = Scene::new(BY_USERINFO).await;
    scene.authorise("ada:read write").await;
    let post = |path: &str, kind: &str, body: &'static str| {
        let request = Request::post(path).header(header::AUTHORIZATION, format!("Bearer {SECRET}"));
        request.header(header::CONTENT_TYPE, kind).body(Body::from(body)).unwrap()
    };
    for kind in ["application/octet-stream", "application/json", "text/plain; charset=utf-8", "multipart/form-data"] {
        for path in ["/reseal", "/enable"] {
            let (status, told) = scene.ask(post(path, kind, "")).await;
            assert!(status.is_success() || status.is_redirection(), "{path} {kind}: {status} {told}");
        }
        let (status, _) = scene.ask(post("/reseal", kind, "account=default")).await;
        assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind}");
    }
    let long: &'static str = "a=b&".repeat(10_000).leak();
    let (status, _) = scene.ask(post("/reseal", "application/x-www-form-urlencoded", long)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn o13_a_damaged_record_is_a_failure_with_a_name_and_a_cure_and_can_be_cleared() {
    let scene = Scene::running(Job::None, BY_USERINFO, &[("min_run_interval", "0s")]).await;
    scene.authorise("ada:read write").await;
    std::fs::write(scene.record(), "{\"generation\":").unwrap();
    let Scene { folder, provider, .. } = scene;
    let scene = Scene::start(Job::None, BY_USERINFO, &[("min_run_interval", "0s")], folder, provider).await;
    let status = scene.status().await;
    let account = &status["accounts"][0];
    assert_eq!(
        (&account["state"], &account["error"]["error"]),
        (&json!("degraded"), &json!("record_damaged")),
        "{status}"
    );
    assert!(account["error"]["next"].as_str().unwrap().contains("POST /revoke"), "{account}");
    // The store is well: it is this record that cannot be read.
    assert_eq!((&status["verdict"]["code"], &status["store"]["ok"]), (&json!("record_damaged"), &json!(true)));
    let (code, told) = scene.run().await;
    assert_eq!((code, &told["error"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("record_damaged")), "{told}");
    assert_eq!(told["next"], account["error"]["next"]);

    let (code, told) = scene.operate(Method::POST, "/revoke").await;
    assert_eq!((code, &told["store"]), (StatusCode::OK, &json!("deleted")), "{told}");
    assert_eq!(scene.status().await["accounts"][0]["state"], "disabled");
    scene.authorise("ada:read write").await;
    assert_eq!(scene.status().await["accounts"][0]["state"], "enabled");
}

#[tokio::test]
async fn h10_a_healthy_account_without_a_refresh_token_says_that_there_is_none() {
    let scene = Scene::new(BY_USERINFO).await;
    scene.authorise("guest:read write").await;
    let (status, told) = scene.operate(Method::POST, "/refresh").await;
    assert_eq!((status, &told["error"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("no_refresh_token")), "{told}");
    assert!(told["message"].as_str().unwrap().contains("its access token works until"), "{told}");
    assert_eq!(scene.status().await["accounts"][0]["error"], Value::Null, "nothing failed");
}
