//! The command line, run as a person or a script would.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;
use support::Place;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

const FUNCTION: &str =
    "  echo:\n    lang: fake\n    handler: ./echo\n    image: echo\n    build_args:\n      WITH: tea\n";

/// Stands for the template's: it notes how it was called, and "builds" the sample function.
const BUILD: &str = "#!/bin/sh\nset -e\n\
    printf '%s|%s|%s|%s' \"${PROFILE-release}\" \"$CARGO_TARGET_DIR\" \"$WITH\" \"$PWD\" >called\n\
    echo 'compiling' >&2\n\
    cp \"$(cat function/program)\" built\n\
    echo 'a line that is not the path'\n\
    echo \"$PWD/built\"\n";

/// A project whose template is a fake.
fn project(build: &str) -> Place {
    let place = Place::new(FUNCTION);
    let at = |path: &str| place.path().join(path);
    std::fs::create_dir_all(at("template/fake")).unwrap();
    std::fs::create_dir(at("echo")).unwrap();
    std::fs::write(at("template/fake/template.yml"), "language: fake\nfprocess: ./main\n").unwrap();
    std::fs::write(at("template/fake/build.sh"), build).unwrap();
    std::fs::write(at("echo/program"), env!("CARGO_BIN_EXE_sample-function")).unwrap();
    place
}

fn command(place: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_local"));
    command.args(arguments).current_dir(place).stdin(Stdio::null()).kill_on_drop(true);
    // What a developer may have set must not reach the test.
    command.env_remove("SANDBOX_URL").env_remove("CARGO_TARGET_DIR").env_remove("PROFILE");
    command
}

const UP: [&str; 6] = ["up", "--json", "--gateway", "127.0.0.1:0", "--provider", "127.0.0.1:0"];

async fn up(place: &Path) -> (Child, Value) {
    let mut child = command(place, &UP).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let urls = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
    (child, urls)
}

async fn run(place: &Path, arguments: &[&str]) -> (Output, String) {
    let output = command(place, arguments).output().await.unwrap();
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    (output, stderr)
}

async fn pid(urls: &Value) -> u64 {
    let url = urls["functions"]["echo"].as_str().unwrap();
    let seen: Value = reqwest::Client::new().get(url).send().await.unwrap().json().await.unwrap();
    seen["pid"].as_u64().unwrap()
}

async fn gone(pid: u64) {
    support::until(async || !Path::new(&format!("/proc/{pid}/stat")).exists()).await;
}

#[tokio::test]
async fn up_builds_starts_and_says_where_then_stops_all_when_told() {
    let place = project(BUILD);
    let (mut child, urls) = up(place.path()).await;
    let pid = pid(&urls).await;
    assert!(urls["provider"].as_str().unwrap().starts_with("http://127.0.0.1:"));
    assert!(urls["metrics"]["echo"].as_str().unwrap().ends_with("/metrics"));
    let called = std::fs::read_to_string(place.path().join(".local/build/echo/called")).unwrap();
    let root = place.path().canonicalize().unwrap();
    let context = root.join(".local/build/echo");
    assert_eq!(called, format!("dev|{}|tea|{}", root.join("target").display(), context.display()));
    assert!(!root.join("build").exists(), "that folder is faas-cli's");
    let id = rustix::process::Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    assert!(child.wait().await.unwrap().success());
    gone(pid).await;
}

#[tokio::test]
async fn a_function_does_not_outlive_a_local_that_was_killed() {
    let place = project(BUILD);
    let (mut child, urls) = up(place.path()).await;
    let pid = pid(&urls).await;
    child.kill().await.unwrap();
    gone(pid).await;
}

#[tokio::test]
async fn a_function_that_does_not_compile_is_one_message_after_the_compilers() {
    let place = project("echo 'error: expected `;`' >&2\nexit 101\n");
    let (output, stderr) = run(place.path(), &UP).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("error: expected `;`"), "{stderr}");
    let last = stderr.lines().next_back().unwrap();
    assert!(last.starts_with("local: function echo") && last.contains("does not compile"), "{last}");
    assert!(output.stdout.is_empty());
}

#[tokio::test]
async fn told_to_stop_while_it_builds_it_takes_the_build_along() {
    let place = project("echo $$ >../../../building\nsleep 1000000\n");
    let mut child = command(place.path(), &UP).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let file = place.path().join("building");
    support::until(async || std::fs::read_to_string(&file).is_ok_and(|text| text.ends_with('\n'))).await;
    let build: u64 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
    let id = rustix::process::Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    assert!(child.wait().await.unwrap().success());
    gone(build).await;
}

#[tokio::test]
async fn a_newer_deployment_ends_the_build_of_the_one_before_it() {
    // The first build of this test's making never ends by itself.
    let endless = "if [ -f ../../../wait ]; then rm ../../../wait; echo $$ >../../../waiting; sleep 1000000; fi\n";
    let place = project(&BUILD.replacen("set -e\n", &format!("set -e\n{endless}"), 1));
    let (mut child, urls) = up(place.path()).await;
    let before = pid(&urls).await;
    let password = std::fs::read_to_string(place.path().join(".secrets/basic-auth-password")).unwrap();
    let http = reqwest::Client::new();
    let deploy = async |version: &str| {
        let body = serde_json::json!({"service": "echo", "image": "echo", "envVars": {"version": version}});
        let url = format!("{}/system/functions", urls["gateway"].as_str().unwrap());
        let answer = http.put(url).basic_auth("admin", Some(&password)).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 202);
    };
    std::fs::write(place.path().join("wait"), "").unwrap();
    deploy("one").await;
    let waiting = place.path().join("waiting");
    support::until(async || waiting.exists() && std::fs::read_to_string(&waiting).unwrap().ends_with('\n')).await;
    let endless: u64 = std::fs::read_to_string(&waiting).unwrap().trim().parse().unwrap();
    assert_eq!(pid(&urls).await, before, "what is there goes on serving");
    deploy("two").await;
    gone(endless).await;
    support::until(async || pid(&urls).await != before).await;
    child.kill().await.unwrap();
}

