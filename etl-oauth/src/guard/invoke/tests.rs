use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::STANDARD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::*;

/// Callers by a rule, with the secret that they go by.
struct Scene {
    callers: Callers,
    _folder: tempfile::TempDir,
}

const URL: &str = "https://example.com/foo";

impl Scene {
    fn new(auth: &InvokeAuth, secret: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(SECRET), secret).unwrap();
        let secrets = Secrets::new(folder.path(), "");
        assert_eq!(auth.mistake(&secrets), None);
        Self { callers: Callers::new(auth, secrets, &URL.parse().unwrap()).unwrap(), _folder: folder }
    }

    async fn judge(&self, method: &str, uri: &str, headers: &[(&str, &str)], body: &str, now: i64) -> Caller {
        let headers = headers
            .iter()
            .map(|(name, value)| (http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap()))
            .collect();
        let (method, uri) = (method.parse().unwrap(), uri.parse().unwrap());
        let now = Timestamp::from_second(now).unwrap();
        let first = if self.callers.needs_body(&headers, now).is_some() { body } else { "" };
        let call = Call { method: &method, uri: &uri, headers: &headers, body: first.as_bytes() };
        let judged = self.callers.judge(call, now).await;
        let fits = match judged.body {
            SignedBody::Unsigned | SignedBody::Whole => true,
            SignedBody::Digest => digest_fits(&headers, body.as_bytes()),
            SignedBody::Empty => body.is_empty(),
        };
        if fits {
            return judged.caller;
        }
        judged.once.iter().for_each(|once| self.callers.release(once));
        Caller::Wrong("the body is another")
    }
}

fn is_wrong(caller: Caller) -> bool {
    matches!(caller, Caller::Wrong(_))
}

#[tokio::test]
async fn a_word_is_taken_as_bearer_or_api_key_and_two_of_them_while_one_replaces_the_other() {
    let scene = Scene::new(&InvokeAuth::Secret, "old\nnew\n\n");
    for (name, value) in [("authorization", "Bearer old"), ("authorization", "bearer new"), ("x-api-key", "new")] {
        assert_eq!(scene.judge("GET", "/", &[(name, value)], "", 0).await, Caller::Proved, "{value}");
    }
    for (name, value) in [("authorization", "Bearer "), ("authorization", "Bearer old\tnew"), ("x-api-key", "ne")] {
        assert!(is_wrong(scene.judge("GET", "/", &[(name, value)], "", 0).await), "{value}");
    }
    for headers in [&[][..], &[("authorization", "Basic b2xk")], &[("x-api-key", "new"), ("x-api-key", "new")]] {
        assert_eq!(scene.judge("GET", "/", headers, "", 0).await, Caller::Anonymous, "{headers:?}");
    }
    let mut refused = 0;
    for _ in 0..30 {
        refused += u32::from(scene.judge("GET", "/", &[("x-api-key", "no")], "", 0).await == Caller::Throttled(2));
    }
    assert!(refused > 0, "wrong ones are slowed down");
}

// The vector that the libraries of Standard Webhooks share.
const WEBHOOK_KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const WEBHOOK_AT: i64 = 1_614_265_330;
const WEBHOOK_BODY: &str = r#"{"test": 2432232314}"#;
const WEBHOOK: [(&str, &str); 3] = [
    ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
    ("webhook-timestamp", "1614265330"),
    ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
];

fn hmac() -> InvokeAuth {
    InvokeAuth::Hmac(Duration::from_secs(300))
}

#[tokio::test]
async fn a_webhook_is_taken_once_and_within_five_minutes() {
    let scene = Scene::new(&hmac(), WEBHOOK_KEY);
    let judge = async |now| scene.judge("POST", "/", &WEBHOOK, WEBHOOK_BODY, now).await;
    assert!(is_wrong(judge(WEBHOOK_AT + 301).await) && is_wrong(judge(WEBHOOK_AT - 301).await));
    assert_eq!(judge(WEBHOOK_AT + 300).await, Caller::Proved);
    assert_eq!(judge(WEBHOOK_AT + 300).await, Caller::Duplicate(Progress::UnderWay));
    scene.callers.release("webhook msg_p5jXN8AQM9LWM0D4loKWxJek");
    assert_eq!(judge(WEBHOOK_AT).await, Caller::Proved, "what was not done may come again");
    scene.callers.done("webhook msg_p5jXN8AQM9LWM0D4loKWxJek");
    assert_eq!(judge(WEBHOOK_AT).await, Caller::Duplicate(Progress::Done), "what was done is done");
}

