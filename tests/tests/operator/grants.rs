//! Every grant at the sandbox, of which the function is told the issuer alone.

use std::process::Stdio;

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tests::{Browser, Stage};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::{PROGRAM, command::command};

/// The function with this grant, and what it says of itself.
struct Scene {
    stage: Stage,
    // Holds the stack file.
    _folder: tempfile::TempDir,
}

impl Scene {
    async fn new(environment: &[(&str, &str)], secrets: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("stack.yaml");
        let fixed = [
            ("provider", "custom"),
            ("issuer", "${SANDBOX_URL}"),
            ("api_url", "${SANDBOX_URL}"),
            ("scope", "view_sales"),
            ("job", "gumroad"),
            ("show_result", "true"),
            ("sweep", "off"),
            ("public_url", "${OPENFAAS_URL}/function/etl-oauth"),
            ("gateway_url", "${GATEWAY_URL}"),
        ];
        let lines: String =
            fixed.iter().chain(environment).map(|(name, value)| format!("      {name}: \"{value}\"\n")).collect();
        let always = ["oauth2-client-id", "oauth2-token", "basic-auth-password", "etl-oauth-operator"];
        let names: String = always.iter().chain(secrets).map(|name| format!("      - {name}\n")).collect();
        let text = format!(
            "version: 1.0\nprovider:\n  name: openfaas\nfunctions:\n  etl-oauth:\n    lang: rust-hyper\n    \
             handler: ./etl-oauth\n    image: etl-oauth:latest\n    environment:\n{lines}    secrets:\n{names}"
        );
        std::fs::write(&file, text).unwrap();
        Self { stage: Stage::of(PROGRAM, &file).await, _folder: folder }
    }

    async fn account(&self) -> Value {
        let operator = self.stage.secret("etl-oauth-operator");
        let status = Client::new().get(self.stage.url("/status")).bearer_auth(operator).send().await.unwrap();
        status.json::<Value>().await.unwrap()["accounts"][0].clone()
    }

    async fn runs(&self) {
        let (status, answer) = self.stage.run().await;
        assert_eq!(status, 200, "{answer} {}", self.stage.provider().log());
    }
}

#[tokio::test]
async fn the_command_line_shows_a_code_and_a_person_allows_it_on_another_device() {
    let scene = Scene::new(&[("grant", "device_code"), ("client_auth", "none")], &[]).await;
    scene.stage.provider().set_faults(&json!({"device_interval": 1})).unwrap();
    let (url, operator) = (scene.stage.url(""), scene.stage.secret("etl-oauth-operator"));
    let mut waiting =
        command(&operator, &["authorize", "--url", &url, "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(waiting.stdout.take().unwrap()).lines();
    let code: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
    assert_eq!(scene.account().await["device"]["user_code"], code["user_code"]);

    let phone = Browser::new();
    let page = phone.open(code["verification_uri_complete"].as_str().unwrap()).await;
    let done = phone.submit(&page, &[("decision", "allow")]).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.body);
    assert_eq!(waiting.wait().await.unwrap().code(), Some(0));
    let account: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
    assert_eq!((&account["state"], &account["authorisations"]), (&json!("enabled"), &json!(1)));
    assert_eq!(account.get("device"), None);
    scene.runs().await;
    scene.stage.stop().await;
}

#[tokio::test]
async fn o11_the_device_page_shows_the_code_until_the_account_is_connected() {
    let scene = Scene::new(&[("grant", "device_code"), ("client_auth", "none")], &[]).await;
    scene.stage.provider().set_faults(&json!({"device_interval": 2})).unwrap();
    let browser = scene.stage.browser();
    let page = browser.enable(&scene.stage).await;
    assert!(page.body.contains("<svg viewBox") && page.body.contains("QR code"), "{}", page.body);
    let wait = scene.stage.url("/enable?wait=1&account=default");
    let code = scene.account().await["device"]["user_code"].as_str().unwrap().to_owned();
    let allow = scene.account().await["device"]["verification_uri_complete"].as_str().unwrap().to_owned();
    let phone = Browser::new();
    let consent = phone.open(&allow).await;
    assert_eq!(phone.submit(&consent, &[("decision", "allow")]).await.status, StatusCode::OK);
    // The person has allowed it, and the function learns of it with its next question only.
    let mut shown = 0;
    let done = loop {
        let page = browser.open(&wait).await;
        if page.url.path().ends_with("/done") {
            break page;
        }
        assert!(page.body.contains(&code), "neither the code nor the end: {}", page.body);
        shown += 1;
    };
    assert!(shown > 0, "the page was looked at in between");
    assert!(done.body.contains("Connected") && !done.body.contains("Not connected"), "{}", done.body);
    scene.stage.stop().await;
}

#[tokio::test]
async fn a_client_with_a_key_asks_for_itself_and_its_token_is_bound_to_another_one() {
    let environment = [("grant", "client_credentials"), ("client_auth", "private_key_jwt"), ("dpop", "true")];
    let scene = Scene::new(&environment, &["oauth2-private-key"]).await;
    scene.stage.provider().set_faults(&json!({"dpop_nonce": true})).unwrap();
    scene.runs().await;
    assert_eq!(scene.stage.outcomes("client_credentials issued"), 1);
    let account = scene.account().await;
    assert_eq!((&account["state"], &account["refresh_token"]), (&json!("enabled"), &json!(false)));
    scene.stage.provider().revoke_all(true, false);
    scene.runs().await;
    assert_eq!(scene.stage.outcomes("client_credentials issued"), 2);
    scene.stage.stop().await;
}

#[tokio::test]
async fn a_signed_statement_brings_a_token_for_whom_it_names() {
    let environment = [("grant", "jwt_bearer"), ("assertion_subject", "grace@example.com"), ("client_auth", "none")];
    let scene = Scene::new(&environment, &["oauth2-private-key"]).await;
    scene.runs().await;
    assert_eq!(scene.stage.outcomes("urn:ietf:params:oauth:grant-type:jwt-bearer issued"), 1);
    scene.stage.stop().await;
}

#[tokio::test]
async fn a_pushed_request_binds_the_code_to_the_key_that_its_tokens_are_of_use_with() {
    let scene = Scene::new(&[("dpop", "true")], &["oauth2-client-secret"]).await;
    let browser = scene.stage.browser();
    let consent = browser.enable(&scene.stage).await;
    let carried: Vec<_> = consent.url.query_pairs().map(|(name, _)| name.into_owned()).collect();
    assert_eq!(carried, ["client_id", "request_uri"], "all else was pushed");
    let done = browser.submit(&consent, &[("decision", "allow")]).await;
    assert_eq!((done.status, done.url.as_str()), (StatusCode::OK, scene.stage.url("/done").as_str()), "{}", done.body);
    scene.runs().await;
    // A renewal, a restart, and it is the same key.
    scene.stage.provider().revoke_all(true, false);
    scene.runs().await;
    let token: Value = serde_json::from_str(&scene.stage.secret("oauth2-token")).unwrap();
    assert_eq!(token["tokens"]["token_type"], "DPoP");
    // Whoever has the token alone has nothing.
    let stolen = token["tokens"]["access_token"].as_str().unwrap();
    let place = format!("{}/v2/sales", scene.stage.provider().url());
    assert_eq!(Client::new().get(place).bearer_auth(stolen).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    scene.stage.stop().await;
}
