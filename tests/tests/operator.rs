//! What an operator has beside the pages: the metrics, the trace through a run, and the command line. Over real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what cannot be set up fails its test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use reqwest::Client;
use serde_json::{Value, json};
use tests::Stage;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_etl-oauth-function");
const COMMAND: &str = env!("CARGO_BIN_EXE_etl-oauth-command");

/// A scrape: the value of each series, by its name and labels as they stand there.
struct Scrape(String);

impl Scrape {
    async fn of(stage: &Stage) -> Self {
        Self(stage.metrics().await)
    }

    fn get(&self, series: &str) -> Option<f64> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
        Some(line.parse().unwrap())
    }

    fn at_least(&self, series: &str, least: f64) {
        assert!(self.get(series).is_some_and(|value| value >= least), "{series}\n{}", self.0);
    }

    fn is(&self, series: &str, value: f64) {
        assert_eq!(self.get(series), Some(value), "{series}\n{}", self.0);
    }

    /// The families, and what is said of them.
    fn families(&self) -> BTreeMap<&str, &str> {
        self.0.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' ')).collect()
    }
}

async fn refresh(stage: &Stage) -> u16 {
    let request = Client::new().post(stage.url("/refresh")).bearer_auth(stage.secret("etl-oauth-operator"));
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn the_metrics_tell_what_happened_and_the_dashboard_and_the_alerts_ask_for_none_that_are_not_there() {
    let stage = Stage::start(PROGRAM).await;
    let state = |state: &str| format!("etl_oauth_account_state{{account=\"default\",state=\"{state}\"}}");
    let before = Scrape::of(&stage).await;
    before.is(&state("disabled"), 1.0);
    before.is(&state("enabled"), 0.0);

    stage.authorise().await;
    assert_eq!(stage.run().await.0, 200);
    assert_eq!(refresh(&stage).await, 200);
    stage.provider().set_faults(&json!({"status": {"status": 503}})).unwrap();
    assert_eq!(refresh(&stage).await, 503);

    let now = Scrape::of(&stage).await;
    now.is(&state("disabled"), 0.0);
    now.is(&state("degraded"), 1.0);
    now.is("etl_oauth_state_changes_total{account=\"default\",to=\"degraded\"}", 1.0);
    now.is("etl_oauth_renewals_total{outcome=\"renewed\"}", 1.0);
    now.is("etl_oauth_renewals_total{outcome=\"provider_unavailable\"}", 1.0);
    now.is("etl_oauth_renewals_total{outcome=\"invalid_grant\"}", 0.0);
    now.is("etl_oauth_renewal_duration_seconds_count", 2.0);
    now.at_least("etl_oauth_store_writes_total{store=\"gateway\",outcome=\"ok\"}", 2.0);
    now.is("etl_oauth_store_writes_total{store=\"gateway\",outcome=\"error\"}", 0.0);
    now.is("etl_oauth_job_runs_total{job=\"gumroad\",outcome=\"ok\"}", 1.0);
    now.is("etl_oauth_job_duration_seconds_count{job=\"gumroad\"}", 1.0);
    now.is("etl_oauth_provider_requests_total{endpoint=\"token\",code=\"200\"}", 2.0);
    now.is("etl_oauth_provider_requests_total{endpoint=\"token\",code=\"503\"}", 1.0);
    now.at_least("etl_oauth_provider_requests_total{endpoint=\"api\",code=\"200\"}", 1.0);
    let left = now.get("etl_oauth_token_expiry_timestamp_seconds{account=\"default\"}").unwrap()
        - SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((3400.0..=3601.0).contains(&left), "{left}");

    let families = now.families();
    for (name, help) in &families {
        assert!(!name.starts_with("etl_oauth_") || help.len() > 20, "{name} is not explained");
    }
    for file in ["alerts.yaml", "grafana-dashboard.json"] {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(file)).unwrap();
        let asked = names(&text);
        assert!(asked.len() > 3, "{file}: {asked:?}");
        for name in asked {
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            assert!(families.contains_key(family), "{file} asks for {name}");
        }
    }
    stage.stop().await;
}

/// The names of metrics in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("etl_oauth_") || word.starts_with("http_request")).collect()
}

/// Every file of a folder and those below it.
fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![std::fs::read_to_string(path).unwrap()] })
        .collect()
}

#[test]
fn the_events_that_the_readme_promises_are_written_with_those_fields() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let table = readme.split_once("| event | level | fields |\n").unwrap().1;
    let rows: Vec<_> = table.lines().skip(1).take_while(|line| line.starts_with('|')).collect();
    assert!(rows.len() > 8, "{rows:?}");
    let sources = files(&root.join("etl-oauth/src"));
    for row in rows {
        let mut columns = row.trim_matches('|').split('|');
        let (event, level, fields) = (columns.next().unwrap(), columns.next().unwrap(), columns.next().unwrap());
        let quoted = |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        let message = format!("\"{}\"", quoted(event)[0]);
        let level = level.trim().split(';').next().unwrap();
        let written = sources.iter().any(|source| {
            source.split(&format!("tracing::{level}!(")).skip(1).any(|call| {
                let call = call.split(");").next().unwrap();
                call.contains(&message) && quoted(fields).iter().all(|field| call.contains(&**field))
            })
        });
        assert!(written, "no event is written as this row has it: {row}");
    }
}

