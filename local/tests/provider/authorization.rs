//! The consent page, and requests to it.

use reqwest::{StatusCode, header};
use serde_json::Value;
use url::Url;

use crate::sandbox::{ID, PUBLIC, REDIRECT, Sandbox, encoded, location, parameter};

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