#[tokio::test]
async fn a_webhook_with_anything_else_in_it_is_wrong() {
    let scene = Scene::new(&hmac(), WEBHOOK_KEY);
    let [id, at, signature] = WEBHOOK;
    let other = ("webhook-signature", "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=");
    let both = format!("v1a,xyz {} {}", other.1, signature.1);
    for (headers, body) in [
        (vec![id, at, signature], "{}"),
        (vec![("webhook-id", "msg_2"), at, signature], WEBHOOK_BODY),
        (vec![id, ("webhook-timestamp", "1614265331"), signature], WEBHOOK_BODY),
        (vec![id, ("webhook-timestamp", "soon"), signature], WEBHOOK_BODY),
        (vec![id, ("webhook-timestamp", "99999999999999999999"), signature], WEBHOOK_BODY),
        (vec![id, at, other], WEBHOOK_BODY),
        (vec![id, at, ("webhook-signature", &signature.1[3..])], WEBHOOK_BODY),
        (vec![id, at, ("webhook-signature", "v1,")], WEBHOOK_BODY),
        (vec![id, at], WEBHOOK_BODY),
        (vec![id, at, signature, signature], WEBHOOK_BODY),
        (vec![("webhook-id", ""), at, signature], WEBHOOK_BODY),
        (vec![("webhook-id", "msg.1"), at, signature], WEBHOOK_BODY),
    ] {
        assert!(is_wrong(scene.judge("POST", "/", &headers, body, WEBHOOK_AT).await), "{headers:?} {body}");
    }
    assert_eq!(scene.judge("POST", "/", &[], WEBHOOK_BODY, WEBHOOK_AT).await, Caller::Anonymous);
    let rotated = [id, at, ("webhook-signature", &*both)];
    assert_eq!(scene.judge("POST", "/", &rotated, WEBHOOK_BODY, WEBHOOK_AT).await, Caller::Proved);
}

#[test]
fn a_secret_that_no_caller_could_use_is_a_mistake_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = Secrets::new(folder.path(), "");
    let public_key = InvokeAuth::PublicKey(Duration::from_secs(300));
    for auth in [&InvokeAuth::Secret, &hmac(), &public_key] {
        assert!(auth.mistake(&secrets).unwrap().contains("secret etl-oauth-invoke is missing"));
    }
    std::fs::write(folder.path().join(SECRET), "whsec_c2hvcnQ=").unwrap();
    assert!(InvokeAuth::Secret.mistake(&secrets).is_none());
    for auth in [&hmac(), &public_key] {
        let mistake = auth.mistake(&secrets).unwrap();
        assert!(mistake.contains("secret etl-oauth-invoke holds no") && !mistake.contains("c2hv"), "{mistake}");
    }
}

