//! Jobs as processes: killed in the middle, restarted, side by side; against the sandbox's API.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use reqwest::Client;
use serde_json::Value;
use tests::{Fleet, free_port};

const PROGRAM: &str = env!("CARGO_BIN_EXE_etl-oauth-function");

/// The key that [`Fleet`] seals with.
const KEYS: &str = "1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// The files of a folder, by name.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "jsonl"));
    files.sort();
    files
}

fn ids(folder: &Path) -> Vec<u64> {
    let text: String = files(folder).iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_u64().unwrap()).collect()
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what} does not come");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn store(folder: &Path, job: &str) -> Vec<(&'static str, String)> {
    vec![
        ("store", "file".to_owned()),
        ("store_path", folder.join("tokens").display().to_string()),
        ("allow_ephemeral_store", "true".to_owned()),
        ("enable_auth", "first_visit".to_owned()),
        ("min_run_interval", "0s".to_owned()),
        ("job", job.to_owned()),
    ]
}

async fn fleet(variables: &[(&'static str, String)]) -> Fleet {
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Fleet::start(PROGRAM, 1, &variables, &[("etl-oauth-operator", "password")]).await
}

#[tokio::test]
async fn whenever_an_extract_is_killed_no_record_is_missing_and_none_is_there_twice() {
    const RECORDS: u64 = 20_000;
    let folder = tempfile::tempdir().unwrap();
    let (data, plan) = (folder.path().join("data"), folder.path().join("plan.toml"));
    let text = format!(
        "[sink]\nkind = 'folder'\npath = '{}'\n\n[[resource]]\nname = 'things'\npath = '/records'\nrecords = 'records'\n\
         key = 'id'\nbatch = 500\nparams = {{ count = '{RECORDS}', limit = '100' }}\n\
         cursor = {{ field = 'updated', parameter = 'since' }}\n\
         paging = {{ style = 'cursor', parameter = 'cursor', next = 'next' }}\n",
        data.display()
    );
    std::fs::write(&plan, text).unwrap();
    let mut variables = store(folder.path(), "extract");
    variables.push(("extract_file", plan.display().to_string()));
    let mut fleet = fleet(&variables).await;
    let things = data.join("things");
    let http = Client::new();

    // Killed as soon as the next file is there: before the ledger knows of it, or just after.
    for wanted in [1, 2, 4, 7, 11, 16, 17, 25] {
        let url = fleet.url(0, "/");
        let run = tokio::spawn(http.post(url).send());
        until("the next file", || files(&things).len() >= wanted).await;
        fleet.kill(0).await;
        let _ = run.await.unwrap();
        fleet.until_up(0).await;
    }
    let answer = http.post(fleet.url(0, "/")).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", fleet.log(0));
    assert_eq!(ids(&things), (0..RECORDS).collect::<Vec<_>>());
    let status = http.get(fleet.url(0, "/status")).bearer_auth("password").send().await.unwrap();
    let status: Value = status.json().await.unwrap();
    assert_eq!(status["accounts"][0]["progress"]["things"]["records"], RECORDS, "{status}");

    // What was there is not copied again, though the API gives the last one once more.
    let answer: Value = http.post(fleet.url(0, "/")).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["copied"]["things"], 0);
    assert_eq!(ids(&things).len() as u64, RECORDS);
    fleet.stop().await;
}

#[tokio::test]
async fn one_function_reads_with_the_token_and_another_shows_it_without() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = fleet(&store(folder.path(), "strava")).await;
    let (port, secrets) = (free_port(), folder.path().join("secrets"));
    std::fs::create_dir(&secrets).unwrap();
    std::fs::write(secrets.join("etl-oauth-seal-keys"), KEYS).unwrap();
    let mut shower = tokio::process::Command::new(PROGRAM)
        .env_clear()
        .envs(store(folder.path(), "strava"))
        .env("record_of", "etl-oauth")
        .env("max_age", "1m")
        .env("port", port.to_string())
        .env("metrics_port", "0")
        .env("suppress_lock", "true")
        .env("secret_mount_path", &secrets)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (http, url) = (Client::new(), format!("http://127.0.0.1:{port}/"));
    let start = Instant::now();
    let early = loop {
        match http.get(&url).send().await {
            Ok(answer) => break answer,
            Err(err) => assert!(start.elapsed() < Duration::from_secs(30), "{err}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!((early.status().as_u16(), &early.headers()["cache-control"]), (503, &"no-store".parse().unwrap()));

    let written = http.post(fleet.url(0, "/")).send().await.unwrap();
    assert_eq!(written.status(), 200, "{}", fleet.log(0));
    let shown = http.get(&url).send().await.unwrap();
    let headers = shown.headers().clone();
    assert_eq!(headers["access-control-allow-origin"], "*");
    assert_eq!(headers["cache-control"], "public, max-age=60, stale-while-revalidate=60");
    let shown: Value = shown.json().await.unwrap();
    assert_eq!(shown, written.json::<Value>().await.unwrap());
    assert_eq!(shown["recent"].as_array().unwrap().len(), 20);
    assert_eq!(shown["this_year"]["run"]["count"], 30);
    assert!(shown["recent"].as_array().unwrap().iter().all(|ride| ride["name"] != "Ride 57"), "that one is private");
    let again = http.get(&url).header("if-none-match", &headers["etag"]).send().await.unwrap();
    assert_eq!(again.status(), 304);
    for other in ["enable", "status", "token", "proxy/v2/sales"] {
        assert_eq!(http.get(format!("{url}{other}")).send().await.unwrap().status(), 404, "{other}");
    }
    shower.start_kill().unwrap();
    shower.wait().await.unwrap();
    fleet.stop().await;
}

#[tokio::test]
async fn a_tight_budget_is_not_spent_again_by_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = fleet(&store(folder.path(), "x")).await;
    let http = Client::new();
    for _ in 0..3 {
        let answer = http.post(fleet.url(0, "/")).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["posts"].as_array().unwrap().len(), 2, "{answer}");
        fleet.kill(0).await;
        fleet.until_up(0).await;
    }
    let requests = &fleet.provider_log()["api_requests"];
    assert_eq!(requests["GET /2/users/me 200"], 1, "{requests}");
    assert_eq!(requests["GET /2/users/2244994945/tweets 200"], 1, "{requests}");
    fleet.stop().await;
}

#[tokio::test]
async fn a_sibling_function_uses_the_account_and_nobody_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let mut variables = store(folder.path(), "none");
    variables.push(("invoke_auth", "secret".to_owned()));
    variables.push(("proxy_allow", "token, GET /v2/*".to_owned()));
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let secrets = [("etl-oauth-invoke", "a shared secret, long enough to be none that is guessed")];
    let fleet = Fleet::start(PROGRAM, 1, &variables, &secrets).await;
    let http = Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    for path in ["/token", "/proxy/v2/user"] {
        assert_eq!(http.get(fleet.url(0, path)).send().await.unwrap().status(), 401, "{path}");
    }
    let get = async |path: &str| http.get(fleet.url(0, path)).bearer_auth(secrets[0].1).send().await.unwrap();
    let token: Value = get("/token").await.json().await.unwrap();
    assert!(token["access_token"].is_string() && token.get("refresh_token").is_none(), "{token}");
    assert_eq!(token["token_type"].as_str().unwrap().to_ascii_lowercase(), "bearer");
    let user: Value = get("/proxy/v2/user").await.json().await.unwrap();
    assert_eq!(user["success"], true, "{user}");
    // The API's refusals are passed on, after one renewal.
    fleet.provider().revoke_all(true, false);
    assert_eq!(get("/proxy/v2/user").await.status(), 200);
    assert_eq!(get("/proxy/v2/nothing").await.status(), 404);
    for path in ["/proxy/oauth/token", "/proxy/v2/..%2foauth/token", "/proxy/v2/%2e%2e/oauth/token"] {
        assert_eq!(get(path).await.status(), 403, "{path}");
    }
    let post = http.post(fleet.url(0, "/proxy/v2/user")).bearer_auth(secrets[0].1).send().await.unwrap();
    assert_eq!(post.status(), 403);
    assert!(!fleet.log(0).contains(token["access_token"].as_str().unwrap()));
    fleet.stop().await;
}
