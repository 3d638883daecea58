//! The sandbox provider as a client meets it, over sockets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
use std::collections::BTreeSet;
use std::path::Path;

use local::provider::{Client, Options, Provider};
use reqwest::{Response, StatusCode, header};
use serde_json::{Value, json};
use url::Url;

const ID: &str = "app";
const SECRET: &str = "s3cr:et+/% &x%20";
const PUBLIC: &str = "public";
const REDIRECT: &str = "http://127.0.0.1:1/function/etl/oauth2/callback?kept=1";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

struct Sandbox {
    provider: Provider,
    http: reqwest::Client,
}

impl Sandbox {
    async fn start() -> Self {
        Self::start_in(None).await
    }

    async fn start_in(state: Option<&Path>) -> Self {
        let options = Options {
            address: "127.0.0.1:0".parse().unwrap(),
            clients: vec![Client::new(ID, SECRET), Client::without_secret(PUBLIC)],
            state: state.map(Path::to_owned),
        };
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { provider: Provider::start(options).await.unwrap(), http }
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.provider.url())
    }

    fn authorize_url(&self, change: impl FnOnce(&mut Vec<(&'static str, &'static str)>)) -> Url {
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
    async fn decide(&self, decision: &str) -> Url {
        let url = self.authorize_url(|_| {});
        let answer = self.http.post(url).form(&[("decision", decision), ("user", "ada@example.com")]).send().await;
        location(&answer.unwrap())
    }

    async fn token(&self, form: &[(&str, &str)]) -> reqwest::Result<Response> {
        let form = form.iter().copied().chain([("client_id", ID), ("client_secret", SECRET)]).collect::<Vec<_>>();
        self.http.post(self.at("/oauth/token")).form(&form).send().await
    }

    async fn enabled(&self) -> Value {
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

    async fn renew(&self, refresh_token: &Value) -> reqwest::Result<Response> {
        self.token(&[("grant_type", "refresh_token"), ("refresh_token", refresh_token.as_str().unwrap())]).await
    }

    async fn api(&self, path: &str, access_token: &Value) -> Response {
        self.http.get(self.at(path)).bearer_auth(access_token.as_str().unwrap()).send().await.unwrap()
    }

    async fn faults(&self, patch: Value) -> Value {
        let answer = self.http.put(self.at("/admin/faults")).json(&patch).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        answer.json().await.unwrap()
    }

    async fn log(&self) -> Value {
        self.http.get(self.at("/admin/log")).send().await.unwrap().json().await.unwrap()
    }
}

/// The secret as it goes into Basic.
fn encoded() -> String {
    url::form_urlencoded::byte_serialize(SECRET.as_bytes()).collect()
}

fn location(answer: &Response) -> Url {
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    answer.headers()[header::LOCATION].to_str().unwrap().parse().unwrap()
}

fn parameter(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

#[tokio::test]
async fn metadata_names_the_endpoints_that_answer() {
    let sandbox = Sandbox::start().await;
    let answer = sandbox.http.get(sandbox.at("/.well-known/oauth-authorization-server")).send().await.unwrap();
    let metadata: Value = answer.json().await.unwrap();
    assert_eq!(metadata["issuer"], sandbox.provider.url());
    for endpoint in ["token_endpoint", "revocation_endpoint"] {
        let answer = sandbox.http.post(metadata[endpoint].as_str().unwrap()).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{endpoint}");
        let wrong = sandbox.http.get(metadata[endpoint].as_str().unwrap()).send().await.unwrap();
        assert_eq!((wrong.status(), &wrong.headers()[header::ALLOW] == "POST"), (StatusCode::METHOD_NOT_ALLOWED, true));
    }
}

#[tokio::test]
async fn the_consent_page_shows_what_is_asked_and_escapes_it() {
    let sandbox = Sandbox::start().await;
    let answer = sandbox.http.get(sandbox.authorize_url(|_| {})).send().await.unwrap();
    let csp = answer.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
    assert!(csp.contains("form-action 'self' http://127.0.0.1:1;"), "{csp}");
    let page = answer.text().await.unwrap();
    for part in ["See your sales", "See your name", "Allow</button>", "Deny</button>", "method=\"post\""] {
        assert!(page.contains(part), "{part} in {page}");
    }
    let foreign = sandbox.authorize_url(|query| query[0].1 = "<script>alert(1)</script>");
    let answer = sandbox.http.get(foreign).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    let page = answer.text().await.unwrap();
    assert!(page.contains("&lt;script&gt;") && !page.contains("<script>"), "{page}");
}

#[tokio::test]
async fn allow_and_deny_go_back_with_state_and_issuer() {
    let sandbox = Sandbox::start().await;
    let allowed = sandbox.decide("allow").await;
    assert!(allowed.as_str().starts_with(REDIRECT), "{allowed}");
    assert_eq!(parameter(&allowed, "state").as_deref(), Some("s<1>"));
    assert_eq!(parameter(&allowed, "iss").as_deref(), Some(sandbox.provider.url()));
    assert!(parameter(&allowed, "code").is_some());
    let denied = sandbox.decide("deny").await;
    assert_eq!(parameter(&denied, "error").as_deref(), Some("access_denied"));
    assert_eq!(parameter(&denied, "state").as_deref(), Some("s<1>"));
    assert_eq!(parameter(&denied, "code"), None);
}

#[tokio::test]
async fn a_bad_authorization_request_goes_back_only_where_that_is_safe() {
    let sandbox = Sandbox::start().await;
    let with = |name: &'static str, value: &'static str| {
        sandbox.authorize_url(move |query| query.iter_mut().filter(|(key, _)| *key == name).for_each(|it| it.1 = value))
    };
    for bad in [
        with("redirect_uri", "https://evil.example/"),
        with("redirect_uri", "http://127.0.0.1.evil.example/"),
        with("redirect_uri", "javascript:alert(1)"),
        with("redirect_uri", "http://127.0.0.1/#fragment"),
        with("redirect_uri", ""),
        sandbox.authorize_url(|query| query.push(("redirect_uri", "http://127.0.0.1/other"))),
    ] {
        assert_eq!(sandbox.http.get(bad.clone()).send().await.unwrap().status(), StatusCode::BAD_REQUEST, "{bad}");
    }
    for (bad, error) in [
        (with("response_type", "token"), "unsupported_response_type"),
        (with("response_type", ""), "invalid_request"),
        (with("code_challenge_method", "plain"), "invalid_request"),
        (with("code_challenge_method", ""), "invalid_request"),
        (with("scope", "view_sales root"), "invalid_scope"),
        (sandbox.authorize_url(|query| query.push(("state", "another"))), "invalid_request"),
    ] {
        let back = location(&sandbox.http.get(bad).send().await.unwrap());
        assert_eq!(parameter(&back, "error").as_deref(), Some(error));
        assert_eq!(parameter(&back, "iss").as_deref(), Some(sandbox.provider.url()));
    }
}

#[tokio::test]
async fn the_client_authenticates_by_basic_or_post_but_not_both_or_wrongly() {
    let sandbox = Sandbox::start().await;
    let form = [("grant_type", "refresh_token"), ("refresh_token", "unknown")];
    let request = || sandbox.http.post(sandbox.at("/oauth/token"));
    let error = async |answer: reqwest::RequestBuilder| {
        let answer = answer.send().await.unwrap();
        let challenge = answer.headers().contains_key(header::WWW_AUTHENTICATE);
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.unwrap();
        (status, body["error"].as_str().unwrap().to_owned(), challenge)
    };
    let encoded = encoded();
    let posted = [("client_id", ID), ("client_secret", SECRET)];
    // Past the client's authentication there is an unknown refresh token.
    let right = (400, "invalid_grant".to_owned(), false);
    assert_eq!(error(request().basic_auth(ID, Some(&encoded)).form(&form)).await, right);
    assert_eq!(error(request().form(&[form.as_slice(), &posted].concat())).await, right);
    let wrong = |challenge| (401, "invalid_client".to_owned(), challenge);
    assert_eq!(error(request().basic_auth(ID, Some("wrong")).form(&form)).await, wrong(true));
    assert_eq!(error(request().form(&[form.as_slice(), &[("client_id", ID)]].concat())).await, wrong(false));
    let both = request().basic_auth(ID, Some(&encoded)).form(&[form.as_slice(), &posted].concat());
    assert_eq!(error(both).await, (400, "invalid_request".to_owned(), false));
    let twice = request().form(&[form.as_slice(), &posted, &[("refresh_token", "other")]].concat());
    assert_eq!(error(twice).await, (400, "invalid_request".to_owned(), false));
    let json = request().json(&json!({"grant_type": "refresh_token"}));
    assert_eq!(error(json).await, (400, "invalid_request".to_owned(), false));
}

#[tokio::test]
async fn a_refresh_token_used_twice_revokes_the_family_and_the_log_tells() {
    let sandbox = Sandbox::start().await;
    let first = sandbox.enabled().await;
    let second: Value = sandbox.renew(&first["refresh_token"]).await.unwrap().json().await.unwrap();
    assert_ne!(second["refresh_token"], first["refresh_token"]);
    assert_eq!(sandbox.api("/v2/user", &second["access_token"]).await.status(), StatusCode::OK);
    assert_eq!(sandbox.renew(&first["refresh_token"]).await.unwrap().status(), StatusCode::BAD_REQUEST);
    assert_eq!(sandbox.renew(&second["refresh_token"]).await.unwrap().status(), StatusCode::BAD_REQUEST);
    let dead = sandbox.api("/v2/user", &second["access_token"]).await;
    assert_eq!(dead.status(), StatusCode::UNAUTHORIZED);
    let challenge = dead.headers()[header::WWW_AUTHENTICATE].to_str().unwrap();
    assert!(challenge.contains("error=\"invalid_token\"") && challenge.contains("revoked"), "{challenge}");
    let log = sandbox.log().await;
    let outcomes: Vec<_> = log["token_requests"].as_array().unwrap().iter().map(|entry| &entry["outcome"]).collect();
    assert_eq!(outcomes, ["issued", "issued", "reuse_detected", "refused"]);
    assert_eq!(log["outcomes"]["refresh_token issued"], 1);
    assert_eq!(log["api_requests"]["GET /v2/user 401"], 1);
    let text = log.to_string();
    for secret in [&first["refresh_token"], &second["access_token"], &json!(SECRET)] {
        assert!(!text.contains(secret.as_str().unwrap()), "{text}");
    }
}

#[tokio::test]
async fn a_lost_answer_took_effect_and_a_lost_request_did_not() {
    let sandbox = Sandbox::start().await;
    let first = sandbox.enabled().await;
    sandbox.faults(json!({"lose_request": 1})).await;
    assert!(sandbox.renew(&first["refresh_token"]).await.is_err());
    let second: Value = sandbox.renew(&first["refresh_token"]).await.unwrap().json().await.unwrap();
    sandbox.faults(json!({"lose_answer": 1})).await;
    assert!(sandbox.renew(&second["refresh_token"]).await.is_err());
    let refused = sandbox.renew(&second["refresh_token"]).await.unwrap();
    assert_eq!(refused.json::<Value>().await.unwrap()["error"], "invalid_grant");
    let log = sandbox.log().await;
    let answers: Vec<_> = log["token_requests"].as_array().unwrap().iter().map(|entry| &entry["answer"]).collect();
    assert_eq!(answers, ["sent", "lost_request", "sent", "lost_answer", "sent"]);
}

#[tokio::test]
async fn within_the_replay_window_a_lost_answer_can_be_asked_for_again() {
    let sandbox = Sandbox::start().await;
    sandbox.faults(json!({"replay_window": 60})).await;
    let first = sandbox.enabled().await;
    sandbox.faults(json!({"lose_answer": 1})).await;
    assert!(sandbox.renew(&first["refresh_token"]).await.is_err());
    let second: Value = sandbox.renew(&first["refresh_token"]).await.unwrap().json().await.unwrap();
    assert_eq!(sandbox.api("/v2/user", &second["access_token"]).await.status(), StatusCode::OK);
    assert_eq!(sandbox.log().await["token_requests"][2]["outcome"], "replayed");
}

#[tokio::test]
async fn a_status_comes_without_effect_and_goes_away() {
    let sandbox = Sandbox::start().await;
    let first = sandbox.enabled().await;
    sandbox.faults(json!({"status": {"status": 503, "retry_after": "7", "times": 2}})).await;
    for _ in 0..2 {
        let answer = sandbox.renew(&first["refresh_token"]).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers()[header::RETRY_AFTER].to_str().unwrap()), (503, "7"));
    }
    assert_eq!(sandbox.renew(&first["refresh_token"]).await.unwrap().status(), StatusCode::OK);
    sandbox.faults(json!({"status": {"status": 400, "error": "invalid_grant", "times": 1}})).await;
    let answer = sandbox.renew(&first["refresh_token"]).await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap()["error"], "invalid_grant");
}

