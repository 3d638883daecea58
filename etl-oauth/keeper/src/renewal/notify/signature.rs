//! Signatures of notifications, as Standard Webhooks has them.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};

use crate::token::Secret;

/// The key of signed notifications ([Standard Webhooks](https://www.standardwebhooks.com)), which a receiver checks them with.
#[derive(Debug)]
pub struct WebhookKey(hmac::Key);

impl WebhookKey {
    /// Reads `whsec_` and base64 of 24 to 64 bytes; `None` for anything else.
    #[must_use]
    pub fn read(secret: &Secret) -> Option<Self> {
        let key = STANDARD.decode(secret.expose().trim().strip_prefix("whsec_")?).ok()?;
        (24..=64).contains(&key.len()).then(|| Self(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }

    /// The header `webhook-signature` of a message of that id, sent at that second.
    pub(super) fn sign(&self, id: &str, at: i64, body: &str) -> String {
        let tag = hmac::sign(&self.0, format!("{id}.{at}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(tag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_the_specifications_example() {
        let key = WebhookKey::read(&Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")).unwrap();
        let signature = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        for wrong in ["", "whsec_", "whsec_MfKQ9r8GKYqrTwjU", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!"] {
            assert!(WebhookKey::read(&Secret::new(wrong)).is_none(), "{wrong}");
        }
    }
}
