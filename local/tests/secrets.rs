//! The secrets of the REST API, in the dialects of both providers.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use local::Dialect;
use reqwest::Method;
use serde_json::{Value, json};
use support::{Place, Running};

const SECRETS: &str = "/system/secrets";

async fn start(dialect: Dialect) -> Running {
    let function = "  echo:\n    lang: none\n    image: sample\n    secrets: [oauth2-access-token]\n";
    Place::new(function).start_as(&["echo"], dialect).await
}

async fn answer(running: &Running, method: Method, body: &str) -> (u16, String) {
    let answer = running.system(method, SECRETS).body(body.to_owned()).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// Statuses and bodies: what, request, faas-netes, faasd. An empty body where nothing else is said.
#[tokio::test]
async fn each_dialect_answers_in_its_own_way() {
    let (netes, faasd) = (start(Dialect::FaasNetes).await, start(Dialect::Faasd).await);
    let (post, put, delete) = (Method::POST, Method::PUT, Method::DELETE);
    let one = r#"{"name":"one","value":"1"}"#;
    for (method, body, by_netes, by_faasd) in [
        (&put, one, 404, 200),
        (&post, one, 202, 200),
        (&post, one, 409, 200),
        (&put, one, 202, 200),
        (&post, "{", 400, 500),
        (&post, r#"{"name":"one","rawValue":"not base64!"}"#, 400, 500),
        (&post, r#"{"name":"Upper_Case","value":"x"}"#, 422, 200),
        (&post, r#"{"name":"","value":"x"}"#, 500, 400),
        (&post, r#"{"name":"../out","value":"x"}"#, 422, 400),
        (&post, r#"{"name":"two","namespace":"elsewhere","value":"x"}"#, 400, 400),
        (&delete, r#"{"name":"one"}"#, 202, 200),
        (&delete, r#"{"name":"one"}"#, 404, 500),
    ] {
        let (status, text) = answer(&netes, method.clone(), body).await;
        assert_eq!((status, text.as_str()), (by_netes, ""), "faas-netes {method} {body}");
        let (status, text) = answer(&faasd, method.clone(), body).await;
        assert_eq!(
            (status, text.is_empty()),
            (by_faasd, by_faasd == 200 || body.contains("elsewhere")),
            "{method} {body}"
        );
    }
    netes.local.stop().await;
    faasd.local.stop().await;
}

#[tokio::test]
async fn the_raw_value_wins_and_no_value_is_ever_read_back() {
    let running = start(Dialect::FaasNetes).await;
    let change = json!({"name": "oauth2-access-token", "value": "trimmed", "rawValue": "cmF3Cg=="});
    assert_eq!(running.write(Method::PUT, SECRETS, &change).await, 202);
    let seen: Value = running.get("/function/echo/secrets").await.json().await.unwrap();
    assert_eq!(seen["oauth2-access-token"], "raw\n");
    let empty = json!({"name": "oauth2-access-token", "value": "plain", "rawValue": ""});
    assert_eq!(running.write(Method::PUT, SECRETS, &empty).await, 202);
    let list = running.read(SECRETS).await;
    let expected = json!([
        {"name": "basic-auth-password", "namespace": "openfaas-fn"},
        {"name": "oauth2-access-token", "namespace": "openfaas-fn"},
    ]);
    assert_eq!(list, expected);
    assert_eq!(running.system(Method::GET, "/system/secrets?namespace=other").send().await.unwrap().status(), 400);
    running.local.stop().await;
}

#[tokio::test]
async fn faasd_deletes_by_the_namespace_of_the_query() {
    let running = start(Dialect::Faasd).await;
    let elsewhere = running.system(Method::DELETE, "/system/secrets?namespace=other");
    let secret = json!({"name": "oauth2-access-token"});
    assert_eq!(elsewhere.json(&secret).send().await.unwrap().status(), 400);
    // faas-cli puts it into the body, which faasd does not look at.
    let ignored = json!({"name": "oauth2-access-token", "namespace": "other"});
    assert_eq!(running.write(Method::DELETE, SECRETS, &ignored).await, 200);
    running.local.stop().await;
}

#[tokio::test]
async fn a_reader_sees_whole_values_only_while_faas_netes_writes() {
    let running = start(Dialect::FaasNetes).await;
    let path = running.local.secret("oauth2-access-token");
    let values = ["a".repeat(100_000), "b".repeat(100_000)];
    let writes = async {
        for value in values.iter().cycle().take(40) {
            let change = json!({"name": "oauth2-access-token", "value": value});
            assert_eq!(running.write(Method::PUT, SECRETS, &change).await, 202);
        }
    };
    let reads = async {
        loop {
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text == "empty" || values.contains(&text), "a part of a value: {} bytes", text.len());
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = writes => {}
        () = reads => {}
    }
    running.local.stop().await;
}
