use std::sync::Mutex;

use http::{HeaderMap, StatusCode};

use super::*;
use crate::{
    grant::{HttpResponse, SendError, TokenRequest, dpop},
    provider::{ClientAuth, Definition, Overrides},
};

/// The path or the body of each request that a server got, and its headers.
type Seen = Arc<Mutex<Vec<(String, HeaderMap)>>>;

/// A server that wants a nonce in every proof, and gives it once it is asked without.
fn server(seen: Seen) -> HttpClient {
    HttpClient::new(move |request: TokenRequest| {
        let mut seen = seen.lock().unwrap();
        seen.push((request.body().to_owned(), request.headers().clone()));
        let mut headers = HeaderMap::new();
        headers.insert("dpop-nonce", http::HeaderValue::from_static("n1"));
        let (status, body) = match seen.len() {
            1 => (StatusCode::BAD_REQUEST, r#"{"error":"use_dpop_nonce"}"#),
            _ => (StatusCode::OK, r#"{"access_token":"a","token_type":"DPoP"}"#),
        };
        std::future::ready(Ok(HttpResponse { status, headers, body: body.into(), at: Timestamp::UNIX_EPOCH }))
    })
}

#[tokio::test]
async fn a_server_that_wants_its_nonce_is_asked_once_more_with_a_statement_that_it_has_not_seen() {
    let folder = tempfile::tempdir().unwrap();
    let mount = |name: &str, value: &str| std::fs::write(folder.path().join(name), value).unwrap();
    let der = aws_lc_rs::signature::EcdsaKeyPair::generate(&aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING)
        .unwrap()
        .to_pkcs8v1()
        .unwrap();
    let pem = STANDARD.encode(der.as_ref());
    mount("oauth2-private-key", &format!("-----BEGIN PRIVATE KEY-----\n{pem}\n-----END PRIVATE KEY-----\n"));
    mount("oauth2-client-id", "id");
    let definition = Definition {
        token_url: Some("https://p.example/token".into()),
        client_auth: ClientAuth::PrivateKeyJwt,
        grant: Grant::ClientCredentials,
        dpop: true,
        ..Definition::default()
    };
    let provider = Provider::new("custom", definition, Overrides::default()).unwrap();
    let credentials = Credentials::mounted(crate::secrets::Secrets::new(folder.path(), ""), None);
    let seen = Arc::<Mutex<Vec<_>>>::default();
    let authority = Authority::new(provider, credentials, server(Arc::clone(&seen)));
    let answer = authority.ask(None, Timestamp::now()).await.unwrap();
    assert!(answer.bound_to.is_some(), "the key is for the record");
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    assert_ne!(seen[0].0, seen[1].0, "each attempt has a statement of its own");
    assert_ne!(seen[0].1[dpop::HEADER], seen[1].1[dpop::HEADER]);
    assert_eq!(authority.nonces().of(&"https://p.example/token".parse().unwrap()).as_deref(), Some("n1"));
}

/// What a provider with a second exchange says to it.
async fn with_second(status: u16, body: &'static str, purpose: For) -> (Result<TokenResponse, Failure>, usize) {
    let text = "token_url = 'https://p.example/token'\nsecond_url = 'https://p.example/long'\n\
                second_on_renewal = true\nsecond.params = { short = '{access_token}' }";
    let definition = Definition::read("acme.toml", text).unwrap();
    let provider = Provider::new("acme", definition, Overrides::default()).unwrap();
    let calls = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let seen = Arc::clone(&calls);
    let wire = HttpClient::new(move |request: TokenRequest| {
        seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let first = r#"{"access_token":"short","refresh_token":"r2","expires_in":60}"#;
        let second = request.url().path() == "/long";
        assert!(!second || request.body() == "short=short", "{}", request.body());
        let (status, body) = if second { (status, body) } else { (200, first) };
        let status = StatusCode::from_u16(status).unwrap();
        async move { Ok(HttpResponse { status, headers: HeaderMap::new(), body: body.into(), at: Timestamp::now() }) }
    });
    let client = Client { id: "id".into(), secret: Some(Secret::new("secret")), ..Client::default() };
    let authority = Authority::new(provider, Credentials::fixed(client), wire);
    let (secret, now) = (Secret::new("x"), Timestamp::now());
    let answer = match purpose {
        For::Code => authority.exchange("c", "https://f.example/cb", &secret, &secret, &Values::new(), now).await,
        For::Renewal => authority.refresh(&secret, None, now).await,
    };
    (answer, calls.load(std::sync::atomic::Ordering::Relaxed))
}

#[tokio::test]
async fn the_second_exchange_brings_the_access_token_and_the_first_one_the_refresh_token() {
    for purpose in [For::Code, For::Renewal] {
        let (answer, calls) = with_second(200, r#"{"access_token":"long","expires_in":5000000}"#, purpose).await;
        let answer = answer.unwrap();
        assert_eq!((answer.access_token.expose(), answer.refresh_token.unwrap().expose()), ("long", "r2"));
        assert_eq!((answer.lifetime.unwrap().as_secs(), calls), (5_000_000, 2));
    }
}

#[tokio::test]
async fn a_second_exchange_that_fails_loses_no_refresh_token() {
    for purpose in [For::Renewal, For::Code] {
        let (answer, calls) = with_second(503, "", purpose).await;
        let answer = answer.unwrap();
        assert_eq!(answer.unfinished.as_ref().unwrap().class(), FailureKind::ProviderUnavailable);
        assert_eq!((answer.refresh_token.as_ref().unwrap().expose(), calls), ("r2", 2));
        // h5: a code that was spent has its successor here alone.
        let record = crate::token::Record::default().authorised(answer, Timestamp::now(), None);
        let tokens = record.tokens.as_ref().unwrap();
        assert!(!tokens.is_alive(Timestamp::UNIX_EPOCH), "the access token was to be exchanged");
        assert_eq!(record.state(), crate::token::State::Degraded);
    }
}

/// A provider whose ID token of a spent code is not right, and what is made of it.
async fn with_id_token(claims: serde_json::Value) -> Result<Option<Subject>, Failure> {
    let text = "token_url = 'https://p.example/token'\nissuer = 'https://p.example'\nscope = ['openid']\n\
                authorize_url = 'https://p.example/a'";
    let definition = Definition::read("acme.toml", text).unwrap();
    let provider = Provider::new("acme", definition, Overrides::default()).unwrap();
    let part = |value: &serde_json::Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string());
    let id_token = format!("{}.{}.x", part(&serde_json::json!({"alg": "RS256"})), part(&claims));
    let body = format!(r#"{{"access_token":"a","refresh_token":"r","id_token":"{id_token}"}}"#);
    let wire = HttpClient::new(move |_| {
        let (status, headers, at) = (StatusCode::OK, HeaderMap::new(), Timestamp::UNIX_EPOCH);
        std::future::ready(Ok(HttpResponse { status, headers, body: body.clone().into(), at }))
    });
    let client = Client { id: "id".into(), secret: Some(Secret::new("secret")), ..Client::default() };
    let authority = Authority::new(provider, Credentials::fixed(client), wire);
    let (secret, now) = (Secret::new("x"), Timestamp::from_second(1_800_000_000).unwrap());
    let answer = authority.exchange("c", "https://f.example/cb", &secret, &secret, &Values::new(), now).await.unwrap();
    authority.owner(&answer, now).await
}

#[tokio::test]
async fn h5_an_id_token_that_cannot_be_read_or_has_expired_loses_no_code_and_one_of_another_client_is_refused() {
    let good = serde_json::json!({"iss": "https://p.example", "sub": "7", "aud": "id", "exp": 1_900_000_000});
    assert_eq!(with_id_token(good.clone()).await.unwrap().unwrap().id, "7");
    for (name, value) in [("exp", 1_700_000_000.into()), ("sub", "".into()), ("sub", serde_json::Value::Null)] {
        let mut claims = good.clone();
        claims[name] = value;
        assert_eq!(with_id_token(claims).await.unwrap(), None, "{name}");
    }
    for (name, value) in [("iss", "https://other.example"), ("aud", "other")] {
        let mut claims = good.clone();
        claims[name] = value.into();
        assert_eq!(with_id_token(claims).await.unwrap_err().class(), FailureKind::MalformedAnswer, "{name}");
    }
}

#[tokio::test]
async fn h7_a_value_of_the_token_url_comes_from_the_redirect_and_without_it_nothing_is_sent() {
    for default in ["", ", default = 'nobody'"] {
        let text = format!(
            "authorize_url = 'https://secure.p.example/connect'\ntoken_url = 'https://{{prefix}}.p.example/token'\n\
             api_url = 'https://{{prefix}}.p.example'\nvariables.prefix = {{ from = 'redirect'{default} }}"
        );
        let definition = Definition::read("acme.toml", &text).unwrap();
        let provider = Provider::new("acme", definition, Overrides::default()).unwrap();
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let urls = Arc::clone(&seen);
        let wire = HttpClient::new(move |request: TokenRequest| {
            urls.lock().unwrap().push(request.url().to_string());
            let (status, headers, at) = (StatusCode::OK, HeaderMap::new(), Timestamp::UNIX_EPOCH);
            std::future::ready(Ok(HttpResponse { status, headers, body: br#"{"access_token":"a"}"#.to_vec(), at }))
        });
        let client = Client { id: "id".into(), secret: Some(Secret::new("secret")), ..Client::default() };
        let authority = Authority::new(provider, Credentials::fixed(client), wire);
        let (secret, now) = (Secret::new("x"), Timestamp::now());
        let exchange = |kept: Values| {
            let (authority, secret) = (authority.clone(), secret.clone());
            async move { authority.exchange("c", "https://f.example/cb", &secret, &secret, &kept, now).await }
        };
        let failure = exchange(Values::new()).await.unwrap_err();
        assert_eq!(failure.class(), FailureKind::Config);
        assert!(failure.to_string().contains("the redirect brings no prefix"), "{failure}");
        assert!(seen.lock().unwrap().is_empty());
        let answer = exchange([("prefix".to_owned(), "acme".to_owned())].into()).await.unwrap();
        assert_eq!(answer.kept["prefix"], "acme");
        assert_eq!(*seen.lock().unwrap(), ["https://acme.p.example/token"]);
    }
}

/// A server whose tokens are bound, and that says whose they are; what it saw.
fn binding(kind: &'static str) -> (Authority, Seen) {
    let definition = Definition {
        token_url: Some("https://p.example/token".into()),
        userinfo_url: Some("https://p.example/me".into()),
        userinfo_id: Some("/id".into()),
        authorize_url: Some("https://p.example/authorize".into()),
        dpop: true,
        ..Definition::default()
    };
    let provider = Provider::new("custom", definition, Overrides::default()).unwrap();
    let seen = Seen::default();
    let calls = Arc::clone(&seen);
    let wire = HttpClient::new(move |request: TokenRequest| {
        let mut calls = calls.lock().unwrap();
        calls.push((request.url().path().to_owned(), request.headers().clone()));
        let mut headers = HeaderMap::new();
        let (status, body) = match (request.url().path(), calls.len()) {
            ("/token", _) => {
                (StatusCode::OK, format!(r#"{{"access_token":"a","refresh_token":"r","token_type":"{kind}"}}"#))
            }
            // The place that tells whose it is wants a nonce, too.
            ("/me", 2) if kind == "DPoP" => {
                headers.insert("dpop-nonce", http::HeaderValue::from_static("n2"));
                let challenge = http::HeaderValue::from_static("DPoP error=\"use_dpop_nonce\"");
                headers.insert("www-authenticate", challenge);
                (StatusCode::UNAUTHORIZED, String::new())
            }
            _ => (StatusCode::OK, r#"{"id":7}"#.to_owned()),
        };
        std::future::ready(Ok(HttpResponse { status, headers, body: body.into(), at: Timestamp::UNIX_EPOCH }))
    });
    let client = Client { id: "id".into(), secret: Some(Secret::new("secret")), ..Client::default() };
    (Authority::new(provider, Credentials::fixed(client), wire), seen)
}

/// A part of a proof.
fn read(headers: &HeaderMap, part: usize) -> serde_json::Value {
    let proof = headers[dpop::HEADER].to_str().unwrap().split('.').nth(part).unwrap().to_owned();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(proof).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

#[tokio::test]
async fn a_code_is_good_with_the_key_that_it_was_asked_for_with_and_the_token_is_shown_with_proof() {
    let (authority, seen) = binding("DPoP");
    let seed = Secret::new("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE");
    let (verifier, now) = (Secret::new("v"), Timestamp::now());
    let url = authority.bind("https://p.example/authorize?client_id=id".parse().unwrap(), &seed).unwrap();
    let asked = SigningKey::derived(&seed).unwrap();
    assert!(url.as_str().ends_with(&format!("&dpop_jkt={}", asked.thumbprint().unwrap())), "{url}");
    let answer = authority.exchange("c", "https://f.example/cb", &verifier, &seed, &Values::new(), now).await.unwrap();
    assert_eq!(authority.owner(&answer, now).await.unwrap().unwrap().id, "7");
    let seen = seen.lock().unwrap();
    assert_eq!(read(&seen[0].1, 0)["jwk"], asked.public_jwk().unwrap());
    assert_eq!(seen.len(), 3, "once more with the nonce");
    let (path, headers) = &seen[2];
    assert_eq!((path.as_str(), headers["authorization"].to_str().unwrap()), ("/me", "DPoP a"));
    let claims = read(headers, 1);
    assert_eq!((&claims["nonce"], &claims["htm"]), (&"n2".into(), &"GET".into()));
    assert!(claims["ath"].is_string());
}

#[tokio::test]
async fn a_refresh_token_stays_bound_where_the_access_token_is_an_ordinary_one() {
    let (authority, seen) = binding("Bearer");
    let seed = Secret::new("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE");
    let now = Timestamp::now();
    let answer = authority.exchange("c", "https://f.example/cb", &seed, &seed, &Values::new(), now).await.unwrap();
    assert_eq!(authority.owner(&answer, now).await.unwrap().unwrap().id, "7");
    let record = crate::token::Record::default().authorised(answer, now, None);
    authority.refresh(&Secret::new("r"), record.tokens.as_ref(), now).await.unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen[1].1["authorization"], "Bearer a");
    assert!(!seen[1].1.contains_key(dpop::HEADER));
    assert_eq!(read(&seen[0].1, 0)["jwk"], read(&seen[2].1, 0)["jwk"]);
}

/// The end of a token whose answer says `told`, at a server whose introspection answers so, or never.
async fn end_of(told: &'static str, introspection: Option<(u16, &'static str)>) -> (Option<Timestamp>, usize) {
    let text = "token_url = 'https://p.example/token'\nintrospect_url = 'https://p.example/introspect'";
    let provider = Provider::new("acme", Definition::read("acme.toml", text).unwrap(), Overrides::default()).unwrap();
    let calls = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let seen = Arc::clone(&calls);
    let wire = HttpClient::new(move |request: TokenRequest| {
        seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let asked = request.url().path() == "/introspect";
        assert!(!asked || request.body() == "token=a&token_type_hint=access_token", "{}", request.body());
        async move {
            let (status, body) = match introspection {
                None if asked => std::future::pending().await,
                Some(answer) if asked => answer,
                _ => (200, told),
            };
            let status = StatusCode::from_u16(status).unwrap();
            Ok(HttpResponse { status, headers: HeaderMap::new(), body: body.into(), at: Timestamp::UNIX_EPOCH })
        }
    });
    let client = Client { id: "id".into(), secret: Some(Secret::new("secret")), ..Client::default() };
    let authority = Authority::new(provider, Credentials::fixed(client), wire);
    let answer = authority.refresh(&Secret::new("r"), None, Timestamp::now()).await.unwrap();
    (answer.expires_at, calls.load(std::sync::atomic::Ordering::Relaxed))
}

#[tokio::test(start_paused = true)]
async fn f2_introspection_tells_the_end_of_a_token_and_loses_none() {
    let silent = r#"{"access_token":"a","refresh_token":"r2"}"#;
    let end = Timestamp::from_second(1_800_000_000).ok();
    assert_eq!(end_of(silent, Some((200, r#"{"active":true,"exp":1800000000}"#))).await, (end, 2));
    for nothing in [Some((500, "")), Some((401, r#"{"error":"invalid_client"}"#)), Some((200, "{}")), None] {
        assert_eq!(end_of(silent, nothing).await, (None, 2), "{nothing:?}");
    }
    let told = r#"{"access_token":"a","expires_in":60}"#;
    assert_eq!(end_of(told, None).await, (None, 1), "what is known is not asked for");
}

#[tokio::test(start_paused = true)]
async fn a_revocation_at_a_server_that_has_told_nothing_yet_has_failed_and_is_not_impossible() {
    let definition = Definition { issuer: Some("https://p.example".into()), ..Definition::default() };
    let provider = Provider::new("custom", definition, Overrides::default()).unwrap();
    let away = HttpClient::new(|_| std::future::ready(Err(SendError::NotSent)));
    let authority = Authority::new(provider, Credentials::fixed(Client::default()), away);
    let (token, kept) = (Secret::new("r"), Values::new());
    let revoked = tokio::select! {
        revoked = authority.revoke(&token, TokenKind::RefreshToken, &kept, Timestamp::now()) => revoked,
        () = authority.follow() => unreachable!("it tries on"),
    };
    assert_eq!(revoked.unwrap().unwrap_err().class(), FailureKind::NetworkNotSent);
}

#[tokio::test]
async fn h5_a_token_that_must_not_be_used_is_shown_to_no_other_endpoint() {
    let text = "token_url = 'https://p.example/token'\nsecond_url = 'https://p.example/long'\napi_url = '{home}'\n\
                userinfo_url = '/me'\nuserinfo_id = '/id'\n\
                variables.home = { from = 'answer', kind = 'origin', hosts = ['*.p.example'], default = 'https://a.p.example' }";
    let provider = Provider::new("acme", Definition::read("acme.toml", text).unwrap(), Overrides::default()).unwrap();
    for body in [
        r#"{"access_token":"a","refresh_token":"r","token_type":"mac"}"#,
        r#"{"access_token":"a","refresh_token":"r","home":"https://evil.example"}"#,
    ] {
        let calls = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&calls);
        let wire = HttpClient::new(move |request: TokenRequest| {
            seen.lock().unwrap().push(request.url().path().to_owned());
            let (status, headers, at) = (StatusCode::OK, HeaderMap::new(), Timestamp::UNIX_EPOCH);
            std::future::ready(Ok(HttpResponse { status, headers, body: body.into(), at }))
        });
        let client = Client { id: "id".into(), secret: Some(Secret::new("secret")), ..Client::default() };
        let authority = Authority::new(provider.clone(), Credentials::fixed(client), wire);
        let (secret, now) = (Secret::new("x"), Timestamp::now());
        let answer = authority.exchange("c", "r", &secret, &secret, &Values::new(), now).await.unwrap();
        assert!(answer.unfinished.is_some() && answer.refresh_token.is_some());
        assert_eq!(authority.owner(&answer, now).await.unwrap(), None);
        assert_eq!(*calls.lock().unwrap(), ["/token"], "{body}");
    }
}
