//! Jobs as processes: killed in the middle, restarted, side by side; against the sandbox's API.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use local::{Local, provider};
use reqwest::Client;
use serde_json::{Value, json};
use tests::{Browser, Fleet};

const PROGRAM: &str = env!("CARGO_BIN_EXE_etl-oauth-function");

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

/// `deploy/strava.yaml` as it is, with files in the place of Kubernetes: what a laptop runs.
#[tokio::test]
async fn one_function_reads_with_the_token_and_another_shows_it_without() {
    let folder = tempfile::tempdir().unwrap();
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = std::fs::read_to_string(project.join("deploy/strava.yaml")).unwrap();
    let (store, path) = ("${STORE:-kubernetes}", "${STORE_PATH:-}");
    assert!(text.matches(store).count() == 2 && text.matches(path).count() == 2, "{text}");
    let stack = folder.path().join("strava.yaml");
    let records = folder.path().join("records").display().to_string();
    std::fs::write(&stack, text.replace(store, "file").replace(path, &records)).unwrap();
    let own = [("allow_ephemeral_store", "true"), ("min_run_interval", "0s")];
    let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let local = Local::start(local::Options {
        dir: folder.path().to_owned(),
        project: project.to_owned(),
        stack: Some(stack),
        executables: ["strava", "strava-public"].map(|name| (name.to_owned(), PROGRAM.into())).into(),
        environment: [("strava".to_owned(), own.into())].into(),
        ..local::Options::default()
    })
    .await
    .unwrap();
    let at = |path: &str| format!("{}/function/{path}", local.urls().gateway);
    let http = Client::new();
    let asked = || {
        let log = local.provider().unwrap().log();
        (log["outcomes"].clone(), log["api_requests"].clone())
    };

    let early = http.get(at("strava-public")).send().await.unwrap();
    assert_eq!((early.status().as_u16(), &early.headers()["cache-control"]), (503, &"no-store".parse().unwrap()));
    assert_eq!(early.headers()["access-control-allow-origin"], "*");
    assert_eq!(early.json::<Value>().await.unwrap()["error"], "not_yet");
    assert_eq!(http.post(at("strava")).send().await.unwrap().status(), 409);

    let password = std::fs::read_to_string(local.secret("etl-oauth-operator")).unwrap();
    let browser = Browser::of_operator(password.trim());
    let consent = browser.submit(&browser.open(&at("strava/enable")).await, &[]).await;
    assert!(consent.body.contains("See your activities"), "{}", consent.body);
    let done = browser.submit(&consent, &[("decision", "allow")]).await;
    assert_eq!(done.status, 200, "{}", done.body);
    let ran = http.post(at("strava")).send().await.unwrap();
    // Nobody who may call the first one sees what it read.
    assert_eq!((ran.status().as_u16(), ran.bytes().await.unwrap().len()), (204, 0));

    let before = asked();
    let shown = http.get(at("strava-public")).send().await.unwrap();
    let headers = shown.headers().clone();
    assert_eq!(headers["access-control-allow-origin"], "*");
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["cache-control"], "public, max-age=600, stale-while-revalidate=600");
    let text = shown.text().await.unwrap();
    assert!(text.len() < 5000 && !text.contains("latlng"), "{text}");
    let shown: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(shown["recent"].as_array().unwrap().len(), 20);
    assert_eq!(shown["this_year"]["run"]["count"], 30);
    for hidden in ["Ride 57", "Ride 55"] {
        assert!(
            shown["recent"].as_array().unwrap().iter().all(|ride| ride["name"] != hidden),
            "{hidden} is not public"
        );
    }
    let again = http.get(at("strava-public")).header("if-none-match", &headers["etag"]).send().await.unwrap();
    assert_eq!((again.status().as_u16(), &again.headers()["etag"]), (304, &headers["etag"]));
    let preflight = http.request(reqwest::Method::OPTIONS, at("strava-public")).header("origin", "https://me.example");
    let preflight = preflight.header("access-control-request-method", "GET").send().await.unwrap();
    assert_eq!(preflight.status(), 204);
    assert_eq!(preflight.headers()["access-control-allow-methods"], "GET, HEAD, OPTIONS");
    for other in ["enable", "status", "token", "proxy/v3/athlete", "refresh"] {
        assert_eq!(http.get(at(&format!("strava-public/{other}"))).send().await.unwrap().status(), 404, "{other}");
    }
    // With the token gone the one fails, and the other goes on: it asks nobody but the store.
    local.provider().unwrap().revoke_all(true, true);
    assert_eq!(http.get(at("strava-public")).send().await.unwrap().text().await.unwrap(), text);
    assert_eq!(asked(), before);
    assert_eq!(http.post(at("strava")).send().await.unwrap().status(), 409);
    assert_eq!(http.get(at("strava-public")).send().await.unwrap().text().await.unwrap(), text);
    local.stop().await;
}

