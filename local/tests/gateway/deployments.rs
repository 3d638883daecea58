//! Which functions run, and how they are replaced.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::ECHO;
use crate::support::{Place, Seen, until};

#[tokio::test]
async fn a_deployment_replaces_the_instances_without_a_gap() {
    let running = Place::new(&format!("{ECHO}    environment:\n      version: one\n")).start(&["echo"]).await;
    let before = running.seen("/function/echo").await;
    let spec = json!({"service": "echo", "image": "sample:latest", "envVars": {"version": "two"},
        "labels": {"team": "a"}, "annotations": {"topic": "cron-function"}});
    assert_eq!(running.write(Method::PUT, "/system/functions", &spec).await, 202);
    let after = loop {
        let answer = running.get("/function/echo").await;
        assert_eq!(answer.status(), 200);
        let seen = Seen::of(answer).await;
        if seen.environment()["version"] == "two" {
            break seen;
        }
    };
    assert_ne!(before.0["pid"], after.0["pid"]);
    let status = running.read("/system/function/echo").await;
    assert_eq!(
        (&status["labels"], &status["annotations"]),
        (&json!({"team": "a", "faas_function": "echo"}), &json!({"topic": "cron-function"}))
    );
    running.local.stop().await;
}

#[tokio::test]
async fn a_deployment_that_does_not_start_leaves_the_old_one_serving() {
    let running = Place::new(ECHO).start(&["echo"]).await;
    let pid = running.seen("/function/echo").await.0["pid"].clone();
    let spec = json!({"service": "echo", "image": "sample", "envVars": {"exit_at_start": "64"}});
    assert_eq!(running.write(Method::PUT, "/system/functions", &spec).await, 202);
    until(async || {
        let logs = running.system(Method::GET, "/system/logs?name=echo").send().await.unwrap();
        logs.text().await.unwrap().contains("ended with exit code 64")
    })
    .await;
    assert_eq!(running.seen("/function/echo").await.0["pid"], pid);
    let spec = json!({"service": "echo", "image": "sample", "envVars": {"version": "good"}});
    assert_eq!(running.write(Method::PUT, "/system/functions", &spec).await, 202);
    until(async || running.seen("/function/echo").await.0["pid"] != pid).await;
    running.local.stop().await;
}

#[tokio::test]
async fn deployments_that_cannot_be_are_refused() {
    let running = Place::new(ECHO).start(&["echo"]).await;
    let message = async |spec: Value| {
        let answer = running.system(Method::PUT, "/system/functions").json(&spec).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let secret = message(json!({"service": "echo", "image": "sample", "secrets": ["nope"]})).await;
    assert_eq!(secret, (400, "unable to fetch secrets: nope\n".to_owned()));
    assert_eq!(message(json!({"service": "new", "image": "sample"})).await.0, 404);
    assert_eq!(message(json!({"service": "new", "image": "elsewhere/x"})).await.0, 400);
    assert_eq!(message(json!({"service": "Bad", "image": "sample"})).await.0, 400);
    assert_eq!(running.system(Method::PUT, "/system/functions").body("{").send().await.unwrap().status(), 400);
    running.local.stop().await;
}

#[tokio::test]
async fn functions_of_other_languages_are_left_out_and_the_others_are_served() {
    let others = "  python:\n    lang: python3-http\n    handler: ./p\n    image: p\n    secrets: [my-own]\n  \
                  docker:\n    lang: dockerfile\n    handler: ./d\n    image: d\n";
    let running = Place::new(&format!("{ECHO}{others}")).start(&["echo"]).await;
    assert_eq!(running.get("/function/echo").await.status(), 200);
    assert_eq!(running.get("/function/python").await.status(), 404);
    assert_eq!(running.local.urls().functions.keys().collect::<Vec<_>>(), ["echo"]);
    running.local.stop().await;
    let none = Place::new(others);
    let message = format!("{:#}", local::Local::start(none.options(&[])).await.unwrap_err());
    assert!(message.contains("python: there is no template python3-http") && message.contains("docker"), "{message}");
}

#[tokio::test]
async fn only_the_functions_that_are_named_are_started() {
    let two = format!("{ECHO}  other:\n    lang: none\n    image: sample\n    secrets: [my-own]\n");
    let place = Place::new(&two);
    let only = |name: &str| local::Options { only: vec![name.to_owned()], ..place.options(&["echo", "other"]) };
    let local = local::Local::start(only("echo")).await.unwrap();
    assert_eq!(local.urls().functions.keys().collect::<Vec<_>>(), ["echo"]);
    local.stop().await;
    let message = format!("{:#}", local::Local::start(only("nope")).await.unwrap_err());
    assert!(message.contains("nope") && message.contains("echo, other"), "{message}");
}

#[tokio::test]
async fn what_is_wrong_at_the_start_is_one_message() {
    let message = async |options| match local::Local::start(options).await {
        Ok(_) => panic!("it started"),
        Err(error) => format!("{error:#}"),
    };
    let place = Place::new(ECHO);
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut options = place.options(&["echo"]);
    options.gateway = taken.local_addr().unwrap();
    assert!(message(options).await.contains("--gateway"));
    std::fs::remove_file(place.path().join("stack.yaml")).unwrap();
    assert!(message(place.options(&["echo"])).await.contains("stack.yaml"));
    let fails = Place::new(&format!("{ECHO}    environment:\n      exit_at_start: 64\n"));
    let text = message(fails.options(&["echo"])).await;
    assert!(text.contains("echo") && text.contains("64"), "{text}");
    let needs = Place::new(&format!("{ECHO}    secrets: [my-own]\n"));
    let text = message(needs.options(&["echo"])).await;
    assert!(text.contains("my-own") && text.contains("echo"), "{text}");
    tokio::time::timeout(Duration::from_secs(1), taken.accept()).await.unwrap_err();
}
