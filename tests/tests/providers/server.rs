use std::{path::Path, process::Stdio, time::Duration};

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tests::Stage;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

/// What is typed into a form.
pub(crate) type Form = &'static [(&'static str, &'static str)];

/// A real provider, running.
pub(crate) struct Server {
    pub(crate) url: String,
    // It ends when its standard input is closed.
    _process: Child,
    // Where it would write what it has to say later.
    _output: Lines<BufReader<ChildStdout>>,
}

impl Server {
    /// `tests/oidc/server.mjs`: a refresh token that comes twice ends its grant.
    pub(crate) async fn oidc(access_token: Duration) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("oidc");
        assert!(folder.join("node_modules").is_dir(), "run `npm ci` in {}, or all of tests/e2e.sh", folder.display());
        let mut node = Command::new("node");
        node.arg("server.mjs").current_dir(folder).env("ACCESS_TOKEN_SECONDS", access_token.as_secs().to_string());
        Self::start(node).await
    }

    /// `tests/mcp/server.mjs`: the tools of an MCP server, behind the SDK's authorization server. Its address is that of the tools.
    pub(crate) async fn mcp() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("mcp");
        assert!(folder.join("node_modules").is_dir(), "run `npm ci` in {}, or all of tests/e2e.sh", folder.display());
        let mut node = Command::new("node");
        node.arg("server.mjs").current_dir(folder);
        Self::start(node).await
    }

    /// `tests/django/server.py`: within `grace` a refresh token that comes twice buys the same tokens.
    pub(crate) async fn django(grace: Duration) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("django");
        let python = std::env::var("DJANGO_PYTHON").expect("DJANGO_PYTHON: a Python with django-oauth-toolkit");
        let mut python = Command::new(python);
        python.arg("server.py").current_dir(folder).env("GRACE_SECONDS", grace.as_secs().to_string());
        Self::start(python).await
    }

    async fn start(mut command: Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().expect("the provider runs");
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let url = lines.next_line().await.unwrap().expect("the provider tells its address");
        Self { url, _process: process, _output: lines }
    }

    /// Registers a client for a callback (RFC 7591).
    pub(crate) async fn register(&self, path: &str, redirect_uri: &str) -> (String, String) {
        let client = json!({
            "redirect_uris": [redirect_uri],
            "grant_types": ["authorization_code", "refresh_token"],
            "token_endpoint_auth_method": "client_secret_basic",
        });
        let (id, secret) = self.enrol(path, &client).await;
        (id, secret.expect("a secret"))
    }

    /// Registers a client of these metadata; gives its id, and its secret where it has one.
    pub(crate) async fn enrol(&self, path: &str, client: &Value) -> (String, Option<String>) {
        let answer = Client::new().post(format!("{}{path}", self.url)).json(client).send().await.unwrap();
        let status = answer.status();
        let client: Value = answer.json().await.unwrap();
        assert_eq!(status, StatusCode::CREATED, "{client}");
        (client["client_id"].as_str().unwrap().to_owned(), client["client_secret"].as_str().map(str::to_owned))
    }

    /// A new key pair: the private half as PEM, the public one as a JWK.
    pub(crate) async fn key(&self) -> (String, Value) {
        let answer = Client::new().post(format!("{}/test/key", self.url)).send().await.unwrap();
        let pair: Value = answer.json().await.unwrap();
        (pair["pem"].as_str().unwrap().to_owned(), pair["jwk"].clone())
    }

    pub(crate) async fn log(&self) -> Value {
        Client::new().get(format!("{}/test/log", self.url)).send().await.unwrap().json().await.unwrap()
    }

    /// How often a grant had this outcome.
    pub(crate) async fn count(&self, grant: &str, outcome: &str) -> usize {
        let log = self.log().await;
        log["grants"].as_array().unwrap().iter().filter(|it| it["grant"] == grant && it["outcome"] == outcome).count()
    }

    pub(crate) async fn refuse_tokens(&self) {
        let answer = Client::new().post(format!("{}/test/refuse-tokens", self.url)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    }

    /// The status of a call to the API.
    pub(crate) async fn sales(&self, token: &str) -> StatusCode {
        Client::new().get(format!("{}/v2/sales", self.url)).bearer_auth(token).send().await.unwrap().status()
    }

    /// Sends a refresh token by hand; gives the error's code.
    pub(crate) async fn spend(&self, stage: &Stage, refresh_token: &str) -> Value {
        let (id, secret) = (stage.secret("oauth2-client-id"), stage.secret("oauth2-client-secret"));
        let form = [("grant_type", "refresh_token"), ("refresh_token", refresh_token)];
        let request = Client::new().post(format!("{}/token", self.url)).basic_auth(id, Some(secret)).form(&form);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        answer["error"].clone()
    }
}