// RFC 9421, B.1.4, B.1.2, and the request of B.2.
const ED25519: &str = "test-key-ed25519
-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=
-----END PUBLIC KEY-----
";
const RSA_PSS: &str = "test-key-rsa-pss
-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAr4tmm3r20Wd/PbqvP1s2
+QEtvpuRaV8Yq40gjUR8y2Rjxa6dpG2GXHbPfvMs8ct+Lh1GH45x28Rw3Ry53mm+
oAXjyQ86OnDkZ5N8lYbggD4O3w6M6pAvLkhk95AndTrifbIFPNU8PPMO7OyrFAHq
gDsznjPFmTOtCEcN2Z1FpWgchwuYLPL+Wokqltd11nqqzi+bJ9cvSKADYdUAAN5W
Utzdpiy6LbTgSxP7ociU4Tn0g5I6aDZJ7A8Lzo0KSyZYoA485mqcO0GVAdVw9lq4
aOT9v6d+nb4bnNkQVklLQ3fVAvJm+xdDOp9LCNCN48V2pnDOkFV6+U9nV5oyc6XI
2wIDAQAB
-----END PUBLIC KEY-----
";
const SIGNED_AT: i64 = 1_618_884_473;
const BODY: &str = r#"{"hello": "world"}"#;
const URI: &str = "/?param=Value&Pet=dog";
const REQUEST: [(&str, &str); 4] = [
    ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
    ("content-type", "application/json"),
    (
        "content-digest",
        "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:",
    ),
    ("content-length", "18"),
];
// B.2.3
const FULL: [(&str, &str); 2] = [
    (
        "signature-input",
        "sig-b23=(\"date\" \"@method\" \"@path\" \"@query\" \"@authority\" \"content-type\" \"content-digest\" \
         \"content-length\");created=1618884473;keyid=\"test-key-rsa-pss\"",
    ),
    (
        "signature",
        "sig-b23=:bbN8oArOxYoyylQQUU6QYwrTuaxLwjAC9fbY2F6SVWvh0yBiMIRGOnMYwZ/5MR6fb0Kh1rIRASVxFkeGt683+qRpRRU5p2voTp768Z\
         rCUb38K0fUxN0O0iC59DzYx8DFll5GmydPxSmme9v6ULbMFkl+V5B1TP/yPViV7KsLNmvKiLJH1pFkh/aYA2HXXZzNBXmIkoQoLd7YfW91kE9o/\
         CCoC1xMy7JA1ipwvKvfrs65ldmlu9bpG6A9BmzhuzF8Eim5f8ui9eH8LZH896+QIF61ka39VBrohr9iyMUJpvRX2Zbhl5ZJzSRxpJyoEZAFL2FU\
         o5fTIztsDZKEgM4cUA==:",
    ),
];
// B.2.6
const SHORT: [(&str, &str); 2] = [
    (
        "signature-input",
        "sig-b26=(\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \"content-length\");created=1618884473;\
         keyid=\"test-key-ed25519\"",
    ),
    ("signature", "sig-b26=:wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==:"),
];

fn signatures(keys: &str) -> Scene {
    Scene::new(&InvokeAuth::PublicKey(Duration::from_secs(300)), keys)
}

#[tokio::test]
async fn the_signed_requests_of_rfc_9421_are_taken_once_in_time_and_unchanged() {
    let scene = signatures(&format!("{ED25519}\n{RSA_PSS}"));
    let full = [&REQUEST[..], &FULL].concat();
    assert!(is_wrong(scene.judge("POST", URI, &full, BODY, SIGNED_AT + 301).await));
    assert!(is_wrong(scene.judge("POST", URI, &full, BODY, SIGNED_AT - 301).await));
    assert!(is_wrong(scene.judge("PUT", URI, &full, BODY, SIGNED_AT).await));
    assert!(is_wrong(scene.judge("POST", "/?param=Value&Pet=cat", &full, BODY, SIGNED_AT).await));
    assert!(is_wrong(scene.judge("POST", "/other?param=Value&Pet=dog", &full, BODY, SIGNED_AT).await));
    assert!(is_wrong(scene.judge("POST", URI, &full, "{}", SIGNED_AT).await), "the digest is not the body's");
    assert_eq!(scene.judge("POST", URI, &full, BODY, SIGNED_AT + 300).await, Caller::Proved);
    assert_eq!(scene.judge("POST", URI, &full, BODY, SIGNED_AT).await, Caller::Duplicate(Progress::UnderWay));

    // The other example leaves the digest out: good for a call without a body.
    let short = [&REQUEST[..], &SHORT].concat();
    assert!(is_wrong(scene.judge("POST", URI, &short, BODY, SIGNED_AT).await));
    assert!(is_wrong(scene.judge("POST", URI, &short, "", SIGNED_AT).await), "nor does it cover a query");
    assert!(is_wrong(scene.judge("POST", "/", &short, BODY, SIGNED_AT).await));
    assert_eq!(scene.judge("POST", "/", &short, "", SIGNED_AT).await, Caller::Proved);
    let other = signatures(RSA_PSS);
    assert!(is_wrong(other.judge("POST", "/", &short, "", SIGNED_AT).await), "another one's key");
    assert_eq!(other.judge("POST", URI, &REQUEST, BODY, SIGNED_AT).await, Caller::Anonymous);
}