/// A road to a server that hears what goes up it.
struct Road {
    url: String,
    heard: Arc<Mutex<String>>,
    target: Arc<Mutex<String>>,
}

impl Road {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (heard, target) = (Arc::<Mutex<String>>::default(), Arc::<Mutex<String>>::default());
        let road = Self { url, heard: Arc::clone(&heard), target: Arc::clone(&target) };
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (heard, target) = (Arc::clone(&heard), target.lock().unwrap().clone());
                tokio::spawn(async move {
                    let (mut up, mut down) = near.into_split();
                    let (mut back, mut forth) = TcpStream::connect(target).await.unwrap().into_split();
                    let replies = tokio::spawn(async move { tokio::io::copy(&mut back, &mut down).await });
                    let mut piece = [0; 4096];
                    while let Ok(length @ 1..) = up.read(&mut piece).await {
                        heard.lock().unwrap().push_str(&String::from_utf8_lossy(&piece[..length]));
                        if forth.write_all(&piece[..length]).await.is_err() {
                            break;
                        }
                    }
                    drop(forth);
                    let _ = replies.await;
                });
            }
        });
        road
    }

    /// What was heard since the last time.
    fn hear(&self) -> String {
        std::mem::take(&mut self.heard.lock().unwrap())
    }
}

#[tokio::test]
async fn a_trace_goes_on_to_the_provider_and_the_api_under_new_spans() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let (token, api) = (Road::new().await, Road::new().await);
    let token_url = format!("{}/oauth/token", token.url);
    let urls = [("token_url", &*token_url), ("api_url", &*api.url), ("min_run_interval", "0s")];
    let stage = Stage::with(PROGRAM, &urls, |_| {}).await;
    for road in [&token, &api] {
        *road.target.lock().unwrap() = stage.provider().url().trim_start_matches("http://").to_owned();
    }
    stage.authorise().await;
    assert_eq!(stage.run().await.0, 200);
    let (to_token, to_api) = (token.hear(), api.hear());
    assert!(to_token.contains("POST /oauth/token") && to_api.contains("GET /v2/"), "{to_token}{to_api}");
    assert!(!to_token.contains("traceparent") && !to_api.contains("traceparent"), "none came, none goes on");

    let traced = |request: reqwest::RequestBuilder| {
        let request = request.header("traceparent", PARENT).header("tracestate", "vendor=1");
        request.bearer_auth(stage.secret("etl-oauth-operator")).send()
    };
    assert!(traced(Client::new().post(stage.url("/refresh"))).await.unwrap().status().is_success());
    assert!(traced(Client::new().get(stage.url(""))).await.unwrap().status().is_success());
    for heard in [token.hear(), api.hear()] {
        let parent = heard.lines().find_map(|line| line.strip_prefix("traceparent: ")).expect(&heard);
        assert!(parent.starts_with(&format!("00-{TRACE}-")) && parent.ends_with("-01"), "{parent}");
        assert!(parent != PARENT, "a span of its own");
        assert!(heard.contains("tracestate: vendor=1"), "{heard}");
    }
    let log = stage.log().await;
    for event in ["renewed the token", "the job ran"] {
        assert!(log.lines().any(|line| line.contains(event) && line.contains(TRACE)), "{event} in\n{log}");
    }
    stage.stop().await;
}

/// What a command did.
#[derive(Debug)]
struct Ran {
    exit: i32,
    out: String,
    err: String,
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).expect(&self.out)
    }
}

/// The command line with no other environment than the operator's secret.
fn command(operator: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(COMMAND);
    command.env_clear().args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    if !operator.is_empty() {
        command.env("ETL_OAUTH_OPERATOR", operator);
    }
    command
}