#[tokio::test]
async fn build_makes_a_release_and_prints_its_path() {
    let place = project(BUILD);
    let (output, stderr) = run(place.path(), &["build", "echo"]).await;
    assert!(output.status.success(), "{stderr}");
    let printed = String::from_utf8(output.stdout).unwrap();
    let [program] = printed.lines().collect::<Vec<_>>()[..] else { panic!("{printed}") };
    assert!(Path::new(program).is_file(), "{program}");
    assert!(std::fs::read_to_string(place.path().join(".local/build/echo/called")).unwrap().starts_with("release|"));
    let (output, stderr) = run(place.path(), &["build", "nope"]).await;
    assert!(!output.status.success() && stderr.contains("nope") && stderr.contains("echo"), "{stderr}");
}

#[tokio::test]
async fn bad_input_is_one_message_and_a_failure() {
    let place = project(BUILD);
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().into_std().unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let empty = tempfile::tempdir().unwrap();
    let missing = ["up", "--gateway", "127.0.0.1:0", "--provider", "127.0.0.1:0", "-f", "nope.yml"];
    for (folder, arguments, part) in [
        (place.path(), ["up", "--gateway", &address, "--provider", "127.0.0.1:0"].as_slice(), "--gateway"),
        (place.path(), &["up", "--gateway", "127.0.0.1:0", "--provider", &address], "--provider"),
        (place.path(), &missing, "nope.yml"),
        (empty.path(), &UP, "stack.yaml"),
        (place.path(), &["up", "--gateway", "nonsense"], "nonsense"),
    ] {
        let (output, stderr) = run(folder, arguments).await;
        assert!(!output.status.success() && stderr.contains(part), "{arguments:?}: {stderr}");
    }
}

#[tokio::test]
async fn a_recorded_event_is_sent_and_its_answer_printed() {
    let place = project(BUILD);
    let (mut child, urls) = up(place.path()).await;
    let gateway = urls["gateway"].as_str().unwrap().replace("http://", "");
    let invoke =
        async |event: &str| run(place.path(), &["invoke", "echo", "--event", event, "--gateway", &gateway]).await;
    let (output, stderr) = invoke("cron").await;
    assert!(output.status.success() && stderr.starts_with("200\n"), "{stderr}");
    let seen = support::Seen(serde_json::from_slice(&output.stdout).unwrap());
    assert_eq!((&seen.0["method"], &seen.0["target"], &seen.0["body"]), (&"POST".into(), &"/".into(), &"".into()));
    // To the byte what the connector was recorded to send.
    for (name, value) in [
        ("user-agent", "Go-http-client/1.1"),
        ("content-length", "0"),
        ("x-connector", "cron-connector"),
        ("x-topic", "cron-function"),
        ("accept-encoding", "gzip"),
    ] {
        assert_eq!(seen.headers(name), [value], "{name}");
    }
    assert!(seen.headers("content-type").is_empty());
    let own = serde_json::json!({"method": "PUT", "path": "/status?418", "headers": {"x-own": "1"}, "body": {"a": 1}});
    std::fs::write(place.path().join("own.json"), own.to_string()).unwrap();
    let (output, stderr) = invoke("own.json").await;
    assert_eq!((output.status.code(), stderr.starts_with("418\n")), (Some(1), true), "{stderr}");
    let (output, stderr) = invoke("nope.json").await;
    assert!(!output.status.success() && stderr.contains("nope.json") && stderr.contains("cron"), "{stderr}");
    child.kill().await.unwrap();
}

#[tokio::test]
async fn the_lines_for_faas_cli_keep_gateway_and_sandbox() {
    let place = project(BUILD);
    let arguments = ["up", "--gateway", "127.0.0.1:0", "--provider", "127.0.0.1:0"];
    let mut child = command(place.path(), &arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut exports = String::new();
    while !exports.contains("export ") {
        exports = lines.next_line().await.unwrap().unwrap();
    }
    let value = |name: &str| {
        let words: Vec<_> = exports.split_whitespace().collect();
        words.iter().find_map(|word| word.strip_prefix(&format!("{name}="))).unwrap().to_owned()
    };
    let gateway = value("OPENFAAS_URL");
    assert_eq!(value("GATEWAY_URL"), gateway);
    assert_eq!(support::get(format!("{gateway}/healthz")).await.unwrap().status(), 200);
    let metadata = format!("{}/.well-known/oauth-authorization-server", value("SANDBOX_URL"));
    assert_eq!(support::get(metadata).await.unwrap().status(), 200);
    assert!(lines.next_line().await.unwrap().unwrap().contains("faas-cli login --password-stdin < "));
    child.kill().await.unwrap();
}

#[tokio::test]
async fn an_unchanged_function_is_not_laid_out_again() {
    let place = project(BUILD);
    for _ in 0..2 {
        let (mut child, _) = up(place.path()).await;
        child.kill().await.unwrap();
        let built = place.path().join(".local/build/echo/function/program");
        std::fs::File::options().append(true).open(&built).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    }
    let (mut child, _) = up(place.path()).await;
    let built = std::fs::metadata(place.path().join(".local/build/echo/function/program")).unwrap();
    assert_eq!(built.modified().unwrap(), std::time::UNIX_EPOCH);
    child.kill().await.unwrap();
}
