//! The function at a real OpenID provider: its own forms, its own rules of rotation, its own cookies; and its keeper at two
//! with opposite rules (`faults`). `tests/e2e.sh` installs them and runs this.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod faults;
mod grants;
mod mcp;
mod server;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use server::Server;
use tests::{Browser, Page, Stage};

const PROGRAM: &str = env!("CARGO_BIN_EXE_etl-oauth-function");

/// The function, configured for the provider by its environment alone.
struct Scene {
    provider: Server,
    stage: Stage,
    // Holds the stack file.
    _folder: tempfile::TempDir,
}

impl Scene {
    async fn new(access_token: Duration) -> Self {
        let provider = Server::oidc(access_token).await;
        let (folder, stack) = stack(&provider.url);
        let stage = Stage::of(PROGRAM, &stack).await;
        // As an operator would: the client is registered when the function's address is known, and its secrets are
        // updated while the function runs.
        let (id, secret) = provider.register("/reg", &stage.url("/oauth2/callback")).await;
        update_secret(&stage, "oauth2-client-id", &id).await;
        update_secret(&stage, "oauth2-client-secret", &secret).await;
        Self { provider, stage, _folder: folder }
    }

    async fn enabled(access_token: Duration) -> Self {
        let scene = Self::new(access_token).await;
        let done = scene.authorise(&scene.stage.browser()).await;
        assert_eq!((done.status, done.url.as_str()), (StatusCode::OK, scene.stage.url("/done").as_str()));
        scene
    }

    /// Opens the enable page, signs in at the provider and consents.
    async fn authorise(&self, browser: &Browser) -> Page {
        let sign_in = browser.enable(&self.stage).await;
        assert!(sign_in.body.contains("Sign-in"), "{}", sign_in.body);
        let consent = browser.submit(&sign_in, &[("login", "person"), ("password", "word")]).await;
        assert!(consent.body.contains("view_sales"), "{}", consent.body);
        browser.submit(&consent, &[]).await
    }

    /// The tokens as they are stored.
    fn tokens(&self) -> [String; 2] {
        ["oauth2-access-token", "oauth2-refresh-token"].map(|name| self.stage.secret(name))
    }

    async fn status(&self) -> Value {
        let operator = self.stage.secret("etl-oauth-operator");
        let request = Client::new().get(self.stage.url("/status")).bearer_auth(operator);
        let status: Value = request.send().await.unwrap().json().await.unwrap();
        status["accounts"][0].clone()
    }
}

