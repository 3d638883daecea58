//! A person before a real browser, at the sandbox and at a real OpenID provider: every page is walked through, looked at in
//! light, dark and on a phone, held against the accessibility rules, and kept as a picture. `tests/e2e.sh` installs what it
//! needs and runs it; the walk itself is `tests/browser/walk.mjs`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};
use std::process::Stdio;

use reqwest::Client;
use serde_json::{Value, json};
use tests::Stage;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

const PROGRAM: &str = env!("CARGO_BIN_EXE_etl-oauth-function");

/// A folder of `tests/` with its npm packages.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    assert!(folder.join("node_modules").is_dir(), "run `npm ci` in {}, or all of tests/e2e.sh", folder.display());
    folder
}

/// `tests/oidc/server.mjs`; it ends when its standard input is closed.
async fn openid_provider() -> (Child, String) {
    let mut process = Command::new("node")
        .arg("server.mjs")
        .current_dir(folder("oidc"))
        .env("ACCESS_TOKEN_SECONDS", "3600")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("node runs");
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let url = lines.next_line().await.unwrap().expect("the provider tells its address");
    (process, url)
}

/// An authorization endpoint that sends people on to another origin to sign in, as many providers do: browsers hold such
/// redirects to the policy of the form that they began with.
async fn doorman(provider: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let provider = provider.to_owned();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let provider = provider.clone();
            tokio::spawn(async move {
                let (input, mut output) = stream.split();
                let line = BufReader::new(input).lines().next_line().await.ok().flatten().unwrap_or_default();
                // A connection that a browser opens ahead of time says nothing.
                let Some(target) = line.split(' ').nth(1) else { return };
                let head = format!("HTTP/1.1 302 Found\r\nlocation: {provider}{target}\r\n");
                let _ =
                    output.write_all(format!("{head}content-length: 0\r\nconnection: close\r\n\r\n").as_bytes()).await;
            });
        }
    });
    url
}

/// The function at a provider that knows it, as an operator brings it about: the client is registered (RFC 7591) once the
/// function's address is known, and its secrets are updated while it runs.
async fn at(provider: &str) -> (Stage, tempfile::TempDir) {
    let doorman = doorman(provider).await;
    let environment = format!(
        "provider: custom
      issuer: {provider}
      authorize_url: {doorman}/auth?prompt=consent
      token_url: {provider}/token
      revoke_url: {provider}/token/revocation
      api_url: {provider}
      scope: openid offline_access view_sales
      job: gumroad
      show_result: \"true\"
      public_url: ${{OPENFAAS_URL}}/function/etl-oauth
      gateway_url: ${{GATEWAY_URL}}"
    );
    let (stage, folder) = edited(|stack| {
        let (before, rest) = stack.split_once("    environment:\n").unwrap();
        let (_, after) = rest.split_once("\n    secrets:").unwrap();
        format!("{before}    environment:\n      {environment}\n    secrets:{after}")
    })
    .await;
    let body = json!({
        "redirect_uris": [stage.url("/oauth2/callback")],
        "grant_types": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_method": "client_secret_basic",
    });
    let answer = Client::new().post(format!("{provider}/reg")).json(&body).send().await.unwrap();
    let client: Value = answer.json().await.unwrap();
    for (name, field) in [("oauth2-client-id", "client_id"), ("oauth2-client-secret", "client_secret")] {
        let answer = Client::new()
            .put(format!("{}/system/secrets", stage.gateway()))
            .basic_auth("admin", Some(stage.secret("basic-auth-password")))
            .json(&json!({"name": name, "value": client[field]}))
            .send()
            .await
            .unwrap();
        assert!(answer.status().is_success(), "{name}: {}", answer.status());
    }
    (stage, folder)
}

/// The project's own stack file, edited.
async fn edited(edit: impl FnOnce(&str) -> String) -> (Stage, tempfile::TempDir) {
    let stack = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../stack.yaml")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stack.yaml");
    std::fs::write(&file, edit(&stack)).unwrap();
    (Stage::of(PROGRAM, &file).await, folder)
}

#[tokio::test]
async fn a_person_walks_through_every_page_in_a_real_browser() {
    // Beside the programs that cargo has built.
    let target = Path::new(PROGRAM).parent().unwrap();
    let gallery = tempfile::tempdir().unwrap();
    let pages = target.join("examples/pages");
    let made = Command::new(&pages).arg(gallery.path()).stdout(Stdio::null()).status().await;
    assert!(made.unwrap_or_else(|err| panic!("{}: {err}", pages.display())).success());

    let (_process, provider) = openid_provider().await;
    let (sandbox, (oidc, _folder)) = tokio::join!(Stage::start(PROGRAM), at(&provider));
    let scene = |stage: &Stage, provider: &str| json!({"url": stage.url(""), "operator": stage.secret("etl-oauth-operator"), "provider": provider});
    let scene = json!({
        "gallery": gallery.path(),
        "screenshots": target.join("screenshots"),
        "sandbox": scene(&sandbox, sandbox.provider().url()),
        "oidc": scene(&oidc, &provider),
    });
    let mut walk = Command::new("node")
        .arg("walk.mjs")
        .current_dir(folder("browser"))
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("node runs");
    let mut stdin = walk.stdin.take().unwrap();
    stdin.write_all(scene.to_string().as_bytes()).await.unwrap();
    drop(stdin);
    let status = walk.wait().await.unwrap();
    sandbox.stop().await;
    oidc.stop().await;
    assert!(status.success(), "the walk tells what does not hold");
}
