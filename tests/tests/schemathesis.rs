//! The function and its own description held against each other by a machine that makes up requests: nothing is answered that
//! is not described, and nothing is the function's fault. `tests/e2e.sh` installs it and runs this.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what cannot be set up fails its test")]

use tests::Stage;
use tokio::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_etl-oauth-function");

/// Runs it with further arguments against a function that somebody has authorised.
async fn run(prefix: &str, unchecked: &str, arguments: impl Fn(&Stage) -> Vec<String>) {
    let program = std::env::var("SCHEMATHESIS").expect("SCHEMATHESIS names the program; tests/e2e.sh installs it");
    let stage = Stage::start(PROGRAM).await;
    assert_eq!(stage.authorise().await.status, 200);
    // It leaves what it has found in the folder that it runs in.
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(program)
        .current_dir(folder.path())
        .args(["run", &stage.url("/openapi.json"), "--workers", "2", "--max-examples", "25", "--seed", "1"])
        .args(["--phases", "examples,coverage,fuzzing", "--checks", "all", "--suppress-health-check", "all"])
        // A made-up form or callback is refused, however well it is made up: that is what they are there for. TRACE never
        // gets past the gateway; that no other method does more than it should is a test beside the description.
        .args(["--exclude-checks", unchecked, "--continue-on-failure", "--no-color"])
        .args(arguments(&stage))
        .output()
        .await
        .expect("schemathesis runs");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{prefix}\n{told}\n{}\n{}",
        String::from_utf8_lossy(&output.stderr),
        stage.log().await
    );
    assert!(told.contains("generated"), "it made up requests: {told}");
    stage.stop().await;
}

#[tokio::test]
async fn whatever_the_operator_sends_is_answered_as_described() {
    // Made-up passwords on the form would have its wrong credentials answered 429 elsewhere; the stranger sends those. There
    // are so many operations that its own wrong credentials are throttled, too: `doors.rs` holds what those are answered.
    run("as operator", "positive_data_acceptance,unsupported_method,ignored_auth", |stage| {
        let bearer = format!("Authorization: Bearer {}", stage.secret("etl-oauth-operator"));
        ["--header", &bearer, "--exclude-path", "/login"].map(str::to_owned).to_vec()
    })
    .await;
}

#[tokio::test]
async fn whatever_a_stranger_sends_is_answered_as_described() {
    run("as stranger", "positive_data_acceptance,unsupported_method", |_| Vec::new()).await;
}
