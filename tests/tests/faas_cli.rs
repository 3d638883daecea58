//! The real faas-cli at the life of an authorised function: what is called, read and deployed is the very thing, tokens
//! included. (`faas_cli.sh` holds each command to its words.) `FAAS_CLI` names the program; `tests/e2e.sh` looks for it
//! and runs this where it is found.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tests::Stage;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_etl-oauth-function");

/// A person at a shell, in the checkout, with a home of their own.
struct Shell {
    home: TempDir,
    environment: Vec<(&'static str, String)>,
}

struct Said {
    exit: Option<i32>,
    out: String,
    all: String,
}

impl Said {
    /// It worked, and said so in these words.
    #[track_caller]
    fn ok(self, words: &str) -> String {
        assert!(
            self.exit == Some(0) && self.all.contains(words),
            "{words:?} in vain, exit {:?}:\n{}",
            self.exit,
            self.all
        );
        self.out
    }

    /// It failed, and said why.
    #[track_caller]
    fn fails(self, words: &str) {
        assert!(
            self.exit == Some(1) && self.all.contains(words),
            "{words:?} in vain, exit {:?}:\n{}",
            self.exit,
            self.all
        );
    }
}

impl Shell {
    /// With the variables of `stack.yaml`, logged in.
    async fn new(stage: &Stage) -> Self {
        let gateway = stage.gateway();
        let environment = vec![
            ("SANDBOX_URL", stage.provider().url().to_owned()),
            ("GATEWAY_URL", gateway.clone()),
            ("OPENFAAS_URL", gateway),
        ];
        let shell = Self { home: tempfile::tempdir().unwrap(), environment };
        let password = stage.secret("basic-auth-password");
        shell.faas_with("login --password-stdin", &password).await.ok("credentials saved for admin");
        shell
    }

    async fn faas(&self, line: &str) -> Said {
        self.faas_with(line, "").await
    }

    /// Runs `faas-cli` with the words of `line`, and `input` on its standard input.
    async fn faas_with(&self, line: &str, input: &str) -> Said {
        let program = std::env::var_os("FAAS_CLI").expect("FAAS_CLI names the program; tests/e2e.sh looks for it");
        let mut child = Command::new(program)
            .args(line.split_whitespace())
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            // With CI=true it keeps its login in the working folder.
            .env_remove("CI")
            .env("HOME", self.home.path())
            .env("OPENFAAS_CONFIG", self.home.path())
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("faas-cli runs");
        let mut stdin = child.stdin.take().unwrap();
        // It need not read what it is given.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = child.wait_with_output().await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let out = text(&output.stdout);
        Said { exit: output.status.code(), all: format!("{out}{}", text(&output.stderr)), out }
    }
}

fn json(text: &str) -> Value {
    // `invoke` tells of its login on the same stream.
    let start = text.find(['{', '[']).unwrap_or_else(|| panic!("no JSON: {text}"));
    serde_json::from_str(&text[start..]).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn a_function_is_looked_at_called_and_its_log_read() {
    let stage = Stage::start(PROGRAM).await;
    let shell = Shell::new(&stage).await;
    shell.faas("list").await.ok("etl-oauth");
    shell.faas("ready etl-oauth --attempts 5 --interval 200ms").await.ok("is ready");
    let described = json(&shell.faas("describe etl-oauth --json").await.ok("Ready"));
    assert_eq!(described["annotations"]["topic"], "cron-function");
    assert_eq!(described["labels"]["com.openfaas.scale.max"], "1");
    shell.faas("describe etl-oauth").await.ok("Available Replicas: 1");
    shell.faas("describe nobody").await.fails("No such function");

    shell.faas("invoke etl-oauth").await.fails("409");
    stage.authorise().await;
    let report = json(&shell.faas("invoke etl-oauth").await.ok("last_sale"));
    assert!(report["week"]["sales"].is_number(), "{report}");
    shell.faas("invoke etl-oauth -m GET --header Accept=application/json").await.ok("last_sale");
    shell.faas("invoke nobody").await.fails("404");
    shell.faas("invoke etl-oauth --async").await.ok("Function submitted asynchronously");

    let log = shell.faas("logs etl-oauth --tail=false").await.ok("the job ran");
    assert!(!log.contains(&stage.secret("oauth2-access-token")), "{log}");
    stage.stop().await;
}

#[tokio::test]
async fn a_deployment_takes_environment_labels_and_annotations_and_keeps_the_tokens() {
    let stage = Stage::start(PROGRAM).await;
    let shell = Shell::new(&stage).await;
    stage.authorise().await;
    shell.faas("deploy -f stack.yaml").await.ok("Deployed. 202 Accepted");
    shell.faas("ready etl-oauth --attempts 50 --interval 200ms").await.ok("is ready");
    shell.faas("invoke etl-oauth").await.ok("last_sale");

    shell
        .faas("deploy -f stack.yaml --env show_result=false --label team=a --annotation schedule=@hourly")
        .await
        .ok("Deployed. 202 Accepted");
    shell.faas("ready etl-oauth --attempts 50 --interval 200ms").await.ok("is ready");
    let described = json(&shell.faas("describe etl-oauth --json").await.ok("Ready"));
    assert_eq!((&described["labels"]["team"], &described["annotations"]["schedule"]), (&"a".into(), &"@hourly".into()));
    // As on a cluster, the old instance answers until the new one is ready.
    let start = Instant::now();
    while shell.faas("invoke etl-oauth").await.ok("").contains("last_sale") {
        assert!(start.elapsed() < Duration::from_secs(60), "the new environment does not count");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    shell.faas("remove etl-oauth").await.ok("Removing old function");
    shell.faas("remove etl-oauth").await.fails("No existing function to remove");
    shell.faas("invoke etl-oauth").await.fails("404");
    shell.faas("deploy -f stack.yaml").await.ok("Deployed. 202 Accepted");
    shell.faas("ready etl-oauth --attempts 50 --interval 200ms").await.ok("is ready");
    shell.faas("invoke etl-oauth").await.ok("last_sale");
    stage.stop().await;
}