/// A caller with a key of its own: signs what it is told to.
fn sign(key: &Ed25519KeyPair, input: &str, lines: &str) -> [(&'static str, String); 2] {
    let base = format!("{lines}\"@signature-params\": {input}");
    let signature = STANDARD.encode(key.sign(base.as_bytes()));
    [("signature-input", format!("s={input}")), ("signature", format!("s=:{signature}:"))]
}

#[tokio::test]
async fn a_signature_must_cover_the_call_and_name_its_time() {
    let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let der = [&[0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0][..], key.public_key().as_ref()].concat();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der));
    let scene = signatures(&pem);
    let judge = async |input: &str, lines: &str| {
        let headers = sign(&key, input, lines);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, &**value)).collect();
        scene.judge("GET", "/", &headers, "", 1000).await
    };
    let call = "\"@method\": GET\n\"@authority\": example.com\n\"@path\": /foo\n";
    assert_eq!(judge("(\"@method\" \"@authority\" \"@path\");created=1000", call).await, Caller::Proved);
    assert_eq!(
        judge("(\"@method\" \"@authority\" \"@path\");created=1001;nonce=\"a\";alg=\"ed25519\"", call).await,
        Caller::Proved
    );
    let again = judge("(\"@method\" \"@authority\" \"@path\");created=1002;nonce=\"a\"", call).await;
    assert_eq!(again, Caller::Duplicate(Progress::UnderWay), "a nonce is good once");
    let slash = "\"@method\": GET\n\"@target-uri\": https://example.com/foo/\n";
    assert_eq!(judge("(\"@method\" \"@target-uri\");created=1000;expires=1001", slash).await, Caller::Proved);
    for (input, lines) in [
        ("(\"@method\" \"@authority\" \"@path\")", call),
        ("(\"@method\" \"@authority\" \"@path\");created=1000;expires=1000", call),
        ("(\"@method\" \"@authority\" \"@path\");created=\"1000\"", call),
        ("(\"@method\" \"@authority\" \"@path\");created=1000;alg=\"hmac-sha256\"", call),
        ("(\"@method\" \"@authority\" \"@path\");created=1000;alg=\"rsa-v1_5-sha256\"", call),
        ("(\"@method\" \"@authority\" \"@path\");created=1000;keyid=x", call),
        ("(\"@method\");created=1000", "\"@method\": GET\n"),
        ("(\"@path\");created=1000", "\"@path\": /foo\n"),
        ("();created=1000", ""),
        ("(\"@method\" \"@path\");created=1000", "\"@method\": GET\n\"@path\": /foo\n"),
        (
            "(\"@method\" \"@authority\" \"@path\" \"@path\");created=1000",
            "\"@method\": GET\n\"@authority\": example.com\n\"@path\": /foo\n\"@path\": /foo\n",
        ),
        (
            "(\"@method\" \"@authority\" \"@path\";req);created=1000",
            "\"@method\": GET\n\"@authority\": example.com\n\"@path\";req: /foo\n",
        ),
        (
            "(\"@method\" \"@authority\" \"@path\" \"x-not-there\");created=1000",
            "\"@method\": GET\n\"@authority\": example.com\n\"@path\": /foo\n\"x-not-there\": \n",
        ),
    ] {
        assert!(is_wrong(judge(input, lines).await), "{input}");
    }
}

