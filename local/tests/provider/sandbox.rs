//! A sandbox for a test, and what its client does.

use std::path::Path;

use local::provider::{Client, Options, Provider};
use reqwest::{Response, StatusCode, header};
use serde_json::Value;
use url::Url;

pub(crate) const ID: &str = "app";
pub(crate) const SECRET: &str = "s3cr:et+/% &x%20";
pub(crate) const PUBLIC: &str = "public";
pub(crate) const REDIRECT: &str = "http://127.0.0.1:1/function/etl/oauth2/callback?kept=1";
pub(crate) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub(crate) const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

pub(crate) struct Sandbox {
    pub(crate) provider: Provider,
    pub(crate) http: reqwest::Client,
}

impl Sandbox {
    pub(crate) async fn start() -> Self {
        Self::start_in(None).await
    }

    pub(crate) async fn start_in(state: Option<&Path>) -> Self {
        let options = Options {
            address: "127.0.0.1:0".parse().unwrap(),
            clients: vec![Client::new(ID, SECRET), Client::without_secret(PUBLIC)],
            state: state.map(Path::to_owned),
        };
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { provider: Provider::start(options).await.unwrap(), http }
    }

    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.provider.url())
    }

    pub(crate) fn authorize_url(&self, change: impl FnOnce(&mut Vec<(&'static str, &'static str)>)) -> Url {
        let mut query = vec![
            ("client_id", ID),
            ("redirect_uri", REDIRECT),
            ("response_type", "code"),
            ("state", "s<1>"),
            ("scope", "view_sales view_profile"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ];
        change(&mut query);
        Url::parse_with_params(&self.at("/oauth/authorize"), query).unwrap()
    }

    /// Says `decision` on the consent page and reads where that leads.
    pub(crate) async fn decide(&self, decision: &str) -> Url {
        let url = self.authorize_url(|_| {});
        let answer = self.http.post(url).form(&[("decision", decision), ("user", "ada@example.com")]).send().await;
        location(&answer.unwrap())
    }

    pub(crate) async fn token(&self, form: &[(&str, &str)]) -> reqwest::Result<Response> {
        let form = form.iter().copied().chain([("client_id", ID), ("client_secret", SECRET)]).collect::<Vec<_>>();
        self.http.post(self.at("/oauth/token")).form(&form).send().await
    }

    pub(crate) async fn enabled(&self) -> Value {
        let code = parameter(&self.decide("allow").await, "code").unwrap();
        let grant = [
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", REDIRECT),
            ("code_verifier", VERIFIER),
        ];
        let answer = self.token(&grant).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-store");
        answer.json().await.unwrap()
    }

    pub(crate) async fn renew(&self, refresh_token: &Value) -> reqwest::Result<Response> {
        self.token(&[("grant_type", "refresh_token"), ("refresh_token", refresh_token.as_str().unwrap())]).await
    }

    pub(crate) async fn api(&self, path: &str, access_token: &Value) -> Response {
        self.http.get(self.at(path)).bearer_auth(access_token.as_str().unwrap()).send().await.unwrap()
    }

    pub(crate) async fn faults(&self, patch: Value) -> Value {
        let answer = self.http.put(self.at("/admin/faults")).json(&patch).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        answer.json().await.unwrap()
    }

    pub(crate) async fn log(&self) -> Value {
        self.http.get(self.at("/admin/log")).send().await.unwrap().json().await.unwrap()
    }
}

/// The secret as it goes into Basic.
pub(crate) fn encoded() -> String {
    url::form_urlencoded::byte_serialize(SECRET.as_bytes()).collect()
}

pub(crate) fn location(answer: &Response) -> Url {
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    answer.headers()[header::LOCATION].to_str().unwrap().parse().unwrap()
}

pub(crate) fn parameter(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}
