//! The real faas-cli, pointed at `local`: what people type works, and means what it means elsewhere. `FAAS_CLI` names the
//! program; `tests/e2e.sh` looks for it and runs this where it is found.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tests::Stage;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_etl-oauth-function");

fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// A person at a shell: a home of their own, and a folder to work in.
struct Shell {
    home: TempDir,
    folder: PathBuf,
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
    fn new(folder: &Path) -> Self {
        Self { home: tempfile::tempdir().unwrap(), folder: folder.to_owned(), environment: Vec::new() }
    }

    /// In the checkout, with the variables of `stack.yaml` as the README has them.
    fn at(stage: &Stage) -> Self {
        let mut shell = Self::new(checkout());
        let gateway = stage.gateway();
        shell.environment.push(("SANDBOX_URL", stage.provider().url().to_owned()));
        shell.environment.push(("GATEWAY_URL", gateway.clone()));
        shell.environment.push(("OPENFAAS_URL", gateway));
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
            .current_dir(&self.folder)
            // With CI=true its configuration and its build contexts lie elsewhere.
            .env_remove("CI")
            .env("HOME", self.home.path())
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

    async fn logged_in(stage: &Stage) -> Self {
        let shell = Self::at(stage);
        let password = stage.secret("basic-auth-password");
        shell.faas_with("login --password-stdin", &password).await.ok("credentials saved for admin");
        shell
    }
}

fn json(text: &str) -> Value {
    // `invoke` tells of its login on the same stream.
    let start = text.find(['{', '[']).unwrap_or_else(|| panic!("no JSON: {text}"));
    serde_json::from_str(&text[start..]).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn login_takes_the_password_and_nothing_else() {
    let stage = Stage::start(PROGRAM).await;
    let shell = Shell::at(&stage);
    shell.faas("ready --attempts 3 --interval 100ms").await.ok("OpenFaaS gateway is ready");
    shell.faas_with("login --password-stdin", "a-wrong-one").await.fails("either username or password is incorrect");
    for command in ["list", "secret list", "logs etl-oauth --tail=false"] {
        shell.faas(command).await.fails("Unauthorized access");
    }
    let shell = Shell::logged_in(&stage).await;
    shell.faas("version --warn-update=false").await.ok("Provider");
    shell.faas("namespace list").await.ok("openfaas-fn");
    shell.faas("logout").await.ok("credentials removed");
    shell.faas("list").await.fails("Unauthorized access");
    stage.stop().await;
}

#[tokio::test]
async fn secrets_are_created_updated_listed_and_removed_and_functions_see_them() {
    let stage = Stage::start(PROGRAM).await;
    let shell = Shell::logged_in(&stage).await;
    shell.faas("secret create walk-a --from-literal one").await.ok("Created: 202 Accepted");
    shell.faas("secret create walk-a --from-literal two").await.ok("already exists");
    assert_eq!(stage.secret("walk-a"), "one");
    shell.faas("secret create walk-a --from-literal two --replace").await.ok("Updated: 202 Accepted");
    shell.faas_with("secret create walk-b", "from stdin").await.ok("Created: 202 Accepted");
    assert_eq!((stage.secret("walk-a").as_str(), stage.secret("walk-b").as_str()), ("two", "from stdin"));
    shell.faas("secret update walk-a --from-literal three").await.ok("Updated: 202 Accepted");
    assert_eq!(stage.secret("walk-a"), "three");
    shell.faas("secret update walk-zzz --from-literal v").await.ok("unable to find secret");
    let listed = json(&shell.faas("secret list --json").await.ok("walk-b"));
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|secret| secret["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"oauth2-refresh-token") && names.contains(&"walk-a"), "{names:?}");
    shell.faas("secret remove walk-b").await.ok("Removed");
    shell.faas("secret remove walk-b").await.fails("Unable to find secret");
    stage.stop().await;
}

#[tokio::test]
async fn a_function_is_looked_at_called_and_its_log_read() {
    let stage = Stage::start(PROGRAM).await;
    let shell = Shell::logged_in(&stage).await;
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
    let shell = Shell::logged_in(&stage).await;
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

#[tokio::test]
async fn the_template_is_pulled_and_a_new_function_of_it_builds() {
    let folder = tempfile::tempdir().unwrap();
    let shell = Shell::new(folder.path());
    let pulled = format!("template pull {}", checkout().display());
    shell.faas(&pulled).await.ok("rust-hyper");
    shell.faas("new --list").await.ok("rust-hyper");
    shell.faas("new hello --lang rust-hyper --prefix example").await.ok("Function created in folder: hello");
    shell.faas("build --shrinkwrap").await.ok("hello");
    let context = folder.path().join("build/hello");
    for file in ["Dockerfile", "build.sh", "Cargo.toml", "Cargo.lock", ".cargo/config.toml", "function/src/lib.rs"] {
        assert!(context.join(file).is_file(), "{file} is not in the context");
    }
    // The very commands of the Dockerfile, in what the real program laid out.
    let built = Command::new("sh")
        .arg("build.sh")
        .current_dir(&context)
        .env("PROFILE", "dev")
        // Beside the functions that `local` builds.
        .env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("functions"))
        .output()
        .await
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let out = String::from_utf8(built.stdout).unwrap();
    assert!(Path::new(out.lines().last().unwrap()).is_file(), "{out}");
}
