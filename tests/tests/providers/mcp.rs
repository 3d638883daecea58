//! An MCP server, of which nothing but the URL is known: its authorization server is found, a client registered, a token got,
//! used and renewed (RFC 9728, RFC 8414, RFC 7591, RFC 8707).

use std::{fs, process::Command, time::Duration};

use jiff::Timestamp;
use reqwest::{Client, StatusCode, redirect::Policy};
use token_keeper::{
    grant::{self, Authority, Credentials, HttpClient},
    provider::{Definition, Overrides, Provider, Values},
    secrets::Secrets,
    token::{Record, Secret},
};
use url::Url;

use crate::server::Server;

const COMMAND: &str = env!("CARGO_BIN_EXE_etl-oauth-command");
const REDIRECT: &str = "https://gateway.example.com/function/etl-oauth/oauth2/callback";

#[tokio::test]
async fn an_mcp_servers_url_is_enough() {
    let server = Server::mcp().await;
    let folder = tempfile::tempdir().unwrap();
    let (file, secrets) = (folder.path().join("tools.toml"), folder.path().join("secrets"));
    let mut command = Command::new(COMMAND);
    command.args(["provider", "new"]).arg(&file).args(["--resource", &server.url, "--register", REDIRECT]);
    let ran = tokio::task::spawn_blocking({
        let secrets = secrets.clone();
        move || command.arg("--secrets").arg(secrets).env_clear().output().unwrap()
    });
    let ran = ran.await.unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let secret = fs::read_to_string(secrets.join("oauth2-client-secret")).unwrap();
    assert!(!String::from_utf8_lossy(&ran.stdout).contains(&secret), "it is shown nowhere");

    let text = fs::read_to_string(&file).unwrap();
    let definition = Definition::read("tools.toml", &text).unwrap();
    assert_eq!((definition.title.as_deref(), &definition.resource), (Some("Tools"), &vec![server.url.clone()]));
    let overrides = Overrides { redirect_uri: Some(REDIRECT.into()), ..Overrides::default() };
    let provider = Provider::new("tools", definition, overrides).unwrap();
    let credentials = Credentials::mounted(Secrets::new(&secrets, ""), None);
    let authority = Authority::new(provider, credentials, HttpClient::http(Duration::from_secs(10)).unwrap());
    let (follow, lasting) = (authority.clone(), authority.clone());
    let follow = tokio::spawn(async move { follow.follow().await });
    let provider = lasting.ready().await.unwrap();

    // The person's browser: the server leads it back at once.
    let (now, verifier) = (Timestamp::now(), Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"));
    let id = authority.client(now).unwrap().id;
    let url = grant::authorize_url(&provider, &id, REDIRECT, "st", &verifier).unwrap();
    let browser = Client::builder().redirect(Policy::none()).build().unwrap();
    let back = browser.get(url).send().await.unwrap();
    let back: Url = back.headers()["location"].to_str().unwrap().parse().unwrap();
    let of = |name: &str| back.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    assert_eq!(of("state").as_deref(), Some("st"), "{back}");

    let code = of("code").unwrap();
    let answer = authority.exchange(&*code, REDIRECT, &verifier, &verifier, &Values::new(), now).await.unwrap();
    assert_eq!(answer.scope.as_deref(), Some("mcp:tools"));
    let tokens = Record::default().authorised(answer, now, None).tokens.unwrap();
    let call =
        async |token: &Secret| browser.post(&server.url).bearer_auth(token.expose()).send().await.unwrap().status();
    assert_eq!(call(&tokens.access_token).await, StatusCode::OK);
    assert_eq!(call(&Secret::new("x")).await, StatusCode::UNAUTHORIZED);

    let refresh_token = tokens.refresh_token.clone().unwrap();
    let renewed = authority.refresh(&refresh_token, Some(&tokens), now).await.unwrap();
    assert_eq!(call(&renewed.access_token).await, StatusCode::OK);
    let spent = authority.refresh(&refresh_token, Some(&tokens), now).await.unwrap_err();
    assert_eq!(spent.code(), Some("invalid_grant"), "each is good once");
    follow.abort();
}
