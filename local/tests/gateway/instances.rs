//! The processes of a function: what they see, and how they end.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::ECHO;
use crate::support::{Place, until};

#[tokio::test]
async fn a_function_sees_its_own_environment_and_nothing_of_ours() {
    let running = Place::new(&format!("{ECHO}    environment:\n      own: value\n")).start(&["echo"]).await;
    let seen = running.seen("/function/echo").await;
    let environment = seen.environment();
    assert_eq!(environment["own"], "value");
    let allowed = [
        "own",
        "port",
        "metrics_port",
        "secret_mount_path",
        "TMPDIR",
        "healthcheck_interval",
        "PATH",
        "HOME",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        // What a shell sets by itself.
        "PWD",
        "OLDPWD",
        "SHLVL",
        "_",
    ];
    let foreign: Vec<_> = environment.keys().filter(|name| !allowed.contains(name)).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    running.local.stop().await;
}

#[tokio::test]
async fn a_function_sees_the_secrets_that_it_lists_and_changes_of_them() {
    let place = Place::new(&format!("{ECHO}    secrets: [oauth2-access-token, basic-auth-password]\n"));
    let running = place.start(&["echo"]).await;
    assert_eq!(running.write(Method::POST, "/system/secrets", &json!({"name": "other", "value": "x"})).await, 202);
    let read = async || running.get("/function/echo/secrets").await.json::<Value>().await.unwrap();
    let password = running.password.clone();
    assert_eq!(read().await, json!({"oauth2-access-token": "empty", "basic-auth-password": password}));
    let change = json!({"name": "oauth2-access-token", "value": "new"});
    assert_eq!(running.write(Method::PUT, "/system/secrets", &change).await, 202);
    assert_eq!(read().await["oauth2-access-token"], "new");
    running.local.stop().await;
}

#[tokio::test]
async fn the_process_of_a_deployment_is_a_variable_of_the_function() {
    let running = Place::new(ECHO).start(&["echo"]).await;
    assert!(!running.seen("/function/echo").await.environment().contains_key("fprocess"));
    let spec = json!({"service": "echo", "image": "sample", "envProcess": "sha512sum -b"});
    assert_eq!(running.write(Method::PUT, "/system/functions", &spec).await, 202);
    until(async || running.seen("/function/echo").await.environment().get("fprocess") == Some(&"sha512sum -b")).await;
    assert_eq!(running.read("/system/function/echo").await["envProcess"], "sha512sum -b");
    running.local.stop().await;
}

#[tokio::test]
async fn a_function_that_dies_is_started_again_and_meanwhile_503() {
    let running = Place::new(ECHO).start(&["echo"]).await;
    let before = running.seen("/function/echo").await.0["pid"].clone();
    let died = running.get("/function/echo/exit?3").await;
    assert_eq!(died.status(), 500);
    assert_eq!(died.headers()["x-openfaas-internal"], "proxy");
    assert_eq!(died.text().await.unwrap(), "Can't reach service for: echo.\n");
    let away = running.get("/function/echo").await;
    if away.status() == 503 {
        assert_eq!(away.text().await.unwrap(), "No endpoints available for: echo.\n");
    }
    until(async || running.get("/function/echo").await.status() == 200).await;
    assert_ne!(running.seen("/function/echo").await.0["pid"], before);
    let logs = running.system(Method::GET, "/system/logs?name=echo").send().await.unwrap().text().await.unwrap();
    assert!(logs.contains("ended with exit code 3; starting it again in"), "{logs}");
    running.local.stop().await;
}

#[tokio::test]
async fn at_the_end_requests_under_way_are_finished_and_nothing_is_left() {
    let running = Place::new(ECHO).start(&["echo"]).await;
    let pid = running.seen("/function/echo").await.0["pid"].as_u64().unwrap();
    let slow = tokio::spawn(running.http.get(running.at("/function/echo/slow?0.3")).send());
    until(async || {
        let logs = running.system(Method::GET, "/system/logs?name=echo").send().await.unwrap();
        logs.text().await.unwrap().contains("slow request")
    })
    .await;
    running.local.stop().await;
    assert_eq!(slow.await.unwrap().unwrap().text().await.unwrap(), "slow");
    assert!(!std::path::Path::new(&format!("/proc/{pid}/stat")).exists());
    let left: Vec<_> = std::fs::read_dir(running.place.path().join(".local")).unwrap().flatten().collect();
    assert!(left.iter().all(|entry| !entry.file_name().to_string_lossy().starts_with("run")), "{left:?}");
}

#[test]
fn the_function_ends_when_local_is_dropped_without_stop() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let pid = runtime.block_on(async {
        let running = Place::new(ECHO).start(&["echo"]).await;
        running.seen("/function/echo").await.0["pid"].as_u64().unwrap()
    });
    // Every task is dropped where it stands.
    drop(runtime);
    while std::path::Path::new(&format!("/proc/{pid}/stat")).exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
}
