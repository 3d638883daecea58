//! Public keys of callers, as PEM.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA512,
    VerificationAlgorithm,
};
use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Identity, identity::line};
use token_keeper::token::Secret;

const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const END: &str = "-----END PUBLIC KEY-----";

/// The supported algorithms of RFC 9421 §3.3. None has a shared secret: with that, the verifier could sign as well.
const ALGORITHMS: [(&str, &dyn VerificationAlgorithm); 4] = [
    ("ed25519", &ED25519),
    ("rsa-pss-sha512", &RSA_PSS_2048_8192_SHA512),
    ("rsa-v1_5-sha256", &RSA_PKCS1_2048_8192_SHA256),
    ("ecdsa-p256-sha256", &ECDSA_P256_SHA256_FIXED),
];

/// A public key, under each algorithm that it is good for.
#[derive(Debug)]
pub(super) struct Key {
    id: Option<String>,
    caller: Identity,
    by_algorithm: Vec<(&'static str, ParsedPublicKey)>,
}

impl Key {
    /// Whether this key made the signature: under the algorithm that is named, or under any of its own. Each try takes one
    /// from `left`; without any left the answer is no.
    pub(super) fn verifies(&self, algorithm: Option<&str>, message: &[u8], signature: &[u8], left: &mut usize) -> bool {
        self.by_algorithm.iter().filter(|(name, _)| algorithm.is_none_or(|algorithm| algorithm == *name)).any(
            |(_, key)| {
                let Some(rest) = left.checked_sub(1) else { return false };
                *left = rest;
                key.verify_sig(message, signature).is_ok()
            },
        )
    }

    /// Whose it is.
    pub(super) fn caller(&self) -> &Identity {
        &self.caller
    }

    /// Whether it may have made a signature that names its key so; a key without a name may have made any.
    pub(super) fn is(&self, id: Option<&str>) -> bool {
        self.id.is_none() || self.id.as_deref() == id
    }
}

/// The line above a block: the key id, and whose key it is. A caller without a name has the key id for one.
fn named(above: &str) -> Option<(Option<String>, Identity)> {
    let (id, caller) = line(above)?;
    let caller = if above.contains(" name=") { caller } else { Identity::new(id, caller.rights().clone()) };
    Some((Some(id.to_owned()), caller))
}

/// How many keys may have no name: each of them is tried for every call.
const NAMELESS: usize = 2;

/// The keys of a secret: PEM blocks, each under the line above it, which is its `keyid`, or under none. `None` where there is
/// no key, a block that is none, or more than two keys without a name.
pub(super) fn read(secret: &Secret) -> Option<Vec<Key>> {
    let mut keys = Vec::new();
    let mut rest = secret.expose();
    while let Some((before, after)) = rest.split_once(BEGIN) {
        let (block, next) = after.split_once(END)?;
        let text: String = block.split_whitespace().collect();
        let (id, caller) = match before.lines().map(str::trim).rfind(|line| !line.is_empty()) {
            Some(above) => named(above)?,
            None => (None, Identity::of_key(&text)),
        };
        let der = STANDARD.decode(text).ok()?;
        let parsed = ALGORITHMS.into_iter().filter_map(|(name, algorithm)| {
            ParsedPublicKey::new(algorithm, der.as_slice()).ok().map(|key| (name, key))
        });
        let by_algorithm: Vec<_> = parsed.collect();
        if by_algorithm.is_empty() {
            return None;
        }
        keys.push(Key { id, caller, by_algorithm });
        rest = next;
    }
    let nameless = keys.iter().filter(|key: &&Key| key.id.is_none()).count();
    (!keys.is_empty() && nameless <= NAMELESS).then_some(keys)
}
