use std::{sync::LazyLock, time::Duration};

use etl_oauth::guard::{Call, Caller, Callers, InvokeAuth, SignedBody};
use http::{HeaderMap, HeaderValue, Method};
use jiff::Timestamp;
use token_keeper::secrets::Secrets;
use tokio::runtime::{Builder, Runtime};

const URL: &str = "https://example.com/foo";
const TOLERANCE: Duration = Duration::from_secs(300);

/// The vector that the libraries of Standard Webhooks share: a line each for the headers, then the body.
const WEBHOOK: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek\n1614265330\n\
    v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=\n{\"test\": 2432232314}";
const WEBHOOK_HEADERS: [&str; 3] = ["webhook-id", "webhook-timestamp", "webhook-signature"];
const WEBHOOK_AT: i64 = 1_614_265_330;

/// RFC 9421, B.2.6: what is signed, then the signature.
const MESSAGE: &str = "Tue, 20 Apr 2021 02:07:55 GMT\napplication/json\n18\n\
    sig-b26=(\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \"content-length\")\
    ;created=1618884473;keyid=\"test-key-ed25519\"\n\
    sig-b26=:wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==:\n";
const MESSAGE_HEADERS: [&str; 5] = ["date", "content-type", "content-length", "signature-input", "signature"];
const MESSAGE_AT: i64 = 1_618_884_473;

struct Stage {
    runtime: Runtime,
    webhooks: Callers,
    messages: Callers,
}

static STAGE: LazyLock<Stage> = LazyLock::new(|| {
    let callers = |auth: InvokeAuth, prefix: &str| {
        Callers::new(&auth, Secrets::new(crate::SECRETS, prefix), &URL.parse().unwrap()).unwrap()
    };
    Stage {
        runtime: Builder::new_current_thread().build().unwrap(),
        webhooks: callers(InvokeAuth::Hmac(TOLERANCE), "webhook-"),
        messages: callers(InvokeAuth::PublicKey(TOLERANCE), "message-"),
    }
});

/// A signed call: values of the headers, a line each, and the body. The first byte says which and whose: `w` a webhook and
/// `m` a signed message as they are, `x` and `y` changes to the genuine ones. Only the signer is taken for a caller.
pub fn signature(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    match kind {
        b'w' => assert!(rest == WEBHOOK.as_bytes() || !webhook(rest), "a webhook that was not signed"),
        b'm' => assert!(rest == MESSAGE.as_bytes() || !message(rest), "a message that was not signed"),
        b'x' => {
            let changed = crate::change(WEBHOOK.as_bytes(), rest);
            assert_eq!(webhook(&changed), changed == WEBHOOK.as_bytes());
        }
        b'y' => {
            let changed = crate::change(MESSAGE.as_bytes(), rest);
            let genuine = changed == MESSAGE.as_bytes();
            let signed = |bytes: &[u8]| bytes.split(|byte| *byte == b'\n').take(4).collect::<Vec<_>>().concat();
            // The same signature can be written in more than one way.
            let same = signed(&changed) == signed(MESSAGE.as_bytes());
            let taken = message(&changed);
            assert!(!genuine || taken, "the genuine one");
            assert!(!taken || same, "what was not signed");
        }
        _ => {}
    }
}

fn webhook(text: &[u8]) -> bool {
    judge(&STAGE.webhooks, &WEBHOOK_HEADERS, text, WEBHOOK_AT)
}

fn message(text: &[u8]) -> bool {
    judge(&STAGE.messages, &MESSAGE_HEADERS, text, MESSAGE_AT)
}

fn judge(callers: &Callers, names: &[&'static str], text: &[u8], at: i64) -> bool {
    let mut parts = text.splitn(names.len() + 1, |byte| *byte == b'\n');
    let mut headers = HeaderMap::new();
    for name in names {
        let Some(Ok(value)) = parts.next().map(HeaderValue::from_bytes) else { return false };
        headers.append(*name, value);
    }
    let body = parts.next().unwrap_or_default();
    let now = Timestamp::from_second(at).unwrap();
    let signed = if callers.needs_body(&headers, now).is_some() { body } else { b"" };
    let (method, uri) = (Method::POST, "/".parse().unwrap());
    let call = Call { method: &method, uri: &uri, headers: &headers, body: signed };
    let judged = STAGE.runtime.block_on(callers.judge(call, now));
    judged.once.iter().for_each(|once| callers.release(once));
    assert!(judged.caller != Caller::Proved || judged.body != SignedBody::Unsigned);
    judged.caller == Caller::Proved
}
