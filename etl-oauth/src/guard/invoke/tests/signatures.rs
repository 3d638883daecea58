//! HTTP message signatures (RFC 9421).

use super::*;

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
