mod signatures;
mod tokens;

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
