//! Attacks that want what is kept: the token sent elsewhere, secrets in what is seen or timed.

use super::*;

#[tokio::test]
async fn ssrf_by_pagination() {
    let thief = Rogue::thief().await;
    let away = thief.url();
    // The next page is elsewhere: absolute, without a scheme, with a user name that looks like a host, by another header.
    let links = [format!("{away}/v2/sales?page_key=1"), away.replacen("http:", "", 1), format!("@{}", &away[7..])];
    let turn = std::sync::atomic::AtomicUsize::new(0);
    let api = Rogue::start(move |_| {
        let link = &links[turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % links.len()];
        let sale =
            json!({"id": "1", "created_at": "2026-11-20T09:00:00Z", "price": 100, "formatted_total_price": "$1"});
        let body = json!({"success": true, "sales": [sale], "next_page_url": link}).to_string();
        rogue::json(&body).replacen("content-type", &format!("link: <{link}>; rel=\"next\"\r\ncontent-type"), 1)
    })
    .await;
    let stage = Stage::with(PROGRAM, &[("enable_auth", "first_visit"), ("api_url", &api.url())], |_| {}).await;
    stage.authorise().await;
    for _ in 0..4 {
        stage.run().await;
    }
    assert!(api.seen().iter().any(|request| request.to_lowercase().contains("authorization: bearer ")));
    assert_eq!(thief.seen(), Vec::<String>::new());
    stage.stop().await;
}

