//! The command line, and what its exit codes tell.

use std::process::Stdio;

use serde_json::{Value, json};
use tests::Stage;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::PROGRAM;

const COMMAND: &str = env!("CARGO_BIN_EXE_etl-oauth-command");

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) exit: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).expect(&self.out)
    }
}

/// The command line with no other environment than the operator's secret.
pub(crate) fn command(operator: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(COMMAND);
    command.env_clear().args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    if !operator.is_empty() {
        command.env("ETL_OAUTH_OPERATOR", operator);
    }
    command
}

pub(crate) async fn ran(operator: &str, arguments: &[&str]) -> Ran {
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

    // A renewal is no authorisation, although it brings newer tokens.
    let again = ["authorize", "--url", url, "--json", "--again", "--timeout", "3s"];
    let mut waiting = command(operator, &again).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(waiting.stdout.take().unwrap()).lines();
    assert!(lines.next_line().await.unwrap().unwrap().contains("enable_url"));
    assert_eq!(ran(operator, &["refresh", "--url", url]).await.exit, 0);
    assert_eq!(waiting.wait().await.unwrap().code(), Some(5));

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
    assert_eq!(
        revoked.json(),
        json!({"account": "default", "connection": "default", "provider": "revoked", "store": "deleted"})
    );
    assert_eq!(ran(operator, &["status", "--url", url]).await.exit, 3);
    stage.stop().await;
}

/// A function whose provider has codes for devices, as far as the command line asks it: `/status` says `waiting` until it
/// has been asked for the second time after `/enable`, and `end` from then on.
async fn with_a_code(waiting: Value, end: Value) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/function/etl-oauth", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut asked = None;
        while let Ok((mut stream, _)) = listener.accept().await {
            let (input, mut output) = stream.split();
            let mut lines = BufReader::new(input).lines();
            let Some(request) = lines.next_line().await.unwrap() else { continue };
            while lines.next_line().await.unwrap().is_some_and(|line| !line.is_empty()) {}
            let (status, body) = if request.starts_with("POST /function/etl-oauth/enable ") {
                asked = Some(0);
                let (place, whole) =
                    ("https://provider.example/device", "https://provider.example/device?code=ABCD-EFGH");
                let code = json!({"account": "default", "user_code": "ABCD-EFGH", "verification_uri": place,
                                  "verification_uri_complete": whole, "ends_at": "2026-11-21T12:00:00Z"});
                ("202 Accepted", code)
            } else {
                asked = asked.map(|times| times + 1);
                let account = if asked.is_some_and(|times| times > 1) { &end } else { &waiting };
                ("200 OK", json!({"provider": "acme", "store": {"kind": "file", "ok": true}, "accounts": [account]}))
            };
            let body = body.to_string();
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            output.write_all((head + &body).as_bytes()).await.unwrap();
        }
    });
    url
}

#[tokio::test]
async fn the_command_line_shows_a_code_for_any_device_and_waits_for_what_comes_of_it() {
    let waiting = json!({"account": "default", "state": "disabled", "generation": 0});
    let enabled = json!({"account": "default", "state": "enabled", "generation": 1});
    let refused = json!({"account": "default", "state": "disabled", "generation": 0,
                         "device": {"failure": "the person said no (access_denied)"}});
    let (good, bad) = tokio::join!(with_a_code(waiting.clone(), enabled), with_a_code(waiting, refused));
    let (good, bad) = (["authorize", "--url", &good], ["authorize", "--url", &bad, "--json"]);
    let (typed, denied) = tokio::join!(ran("secret", &good), ran("secret", &bad));
    assert_eq!(typed.exit, 0, "{typed:?}");
    assert!(typed.out.contains("ABCD-EFGH") && typed.out.contains("https://provider.example/device\n"), "{typed:?}");
    assert_eq!(denied.exit, 5, "{denied:?}");
    let lines: Vec<Value> = denied.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["user_code"], &lines[1]["error"]), (&json!("ABCD-EFGH"), &json!("not_allowed")));
}

#[tokio::test]
async fn the_command_line_shows_providers_and_checks_ones_own() {
    let list = ran("", &["providers", "--json"]).await.json();
    assert!(list.as_array().unwrap().contains(&json!({"name": "gumroad", "title": "Gumroad"})), "{list}");
    let shown = ran("", &["provider", "gumroad"]).await;
    assert!(shown.exit == 0 && shown.out.contains("title = \"Gumroad\""), "{shown:?}");
    assert_eq!(ran("", &["provider", "nobody"]).await.exit, 1);
    let schema = ran("", &["provider", "schema"]).await.json();
    assert!(schema["properties"]["token_url"].is_object());

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
        ("token_url = 'http://a.example/token'", "https://"),
        ("title = 'Mine'\nlifetime = ", "mine.toml:2: "),
    ] {
        let wrong = check(text).await;
        assert!(wrong.exit == 64 && wrong.err.contains(told), "{text}: {wrong:?}");
    }

    for shell in ["bash", "zsh", "fish"] {
        let completions = ran("", &["completions", shell]).await;
        assert!(completions.exit == 0 && completions.out.contains("authorize"), "{shell}");
    }
    let help = ran("", &["status", "--help"]).await;
    assert!(help.exit == 0 && help.out.contains("Exit codes") && help.out.contains("--operator-file"), "{help:?}");
}

#[tokio::test]
async fn revoke_all_ends_with_a_report_and_an_exit_code() {
    let stage = Stage::start(PROGRAM).await;
    let operator = stage.secret("etl-oauth-operator");
    stage.authorise().await;
    let done = ran(&operator, &["revoke", "--all", "--url", &stage.url("")]).await;
    assert_eq!(done.exit, 0, "{done:?}");
    assert!(done.out.contains("Revoked: 1.") && done.out.contains("Left: 0."), "{done:?}");
    let status = ran(&operator, &["status", "--url", &stage.url(""), "--json"]).await;
    assert_eq!(status.json()["accounts"][0]["state"], "disabled");
    stage.stop().await;

    // No server answers there: the tokens stay until they are deleted by force.
    let away = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let revoke_url = format!("http://{}/revoke", away.local_addr().unwrap());
    drop(away);
    let stage = Stage::with(PROGRAM, &[("revoke_url", &revoke_url)], |_| {}).await;
    let operator = stage.secret("etl-oauth-operator");
    stage.authorise().await;
    let failed = ran(&operator, &["revoke", "--all", "--timeout", "2s", "--url", &stage.url("")]).await;
    assert_eq!(failed.exit, 6, "{failed:?}");
    assert!(failed.out.contains("Not revoked: default/default") && failed.out.contains("--force"), "{failed:?}");
    let forced = ran(&operator, &["revoke", "--all", "--force", "--url", &stage.url(""), "--json"]).await;
    assert_eq!((forced.exit, &forced.json()["left"]), (0, &json!(0)), "{forced:?}");
    assert_eq!(ran(&operator, &["revoke", "--all", "--account", "a", "--url", &stage.url("")]).await.exit, 2);
    stage.stop().await;
}
