//! `extract` beside a Singer tap, over the same list of the sandbox: records a second, and the function's memory.
//!
//! `cargo bench -p tests --bench extract`, with `RECORDS` (1000000), and `SINGER_PYTHON`, a Python with `singer-sdk`; without
//! that the tap is left out. `bench/extract.sh` brings both.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measurement stops at the first surprise")]
#![allow(clippy::print_stdout, reason = "what was measured is told")]

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tests::Fleet;

const PROGRAM: &str = env!("CARGO_BIN_EXE_etl-oauth-function");
const SECRET: &str = "a shared secret, long enough to be none that is guessed";

#[tokio::main]
async fn main() {
    let records: u64 = std::env::var("RECORDS").map_or(1_000_000, |text| text.parse().expect("RECORDS is a number"));
    let folder = tempfile::tempdir().unwrap();
    let plan = folder.path().join("plan.toml");
    let text = format!(
        "[sink]\nkind = 'folder'\npath = '{}'\n\n[[resource]]\nname = 'things'\npath = '/records'\nrecords = 'records'\n\
         params = {{ count = '{records}', limit = '1000' }}\n\
         paging = {{ style = 'cursor', parameter = 'cursor', next = 'next' }}\n",
        folder.path().join("data").display()
    );
    std::fs::write(&plan, text).unwrap();
    let path = folder.path().join("tokens").display().to_string();
    let variables = [
        ("store", "file"),
        ("store_path", &*path),
        ("allow_ephemeral_store", "true"),
        ("enable_auth", "first_visit"),
        ("invoke_auth", "secret"),
        ("proxy_allow", "token"),
        ("exec_timeout", "1h"),
        ("job", "extract"),
        ("extract_file", plan.to_str().unwrap()),
    ];
    let secrets = [("etl-oauth-operator", "password"), ("etl-oauth-invoke", SECRET)];
    let fleet = Fleet::start(PROGRAM, 1, &variables, &secrets).await;
    fleet.provider().set_faults(&json!({ "token_lifetime": 3600 })).unwrap();
    let http = reqwest::Client::new();
    let refreshed = http.post(fleet.url(0, "/refresh")).bearer_auth("password").send().await.unwrap();
    assert!(refreshed.status().is_success());

    let start = Instant::now();
    let run = http.post(fleet.url(0, "/")).bearer_auth(SECRET).timeout(Duration::from_secs(3600)).send().await.unwrap();
    assert_eq!(run.status(), 200, "{}", fleet.log(0));
    let extract = per_second(records, start);
    let answer: Value = run.json().await.unwrap();
    assert_eq!(answer["copied"]["things"], records);
    println!("extract: {extract:.0} records/s, {:.1} MiB resident at most", fleet.memory(0));

    if let Ok(python) = std::env::var("SINGER_PYTHON") {
        let token = http.get(fleet.url(0, "/token")).bearer_auth(SECRET).send().await.unwrap();
        let token: Value = token.json().await.unwrap();
        // The tap gets a tenth of the records: it needs minutes for all of them.
        let some = (records / 10).max(1);
        let start = Instant::now();
        let done = tokio::process::Command::new(python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../bench/peers/tap.py"))
            .args([fleet.provider().url(), token["access_token"].as_str().unwrap(), &some.to_string()])
            .stdout(std::fs::File::create(folder.path().join("tap.jsonl")).unwrap())
            .stderr(Stdio::null())
            .status()
            .await
            .unwrap();
        assert!(done.success(), "the tap fails");
        let messages = std::fs::read_to_string(folder.path().join("tap.jsonl")).unwrap();
        let copied = messages.lines().filter(|line| line.contains("\"RECORD\"")).count() as u64;
        assert_eq!(copied, some);
        let tap = per_second(some, start);
        println!("singer-sdk tap: {tap:.0} records/s; extract has {:.1} times that", extract / tap);
    }
    fleet.stop().await;
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn per_second(records: u64, start: Instant) -> f64 {
    records as f64 / start.elapsed().as_secs_f64()
}