async fn ran(operator: &str, arguments: &[&str]) -> Ran {
    let output = command(operator, arguments).output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { exit: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

#[tokio::test]
async fn the_command_line_looks_after_a_function_and_its_exit_code_tells_how_it_stands() {
    let stage = Stage::start(PROGRAM).await;
    let (url, operator) = (&*stage.url(""), &*stage.secret("etl-oauth-operator"));

    // Nobody has authorised it yet, and nobody comes.
    let status = ran(operator, &["status", "--url", url, "--json"]).await;
    assert_eq!((status.exit, &status.json()["accounts"][0]["state"]), (3, &json!("disabled")), "{status:?}");
    let in_vain = ran(operator, &["authorize", "--url", url, "--timeout", "100ms"]).await;
    assert_eq!(in_vain.exit, 5, "{in_vain:?}");
    assert!(in_vain.out.contains(&stage.url("/enable")), "{in_vain:?}");
    assert!(!in_vain.out.contains('█'), "a pipe gets no picture");
    let refused = ran(operator, &["refresh", "--url", url, "--json"]).await;
    assert_eq!((refused.exit, refused.json()["next"].is_string()), (3, true), "{refused:?}");

    // Somebody comes while it waits.
    let mut waiting = command(operator, &["authorize", "--url", url, "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(waiting.stdout.take().unwrap()).lines();
    let link: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
    assert_eq!(link, json!({"account": "default", "enable_url": stage.url("/enable")}));
    stage.authorise().await;
    assert_eq!(waiting.wait().await.unwrap().code(), Some(0));
    let account: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
    assert_eq!(account["state"], "enabled");

    let status = ran(operator, &["status", "--url", &format!("{url}/")]).await;
    assert_eq!(status.exit, 0, "{status:?}");
    assert!(status.out.contains("default: enabled") && status.out.contains("allowed to     view_sales"), "{status:?}");
    assert_eq!(ran(operator, &["authorize", "--url", url]).await.exit, 0, "it is authorised already");
    assert_eq!(ran(operator, &["status", "--url", url, "--account", "nobody"]).await.exit, 3);
    let renewed = ran(operator, &["refresh", "--url", url, "--json"]).await;
    assert_eq!((renewed.exit, &renewed.json()["refreshed"]), (0, &json!(true)), "{renewed:?}");

    // Those who are not the operator.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{operator}\n")).unwrap();
    let path = file.path().to_str().unwrap();
    assert_eq!(ran("marker", &["status", "--url", url, "--operator-file", path]).await.exit, 0, "the file comes first");
    for (secret, arguments) in [
        ("", &["status", "--url", url][..]),
        ("marker", &["revoke", "--url", url]),
        (operator, &["status", "--url", url, "--operator-file", "/none"]),
    ] {
        let stranger = ran(secret, arguments).await;
        assert_eq!(stranger.exit, 4, "{stranger:?}");
        assert!(stranger.err.contains("operator") && !stranger.err.contains("marker"), "{stranger:?}");
    }

    // Where there is no function, or it cannot.
    for place in ["http://127.0.0.1:1/function/etl-oauth", &*format!("{}/healthz", stage.gateway())] {
        let nothing = ran(operator, &["status", "--url", place]).await;
        assert_eq!(nothing.exit, 1, "{nothing:?}");
        assert!(nothing.err.contains("--url"), "{nothing:?}");
    }
    for usage in [&["status", "--url", "http://gateway.example/function/etl-oauth"][..], &["status"], &["fly"]] {
        assert_eq!(ran(operator, usage).await.exit, 2, "{usage:?}");
    }
    stage.provider().set_faults(&json!({"status": {"status": 503}})).unwrap();
    let failed = ran(operator, &["refresh", "--url", url]).await;
    assert_eq!(failed.exit, 1, "{failed:?}");
    let degraded = ran(operator, &["status", "--url", url]).await;
    assert_eq!(degraded.exit, 6, "{degraded:?}");
    assert!(degraded.out.contains("what to do"), "{degraded:?}");
    stage.provider().set_faults(&json!({"status": null})).unwrap();

    let revoked = ran(operator, &["revoke", "--url", url, "--json"]).await;
    assert_eq!(revoked.exit, 0, "{revoked:?}");
    assert_eq!(revoked.json(), json!({"account": "default", "provider": "revoked", "store": "deleted"}));
    assert_eq!(ran(operator, &["status", "--url", url]).await.exit, 3);
    stage.stop().await;
}

#[tokio::test]
async fn the_command_line_shows_providers_and_checks_ones_own() {
    let list = ran("", &["providers", "--json"]).await.json();
    assert!(list.as_array().unwrap().contains(&json!({"name": "gumroad", "title": "Gumroad"})), "{list}");
    let shown = ran("", &["provider", "gumroad"]).await;
    assert!(shown.exit == 0 && shown.out.contains("title = \"Gumroad\""), "{shown:?}");
    assert_eq!(ran("", &["provider", "nobody"]).await.exit, 1);

    let folder = tempfile::tempdir().unwrap();
    let check = async |text: &str| {
        let file = folder.path().join("mine.toml");
        std::fs::write(&file, text).unwrap();
        ran("", &["provider", "check", file.to_str().unwrap()]).await
    };
    // What is shown can be copied.
    assert_eq!(check(&shown.out).await.exit, 0);
    for (text, told) in [
        ("title = 'Mine'\ntokenurl = 'https://a.example'", "tokenurl: is no key of a definition"),
        ("title = 'Mine'\nlifetime = ", "line 2"),
    ] {
        let wrong = check(text).await;
        assert!(wrong.exit == 1 && wrong.err.contains(told), "{text}: {wrong:?}");
    }

    for shell in ["bash", "zsh", "fish"] {
        let completions = ran("", &["completions", shell]).await;
        assert!(completions.exit == 0 && completions.out.contains("authorize"), "{shell}");
    }
    let help = ran("", &["status", "--help"]).await;
    assert!(help.exit == 0 && help.out.contains("Exit codes") && help.out.contains("--operator-file"), "{help:?}");
}
