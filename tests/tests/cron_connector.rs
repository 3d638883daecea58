//! The real cron-connector, pointed at `local`: a schedule annotation runs the job, as the API can tell. `CRON_CONNECTOR`
//! names the program; `tests/e2e.sh` looks for it and runs this where it is found.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tests::Stage;
use tokio::process::{Child, Command};

const PROGRAM: &str = env!("CARGO_BIN_EXE_etl-oauth-function");

/// The project's stack file with another schedule.
fn stack(folder: &Path, schedule: &str) -> std::path::PathBuf {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../stack.yaml")).unwrap();
    let ours = "schedule: \"0 6 * * *\"";
    assert!(text.contains(ours), "stack.yaml has another schedule");
    let file = folder.join("stack.yaml");
    std::fs::write(&file, text.replace(ours, &format!("schedule: \"{schedule}\""))).unwrap();
    file
}

fn connector(stage: &Stage, folder: &Path) -> Child {
    let program =
        std::env::var_os("CRON_CONNECTOR").expect("CRON_CONNECTOR names the program; tests/e2e.sh looks for it");
    std::fs::write(folder.join("basic-auth-user"), "admin").unwrap();
    std::fs::write(folder.join("basic-auth-password"), stage.secret("basic-auth-password")).unwrap();
    Command::new(program)
        .env("gateway_url", stage.gateway())
        .env("basic_auth", "true")
        .env("secret_mount_path", folder)
        .env("rebuild_interval", "1s")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("cron-connector runs")
}

async fn until(what: &str, happened: impl Fn() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < Duration::from_secs(60), "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_schedule_runs_the_job_again_and_again_and_its_token_is_renewed_on_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::of(PROGRAM, &stack(folder.path(), "@every 1s")).await;
    stage.provider().set_faults(&serde_json::json!({"token_lifetime": 3})).unwrap();
    stage.authorise().await;
    let runs = || stage.provider().log()["api_requests"]["GET /v2/sales 200"].as_u64().unwrap_or(0);
    let before = runs();
    let mut connector = connector(&stage, folder.path());
    until("three runs", || runs() >= before + 3).await;
    until("a renewal", || stage.outcomes("refresh_token issued") >= 1).await;
    let renewed_at = runs();
    until("a run with the new token", || runs() > renewed_at).await;
    assert_eq!(stage.outcomes("refresh_token reuse_detected"), 0);
    connector.kill().await.unwrap();
    stage.stop().await;
}
