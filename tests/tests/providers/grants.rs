//! Every grant at the real OpenID provider, of which the function is told the issuer alone: it finds the endpoints itself.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tests::{Browser, Stage};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

use crate::{HOUR, PROGRAM, server::Server, update_secret};

/// A function with a client of its own.
struct Scene {
    server: Server,
    stage: Stage,
    _folder: tempfile::TempDir,
}

impl Scene {
    /// A client of these metadata, and the function with this environment and these secrets beside the client's.
    async fn new(client: Value, environment: &[(&str, &str)], secrets: &[(&str, &str)]) -> Self {
        Self::at(Server::oidc(HOUR).await, client, environment, secrets).await
    }

    async fn at(server: Server, client: Value, environment: &[(&str, &str)], secrets: &[(&str, &str)]) -> Self {
        let (id, secret) = server.enrol("/reg", &client).await;
        let own = [("oauth2-client-id", Some(id)), ("oauth2-client-secret", secret)];
        let mut mounted: Vec<(&str, String)> =
            own.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        mounted.extend(secrets.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("stack.yaml");
        let names = ["oauth2-token", "basic-auth-password", "etl-oauth-operator"];
        let names = names.into_iter().chain(mounted.iter().map(|(name, _)| *name));
        let names: String = names.map(|name| format!("      - {name}\n")).collect();
        let fixed = [
            ("provider", "custom"),
            ("issuer", &server.url),
            ("api_url", &server.url),
            ("scope", "view_sales"),
            ("job", "gumroad"),
            ("show_result", "true"),
            ("min_run_interval", "0s"),
            ("sweep", "off"),
            ("public_url", "${OPENFAAS_URL}/function/etl-oauth"),
            ("gateway_url", "${GATEWAY_URL}"),
        ];
        let fixed = fixed.iter().filter(|(name, _)| !environment.iter().any(|(other, _)| other == name));
        let lines: String =
            fixed.chain(environment).map(|(name, value)| format!("      {name}: \"{value}\"\n")).collect();
        let text = format!(
            "version: 1.0\nprovider:\n  name: openfaas\nfunctions:\n  etl-oauth:\n    lang: rust-hyper\n    \
             handler: ./etl-oauth\n    image: etl-oauth:latest\n    environment:\n{lines}    secrets:\n{names}"
        );
        std::fs::write(&file, text).unwrap();
        let stage = Stage::prepared(PROGRAM, &file, |folder| {
            for (name, value) in &mounted {
                std::fs::write(folder.join(name), value).unwrap();
            }
        })
        .await;
        Self { server, stage, _folder: folder }
    }

    /// The job runs for whoever calls it, though nobody has authorised anything.
    async fn runs(&self) {
        let (status, answer) = self.stage.run().await;
        assert_eq!(status, 200, "{answer} {}", self.server.log().await);
    }

    async fn account(&self) -> Value {
        let request = Client::new().get(self.stage.url("/status")).bearer_auth(self.operator());
        let status: Value = request.send().await.unwrap().json().await.unwrap();
        status["accounts"][0].clone()
    }

    fn operator(&self) -> String {
        self.stage.secret("etl-oauth-operator")
    }

    async fn enable(&self) -> reqwest::Response {
        Client::new().post(self.stage.url("/enable")).bearer_auth(self.operator()).send().await.unwrap()
    }
}

/// The metadata of a client without a callback.
fn client(grant: &str, auth: &str) -> Value {
    json!({"redirect_uris": [], "response_types": [], "grant_types": [grant], "token_endpoint_auth_method": auth,
           "scope": "openid offline_access view_sales"})
}

const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

#[tokio::test]
async fn a_client_asks_for_itself_once_for_all_callers_and_its_jwt_is_understood() {
    let grant = [("grant", "client_credentials"), ("resource", "urn:sales")];
    let scene = Scene::new(client("client_credentials", "client_secret_basic"), &grant, &[]).await;
    let runs = (0..8).map(|_| scene.runs());
    futures_join(runs).await;
    assert_eq!(scene.server.log().await["grants"], json!([{"grant": "client_credentials", "outcome": "issued"}]));
    let account = scene.account().await;
    assert_eq!((&account["state"], &account["refresh_token"]), (&json!("enabled"), &json!(false)));
    assert_eq!((&account["claims"]["aud"], &account["claims"]["scope"]), (&json!("urn:sales"), &json!("view_sales")));
    assert!(account["expires_at"].is_string());
    scene.stage.stop().await;
}

async fn futures_join(runs: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut runs: Vec<_> = runs.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        runs.retain_mut(|run| run.as_mut().poll(context).is_pending());
        if runs.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

#[tokio::test]
async fn a_token_that_was_refused_is_replaced_by_asking_again() {
    // What the configuration says wins over what the provider names first.
    let grant = [("grant", "client_credentials"), ("client_auth", "post")];
    let scene = Scene::new(client("client_credentials", "client_secret_post"), &grant, &[]).await;
    scene.runs().await;
    scene.server.refuse_tokens().await;
    scene.runs().await;
    assert_eq!(scene.server.count("client_credentials", "issued").await, 2);
    scene.stage.stop().await;
}

#[tokio::test]
async fn a_client_proves_itself_with_a_key_and_has_no_secret() {
    let server = Server::oidc(HOUR).await;
    let (pem, jwk) = server.key().await;
    let mut client = client("client_credentials", "private_key_jwt");
    client["jwks"] = json!({"keys": [jwk]});
    let grant = [("grant", "client_credentials")];
    let scene = Scene::at(server, client, &grant, &[("oauth2-private-key", &pem)]).await;
    scene.runs().await;
    // A statement is good once: the next one is another.
    scene.server.refuse_tokens().await;
    scene.runs().await;
    let revoked = Client::new().post(scene.stage.url("/revoke")).bearer_auth(scene.operator()).send().await.unwrap();
    let revoked: Value = revoked.json().await.unwrap();
    assert_eq!(revoked["provider"], "revoked", "{revoked}");
    // What an operator took away stays away until an operator begins again.
    assert_eq!(scene.stage.run().await.0, 409);
    assert_eq!(scene.enable().await.status(), StatusCode::OK);
    scene.runs().await;
    scene.stage.stop().await;
}

#[tokio::test]
async fn a_signed_statement_buys_a_token_for_the_person_that_it_names() {
    let server = Server::oidc(HOUR).await;
    let (pem, jwk) = server.key().await;
    let mut client = client(JWT_BEARER, "private_key_jwt");
    client["jwks"] = json!({"keys": [jwk]});
    let grant = [("grant", "jwt_bearer"), ("assertion_subject", "person"), ("client_auth", "private_key_jwt")];
    let scene = Scene::at(server, client, &grant, &[("oauth2-private-key", &pem)]).await;
    scene.runs().await;
    scene.stage.stop().await;

    // A statement that is refused is a matter of configuration, and nobody is asked to authorise anything.
    let server = Server::oidc(HOUR).await;
    let (pem, jwk) = server.key().await;
    let mut client = self::client(JWT_BEARER, "private_key_jwt");
    client["jwks"] = json!({"keys": [jwk]});
    let grant = [("grant", "jwt_bearer"), ("assertion_subject", "nobody"), ("client_auth", "private_key_jwt")];
    let scene = Scene::at(server, client, &grant, &[("oauth2-private-key", &pem)]).await;
    let (status, answer) = scene.stage.run().await;
    assert_eq!((status, &answer["error"]), (503, &json!("config")), "{answer}");
    assert_ne!(scene.account().await["state"], "needs_authorisation");
    scene.stage.stop().await;
}

#[tokio::test]
async fn a_service_accounts_token_is_changed_for_one_of_the_providers() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "an-outdated-token\n").unwrap();
    let grant = [
        ("grant", "token_exchange"),
        ("subject_token_file", file.to_str().unwrap()),
        ("audience", "openfaas-fn:one openfaas-fn:two"),
        ("client_auth", "basic"),
    ];
    let scene = Scene::new(client(TOKEN_EXCHANGE, "client_secret_basic"), &grant, &[]).await;
    assert_eq!(scene.stage.run().await.0, 503);
    // The platform has put a new one there; an operator need not wait for the next try.
    std::fs::write(&file, "a-projected-token\n").unwrap();
    assert_eq!(scene.enable().await.status(), StatusCode::OK);
    scene.runs().await;
    scene.stage.stop().await;
}

