//! What is asked for with a new token before it is used.

use std::sync::Mutex;

use http::{HeaderMap, StatusCode};

use super::*;
use crate::{
    grant::{HttpResponse, TokenRequest},
    provider::{Definition, Overrides},
    token::Record,
};

const TEXT: &str = "authorize_url = 'https://p.example/a'\ntoken_url = 'https://p.example/token'\n\
    lookup_url = 'https://p.example/me'\napi_url = 'https://{dc}.api.p.example'\n\
    [variables.dc]\nfrom = 'lookup'\nat = '/site/dc'";

/// The answers of `/me`, in turn; the last one stays.
type Answers = Mutex<Vec<(u16, &'static str)>>;

fn server(answers: &'static [(u16, &'static str)]) -> (Authority, Arc<Mutex<Vec<String>>>) {
    let provider = Provider::new("acme", Definition::read("acme.toml", TEXT).unwrap(), Overrides::default()).unwrap();
    let (seen, answers) = (Arc::<Mutex<Vec<String>>>::default(), Answers::new(answers.to_vec()));
    let log = Arc::clone(&seen);
    let wire = HttpClient::new(move |request: TokenRequest| {
        let shown = request.authorization().map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
        let path = request.url().path().to_owned();
        let (status, body) = if path == "/me" {
            log.lock().unwrap().push(format!("{path} {shown}"));
            let mut answers = answers.lock().unwrap();
            if answers.len() > 1 { answers.remove(0) } else { answers[0] }
        } else {
            log.lock().unwrap().push(path);
            (200, r#"{"access_token":"a","refresh_token":"r","expires_in":60}"#)
        };
        let status = StatusCode::from_u16(status).unwrap();
        async move { Ok(HttpResponse { status, headers: HeaderMap::new(), body: body.into(), at: Timestamp::now() }) }
    });
    let client = Client { id: "id".into(), secret: Some(Secret::new("secret")), ..Client::default() };
    (Authority::new(provider, Credentials::fixed(client), wire), seen)
}

async fn consent(authority: &Authority) -> TokenResponse {
    let (secret, now) = (Secret::new("x"), Timestamp::now());
    authority.exchange("c", "https://f.example/cb", &secret, &secret, &Values::new(), now).await.unwrap()
}

#[tokio::test]
async fn a_value_is_asked_for_once_and_kept_with_the_accounts_tokens() {
    let (authority, seen) = server(&[(200, r#"{"site":{"dc":"us6"}}"#)]);
    let answer = consent(&authority).await;
    assert!(answer.unfinished.is_none() && answer.kept["dc"] == "us6");
    let now = Timestamp::now();
    let tokens = Record::default().authorised(answer, now, None).tokens.unwrap();
    let renewed = authority.refresh(&Secret::new("r"), Some(&tokens), now).await.unwrap();
    let tokens = Record { tokens: Some(tokens), ..Record::default() }.renewed(renewed, now, None).tokens.unwrap();
    assert_eq!(tokens.kept["dc"], "us6");
    assert_eq!(*seen.lock().unwrap(), ["/token", "/me Bearer a", "/token"]);
    assert_eq!(
        authority.provider().with(&tokens.kept).api_url.as_ref().unwrap().as_str(),
        "https://us6.api.p.example/"
    );
}

#[tokio::test]
async fn a_token_whose_place_is_not_known_is_not_used_and_the_next_renewal_asks_again() {
    let (authority, seen) =
        server(&[(503, ""), (200, r#"{"site":{"dc":"us6.evil.com/"}}"#), (200, r#"{"site":{"dc":"eu1"}}"#)]);
    let answer = consent(&authority).await;
    let unfinished = answer.unfinished.as_ref().unwrap();
    assert_eq!((unfinished.class(), answer.refresh_token.is_some()), (FailureKind::ProviderUnavailable, true));
    let now = Timestamp::now();
    let tokens = Record::default().authorised(answer, now, None).tokens.unwrap();
    assert!(!tokens.is_usable());
    let evil = authority.refresh(&Secret::new("r"), Some(&tokens), now).await.unwrap();
    assert_eq!(evil.unfinished.as_ref().unwrap().class(), FailureKind::MalformedAnswer);
    let renewed = authority.refresh(&Secret::new("r"), Some(&tokens), now).await.unwrap();
    assert!(renewed.unfinished.is_none() && renewed.kept["dc"] == "eu1");
    assert_eq!(seen.lock().unwrap().len(), 6);
}
