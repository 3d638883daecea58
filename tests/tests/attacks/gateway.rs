//! What routers are tested for, behind the gateway: with its `X-Forwarded-For: ip:port`, its own headers and stripped paths.

use std::time::SystemTime;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use etl_oauth::guard::{CookieJar, Csrf, Key};
use token_keeper::token::Secret;

use super::{strangers::closed, *};

const WORD: &str = "a word that is long enough";

/// An API that answers with headers for the whole origin; behind a function that opens its proxy to callers.
async fn behind_the_proxy() -> (Stage, Rogue) {
    let loud = "cache-control: public, max-age=600\r\naccess-control-allow-origin: *\r\nclear-site-data: \"cookies\"\r\n\
                strict-transport-security: max-age=63072000\r\ncontent-security-policy: default-src *\r\n\
                set-cookie: etl-oauth-session=stolen; Path=/\r\nage: 7\r\nx-ratelimit-remaining: 7\r\ncontent-type";
    let api = Rogue::start(move |_| rogue::json("{\"success\":true}").replacen("content-type", loud, 1)).await;
    let stage = closed("secret", WORD, &[("proxy_allow", "GET /v2/*"), ("api_url", &api.url())]).await;
    assert_eq!(stage.authorise().await.status, 200);
    (stage, api)
}

#[tokio::test]
async fn s10_behind_the_gateway_no_header_that_steers_reaches_the_api() {
    let (stage, api) = behind_the_proxy().await;
    let steering = [
        "X_HTTP_Method_Override",
        "X_Original_URL",
        "X_Real_IP",
        "X_Forwarded_For",
        "X-HTTP-Method-Override",
        "X-Original-URL",
        "X-Real-IP",
        "Forwarded",
        "True-Client-IP",
        "X-Host",
    ];
    let mut request = raw().get(stage.url("/proxy/v2/sales")).header("x-api-key", WORD);
    for name in steering {
        request = request.header(name, "DELETE");
    }
    let answer =
        request.header("Stripe-Account", "acct_1").header("Notion-Version", "2022-06-28").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let seen = api.seen().pop().unwrap().to_lowercase();
    let names: Vec<&str> = seen.lines().skip(1).filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
    assert!(seen.starts_with("get /v2/sales "), "{seen}");
    assert!(names.contains(&"stripe-account") && names.contains(&"notion-version"), "{names:?}");
    for name in steering {
        assert!(!names.contains(&&*name.to_lowercase()), "{name}: {names:?}");
    }
    // What the gateway adds says where the caller is, and is not the API's affair.
    for name in ["x-forwarded-for", "x-forwarded-host", "x-call-id", "x-start-time", "x-api-key"] {
        assert!(!names.contains(&name), "{name}: {names:?}");
    }
    stage.stop().await;
}

#[tokio::test]
async fn s13_behind_the_gateway_an_answer_is_for_its_caller_alone() {
    let (stage, _api) = behind_the_proxy().await;
    let answer = raw().get(stage.url("/proxy/v2/sales")).header("x-api-key", WORD).send().await.unwrap();
    let headers = answer.headers();
    assert_eq!(answer.status(), 200);
    assert_eq!(headers.get_all("cache-control").iter().collect::<Vec<_>>(), ["private, no-store"]);
    for name in ["access-control-allow-origin", "clear-site-data", "strict-transport-security", "set-cookie", "age"] {
        assert!(!headers.contains_key(name), "{name}: {headers:?}");
    }
    // The function's own policy, not the API's.
    assert!(headers["content-security-policy"].to_str().unwrap().contains("default-src 'none'"), "{headers:?}");
    assert_eq!(headers["x-ratelimit-remaining"], "7", "what is of the API alone goes on");
    stage.stop().await;
}

#[tokio::test]
async fn s12_behind_the_gateway_no_seal_can_be_guessed_by_a_password() {
    // Without a client secret and seal keys, as a public client is deployed.
    let stack = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../stack.yaml")).unwrap();
    let open = stack.replace("      - oauth2-client-secret\n", "");
    assert_ne!(stack, open);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stack.yaml");
    std::fs::write(&file, open).unwrap();
    let prepare = |secrets: &Path| {
        std::fs::write(secrets.join("basic-auth-password"), "summer").unwrap();
        std::fs::write(secrets.join("etl-oauth-operator"), "winter").unwrap();
    };
    let stage = Stage::from(PROGRAM, Some(&file), &[("client_auth", "none")], prepare).await;
    let browser = stage.browser();
    browser.sign_in(&stage.url("")).await;
    let page = browser.open(&stage.url("/enable")).await;
    assert_eq!(page.status, 200, "{}", page.body);
    let token = page.body.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let cookie = page.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap();
    let url: Url = stage.url("").parse().unwrap();
    let headers = [(reqwest::header::COOKIE, cookie.parse().unwrap())].into_iter().collect();
    for guess in ["summer", "winter", "", &stage.secret("oauth2-client-id")] {
        for function in [stage.url(""), stage.url("/"), "etl-oauth".to_owned()] {
            let key = Key::derive(&Secret::new(guess), &function).unwrap();
            assert!(
                !Csrf::verify(&key, &CookieJar::new(&url), &headers, token),
                "{guess} opens what {function} sealed"
            );
        }
    }
    stage.stop().await;
}

#[tokio::test]
async fn s15_behind_the_gateway_tokens_for_something_else_open_nothing() {
    let key = Ed25519KeyPair::from_seed_unchecked(&[3; 32]).unwrap();
    let x = URL_SAFE_NO_PAD.encode(key.public_key());
    let keys = json!({ "keys": [
        { "kty": "OKP", "crv": "Ed25519", "kid": "sig", "x": x },
        { "kty": "OKP", "crv": "Ed25519", "kid": "enc", "use": "enc", "x": x },
        { "kty": "OKP", "crv": "Ed25519", "kid": "ops", "key_ops": ["encrypt"], "x": x },
    ] });
    let issuer = Rogue::start(move |_| rogue::json(&keys.to_string())).await;
    let jwks = format!("{}/keys", issuer.url());
    let variables =
        [("invoke_issuer", "https://issuer.example"), ("invoke_audience", "job"), ("invoke_jwks_url", &jwks)];
    let stage = closed("jwt", "unused", &variables).await;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({ "iss": "https://issuer.example", "aud": "job", "exp": now + 600, "sub": "reports" });
    let call = async |header: Value| {
        let [header, claims] = [&header, &claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes())));
        raw().post(stage.url("/?x=y")).bearer_auth(token).send().await.unwrap().status().as_u16()
    };
    // Behind the door: the function is not authorised yet.
    assert_eq!(call(json!({ "alg": "EdDSA", "kid": "sig" })).await, 409);
    assert_eq!(call(json!({ "alg": "EdDSA", "kid": "sig", "typ": "at+jwt" })).await, 409);
    for header in [
        json!({ "alg": "EdDSA", "kid": "enc" }),
        json!({ "alg": "EdDSA", "kid": "ops" }),
        json!({ "alg": "EdDSA", "kid": "sig", "crit": ["b64"] }),
        json!({ "alg": "EdDSA", "kid": "sig", "typ": "logout+jwt" }),
        json!({ "alg": "EdDSA", "kid": "sig", "typ": "dpop+jwt" }),
        json!({ "alg": "none", "kid": "sig" }),
    ] {
        assert_eq!(call(header.clone()).await, 401, "{header}");
    }
    stage.stop().await;
}