#[tokio::test]
async fn s11_a_signature_covers_query_host_and_the_headers_that_name_an_account() {
    let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let der = [&[0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0][..], key.public_key().as_ref()].concat();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der));
    let scene = signatures(&pem);
    let nonce = std::sync::atomic::AtomicU32::new(0);
    let judge = async |uri: &str, more: &[(&'static str, &str)], names: &str, lines: &str| {
        let nonce = nonce.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let signed = sign(&key, &format!("({names});created=1000;nonce=\"{nonce}\""), lines);
        let mut headers: Vec<_> = signed.iter().map(|(name, value)| (*name, &**value)).collect();
        headers.extend(more);
        scene.judge("GET", uri, &headers, "", 1000).await
    };
    let names = "\"@method\" \"@authority\" \"@path\"";
    let lines = "\"@method\": GET\n\"@authority\": example.com\n\"@path\": /foo/\n";
    assert_eq!(judge("/", &[], names, lines).await, Caller::Proved);
    assert!(is_wrong(judge("/?account=bob", &[], names, lines).await), "a query that is not signed");
    let (with_query, query) = (format!("{names} \"@query\""), format!("{lines}\"@query\": ?account=bob\n"));
    assert_eq!(judge("/?account=bob", &[], &with_query, &query).await, Caller::Proved);
    assert!(is_wrong(judge("/?account=eve", &[], &with_query, &query).await));
    for name in ["x-etl-oauth-account", "x-etl-oauth-connection"] {
        assert!(is_wrong(judge("/", &[(name, "bob")], names, lines).await), "{name} is not signed");
        let (names, lines) = (format!("{names} \"{name}\""), format!("{lines}\"{name}\": bob\n"));
        assert_eq!(judge("/", &[(name, "bob")], &names, &lines).await, Caller::Proved);
        assert!(is_wrong(judge("/", &[(name, "eve")], &names, &lines).await));
    }
    let without_host = "\"@method\": GET\n\"@path\": /foo/\n";
    assert!(is_wrong(judge("/", &[], "\"@method\" \"@path\"", without_host).await), "no host is signed");
    let foreign = lines.replace("example.com", "evil.example");
    assert!(is_wrong(judge("/", &[], names, &foreign).await), "the host is another");
}

#[tokio::test]
async fn s1_no_header_makes_an_unproved_call_expensive() {
    let body = "x".repeat(64 << 10);
    let scene = Scene::new(&hmac(), WEBHOOK_KEY);
    let entries = "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4= ".repeat(1300);
    let headers = [WEBHOOK[0], WEBHOOK[1], ("webhook-signature", entries.trim())];
    let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let der = [&[0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0][..], key.public_key().as_ref()].concat();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der));
    let signed = signatures(&pem);
    let many: String = (0..20_000).map(|index| format!(" \"x-{index}\"")).collect();
    let many = sign(&key, &format!("(\"@method\" \"@target-uri\"{many});created=1000"), "");
    let many: Vec<_> = many.iter().map(|(name, value)| (*name, &**value)).collect();
    let started = std::time::Instant::now();
    for _ in 0..20 {
        assert!(is_wrong(scene.judge("POST", "/", &headers, &body, WEBHOOK_AT).await));
        assert!(is_wrong(signed.judge("GET", "/", &many, "", 1000).await));
    }
    // An HMAC an entry took 14 s for 20 of the like; a debug build on a busy machine is given 100 ms each.
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    // The entry that fits is among the first ones or not looked for.
    let late = format!("{}{}", "v1,xyz ".repeat(16), WEBHOOK[2].1);
    let headers = [WEBHOOK[0], WEBHOOK[1], ("webhook-signature", &late)];
    assert!(is_wrong(scene.judge("POST", "/", &headers, WEBHOOK_BODY, WEBHOOK_AT).await));
    // Without plausible headers no body is read.
    for headers in [&WEBHOOK[..2], &WEBHOOK[1..], &[WEBHOOK[0], WEBHOOK[1], ("webhook-signature", "v2,x")]] {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        assert_eq!(scene.callers.needs_body(&headers, Timestamp::from_second(WEBHOOK_AT).unwrap()), None);
    }
}

#[test]
fn s1_more_keys_than_can_be_tried_in_a_millisecond_are_a_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = Secrets::new(folder.path(), "");
    let write = |text: String| std::fs::write(folder.path().join(SECRET), text).unwrap();
    write(format!("{WEBHOOK_KEY}\n").repeat(8));
    assert_eq!(hmac().mistake(&secrets), None);
    write(format!("{WEBHOOK_KEY}\n").repeat(9));
    assert!(hmac().mistake(&secrets).unwrap().contains("one to eight lines"));
    let (_, nameless) = ED25519.split_once('\n').unwrap();
    let public_key = InvokeAuth::PublicKey(Duration::from_secs(300));
    write(nameless.repeat(2));
    assert_eq!(public_key.mistake(&secrets), None);
    write(nameless.repeat(3));
    assert!(public_key.mistake(&secrets).unwrap().contains("without a key id"));
    write(ED25519.repeat(20));
    assert_eq!(public_key.mistake(&secrets), None);
}

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