#[tokio::test]
async fn a_person_types_a_code_on_another_device_and_the_function_goes_on_by_itself() {
    let mut public = client(DEVICE, "none");
    public["grant_types"] = json!([DEVICE, "refresh_token"]);
    let grant = [("grant", "device_code"), ("client_auth", "none"), ("scope", "openid offline_access view_sales")];
    let scene = Scene::new(public, &grant, &[]).await;
    assert_eq!(scene.stage.run().await.0, 409);
    let asked = scene.enable().await;
    assert_eq!(asked.status(), StatusCode::ACCEPTED);
    let asked: Value = asked.json().await.unwrap();
    let again: Value = scene.enable().await.json().await.unwrap();
    assert_eq!(again, asked, "one invitation at a time");
    assert_eq!(scene.account().await["device"]["user_code"], asked["user_code"]);

    let phone = Browser::new();
    let mut page = phone.open(asked["verification_uri_complete"].as_str().unwrap()).await;
    while !page.body.contains("Sign-in") {
        page = phone.submit(&page, &[]).await;
    }
    let consent = phone.submit(&page, &[("login", "person"), ("password", "word")]).await;
    let done = phone.submit(&consent, &[]).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.body);
    let start = Instant::now();
    while scene.account().await["state"] != "enabled" {
        assert!(start.elapsed() < Duration::from_secs(60), "{}", scene.server.log().await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    scene.runs().await;
    let account = scene.account().await;
    assert_eq!((&account["refresh_token"], account.get("device")), (&json!(true), None));
    // And from then on as after any authorisation.
    scene.server.refuse_tokens().await;
    scene.runs().await;
    assert_eq!(scene.server.count("refresh_token", "issued").await, 1);
    scene.stage.stop().await;
}

#[tokio::test]
async fn the_command_lines_code_is_good_although_the_process_that_asked_for_it_is_gone() {
    let mut public = client(DEVICE, "none");
    public["grant_types"] = json!([DEVICE, "refresh_token"]);
    let kept = tempfile::tempdir().unwrap();
    let grant = [
        ("grant", "device_code"),
        ("client_auth", "none"),
        ("scope", "openid offline_access view_sales"),
        ("store", "file"),
        ("store_path", kept.path().to_str().unwrap()),
        ("allow_ephemeral_store", "true"),
    ];
    let key = [("etl-oauth-seal-keys", "1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")];
    let scene = Scene::new(public, &grant, &key).await;
    let url = scene.stage.url("");
    let mut waiting = Command::new(env!("CARGO_BIN_EXE_etl-oauth-command"))
        .args(["authorize", "--url", &url, "--json"])
        .env("ETL_OAUTH_OPERATOR", scene.operator())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(waiting.stdout.take().unwrap()).lines();
    let code: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
    let scene = Scene { stage: scene.stage.restart().await, ..scene };
    let phone = Browser::new();
    let mut page = phone.open(code["verification_uri_complete"].as_str().unwrap()).await;
    while !page.body.contains("Sign-in") {
        page = phone.submit(&page, &[]).await;
    }
    let consent = phone.submit(&page, &[("login", "person"), ("password", "word")]).await;
    assert_eq!(phone.submit(&consent, &[]).await.status, StatusCode::OK);
    // Once the first one has been silent for long enough, the new process asks in its place.
    assert_eq!(waiting.wait().await.unwrap().code(), Some(0));
    scene.runs().await;
    scene.stage.stop().await;
}

#[tokio::test]
async fn an_issuer_alone_leads_a_person_to_the_provider_by_a_pushed_request() {
    let elsewhere = json!({"redirect_uris": ["https://elsewhere.example/"]});
    // What is pushed binds the code to a key, and so its tokens.
    let scene = Scene::new(elsewhere, &[("scope", "openid view_sales"), ("dpop", "true")], &[]).await;
    let pushed = json!({
        "redirect_uris": [scene.stage.url("/oauth2/callback")],
        "require_pushed_authorization_requests": true,
        "dpop_bound_access_tokens": true,
    });
    let (id, secret) = scene.server.enrol("/reg", &pushed).await;
    update_secret(&scene.stage, "oauth2-client-id", &id).await;
    update_secret(&scene.stage, "oauth2-client-secret", &secret.unwrap()).await;
    let browser = scene.stage.browser();
    let sign_in = browser.enable(&scene.stage).await;
    let carried = sign_in.way.iter().find(|url| url.path() == "/auth").expect("the authorization endpoint");
    let names: Vec<_> = carried.query_pairs().map(|(name, _)| name.into_owned()).collect();
    assert_eq!(names, ["client_id", "request_uri"]);
    let consent = browser.submit(&sign_in, &[("login", "person"), ("password", "word")]).await;
    let done = browser.submit(&consent, &[]).await;
    assert_eq!(done.url.as_str(), scene.stage.url("/done"), "{}", done.body);
    assert_eq!(scene.server.log().await["pushed"], 1);
    scene.runs().await;
    scene.stage.stop().await;
}

#[tokio::test]
async fn a_token_that_is_bound_to_a_key_is_shown_with_a_proof_and_renewed_with_the_same_key() {
    let mut bound = client("client_credentials", "client_secret_basic");
    bound["dpop_bound_access_tokens"] = json!(true);
    let grant = [("grant", "client_credentials"), ("dpop", "true"), ("resource", "urn:sales")];
    let scene = Scene::new(bound, &grant, &[]).await;
    scene.runs().await;
    let key = scene.account().await["claims"]["cnf"]["jkt"].clone();
    assert!(key.is_string());
    // Both the server and the API wanted a nonce of their own, once.
    assert_eq!(scene.server.log().await["nonces"], 2);
    let refreshed = Client::new().post(scene.stage.url("/refresh")).bearer_auth(scene.operator()).send().await.unwrap();
    assert_eq!(refreshed.status(), StatusCode::OK);
    scene.runs().await;
    assert_eq!(scene.account().await["claims"]["cnf"]["jkt"], key);
    // The key is the account's: another process goes on with it.
    let scene = Scene { stage: scene.stage.restart().await, ..scene };
    scene.runs().await;
    assert_eq!(scene.server.count("client_credentials", "issued").await, 2);
    scene.stage.stop().await;
}