#[tokio::test]
async fn corrupt_responses_are_corrupt_each_in_its_way() {
    let sandbox = Sandbox::start().await;
    sandbox.faults(json!({"reuse_detection": false, "replay_window": 60})).await;
    let first = sandbox.enabled().await;
    for kind in ["truncated", "broken", "html", "empty", "wrong_type"] {
        sandbox.faults(json!({"malformed": {"kind": kind, "times": 1}})).await;
        let answer = sandbox.renew(&first["refresh_token"]).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{kind}");
        let text = answer.text().await;
        match kind {
            "broken" => assert!(text.is_err()),
            "wrong_type" => {
                let body: Value = serde_json::from_str(&text.unwrap()).unwrap();
                assert!(body["access_token"].is_number() && body["expires_in"].is_array(), "{body}");
            }
            "html" => assert!(text.unwrap().starts_with("<!doctype html>")),
            "empty" => assert_eq!(text.unwrap(), ""),
            _ => assert!(serde_json::from_str::<Value>(&text.unwrap()).is_err()),
        }
    }
}

#[tokio::test]
async fn a_delay_after_the_effect_holds_back_the_answer_only() {
    let sandbox = Sandbox::start().await;
    let first = sandbox.enabled().await;
    sandbox.faults(json!({"delay": {"after": 600, "times": 1}})).await;
    let (http, at) = (sandbox.http.clone(), sandbox.at("/oauth/token"));
    let form = [
        ("grant_type", "refresh_token".to_owned()),
        ("refresh_token", first["refresh_token"].as_str().unwrap().to_owned()),
        ("client_id", ID.to_owned()),
        ("client_secret", SECRET.to_owned()),
    ];
    let slow = tokio::spawn(async move { http.post(at).form(&form).send().await });
    while sandbox.log().await["token_request_count"] != 2 {
        tokio::task::yield_now().await;
    }
    assert!(!slow.is_finished());
    assert_eq!(sandbox.renew(&first["refresh_token"]).await.unwrap().status(), StatusCode::BAD_REQUEST);
    slow.abort();
}

