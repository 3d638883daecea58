//! Tokens of an issuer and of the gateway.

use super::*;

/// An issuer on a socket: metadata and keys; gives its address.
async fn issuer(jwks: Value) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let metadata = json!({ "issuer": url, "jwks_uri": format!("{url}/keys") });
    let router = axum::Router::new()
        .route("/.well-known/openid-configuration", axum::routing::get(|| async { axum::Json(metadata) }))
        .route("/keys", axum::routing::get(|| async { axum::Json(jwks) }));
    tokio::spawn(async { axum::serve(listener, router).await });
    url
}

/// A key pair for tokens, and its public half as a key set has it.
fn token_key() -> (EncodingKey, Value) {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
    let x = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(pair.public_key());
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": "one", "x": x });
    (EncodingKey::from_ed_der(pkcs8.as_ref()), jwk)
}

fn token(key: &EncodingKey, algorithm: Algorithm, kid: &str, claims: &Value) -> String {
    let header = Header { kid: Some(kid.to_owned()), ..Header::new(algorithm) };
    format!("Bearer {}", jsonwebtoken::encode(&header, claims, key).unwrap())
}

#[tokio::test]
async fn a_token_is_taken_of_the_issuer_for_the_audience_with_its_key_and_in_time() {
    let (key, jwk) = token_key();
    let (foreign, _) = token_key();
    let url = issuer(json!({ "keys": [jwk] })).await;
    let rules = JwtRules {
        issuer: url.clone(),
        audience: "me".into(),
        jwks_url: None,
        leeway: Duration::from_secs(60),
        claim: "etl_oauth".into(),
    };
    let scene = Scene::new(&InvokeAuth::Jwt(rules), "unused");
    let judge = async |value: &str| scene.judge("GET", "/", &[("authorization", value)], "", 1000).await;
    let good = json!({ "iss": url, "aud": ["other", "me"], "exp": 941 });
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        token(&key, Algorithm::EdDSA, "one", &claims)
    };
    assert_eq!(judge(&with("nbf", json!(1060))).await, Caller::Proved);
    assert_eq!(judge(&with("aud", json!("me"))).await, Caller::Proved);
    for wrong in [
        with("iss", json!("http://127.0.0.1:1")),
        with("iss", json!(null)),
        with("aud", json!("other")),
        with("aud", json!(null)),
        with("exp", json!(940)),
        with("exp", json!(null)),
        with("exp", json!("never")),
        with("nbf", json!(1061)),
        token(&foreign, Algorithm::EdDSA, "one", &good),
        token(&key, Algorithm::EdDSA, "two", &good),
        // A public key taken for a shared one.
        token(&EncodingKey::from_secret(jwk["x"].as_str().unwrap().as_bytes()), Algorithm::HS256, "one", &good),
        "Bearer a.b.c".into(),
        format!("Bearer {}", "a".repeat(100_000)),
    ] {
        assert!(is_wrong(judge(&wrong).await), "{wrong}");
    }
    // Nothing signed.
    let encode = |value: &Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string());
    let none = encode(&json!({ "alg": "none", "kid": "one" }));
    assert!(is_wrong(judge(&format!("Bearer {none}.{}.", encode(&good))).await));
    let whole = with("sub", json!("x"));
    assert!(is_wrong(judge(whole.rsplit_once('.').unwrap().0).await));
    assert_eq!(judge("Basic eDp5").await, Caller::Anonymous);
}

#[tokio::test]
async fn s15_keys_for_encryption_unknown_critical_headers_and_other_types_of_token_are_refused() {
    let (key, jwk) = token_key();
    let with = |name: &str, value: Value| {
        let mut jwk = jwk.clone();
        (jwk["kid"], jwk[name]) = (json!(format!("{name} {value}")), value);
        jwk
    };
    let keys = [
        jwk.clone(),
        with("use", json!("sig")),
        with("use", json!("enc")),
        with("use", json!("tls")),
        with("key_ops", json!(["verify"])),
        with("key_ops", json!(["encrypt", "wrapKey"])),
    ];
    let url = issuer(json!({ "keys": keys })).await;
    let rules = JwtRules {
        issuer: url.clone(),
        audience: "me".into(),
        jwks_url: None,
        leeway: Duration::from_secs(60),
        claim: "etl_oauth".into(),
    };
    let scene = Scene::new(&InvokeAuth::Jwt(rules), "unused");
    let claims = json!({ "iss": url, "aud": "me", "exp": 2000 });
    let judge = async |header: Header| {
        let value = format!("Bearer {}", jsonwebtoken::encode(&header, &claims, &key).unwrap());
        scene.judge("GET", "/", &[("authorization", &value)], "", 1000).await
    };
    let header = |kid: &str| Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::EdDSA) };
    for (kid, good) in [
        ("one", true),
        ("use \"sig\"", true),
        ("use \"enc\"", false),
        ("use \"tls\"", false),
        ("key_ops [\"verify\"]", true),
        ("key_ops [\"encrypt\",\"wrapKey\"]", false),
    ] {
        assert_eq!(judge(header(kid)).await == Caller::Proved, good, "{kid}");
    }
    for (typ, good) in [
        (None, true),
        (Some("JWT"), true),
        (Some("at+jwt"), true),
        (Some("application/at+JWT"), true),
        (Some("logout+jwt"), false),
        (Some("secevent+jwt"), false),
        (Some("dpop+jwt"), false),
        (Some(""), false),
    ] {
        let header = Header { typ: typ.map(str::to_owned), ..header("one") };
        assert_eq!(judge(header).await == Caller::Proved, good, "{typ:?}");
    }
    for crit in [vec![], vec!["exp".to_owned()], vec!["b64".to_owned()]] {
        assert!(is_wrong(judge(Header { crit: Some(crit), ..header("one") }).await));
    }
}

#[tokio::test]
async fn the_gateways_token_must_permit_this_function() {
    let (key, jwk) = token_key();
    let url = issuer(json!({ "keys": [jwk] })).await;
    let leeway = Duration::from_secs(1);
    let rules =
        IamRules { gateway_url: url.parse().unwrap(), function: "fn:job".into(), leeway, claim: "etl_oauth".into() };
    let scene = Scene::new(&InvokeAuth::OpenFaas(rules), "unused");
    let judge = async |function: Value| {
        let claims = json!({ "iss": url, "aud": url, "exp": 2000, "function": function });
        let value = token(&key, Algorithm::EdDSA, "one", &claims);
        scene.judge("GET", "/", &[("authorization", &value)], "", 1000).await
    };
    assert_eq!(judge(json!({ "permissions": ["dev:a", "fn:*"] })).await, Caller::Proved);
    assert_eq!(judge(json!({ "permissions": ["*"], "audience": ["fn:job"] })).await, Caller::Proved);
    for function in
        [json!({}), json!({ "permissions": ["fn:job2"] }), json!({ "permissions": ["*"], "audience": ["fn:other"] })]
    {
        assert_eq!(judge(function.clone()).await, Caller::Forbidden, "{function}");
    }
}

#[tokio::test]
async fn without_the_issuers_keys_nobody_is_called_wrong() {
    let (key, _) = token_key();
    let rules = JwtRules {
        issuer: "http://127.0.0.1:1".into(),
        audience: "me".into(),
        jwks_url: None,
        leeway: Duration::ZERO,
        claim: "etl_oauth".into(),
    };
    let scene = Scene::new(&InvokeAuth::Jwt(rules), "unused");
    let value = token(&key, Algorithm::EdDSA, "one", &json!({}));
    assert_eq!(scene.judge("GET", "/", &[("authorization", &value)], "", 0).await, Caller::Unavailable);
}
