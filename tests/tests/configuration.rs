//! What a wrong configuration says, by the program itself.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what cannot be set up fails its test")]

use std::process::Stdio;

use tokio::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_etl-oauth-function");

async fn start(environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = Command::new(PROGRAM)
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn every_mistake_is_told_at_once_and_the_exit_code_is_64() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("oauth2-client-secret"), "marker").unwrap();
    let (code, text) = start(&[
        ("secret_mount_path", folder.path().to_str().unwrap()),
        ("provider", "nobody"),
        ("public_url", "http://gateway.example.com/function/etl-oauth"),
        ("lease", "long"),
    ])
    .await;
    assert_eq!(code, Some(64), "{text}");
    for wanted in [
        "provider=nobody",
        "public_url must begin with https://",
        "lease is not a duration such as 10s, 1m30s or 90, but `long`",
        "oauth2-client-id",
    ] {
        assert!(text.contains(wanted), "{wanted}\n--\n{text}");
    }
    assert!(!text.contains("marker"));
}

#[tokio::test]
async fn the_watchdogs_own_mistakes_are_told_the_same_way() {
    let (code, text) = start(&[("port", "http"), ("write_timeout", "soon")]).await;
    assert_eq!(code, Some(64), "{text}");
    assert!(text.contains("port") && text.contains("write_timeout"), "{text}");
}
