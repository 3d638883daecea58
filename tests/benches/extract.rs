//! `extract` beside a Singer tap, over the same list of the sandbox: records a second, and the function's memory.
//!
//! `cargo bench -p tests --bench extract`, with `RECORDS` (1000000), `SINGER_PYTHON`, a Python with `singer-sdk` (without
//! that the tap is left out), and `RESULTS`, a file for the table. `bench/extract.sh` brings all of it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measurement stops at the first surprise")]
#![allow(clippy::print_stdout, reason = "what was measured is told")]

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tests::Fleet;

const PROGRAM: &str = env!("CARGO_BIN_EXE_etl-oauth-function");
const SECRET: &str = "a shared secret, long enough to be none that is guessed";

/// One run over so many records.
struct Measured {
    records: u64,
    per_second: f64,
    /// The most resident memory, in MiB.
    memory: f64,
}

#[tokio::main]
async fn main() {
    let records: u64 = std::env::var("RECORDS").map_or(1_000_000, |text| text.parse().expect("RECORDS is a number"));
    let folder = tempfile::tempdir().unwrap();
    let plan = folder.path().join("plan.toml");
    write_plan(&plan, folder.path(), records);
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
    let mut fleet = Fleet::start(PROGRAM, 1, &variables, &secrets).await;
    fleet.provider().set_faults(&json!({ "token_lifetime": 3600 })).unwrap();
    let http = reqwest::Client::new();
    let refreshed = http.post(fleet.url(0, "/refresh")).bearer_auth("password").send().await.unwrap();
    assert!(refreshed.status().is_success());

    // Fewer records first: memory must not grow with their number.
    let mut extracts = Vec::new();
    for records in [(records / 10).max(1), records] {
        write_plan(&plan, folder.path(), records);
        fleet.kill(0).await;
        fleet.until_up(0).await;
        extracts.push(extract(&fleet, folder.path(), records).await);
    }
    let tap = match std::env::var("SINGER_PYTHON") {
        // A tenth of the records: for all of them it needs minutes.
        Ok(python) => Some(tap(&fleet, folder.path(), &python, (records / 10).max(1)).await),
        Err(_) => None,
    };
    let table = table(&extracts, tap.as_ref());
    println!("{table}");
    if let Ok(file) = std::env::var("RESULTS") {
        std::fs::write(file, table).unwrap();
    }
    fleet.stop().await;
}

fn write_plan(plan: &Path, folder: &Path, records: u64) {
    let text = format!(
        "[sink]\nkind = 'folder'\npath = '{}'\n\n[[resource]]\nname = 'things'\npath = '/records'\nrecords = 'records'\n\
         params = {{ count = '{records}', limit = '1000' }}\n\
         paging = {{ style = 'cursor', parameter = 'cursor', next = 'next' }}\n",
        folder.join("data").display()
    );
    std::fs::write(plan, text).unwrap();
}

async fn extract(fleet: &Fleet, folder: &Path, records: u64) -> Measured {
    let start = Instant::now();
    let call = reqwest::Client::new().post(fleet.url(0, "/")).bearer_auth(SECRET).timeout(Duration::from_secs(3600));
    let run = call.send().await.unwrap();
    let per_second = per_second(records, start);
    assert_eq!(run.status(), 200, "{}", fleet.log(0));
    let answer: Value = run.json().await.unwrap();
    assert_eq!(answer["copied"]["things"], records);
    let things = folder.join("data").join("things");
    let files = std::fs::read_dir(&things).unwrap().map(|entry| entry.unwrap().path());
    assert_eq!(files.map(|file| lines(&file, "\"id\"")).sum::<u64>(), records);
    std::fs::remove_dir_all(things).unwrap();
    Measured { records, per_second, memory: fleet.memory(0) }
}

async fn tap(fleet: &Fleet, folder: &Path, python: &str, records: u64) -> Measured {
    let token = reqwest::Client::new().get(fleet.url(0, "/token")).bearer_auth(SECRET).send().await.unwrap();
    let token: Value = token.json().await.unwrap();
    let messages = folder.join("tap.jsonl");
    let start = Instant::now();
    let mut child = tokio::process::Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../bench/peers/tap.py"))
        .args([fleet.provider().url(), token["access_token"].as_str().unwrap(), &records.to_string()])
        .stdout(std::fs::File::create(&messages).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id().unwrap());
    let (mut memory, mut ticks) = (0.0, tokio::time::interval(Duration::from_millis(100)));
    let done = loop {
        tokio::select! {
            done = child.wait() => break done.unwrap(),
            _ = ticks.tick() => {
                let status = std::fs::read_to_string(&status).unwrap_or_default();
                let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
                memory = most.map_or(memory, |most: f64| most / 1024.0);
            }
        }
    };
    let per_second = per_second(records, start);
    assert!(done.success(), "the tap fails");
    assert_eq!(lines(&messages, "\"RECORD\""), records);
    Measured { records, per_second, memory }
}

/// How many lines of a file have `mark`.
fn lines(file: &Path, mark: &str) -> u64 {
    let lines = BufReader::new(std::fs::File::open(file).unwrap()).lines();
    lines.filter(|line| line.as_ref().unwrap().contains(mark)).count() as u64
}

fn table(extracts: &[Measured], tap: Option<&Measured>) -> String {
    let cores = std::thread::available_parallelism().unwrap();
    let mut text = format!(
        "# Copying a list\n\n`bench/extract.sh`: records of 1 KiB in pages of 1000, from the sandbox provider to JSON Lines on \
         the disk; one machine, {cores} cores ({}), the provider on the same cores.\n\n\
         | program | records | records/s | most memory |\n| --- | ---: | ---: | ---: |\n",
        std::env::consts::ARCH
    );
    let rows = extracts.iter().map(|row| ("`extract`", row)).chain(tap.map(|row| ("singer-sdk tap", row)));
    for (name, Measured { records, per_second, memory }) in rows {
        let _ = writeln!(text, "| {name} | {records} | {per_second:.0} | {memory:.1} MiB |");
    }
    if let (Some(extract), Some(tap)) = (extracts.last(), tap) {
        let times = extract.per_second / tap.per_second;
        let _ = writeln!(
            text,
            "\n`extract` copies {times:.0} times as many records a second (at least 20) in {:.1} MiB (at most 64).",
            extract.memory
        );
    }
    text
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn per_second(records: u64, start: Instant) -> f64 {
    records as f64 / start.elapsed().as_secs_f64()
}
