//! `extract` into a PostgreSQL, which `POSTGRES_URL` names (`tests/stores.sh`): the process is killed at random, and the table
//! counted by SQL.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

use std::{
    process::Command,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use reqwest::Client;
use tests::Fleet;

const PROGRAM: &str = env!("CARGO_BIN_EXE_etl-oauth-function");

/// How many records the API has.
const RECORDS: u64 = 30_000;

/// How often the process is killed; `EXTRACT_KILLS` sets another number.
const KILLS: u32 = 20;

fn sql(query: &str) -> String {
    let url = std::env::var("POSTGRES_URL").expect("POSTGRES_URL: run tests/stores.sh");
    let answer = Command::new("psql").args([&url, "-tAqc", query]).output().unwrap();
    assert!(answer.status.success(), "{query}: {}", String::from_utf8_lossy(&answer.stderr));
    String::from_utf8(answer.stdout).unwrap().trim().to_owned()
}

fn rows() -> u64 {
    if sql("SELECT to_regclass('killed.things') IS NOT NULL") != "t" {
        return 0;
    }
    sql("SELECT count(*) FROM killed.things").parse().unwrap()
}

#[tokio::test]
async fn whenever_an_extract_into_a_table_is_killed_no_row_is_missing_and_none_is_there_twice() {
    sql("DROP SCHEMA IF EXISTS killed CASCADE");
    let kills = std::env::var("EXTRACT_KILLS").map_or(KILLS, |count| count.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let plan = folder.path().join("plan.toml");
    let text = format!(
        "[sink]\nkind = 'postgres'\nschema = 'killed'\n\n[[resource]]\nname = 'things'\npath = '/records'\n\
         records = 'records'\nkey = 'id'\nbatch = 500\nparams = {{ count = '{RECORDS}', limit = '100' }}\n\
         cursor = {{ field = 'updated', parameter = 'since' }}\n\
         paging = {{ style = 'cursor', parameter = 'cursor', next = 'next' }}\n"
    );
    std::fs::write(&plan, text).unwrap();
    let (path, plan) = (folder.path().join("tokens").display().to_string(), plan.display().to_string());
    let variables = [
        ("store", "file"),
        ("store_path", &*path),
        ("allow_ephemeral_store", "true"),
        ("enable_auth", "first_visit"),
        ("min_run_interval", "0s"),
        ("lease", "1s"),
        ("token_timeout", "500ms"),
        ("exec_timeout", "5m"),
        ("write_timeout", "5m"),
        ("job", "extract"),
        ("extract_file", &*plan),
    ];
    let database = std::env::var("POSTGRES_URL").expect("POSTGRES_URL: run tests/stores.sh");
    let secrets = [("etl-oauth-operator", "password"), ("etl-oauth-sink-url", &*database)];
    let mut fleet = Fleet::start(PROGRAM, 1, &variables, &secrets).await;
    let http = Client::new();
    let mut random = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
    println!("kills {kills}, seed {random}");
    let mut seen = 0;
    for kill in 0..kills {
        let run = tokio::spawn(http.post(fleet.url(0, "/")).send());
        // Mostly in the middle of the copying, which begins when the lease of the run before has ended; now and then before it.
        let deadline = Instant::now() + Duration::from_secs(20);
        while kill % 5 != 0 && rows() <= seen && seen < RECORDS && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // Whatever it does at that moment.
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        tokio::time::sleep(Duration::from_millis(u64::from(random >> 16) % 100)).await;
        fleet.kill(0).await;
        let _ = run.await.unwrap();
        fleet.until_up(0).await;
        // After each of them what is there is a beginning of the list, and the checkpoint speaks of it all.
        if rows() > 0 {
            let counts =
                sql("SELECT count(*) || ' ' || coalesce(max(id) + 1, 0) || ' ' || (SELECT checkpoint->>'records' \
                 FROM killed.etl_oauth_extract WHERE resource = 'things') FROM killed.things");
            let counts: Vec<u64> = counts.split(' ').map(|count| count.parse().unwrap()).collect();
            // The last part of a run begins the next run's count at zero.
            assert!(counts[0] == counts[1] && (counts[0] == counts[2] || counts[2] == 0), "{counts:?}");
            seen = seen.max(counts[0]);
        }
    }
    println!("{seen} rows after the kills");
    assert!(seen > 0, "the process is killed while it copies");
    let mut answer = http.post(fleet.url(0, "/")).send().await.unwrap();
    // The lease of the last one that was killed may still be there.
    for _ in 0..5 {
        if answer.status() != 503 {
            break;
        }
        answer = http.post(fleet.url(0, "/")).send().await.unwrap();
    }
    assert_eq!(answer.status(), 200, "{}", fleet.log(0));
    let counts =
        sql("SELECT count(*) || ' ' || count(DISTINCT id) || ' ' || min(id) || ' ' || max(id) FROM killed.things");
    assert_eq!(counts, format!("{RECORDS} {RECORDS} 0 {}", RECORDS - 1));
    let answer: serde_json::Value = http.post(fleet.url(0, "/")).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["copied"]["things"], 0);
    fleet.stop().await;
}
