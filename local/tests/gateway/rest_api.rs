//! The REST API: the operator, status, scaling, logs.

use std::collections::BTreeSet;

use reqwest::{Method, header};
use serde_json::{Value, json};

use crate::ECHO;
use crate::support::Place;

#[tokio::test]
async fn the_rest_api_wants_the_operator_and_the_functions_do_not() {
    let running = Place::new(ECHO).start(&["echo"]).await;
    for path in ["/system/functions", "/system/secrets", "/system/info", "/system/namespaces", "/system/logs?name=echo"]
    {
        for request in [
            running.http.get(running.at(path)),
            running.http.get(running.at(path)).basic_auth("admin", Some("wrong")),
            running.http.get(running.at(path)).basic_auth("root", Some(&running.password)),
            running.http.get(running.at(path)).bearer_auth(&running.password),
        ] {
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 401, "{path}");
            assert_eq!(answer.headers()[header::WWW_AUTHENTICATE], "Basic realm=\"Restricted\"");
            assert_eq!(answer.text().await.unwrap(), "invalid credentials");
        }
        assert_eq!(running.system(Method::GET, path).send().await.unwrap().status(), 200, "{path}");
    }
    assert_eq!(running.get("/healthz").await.status(), 200);
    assert_eq!(running.get("/function/echo").await.status(), 200);
    running.local.stop().await;
}

#[tokio::test]
async fn the_status_of_a_function_always_has_labels_annotations_and_its_name() {
    let running = Place::new(ECHO).start(&["echo"]).await;
    for path in ["/system/function/echo", "/system/functions"] {
        let answer = running.read(path).await;
        let status = answer.get(0).unwrap_or(&answer);
        assert_eq!(status["labels"], json!({"faas_function": "echo"}), "{path}");
        assert_eq!(status["annotations"], json!({}), "{path}");
    }
    running.local.stop().await;
}

#[tokio::test]
async fn no_replicas_cannot_be_asked_for() {
    let running = Place::new(ECHO).start(&["echo"]).await;
    let scale = async |name: &str, replicas: Value| {
        running.write(Method::POST, &format!("/system/scale-function/{name}"), &json!({"replicas": replicas})).await
    };
    assert_eq!(scale("echo", json!(0)).await, 400);
    assert_eq!(running.read("/system/function/echo").await["replicas"], 1);
    assert_eq!((scale("echo", json!(2)).await, scale("nope", json!(2)).await), (202, 500));
    running.local.stop().await;
}

#[tokio::test]
async fn logs_are_kept_cut_and_followed() {
    let running = Place::new(&format!("{ECHO}    environment:\n      version: one\n")).start(&["echo"]).await;
    let lines = async |query: &str| {
        let answer = running.system(Method::GET, &format!("/system/logs?name=echo{query}")).send().await.unwrap();
        let text = answer.text().await.unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    let all = lines("").await;
    let listening = all.iter().find(|line| line["text"] == "listening, version one").unwrap();
    assert_eq!((&listening["name"], &listening["namespace"]), (&json!("echo"), &json!("openfaas-fn")));
    assert_eq!(listening["instance"], "0");
    assert!(listening["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    assert_eq!(lines("&tail=1&follow=false").await, all[all.len() - 1..]);
    assert_eq!(lines("&tail=-1").await, all);
    assert!(lines("&since=2099-01-01T00:00:00Z").await.is_empty());
    let mut followed = running.system(Method::GET, "/system/logs?name=echo&follow=true&tail=0").send().await.unwrap();
    running.get("/function/echo/slow?0").await;
    let line: Value = serde_json::from_slice(&followed.chunk().await.unwrap().unwrap()).unwrap();
    assert_eq!(line["text"], "slow request");
    let unknown = running.system(Method::GET, "/system/logs?name=nope").send().await.unwrap();
    assert_eq!((unknown.status().as_u16(), unknown.text().await.unwrap().as_str()), (404, ""));
    running.local.stop().await;
    assert!(followed.text().await.is_ok(), "the end is an end, not a break");
}

#[tokio::test]
async fn replicas_take_requests_in_turn() {
    let labels = "    labels:\n      com.openfaas.scale.min: \"3\"\n";
    let running = Place::new(&format!("{ECHO}{labels}")).start(&["echo"]).await;
    let mut pids = Vec::new();
    for _ in 0..6 {
        pids.push(running.seen("/function/echo").await.0["pid"].as_u64().unwrap());
    }
    assert_eq!(pids.iter().collect::<BTreeSet<_>>().len(), 3);
    assert_eq!(pids[..3], pids[3..]);
    let status = running.read("/system/function/echo").await;
    assert_eq!((&status["replicas"], &status["availableReplicas"]), (&json!(3), &json!(3)));
    assert_eq!(status["invocationCount"], 6);
    let down = running.write(Method::POST, "/system/scale-function/echo", &json!({"replicas": 1})).await;
    assert_eq!((down, running.read("/system/function/echo").await["availableReplicas"].as_u64()), (202, Some(1)));
    running.local.stop().await;
}