#[tokio::test]
async fn answers_can_leave_out_what_clients_like_to_count_on() {
    let sandbox = Sandbox::start().await;
    sandbox.faults(json!({"omit_expires_in": true})).await;
    let first = sandbox.enabled().await;
    assert!(first.get("expires_in").is_none());
    sandbox.faults(json!({"omit_refresh_token": 1, "omit_expires_in": null})).await;
    let second: Value = sandbox.renew(&first["refresh_token"]).await.unwrap().json().await.unwrap();
    assert!(second.get("refresh_token").is_none() && second["expires_in"] == 3600, "{second}");
    assert_eq!(sandbox.renew(&first["refresh_token"]).await.unwrap().status(), StatusCode::OK);
    sandbox.faults(json!({"rotation": false})).await;
    let third = sandbox.enabled().await;
    let fourth: Value = sandbox.renew(&third["refresh_token"]).await.unwrap().json().await.unwrap();
    assert_eq!(fourth["refresh_token"], third["refresh_token"]);
}

#[tokio::test]
async fn revocation_ends_a_token_and_says_yes_to_unknown_ones() {
    let sandbox = Sandbox::start().await;
    let tokens = sandbox.enabled().await;
    let revoke = async |token: &str| {
        let form = [("token", token), ("client_id", ID), ("client_secret", SECRET)];
        sandbox.http.post(sandbox.at("/oauth/revoke")).form(&form).send().await.unwrap().status()
    };
    assert_eq!(revoke("unknown").await, StatusCode::OK);
    assert_eq!(sandbox.api("/v2/user", &tokens["access_token"]).await.status(), StatusCode::OK);
    assert_eq!(revoke(tokens["refresh_token"].as_str().unwrap()).await, StatusCode::OK);
    assert_eq!(sandbox.api("/v2/user", &tokens["access_token"]).await.status(), StatusCode::UNAUTHORIZED);
    let unknown = [("token", "x"), ("client_id", ID), ("client_secret", "wrong")];
    let answer = sandbox.http.post(sandbox.at("/oauth/revoke")).form(&unknown).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn sales_come_in_pages_of_ten_and_the_pages_add_up() {
    let sandbox = Sandbox::start().await;
    let tokens = sandbox.enabled().await;
    let (mut path, mut sizes, mut ids) = ("/v2/sales?after=2000-01-01".to_owned(), vec![], BTreeSet::new());
    loop {
        let page: Value = sandbox.api(&path, &tokens["access_token"]).await.json().await.unwrap();
        assert_eq!(page["success"], true);
        let sales = page["sales"].as_array().unwrap();
        sizes.push(sales.len());
        ids.extend(sales.iter().map(|sale| sale["id"].as_str().unwrap().to_owned()));
        let Some(next) = page.get("next_page_url") else {
            assert!(page.get("next_page_key").is_none());
            break;
        };
        path = next.as_str().unwrap().to_owned();
        assert!(path.starts_with("/v2/sales?after=2000-01-01&page_key="), "{path}");
    }
    let (last, full) = sizes.split_last().unwrap();
    assert!(full.len() > 3 && full.iter().all(|size| *size == 10) && (1..=10).contains(last), "{sizes:?}");
    assert_eq!(ids.len(), sizes.iter().sum::<usize>());
}

#[tokio::test]
async fn sales_are_filtered_from_after_inclusive_to_before_exclusive() {
    let sandbox = Sandbox::start().await;
    let tokens = sandbox.enabled().await;
    let all: Value = sandbox.api("/v2/sales", &tokens["access_token"]).await.json().await.unwrap();
    // A day in the middle of the first page is complete on it.
    let day = all["sales"][5]["created_at"].as_str().unwrap()[..10].to_owned();
    let next = day.parse::<jiff::civil::Date>().unwrap().tomorrow().unwrap();
    let path = format!("/v2/sales?after={day}&before={next}");
    let found: Value = sandbox.api(&path, &tokens["access_token"]).await.json().await.unwrap();
    let days: BTreeSet<_> =
        found["sales"].as_array().unwrap().iter().map(|sale| &sale["created_at"].as_str().unwrap()[..10]).collect();
    assert_eq!(days, BTreeSet::from([day.as_str()]));
    let bad = sandbox.api("/v2/sales?after=yesterday", &tokens["access_token"]).await;
    assert_eq!(bad.status(), StatusCode::BAD_REQUEST);
    assert_eq!(bad.json::<Value>().await.unwrap()["status"], 400);
}

#[tokio::test]
async fn the_api_wants_a_living_bearer_token_of_the_right_scope() {
    let sandbox = Sandbox::start().await;
    let none = sandbox.http.get(sandbox.at("/v2/sales")).send().await.unwrap();
    assert_eq!(none.status(), StatusCode::UNAUTHORIZED);
    let tokens = sandbox.enabled().await;
    let query = format!("/v2/sales?access_token={}", tokens["access_token"].as_str().unwrap());
    assert_eq!(sandbox.http.get(sandbox.at(&query)).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    let narrow = [
        ("grant_type", "refresh_token"),
        ("refresh_token", tokens["refresh_token"].as_str().unwrap()),
        ("scope", "view_profile"),
    ];
    let narrow: Value = sandbox.token(&narrow).await.unwrap().json().await.unwrap();
    assert_eq!(sandbox.api("/v2/sales", &narrow["access_token"]).await.status(), StatusCode::FORBIDDEN);
    let user: Value = sandbox.api("/v2/user", &narrow["access_token"]).await.json().await.unwrap();
    assert_eq!(user["user"]["email"], "ada@example.com");
}

#[tokio::test]
async fn the_api_fails_as_the_switches_say() {
    let sandbox = Sandbox::start().await;
    let tokens = sandbox.enabled().await;
    let status = async || sandbox.api("/v2/sales", &tokens["access_token"]).await.status().as_u16();
    sandbox.faults(json!({"api_unauthorized": 1})).await;
    assert_eq!([status().await, status().await], [401, 200]);
    sandbox.faults(json!({"api_status": {"status": 429, "retry_after": "1", "times": 1}})).await;
    assert_eq!([status().await, status().await], [429, 200]);
    sandbox.faults(json!({"api_malformed": {"kind": "html", "times": 1}})).await;
    assert!(sandbox.api("/v2/sales", &tokens["access_token"]).await.json::<Value>().await.is_err());
    let revoke = json!({"access": true});
    sandbox.http.post(sandbox.at("/admin/revoke")).json(&revoke).send().await.unwrap();
    assert_eq!(status().await, 401);
    assert_eq!(sandbox.renew(&tokens["refresh_token"]).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_bad_switch_changes_nothing_and_is_named() {
    let sandbox = Sandbox::start().await;
    let patch = json!({"token_lifetime": 5, "rotatoin": false});
    let answer = sandbox.http.put(sandbox.at("/admin/faults")).json(&patch).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert!(answer.text().await.unwrap().contains("rotatoin"));
    assert_eq!(sandbox.faults(json!({})).await["token_lifetime"], 3600.0);
}

#[tokio::test]
async fn grants_outlive_a_restart_and_hold_no_token_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start_in(Some(folder.path())).await;
    let tokens = sandbox.enabled().await;
    let kept = std::fs::read_to_string(folder.path().join("provider.json")).unwrap();
    sandbox.provider.stop().await;
    assert!(!kept.contains(tokens["refresh_token"].as_str().unwrap()));
    let sandbox = Sandbox::start_in(Some(folder.path())).await;
    assert_eq!(sandbox.api("/v2/user", &tokens["access_token"]).await.status(), StatusCode::OK);
    assert_eq!(sandbox.renew(&tokens["refresh_token"]).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_taken_port_is_one_clear_message() {
    let sandbox = Sandbox::start().await;
    let address = sandbox.provider.url().trim_start_matches("http://").parse().unwrap();
    let error = Provider::start(Options { address, clients: vec![], state: None }).await.unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("--provider") && text.contains(&address.to_string()), "{text}");
}

#[tokio::test]
async fn a_client_asks_for_itself_and_gets_no_refresh_token() {
    let sandbox = Sandbox::start().await;
    let issued: Value = sandbox
        .token(&[("grant_type", "client_credentials"), ("scope", "view_sales")])
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!((&issued["scope"], issued.get("refresh_token")), (&json!("view_sales"), None));
    assert_eq!(sandbox.api("/v2/sales", &issued["access_token"]).await.status(), StatusCode::OK);
    for (form, error) in [
        (vec![("grant_type", "client_credentials"), ("scope", "all")], "invalid_scope"),
        (vec![("grant_type", "password")], "unsupported_grant_type"),
    ] {
        let refused: Value = sandbox.token(&form).await.unwrap().json().await.unwrap();
        assert_eq!(refused["error"], error);
    }
    let anonymous = [("grant_type", "client_credentials"), ("client_id", PUBLIC)];
    let refused = sandbox.http.post(sandbox.at("/oauth/token")).form(&anonymous).send().await.unwrap();
    assert_eq!(refused.json::<Value>().await.unwrap()["error"], "unauthorized_client");
}

#[tokio::test]
async fn a_token_buys_another_of_the_same_person_and_of_no_more() {
    let sandbox = Sandbox::start().await;
    let subject = sandbox.enabled().await["access_token"].as_str().unwrap().to_owned();
    let kind = "urn:ietf:params:oauth:token-type:access_token";
    let ask = async |scope: &str, subject: &str| -> Value {
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("subject_token", subject),
            ("subject_token_type", kind),
            ("audience", "one"),
            ("audience", "two"),
            ("scope", scope),
        ];
        sandbox.token(&form).await.unwrap().json().await.unwrap()
    };
    let bought = ask("view_sales", &subject).await;
    assert_eq!((&bought["issued_token_type"], bought.get("refresh_token")), (&json!(kind), None));
    let user: Value = sandbox.api("/v2/user", &bought["access_token"]).await.json().await.unwrap();
    assert_eq!(user["user"]["email"], "ada@example.com");
    assert_eq!(ask("edit_products", &subject).await["error"], "invalid_scope");
    assert_eq!(ask("view_sales", "unknown").await["error"], "invalid_request");
}

#[tokio::test]
async fn a_person_types_a_devices_code_and_the_device_gets_its_tokens_once() {
    let sandbox = Sandbox::start().await;
    sandbox.faults(json!({"device_interval": 0})).await;
    // A device without a secret.
    let form = [("client_id", PUBLIC), ("scope", "view_sales")];
    let codes: Value =
        sandbox.http.post(sandbox.at("/oauth/device")).form(&form).send().await.unwrap().json().await.unwrap();
    let ask = async || -> Value {
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("client_id", PUBLIC),
            ("device_code", codes["device_code"].as_str().unwrap()),
        ];
        sandbox.http.post(sandbox.at("/oauth/token")).form(&form).send().await.unwrap().json().await.unwrap()
    };
    assert_eq!(ask().await["error"], "authorization_pending");
    let page = sandbox.http.get(codes["verification_uri_complete"].as_str().unwrap()).send().await.unwrap();
    let html = page.text().await.unwrap();
    assert!(html.contains(codes["user_code"].as_str().unwrap()) && html.contains("See your sales"), "{html}");
    let wrong = sandbox.http.get(sandbox.at("/device?user_code=<b>")).send().await.unwrap();
    assert_eq!(wrong.status(), StatusCode::BAD_REQUEST);
    let form = [("user_code", codes["user_code"].as_str().unwrap()), ("decision", "allow")];
    sandbox.http.post(sandbox.at("/device")).form(&form).send().await.unwrap().error_for_status().unwrap();
    let issued = ask().await;
    assert!(issued["refresh_token"].is_string(), "{issued}");
    assert_eq!(sandbox.api("/v2/sales", &issued["access_token"]).await.status(), StatusCode::OK);
    assert_eq!(ask().await["error"], "invalid_grant");
}

#[tokio::test]
async fn a_pushed_request_is_shown_by_its_reference_and_decided_once() {
    let sandbox = Sandbox::start().await;
    let url = sandbox.authorize_url(|_| {});
    let said: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    let push =
        sandbox.http.post(sandbox.at("/oauth/par")).basic_auth(ID, Some(encoded())).form(&said).send().await.unwrap();
    assert_eq!(push.status(), StatusCode::CREATED);
    let pushed: Value = push.json().await.unwrap();
    let reference = pushed["request_uri"].as_str().unwrap();
    let at = |client: &str| {
        Url::parse_with_params(&sandbox.at("/oauth/authorize"), [("client_id", client), ("request_uri", reference)])
            .unwrap()
    };
    let other = sandbox.http.get(at(PUBLIC)).send().await.unwrap();
    assert_eq!(other.status(), StatusCode::BAD_REQUEST, "another client's");
    let page = sandbox.http.get(at(ID)).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("See your sales"), "{page}");
    let decided = sandbox.http.post(at(ID)).form(&[("decision", "allow")]).send().await.unwrap();
    assert!(parameter(&location(&decided), "code").is_some());
    assert_eq!(sandbox.http.post(at(ID)).form(&[("decision", "allow")]).send().await.unwrap().status(), 400);
    let wrong = [("response_type", "token"), ("redirect_uri", REDIRECT)];
    let refused = sandbox.http.post(sandbox.at("/oauth/par")).basic_auth(ID, Some(encoded())).form(&wrong).send().await;
    assert_eq!(refused.unwrap().json::<Value>().await.unwrap()["error"], "invalid_request");
}

#[tokio::test]
async fn salesforces_answer_says_where_the_api_is_and_not_when_the_token_ends() {
    let sandbox = Sandbox::start().await;
    let code = parameter(&sandbox.decide("allow").await, "code").unwrap();
    let form = [
        ("grant_type", "authorization_code"),
        ("code", &*code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
        ("client_id", ID),
        ("client_secret", SECRET),
    ];
    let answer = sandbox.http.post(sandbox.at("/services/oauth2/token")).form(&form).send().await.unwrap();
    let answer: Value = answer.json().await.unwrap();
    assert_eq!((&answer["instance_url"], answer.get("expires_in")), (&json!(sandbox.provider.url()), None));
    let rows = sandbox.api("/services/data/v60.0/query?q=SELECT+Id+FROM+Account", &answer["access_token"]).await;
    assert_eq!(rows.json::<Value>().await.unwrap()["totalSize"], 7);
}
