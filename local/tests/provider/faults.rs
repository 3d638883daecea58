//! The switches.

use reqwest::{StatusCode, header};
use serde_json::{Value, json};

use crate::sandbox::{ID, SECRET, Sandbox};

#[tokio::test]
async fn a_lost_answer_took_effect_and_a_lost_request_did_not() {
    let sandbox = Sandbox::start().await;
    let first = sandbox.enabled().await;
    sandbox.faults(json!({"lose_request": 1})).await;
    assert!(sandbox.renew(&first["refresh_token"]).await.is_err());
    let second: Value = sandbox.renew(&first["refresh_token"]).await.unwrap().json().await.unwrap();
    sandbox.faults(json!({"lose_answer": 1})).await;
    assert!(sandbox.renew(&second["refresh_token"]).await.is_err());
    let refused = sandbox.renew(&second["refresh_token"]).await.unwrap();
    assert_eq!(refused.json::<Value>().await.unwrap()["error"], "invalid_grant");
    let log = sandbox.log().await;
    let answers: Vec<_> = log["token_requests"].as_array().unwrap().iter().map(|entry| &entry["answer"]).collect();
    assert_eq!(answers, ["sent", "lost_request", "sent", "lost_answer", "sent"]);
}

#[tokio::test]
async fn within_the_replay_window_a_lost_answer_can_be_asked_for_again() {
    let sandbox = Sandbox::start().await;
    sandbox.faults(json!({"replay_window": 60})).await;
    let first = sandbox.enabled().await;
    sandbox.faults(json!({"lose_answer": 1})).await;
    assert!(sandbox.renew(&first["refresh_token"]).await.is_err());
    let second: Value = sandbox.renew(&first["refresh_token"]).await.unwrap().json().await.unwrap();
    assert_eq!(sandbox.api("/v2/user", &second["access_token"]).await.status(), StatusCode::OK);
    assert_eq!(sandbox.log().await["token_requests"][2]["outcome"], "replayed");
}

#[tokio::test]
async fn a_status_comes_without_effect_and_goes_away() {
    let sandbox = Sandbox::start().await;
    let first = sandbox.enabled().await;
    sandbox.faults(json!({"status": {"status": 503, "retry_after": "7", "times": 2}})).await;
    for _ in 0..2 {
        let answer = sandbox.renew(&first["refresh_token"]).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers()[header::RETRY_AFTER].to_str().unwrap()), (503, "7"));
    }
    assert_eq!(sandbox.renew(&first["refresh_token"]).await.unwrap().status(), StatusCode::OK);
    sandbox.faults(json!({"status": {"status": 400, "error": "invalid_grant", "times": 1}})).await;
    let answer = sandbox.renew(&first["refresh_token"]).await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap()["error"], "invalid_grant");
}

#[tokio::test]
async fn corrupt_responses_are_corrupt_each_in_its_way() {
    let sandbox = Sandbox::start().await;
    sandbox.faults(json!({"reuse_detection": false, "replay_window": 60})).await;
    let first = sandbox.enabled().await;
    for kind in ["truncated", "broken", "html", "empty", "wrong_type"] {
        sandbox.faults(json!({"malformed": {"kind": kind, "times": 1}})).await;
        let answer = sandbox.renew(&first["refresh_token"]).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{kind}");
        let text = answer.text().await;
        match kind {
            "broken" => assert!(text.is_err()),
            "wrong_type" => {
                let body: Value = serde_json::from_str(&text.unwrap()).unwrap();
                assert!(body["access_token"].is_number() && body["expires_in"].is_array(), "{body}");
            }
            "html" => assert!(text.unwrap().starts_with("<!doctype html>")),
            "empty" => assert_eq!(text.unwrap(), ""),
            _ => assert!(serde_json::from_str::<Value>(&text.unwrap()).is_err()),
        }
    }
}

#[tokio::test]
async fn a_delay_after_the_effect_holds_back_the_answer_only() {
    let sandbox = Sandbox::start().await;
    let first = sandbox.enabled().await;
    sandbox.faults(json!({"delay": {"after": 600, "times": 1}})).await;
    let (http, at) = (sandbox.http.clone(), sandbox.at("/oauth/token"));
    let form = [
        ("grant_type", "refresh_token".to_owned()),
        ("refresh_token", first["refresh_token"].as_str().unwrap().to_owned()),
        ("client_id", ID.to_owned()),
        ("client_secret", SECRET.to_owned()),
    ];
    let slow = tokio::spawn(async move { http.post(at).form(&form).send().await });
    while sandbox.log().await["token_request_count"] != 2 {
        tokio::task::yield_now().await;
    }
    assert!(!slow.is_finished());
    assert_eq!(sandbox.renew(&first["refresh_token"]).await.unwrap().status(), StatusCode::BAD_REQUEST);
    slow.abort();
}

#[tokio::test]
async fn answers_can_leave_out_what_clients_like_to_count_on() {
    let sandbox = Sandbox::start().await;
    sandbox.faults(json!({"omit_expires_in": true})).await;
    let first = sandbox.enabled().await;
    assert!(first.get("expires_in").is_none());
    sandbox.faults(json!({"omit_refresh_token": 1, "omit_expires_in": null})).await;
    let second: Value = sandbox.renew(&first["refresh_token"]).await.unwrap().json().await.unwrap();
    assert!(second.get("refresh_token").is_none() && second["expires_in"] == 3600, "{second}");
    assert_eq!(sandbox.renew(&first["refresh_token"]).await.unwrap().status(), StatusCode::OK);
    sandbox.faults(json!({"rotation": false})).await;
    let third = sandbox.enabled().await;
    let fourth: Value = sandbox.renew(&third["refresh_token"]).await.unwrap().json().await.unwrap();
    assert_eq!(fourth["refresh_token"], third["refresh_token"]);
}

#[tokio::test]
async fn a_bad_switch_changes_nothing_and_is_named() {
    let sandbox = Sandbox::start().await;
    let patch = json!({"token_lifetime": 5, "rotatoin": false});
    let answer = sandbox.http.put(sandbox.at("/admin/faults")).json(&patch).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert!(answer.text().await.unwrap().contains("rotatoin"));
    assert_eq!(sandbox.faults(json!({})).await["token_lifetime"], 3600.0);
}

#[tokio::test]
async fn the_api_fails_as_the_switches_say() {
    let sandbox = Sandbox::start().await;
    let tokens = sandbox.enabled().await;
    let status = async || sandbox.api("/v2/sales", &tokens["access_token"]).await.status().as_u16();
    sandbox.faults(json!({"api_unauthorized": 1})).await;
    assert_eq!([status().await, status().await], [401, 200]);
    sandbox.faults(json!({"api_status": {"status": 429, "retry_after": "1", "times": 1}})).await;
    assert_eq!([status().await, status().await], [429, 200]);
    sandbox.faults(json!({"api_malformed": {"kind": "html", "times": 1}})).await;
    assert!(sandbox.api("/v2/sales", &tokens["access_token"]).await.json::<Value>().await.is_err());
    let revoke = json!({"access": true});
    sandbox.http.post(sandbox.at("/admin/revoke")).json(&revoke).send().await.unwrap();
    assert_eq!(status().await, 401);
    assert_eq!(sandbox.renew(&tokens["refresh_token"]).await.unwrap().status(), StatusCode::OK);
}
