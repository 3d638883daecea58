//! What a wrong configuration says, by the program itself; and what there is to configure, by the README.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what cannot be set up fails its test")]

use std::{cell::RefCell, collections::BTreeSet, process::Stdio};

use etl_oauth::{
    config::{Config, Retriever},
    job::extract::Plan,
};
use token_keeper::provider::Definition;
use tokio::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_etl-oauth-function");

async fn start(environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = Command::new(PROGRAM)
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn every_mistake_is_told_at_once_and_the_exit_code_is_64() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("oauth2-client-secret"), "marker").unwrap();
    let (code, text) = start(&[
        ("secret_mount_path", folder.path().to_str().unwrap()),
        ("provider", "nobody"),
        ("public_url", "http://gateway.example.com/function/etl-oauth"),
        ("lease", "long"),
    ])
    .await;
    assert_eq!(code, Some(64), "{text}");
    for wanted in [
        "provider=nobody",
        "public_url must begin with https://",
        "lease is not a duration such as 10s, 1m30s or 90, but `long`",
        "oauth2-client-id",
    ] {
        assert!(text.contains(wanted), "{wanted}\n--\n{text}");
    }
    assert!(!text.contains("marker"));
}

#[tokio::test]
async fn the_watchdogs_own_mistakes_are_told_the_same_way() {
    let (code, text) = start(&[("port", "http"), ("write_timeout", "soon")]).await;
    assert_eq!(code, Some(64), "{text}");
    assert!(text.contains("port") && text.contains("write_timeout"), "{text}");
}

const README: &str = include_str!("../../README.md");

#[test]
fn the_definition_in_the_readme_is_right() {
    let text = README.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let definition = Definition::read("acme.toml", text).unwrap_or_else(|wrong| panic!("{wrong:#?}"));
    assert_eq!(definition.title.as_deref(), Some("Acme"));
    assert!(text.lines().count() <= 10, "ten lines, it says");
}

#[test]
fn the_jobs_in_the_readme_are_right() {
    assert!(
        README.contains(include_str!("../../etl-oauth/examples/orders/lib.rs")),
        "it is built and run as it stands"
    );
    let plan =
        README.split("```toml\n").find(|text| text.starts_with("[sink]")).and_then(|text| text.split("```").next());
    Plan::read(plan.unwrap()).unwrap();
}

/// The names in backticks, without the value that some have behind them.
fn names(text: &str) -> BTreeSet<String> {
    let inside = text.split('`').skip(1).step_by(2);
    let name = |word: &str| word.split('=').next().unwrap_or_default().to_owned();
    inside.map(name).filter(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')).collect()
}

#[test]
fn the_readme_lists_every_variable_that_is_read_and_no_other() {
    let asked = RefCell::new(BTreeSet::new());
    let read = |settings: &[(&str, &str)]| {
        let get = |name: &str| {
            asked.borrow_mut().insert(name.to_owned());
            settings.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned())
        };
        let (_, _) = (Config::read(get), Retriever::read(get));
    };
    read(&[("provider", "okta"), ("job", "extract"), ("invoke_auth", "jwt"), ("record_of", "strava")]);
    let mut asked = asked.into_inner();
    // The platform's own and the watchdog's, and the one that the definition of Okta asks for: a row of `provider_<name>`.
    asked.retain(|name| !name.starts_with("OPENFAAS_") && name != "exec_timeout");
    assert!(asked.remove("provider_domain"), "{asked:?}");

    let section = README.split("\n## Configuration\n").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| `")).collect();
    let listed = rows.iter().flat_map(|row| names(row.split('|').nth(1).unwrap())).collect::<BTreeSet<_>>();
    let mentioned = rows.iter().flat_map(|row| names(row)).collect::<BTreeSet<_>>();
    let unsaid: Vec<_> = asked.difference(&mentioned).collect();
    let unread: Vec<_> = listed.difference(&asked).collect();
    assert!(unsaid.is_empty() && unread.is_empty(), "not in the README: {unsaid:?}; in it, but never read: {unread:?}");
    assert!(asked.len() > 50, "{asked:?}");
}