#[tokio::test]
async fn ssrf_by_redirect() {
    let thief = Rogue::thief().await;
    for status in [301, 302, 303, 307, 308] {
        let to = format!("{}/v2/sales", thief.url());
        let away = move |_: &str| {
            format!("HTTP/1.1 {status} Away\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        };
        // The API's redirect carries the token nowhere, the token endpoint's neither the code nor the client's secret.
        let (api, tokens) = (Rogue::start(away.clone()).await, Rogue::start(away).await);
        let token_url = format!("{}/oauth/token", tokens.url());
        let stage = Stage::with(PROGRAM, &[("enable_auth", "first_visit"), ("api_url", &api.url())], |_| {}).await;
        assert_eq!(stage.authorise().await.status, 200);
        let (answer, _) = stage.run().await;
        assert!((500..=504).contains(&answer), "{answer}");
        assert!(!api.seen().is_empty());
        stage.stop().await;
        let stage = Stage::with(PROGRAM, &[("enable_auth", "first_visit"), ("token_url", &token_url)], |_| {}).await;
        assert_eq!(stage.authorise().await.status, 502);
        assert_eq!(tokens.seen().len(), 1, "and the code is sent once");
        stage.stop().await;
        assert_eq!(thief.seen(), Vec::<String>::new(), "{status}");
    }
}

#[tokio::test]
async fn secrets_in_logs_and_pages() {
    const CLIENT: &str = "marker-of-the-client";
    const OPERATOR: &str = "marker-of-the-operator";
    let prepare = |secrets: &Path| {
        std::fs::write(secrets.join("oauth2-client-secret"), CLIENT).unwrap();
        std::fs::write(secrets.join("etl-oauth-operator"), OPERATOR).unwrap();
    };
    let stage =
        Stage::with(PROGRAM, &[("RUST_LOG", "trace"), ("debug", "true"), ("RUST_BACKTRACE", "full")], prepare).await;
    assert_eq!(stage.secret("oauth2-client-secret"), CLIENT);
    let mut secrets: BTreeSet<String> = BTreeSet::from([CLIENT.into(), OPERATOR.into()]);
    let mut shown = Vec::new();
    let operator = Browser::of_operator(OPERATOR);
    // All that a person and a machine do, and all that may go wrong on the way.
    for faults in [
        json!({"status": {"status": 400, "error": "invalid_grant", "times": 1}}),
        json!({"malformed": {"kind": "wrong_type", "times": 1}}),
        json!({"malformed": {"kind": "truncated", "times": 1}}),
        json!({"lose_answer": 1}),
        json!({"token_lifetime": 1}),
    ] {
        stage.provider().set_faults(&faults).unwrap();
        let callback = callback_of(&stage, &operator).await;
        secrets.extend(["code", "state"].map(|name| query(&callback, name)));
        let arrived = operator.once(callback.as_str()).await;
        shown.push((arrived.body, arrived.headers));
        secrets.extend(["oauth2-access-token", "oauth2-refresh-token"].map(|name| stage.secret(name)));
    }
    let http = raw();
    for path in ["", "/status", "/enable", "/done", "/oauth2/callback?code=x&state=y", "/nowhere", "/openapi.json"] {
        for accept in ["text/html", "application/json"] {
            let answer = http.get(stage.url(path)).header("accept", accept).bearer_auth(OPERATOR).send().await.unwrap();
            let headers = answer.headers().clone();
            shown.push((answer.text().await.unwrap(), headers));
        }
    }
    for api in [
        json!({"api_unauthorized": 1}),
        json!({"api_malformed": {"kind": "wrong_type", "times": 1}}),
        json!({"status": {"status": 503}}),
    ] {
        stage.provider().set_faults(&api).unwrap();
        shown.push((stage.run().await.1.to_string(), Default::default()));
        for path in ["/refresh", "/revoke"].iter().take(if api.get("status").is_some() { 2 } else { 1 }) {
            let answer = http.post(stage.url(path)).bearer_auth(OPERATOR).send().await.unwrap();
            shown.push((answer.text().await.unwrap(), Default::default()));
        }
        secrets.extend(["oauth2-access-token", "oauth2-refresh-token"].map(|name| stage.secret(name)));
    }
    secrets.remove("empty");
    secrets.retain(|secret| !secret.is_empty());
    assert!(secrets.len() > 10, "codes, states, tokens of several generations");
    let (log, metrics) = (stage.log().await, stage.metrics().await);
    assert!(log.contains("the code could not be exchanged"), "{log}");
    for secret in &secrets {
        assert!(!log.contains(secret.as_str()), "a secret is in the log:\n{log}");
        assert!(!metrics.contains(secret.as_str()), "a secret is in the metrics");
        for (body, headers) in &shown {
            assert!(!body.contains(secret.as_str()), "a secret is on a page:\n{body}");
            assert!(!format!("{headers:?}").contains(secret.as_str()), "a secret is in a header: {headers:?}");
        }
    }
    stage.stop().await;
}

#[test]
fn timing_of_secret_comparison() {
    // Time itself is too noisy to be tested. What is tested is that no secret is compared but by `Secret::same` and the
    // library's own functions: `Secret` has no `PartialEq`, and what it exposes meets no operator.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = vec![root.join("etl-oauth/src"), root.join("etl-oauth/keeper/src")];
    let mut read = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        if path.file_name().is_some_and(|name| name == "tests.rs") || path.extension().is_none_or(|end| end != "rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for line in code.lines().filter(|line| line.contains("expose")) {
            let compared = [" == ", " != ", ".eq(", ".ne(", "starts_with(", "ends_with(", ".contains(", "matches!("];
            // What stands for no token is no secret.
            let line = line.replace("!= EMPTY", "");
            assert!(compared.iter().all(|how| !line.contains(how)), "{}: {line}", path.display());
        }
        if path.ends_with("token/secret.rs") {
            assert!(code.contains("constant_time::verify_slices_are_equal") && !code.contains("impl PartialEq"));
            assert!(
                !code.contains("derive(Clone, PartialEq") && !code.contains("PartialOrd") && !code.contains("Hash)")
            );
        }
        read += 1;
    }
    assert!(read > 150, "the sources are where they were");
}

#[tokio::test]
async fn no_user_enumeration_by_account_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens").display().to_string();
    let store =
        [("store", "file"), ("store_path", &*path), ("allow_ephemeral_store", "true"), ("enable_auth", "first_visit")];
    let fleet = Fleet::start(PROGRAM, 1, &store, &[("etl-oauth-operator", "password")]).await;
    let operator = Browser::of_operator("password");
    let page = operator.open(&fleet.url(0, "/enable?account=known")).await;
    let consent = operator.submit(&page, &[]).await;
    assert_eq!(operator.submit(&consent, &[("decision", "allow")]).await.status, 200);
    let asked = async |path: &str| {
        let answer = raw().get(fleet.url(0, path)).header("accept", "application/json").send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    };
    assert_eq!(asked("/enable?account=known").await, asked("/enable?account=other").await);
    assert_eq!(asked("/status?account=known").await, asked("/status?account=other").await);
    fleet.stop().await;
}