fn stack(provider: &str) -> (tempfile::TempDir, PathBuf) {
    let text = format!(
        "version: 1.0
provider:
  name: openfaas
functions:
  etl-oauth:
    lang: rust-hyper
    handler: ./etl-oauth
    image: etl-oauth:latest
    environment:
      provider: custom
      issuer: {provider}
      # Refresh tokens are given only where a person is asked for consent.
      authorize_url: {provider}/auth?prompt=consent
      token_url: {provider}/token
      revoke_url: {provider}/token/revocation
      api_url: {provider}
      scope: openid offline_access view_sales
      job: gumroad
      show_result: \"true\"
      min_run_interval: 0s
      sweep: \"off\"
      public_url: ${{OPENFAAS_URL}}/function/etl-oauth
      gateway_url: ${{GATEWAY_URL}}
    secrets:
      - oauth2-client-id
      - oauth2-client-secret
      - oauth2-access-token
      - oauth2-refresh-token
      - basic-auth-password
      - etl-oauth-operator
"
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stack.yaml");
    std::fs::write(&file, text).unwrap();
    (folder, file)
}

async fn update_secret(stage: &Stage, name: &str, value: &str) {
    let answer = Client::new()
        .put(format!("{}/system/secrets", stage.gateway()))
        .basic_auth("admin", Some(stage.secret("basic-auth-password")))
        .json(&json!({"name": name, "value": value}))
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_success(), "{name}: {}", answer.status());
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_person_signs_in_once_and_the_job_runs_from_then_on() {
    let scene = Scene::enabled(HOUR).await;
    let (status, answer) = scene.stage.run().await;
    assert_eq!(status, 200, "{answer}");
    assert!(answer["last_sale"]["amount"]["text"].as_str().is_some_and(|text| text.contains("24.99")), "{answer}");
    let log = scene.stage.log().await;
    assert!(scene.tokens().iter().all(|token| token.len() > 20 && !log.contains(token)));
    assert_eq!(scene.status().await["state"], "enabled");
    assert_eq!(scene.provider.log().await["grants"], json!([{"grant": "authorization_code", "outcome": "issued"}]));
    scene.stage.stop().await;
}

#[tokio::test]
async fn a_restarted_function_is_still_enabled() {
    let mut scene = Scene::enabled(HOUR).await;
    let tokens = scene.tokens();
    scene.stage = scene.stage.restart().await;
    assert_eq!(scene.stage.run().await.0, 200);
    assert_eq!((scene.tokens(), scene.provider.count("refresh_token", "issued").await), (tokens, 0));
    scene.stage.stop().await;
}

#[tokio::test]
async fn an_ended_access_token_is_renewed_and_the_rotated_refresh_token_stored() {
    // The provider counts whole seconds, so that a token ends up to one early: the margin is a tenth of its lifetime.
    let scene = Scene::enabled(Duration::from_secs(11)).await;
    let [access, refresh] = scene.tokens();
    // Every run finds a token that works, through several lifetimes of it.
    let start = Instant::now();
    while scene.provider.count("refresh_token", "issued").await < 2 {
        assert_eq!(scene.stage.run().await.0, 200);
        assert!(start.elapsed() < Duration::from_secs(90), "it is not renewed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let now = scene.tokens();
    assert!(now[0] != access && now[1] != refresh, "both are new");
    assert_eq!(scene.provider.count("refresh_token", "invalid_grant").await, 0, "none was sent twice");
    let api = scene.provider.log().await["api"].clone();
    assert!(api.as_array().unwrap().iter().all(|status| status == 200), "{api}");
    // What was stored is the newest there is: a new process goes on with it.
    let scene = Scene { stage: scene.stage.restart().await, ..scene };
    assert_eq!(scene.stage.run().await.0, 200);
    scene.stage.stop().await;
}

#[tokio::test]
async fn a_token_that_the_api_refuses_is_renewed_once_and_the_run_goes_on() {
    let scene = Scene::enabled(HOUR).await;
    scene.provider.refuse_tokens().await;
    let run = || scene.stage.run();
    let (one, two, three, four) = tokio::join!(run(), run(), run(), run());
    assert!([&one, &two, &three, &four].iter().all(|(status, _)| *status == 200), "{one:?} {two:?} {three:?} {four:?}");
    assert_eq!(scene.provider.count("refresh_token", "issued").await, 1);
    scene.stage.stop().await;
}

#[tokio::test]
async fn a_refresh_token_used_elsewhere_ends_the_family_and_a_person_is_asked_again() {
    let scene = Scene::enabled(HOUR).await;
    let [_, spent] = scene.tokens();
    scene.provider.refuse_tokens().await;
    assert_eq!(scene.stage.run().await.0, 200);
    assert_ne!(scene.tokens()[1], spent, "rotated");

    assert_eq!(scene.provider.spend(&scene.stage, &spent).await, "invalid_grant");
    let (status, answer) = scene.stage.run().await;
    assert_eq!((status, &answer["error"]), (409, &json!("needs_authorisation")), "{answer}");
    assert_eq!(answer["enable_url"], scene.stage.url("/enable"));
    assert_eq!(scene.status().await["state"], "needs_authorisation");
    // Nobody asks the provider again in vain.
    let asked = scene.provider.log().await["grants"].as_array().unwrap().len();
    assert_eq!(scene.stage.run().await.0, 409);
    assert_eq!(scene.provider.log().await["grants"].as_array().unwrap().len(), asked);
    scene.stage.stop().await;
}

#[tokio::test]
async fn a_person_who_refuses_is_told_so_and_nothing_is_stored() {
    let scene = Scene::new(HOUR).await;
    let browser = scene.stage.browser();
    let sign_in = browser.enable(&scene.stage).await;
    // The link below the form.
    let page = browser.open(&format!("{}/abort", sign_in.url)).await;
    assert_eq!(page.status, StatusCode::FORBIDDEN, "{}", page.body);
    assert!(page.body.contains("access_denied"), "{}", page.body);
    assert_eq!(scene.tokens(), ["empty", "empty"]);
    scene.stage.stop().await;
}

#[tokio::test]
async fn a_client_that_the_provider_does_not_know_is_named_as_the_cause_without_its_secret() {
    let scene = Scene::new(HOUR).await;
    update_secret(&scene.stage, "oauth2-client-secret", "a-wrong-one").await;
    // This provider takes pushed requests, so that it is known before a person has signed in.
    let page = scene.stage.browser().enable(&scene.stage).await;
    assert_eq!(page.status, StatusCode::BAD_GATEWAY, "{}", page.body);
    assert!(page.body.contains("invalid_client") && !page.body.contains("a-wrong-one"), "{}", page.body);
    assert_eq!(scene.tokens(), ["empty", "empty"]);
    scene.stage.stop().await;
}

#[tokio::test]
async fn an_operator_revokes_the_grant_at_the_provider_and_here() {
    let scene = Scene::enabled(HOUR).await;
    let [_, refresh] = scene.tokens();
    let operator = scene.stage.secret("etl-oauth-operator");
    let answer = Client::new().post(scene.stage.url("/revoke")).bearer_auth(operator).send().await.unwrap();
    let answer: Value = answer.json().await.unwrap();
    assert_eq!((&answer["provider"], &answer["store"]), (&json!("revoked"), &json!("deleted")), "{answer}");
    assert_eq!(scene.provider.spend(&scene.stage, &refresh).await, "invalid_grant");
    assert_eq!((scene.stage.run().await.0, scene.tokens()), (409, ["empty", "empty"].map(str::to_owned)));
    scene.stage.stop().await;
}