#[tokio::test]
async fn a_tight_budget_is_not_spent_again_by_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut variables = store(folder.path(), "x");
    variables.push(("provider", "x".to_owned()));
    let mut fleet = fleet(&variables).await;
    // Whose token it is was asked for with the authorisation.
    let before = fleet.provider_log()["api_requests"]["GET /2/users/me 200"].as_u64().unwrap();
    let http = Client::new();
    for _ in 0..3 {
        let answer = http.post(fleet.url(0, "/")).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["posts"].as_array().unwrap().len(), 2, "{answer}");
        fleet.kill(0).await;
        fleet.until_up(0).await;
    }
    let requests = &fleet.provider_log()["api_requests"];
    assert_eq!(requests["GET /2/users/me 200"], before + 1, "{requests}");
    assert_eq!(requests["GET /2/users/2244994945/tweets 200"], 1, "{requests}");
    fleet.stop().await;
}

/// The definition of Salesforce, with this machine among the hosts that an answer may name, and nobody asked whose token it is.
#[tokio::test]
async fn each_account_of_salesforce_is_read_at_the_instance_that_its_token_answer_names() {
    let folder = tempfile::tempdir().unwrap();
    let definition = Path::new(env!("CARGO_MANIFEST_DIR")).join("../etl-oauth/keeper/providers/salesforce.toml");
    let text = std::fs::read_to_string(definition).unwrap();
    let hosts = "\"*.cloudforce.com\"";
    assert!(text.contains(hosts));
    let text: Vec<&str> = text.lines().filter(|line| !line.starts_with("userinfo")).collect();
    let file = folder.path().join("salesforce.toml");
    std::fs::write(&file, text.join("\n").replace(hosts, &format!("{hosts}, \"127.0.0.1\""))).unwrap();
    let (data, plan) = (folder.path().join("data"), folder.path().join("plan.toml"));
    let text = format!(
        "[sink]\nkind = 'folder'\npath = '{}'\n\n[[resource]]\nname = 'accounts'\npath = '/v60.0/query'\n\
         params = {{ q = 'SELECT Id, Name FROM Account' }}\nrecords = 'records'\nkey = 'Id'\n",
        data.display()
    );
    std::fs::write(&plan, text).unwrap();
    let mut variables = store(folder.path(), "extract");
    variables.push(("extract_file", plan.display().to_string()));
    variables.push(("provider_file", file.display().to_string()));
    variables.extend([("provider", String::new()), ("api_url", String::new())]);
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let fleet = Fleet::unauthorised(PROGRAM, 1, &variables, &[("etl-oauth-operator", "password")]).await;
    let (http, query) = (Client::new(), "GET /services/data/v60.0/query");
    let authorise = async || {
        let browser = Browser::of_operator("password");
        browser.sign_in(&fleet.url(0, "/")).await;
        let consent = browser.submit(&browser.open(&fleet.url(0, "/enable")).await, &[]).await;
        browser.submit(&consent, &[("decision", "allow")]).await
    };
    let names = |url: &str| fleet.provider().set_faults(&json!({ "answer": { "instance_url": url } })).unwrap();
    let calls = |log: &Value, status: u16| log["api_requests"][format!("{query} {status}")].as_u64().unwrap_or(0);

    // A host that the definition does not name gets no token: the account works, and its API is nowhere.
    names(&fleet.provider().url().replace("127.0.0.1", "localhost"));
    authorise().await;
    assert!(!http.post(fleet.url(0, "/")).send().await.unwrap().status().is_success());
    assert_eq!(fleet.provider_log()["api_requests"], json!({}));

    let here = fleet.provider().url().to_owned();
    names(&here);
    let done = authorise().await;
    assert_eq!(done.status, 200, "{}", done.body);
    let ran = http.post(fleet.url(0, "/")).send().await.unwrap();
    assert_eq!(ran.status(), 200, "{}", fleet.log(0));
    let ran: Value = ran.json().await.unwrap();
    assert_eq!(ran["copied"], json!({ "accounts": 7 }));
    assert_eq!(ran["report"]["accounts"]["records"], 7);
    let seen = calls(&fleet.provider_log(), 200);
    assert!(seen >= 1, "{}", fleet.provider_log());

    // The organisation moves: the next answer of the token endpoint says so, and the API is asked there. That instance knows
    // nothing of this token, and says so.
    let options = provider::Options { address: "127.0.0.1:0".parse().unwrap(), clients: Vec::new(), state: None };
    let there = provider::Provider::start(options).await.unwrap();
    names(there.url());
    fleet.provider().revoke_all(true, false);
    let moved = http.post(fleet.url(0, "/")).send().await.unwrap();
    assert!(!moved.status().is_success());
    assert!(calls(&there.log(), 401) >= 1, "{}\n{}", there.log(), fleet.log(0));
    assert_eq!(calls(&fleet.provider_log(), 200), seen);
    there.stop().await;
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
