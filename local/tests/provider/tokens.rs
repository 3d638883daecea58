//! The token endpoint: authentication, grants, revocation.

use local::provider::{Options, Provider};
use reqwest::{StatusCode, header};
use serde_json::{Value, json};

use crate::sandbox::{ID, PUBLIC, REDIRECT, SECRET, Sandbox, VERIFIER, encoded, parameter};

#[tokio::test]
async fn the_client_authenticates_by_basic_or_post_but_not_both_or_wrongly() {
    let sandbox = Sandbox::start().await;
    let form = [("grant_type", "refresh_token"), ("refresh_token", "unknown")];
    let request = || sandbox.http.post(sandbox.at("/oauth/token"));
    let error = async |answer: reqwest::RequestBuilder| {
        let answer = answer.send().await.unwrap();
        let challenge = answer.headers().contains_key(header::WWW_AUTHENTICATE);
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.unwrap();
        (status, body["error"].as_str().unwrap().to_owned(), challenge)
    };
    let encoded = encoded();
    let posted = [("client_id", ID), ("client_secret", SECRET)];
    // Past the client's authentication there is an unknown refresh token.
    let right = (400, "invalid_grant".to_owned(), false);
    assert_eq!(error(request().basic_auth(ID, Some(&encoded)).form(&form)).await, right);
    assert_eq!(error(request().form(&[form.as_slice(), &posted].concat())).await, right);
    let wrong = |challenge| (401, "invalid_client".to_owned(), challenge);
    assert_eq!(error(request().basic_auth(ID, Some("wrong")).form(&form)).await, wrong(true));
    assert_eq!(error(request().form(&[form.as_slice(), &[("client_id", ID)]].concat())).await, wrong(false));
    let both = request().basic_auth(ID, Some(&encoded)).form(&[form.as_slice(), &posted].concat());
    assert_eq!(error(both).await, (400, "invalid_request".to_owned(), false));
    let twice = request().form(&[form.as_slice(), &posted, &[("refresh_token", "other")]].concat());
    assert_eq!(error(twice).await, (400, "invalid_request".to_owned(), false));
    let json = request().json(&json!({"grant_type": "refresh_token"}));
    assert_eq!(error(json).await, (400, "invalid_request".to_owned(), false));
}

#[tokio::test]
async fn a_refresh_token_used_twice_revokes_the_family_and_the_log_tells() {
    let sandbox = Sandbox::start().await;
    let first = sandbox.enabled().await;
    let second: Value = sandbox.renew(&first["refresh_token"]).await.unwrap().json().await.unwrap();
    assert_ne!(second["refresh_token"], first["refresh_token"]);
    assert_eq!(sandbox.api("/v2/user", &second["access_token"]).await.status(), StatusCode::OK);
    assert_eq!(sandbox.renew(&first["refresh_token"]).await.unwrap().status(), StatusCode::BAD_REQUEST);
    assert_eq!(sandbox.renew(&second["refresh_token"]).await.unwrap().status(), StatusCode::BAD_REQUEST);
    let dead = sandbox.api("/v2/user", &second["access_token"]).await;
    assert_eq!(dead.status(), StatusCode::UNAUTHORIZED);
    let challenge = dead.headers()[header::WWW_AUTHENTICATE].to_str().unwrap();
    assert!(challenge.contains("error=\"invalid_token\"") && challenge.contains("revoked"), "{challenge}");
    let log = sandbox.log().await;
    let outcomes: Vec<_> = log["token_requests"].as_array().unwrap().iter().map(|entry| &entry["outcome"]).collect();
    assert_eq!(outcomes, ["issued", "issued", "reuse_detected", "refused"]);
    assert_eq!(log["outcomes"]["refresh_token issued"], 1);
    assert_eq!(log["api_requests"]["GET /v2/user 401"], 1);
    let text = log.to_string();
    for secret in [&first["refresh_token"], &second["access_token"], &json!(SECRET)] {
        assert!(!text.contains(secret.as_str().unwrap()), "{text}");
    }
}

#[tokio::test]
async fn revocation_ends_a_token_and_says_yes_to_unknown_ones() {
    let sandbox = Sandbox::start().await;
    let tokens = sandbox.enabled().await;
    let revoke = async |token: &str| {
        let form = [("token", token), ("client_id", ID), ("client_secret", SECRET)];
        sandbox.http.post(sandbox.at("/oauth/revoke")).form(&form).send().await.unwrap().status()
    };
    assert_eq!(revoke("unknown").await, StatusCode::OK);
    assert_eq!(sandbox.api("/v2/user", &tokens["access_token"]).await.status(), StatusCode::OK);
    assert_eq!(revoke(tokens["refresh_token"].as_str().unwrap()).await, StatusCode::OK);
    assert_eq!(sandbox.api("/v2/user", &tokens["access_token"]).await.status(), StatusCode::UNAUTHORIZED);
    let unknown = [("token", "x"), ("client_id", ID), ("client_secret", "wrong")];
    let answer = sandbox.http.post(sandbox.at("/oauth/revoke")).form(&unknown).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_client_asks_for_itself_and_gets_no_refresh_token() {
    let sandbox = Sandbox::start().await;
    let issued: Value = sandbox
        .token(&[("grant_type", "client_credentials"), ("scope", "view_sales")])
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!((&issued["scope"], issued.get("refresh_token")), (&json!("view_sales"), None));
    assert_eq!(sandbox.api("/v2/sales", &issued["access_token"]).await.status(), StatusCode::OK);
    for (form, error) in [
        (vec![("grant_type", "client_credentials"), ("scope", "all")], "invalid_scope"),
        (vec![("grant_type", "password")], "unsupported_grant_type"),
    ] {
        let refused: Value = sandbox.token(&form).await.unwrap().json().await.unwrap();
        assert_eq!(refused["error"], error);
    }
    let anonymous = [("grant_type", "client_credentials"), ("client_id", PUBLIC)];
    let refused = sandbox.http.post(sandbox.at("/oauth/token")).form(&anonymous).send().await.unwrap();
    assert_eq!(refused.json::<Value>().await.unwrap()["error"], "unauthorized_client");
}

#[tokio::test]
async fn a_token_buys_another_of_the_same_person_and_of_no_more() {
    let sandbox = Sandbox::start().await;
    let subject = sandbox.enabled().await["access_token"].as_str().unwrap().to_owned();
    let kind = "urn:ietf:params:oauth:token-type:access_token";
    let ask = async |scope: &str, subject: &str| -> Value {
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("subject_token", subject),
            ("subject_token_type", kind),
            ("audience", "one"),
            ("audience", "two"),
            ("scope", scope),
        ];
        sandbox.token(&form).await.unwrap().json().await.unwrap()
    };
    let bought = ask("view_sales", &subject).await;
    assert_eq!((&bought["issued_token_type"], bought.get("refresh_token")), (&json!(kind), None));
    let user: Value = sandbox.api("/v2/user", &bought["access_token"]).await.json().await.unwrap();
    assert_eq!(user["user"]["email"], "ada@example.com");
    assert_eq!(ask("edit_products", &subject).await["error"], "invalid_scope");
    assert_eq!(ask("view_sales", "unknown").await["error"], "invalid_request");
}

#[tokio::test]
async fn a_person_types_a_devices_code_and_the_device_gets_its_tokens_once() {
    let sandbox = Sandbox::start().await;
    sandbox.faults(json!({"device_interval": 0})).await;
    // A device without a secret.
    let form = [("client_id", PUBLIC), ("scope", "view_sales")];
    let codes: Value =
        sandbox.http.post(sandbox.at("/oauth/device")).form(&form).send().await.unwrap().json().await.unwrap();
    let ask = async || -> Value {
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("client_id", PUBLIC),
            ("device_code", codes["device_code"].as_str().unwrap()),
        ];
        sandbox.http.post(sandbox.at("/oauth/token")).form(&form).send().await.unwrap().json().await.unwrap()
    };
    assert_eq!(ask().await["error"], "authorization_pending");
    let page = sandbox.http.get(codes["verification_uri_complete"].as_str().unwrap()).send().await.unwrap();
    let html = page.text().await.unwrap();
    assert!(html.contains(codes["user_code"].as_str().unwrap()) && html.contains("See your sales"), "{html}");
    let wrong = sandbox.http.get(sandbox.at("/device?user_code=<b>")).send().await.unwrap();
    assert_eq!(wrong.status(), StatusCode::BAD_REQUEST);
    let form = [("user_code", codes["user_code"].as_str().unwrap()), ("decision", "allow")];
    sandbox.http.post(sandbox.at("/device")).form(&form).send().await.unwrap().error_for_status().unwrap();
    let issued = ask().await;
    assert!(issued["refresh_token"].is_string(), "{issued}");
    assert_eq!(sandbox.api("/v2/sales", &issued["access_token"]).await.status(), StatusCode::OK);
    assert_eq!(ask().await["error"], "invalid_grant");
}

#[tokio::test]
async fn salesforces_answer_says_where_the_api_is_and_not_when_the_token_ends() {
    let sandbox = Sandbox::start().await;
    let code = parameter(&sandbox.decide("allow").await, "code").unwrap();
    let form = [
        ("grant_type", "authorization_code"),
        ("code", &*code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
        ("client_id", ID),
        ("client_secret", SECRET),
    ];
    let answer = sandbox.http.post(sandbox.at("/services/oauth2/token")).form(&form).send().await.unwrap();
    let answer: Value = answer.json().await.unwrap();
    assert_eq!((&answer["instance_url"], answer.get("expires_in")), (&json!(sandbox.provider.url()), None));
    let rows = sandbox.api("/services/data/v60.0/query?q=SELECT+Id+FROM+Account", &answer["access_token"]).await;
    assert_eq!(rows.json::<Value>().await.unwrap()["totalSize"], 7);
}

#[tokio::test]
async fn grants_outlive_a_restart_and_hold_no_token_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start_in(Some(folder.path())).await;
    let tokens = sandbox.enabled().await;
    let kept = std::fs::read_to_string(folder.path().join("provider.json")).unwrap();
    sandbox.provider.stop().await;
    assert!(!kept.contains(tokens["refresh_token"].as_str().unwrap()));
    let sandbox = Sandbox::start_in(Some(folder.path())).await;
    assert_eq!(sandbox.api("/v2/user", &tokens["access_token"]).await.status(), StatusCode::OK);
    assert_eq!(sandbox.renew(&tokens["refresh_token"]).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_taken_port_is_one_clear_message() {
    let sandbox = Sandbox::start().await;
    let address = sandbox.provider.url().trim_start_matches("http://").parse().unwrap();
    let error = Provider::start(Options { address, clients: vec![], state: None }).await.unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("--provider") && text.contains(&address.to_string()), "{text}");
}
