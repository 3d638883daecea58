//! Private keys that sign JWTs (RFC 7515, RFC 7518).

use std::sync::Arc;

use aws_lc_rs::{
    agreement::{ECDH_P256, PrivateKey},
    digest,
    encoding::{AsDer, PublicKeyX509Der},
    hmac,
    rand::SystemRandom,
    rsa::KeyPair as RsaKeyPair,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
        RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RsaEncoding,
    },
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject};
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    provider::{KeyText, RsaAlgorithm},
    token::Secret,
};

/// A private key that signs JWTs (RFC 7515). The algorithm follows from the key: ES256, ES384 or EdDSA; an RSA key signs
/// RS256 unless [`SigningKey::with_algorithm`] says otherwise.
#[derive(Clone)]
pub struct SigningKey {
    pair: Arc<Pair>,
    rsa: RsaAlgorithm,
    id: Option<String>,
    owner: Option<String>,
}

enum Pair {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Hmac(Box<hmac::Key>),
}

/// Why a text is no key to sign with. Shows nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Neither PEM nor JSON with PEM in it.
    #[error(
        "is no private key: it must be PEM (-----BEGIN PRIVATE KEY-----), or a service account's JSON file with a private_key"
    )]
    NotAKey,
    /// PEM, and no key that signs.
    #[error(
        "is a private key of a kind that cannot sign here: RSA of 2048 bits or more, EC P-256, EC P-384 and Ed25519 can"
    )]
    OfNoUse,
    /// A secret for an HMAC in another writing than the definition says.
    #[error("is not written as assertion.hmac says")]
    NotWrittenSo,
    /// The system has no randomness.
    #[error("cannot be used to sign: the system has no randomness")]
    NoRandomness,
}

/// The part of a service account's JSON file that signing needs.
#[derive(Deserialize)]
struct ServiceAccount {
    private_key: Secret,
    private_key_id: Option<String>,
    client_email: Option<String>,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("algorithm", &self.algorithm()).field("id", &self.id).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// Reads PEM (PKCS#8, PKCS#1 or SEC1), or the JSON file that Google makes for a service account: its key, the key's id,
    /// and whose it is.
    ///
    /// # Errors
    /// [`KeyError`] completes a sentence that begins with the secret's name.
    pub fn read(text: &Secret) -> Result<Self, KeyError> {
        if let Some(b'{') = text.expose().as_bytes().first() {
            let account: ServiceAccount = serde_json::from_str(text.expose()).map_err(|_| KeyError::NotAKey)?;
            let pair = Pair::from_pem(&account.private_key)?;
            return Ok(Self {
                pair: Arc::new(pair),
                rsa: RsaAlgorithm::default(),
                id: account.private_key_id,
                owner: account.client_email,
            });
        }
        Ok(Self { pair: Arc::new(Pair::from_pem(text)?), rsa: RsaAlgorithm::default(), id: None, owner: None })
    }

    /// The secret as a key that signs by HMAC with SHA-256 (RFC 7518 §3.2).
    ///
    /// # Errors
    /// When it is not written so.
    pub fn from_secret(secret: &Secret, text: KeyText) -> Result<Self, KeyError> {
        let bytes = match text {
            KeyText::Text => secret.expose().as_bytes().to_vec(),
            KeyText::Hex => hex::decode(secret.expose()).map_err(|_| KeyError::NotWrittenSo)?,
            KeyText::Base64 => STANDARD.decode(secret.expose()).map_err(|_| KeyError::NotWrittenSo)?,
        };
        let key = hmac::Key::new(hmac::HMAC_SHA256, &Zeroizing::new(bytes));
        Ok(Self { pair: Arc::new(Pair::Hmac(Box::new(key))), rsa: RsaAlgorithm::default(), id: None, owner: None })
    }

    /// The SHA-256 digest of the public key's DER (SubjectPublicKeyInfo) in base64, for kinds that servers know by it.
    #[must_use]
    pub fn fingerprint(&self) -> Option<String> {
        let der: PublicKeyX509Der<'_> = match &*self.pair {
            Pair::Rsa(pair) => pair.public_key().as_der().ok()?,
            Pair::P256(pair) | Pair::P384(pair) => pair.public_key().as_der().ok()?,
            Pair::Ed25519(_) | Pair::Hmac(_) => return None,
        };
        Some(STANDARD.encode(digest::digest(&digest::SHA256, der.as_ref())))
    }

    /// A new P-256 key.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| KeyError::NoRandomness)?;
        Ok(Self { pair: Arc::new(Pair::P256(pair)), rsa: RsaAlgorithm::default(), id: None, owner: None })
    }

    /// The P-256 key that follows from a secret of 256 bits in base64url: the same one in every replica.
    ///
    /// # Errors
    /// When that is no such secret.
    pub fn derived(seed: &Secret) -> Result<Self, KeyError> {
        let scalar = Zeroizing::new(URL_SAFE_NO_PAD.decode(seed.expose()).map_err(|_| KeyError::NotAKey)?);
        let private = PrivateKey::from_private_key(&ECDH_P256, &scalar).map_err(|_| KeyError::OfNoUse)?;
        let public = private.compute_public_key().map_err(|_| KeyError::OfNoUse)?;
        let pair =
            EcdsaKeyPair::from_private_key_and_public_key(&ECDSA_P256_SHA256_FIXED_SIGNING, &scalar, public.as_ref());
        Ok(Self {
            pair: Arc::new(Pair::P256(pair.map_err(|_| KeyError::OfNoUse)?)),
            rsa: RsaAlgorithm::default(),
            id: None,
            owner: None,
        })
    }

    /// The same key under an id of one's own, as the provider lists it.
    #[must_use]
    pub fn with_id(self, id: Option<String>) -> Self {
        Self { id: id.or(self.id), ..self }
    }

    /// The same key that signs so, where it is an RSA key; another key signs in its one way.
    #[must_use]
    pub fn with_algorithm(&self, rsa: RsaAlgorithm) -> Self {
        Self { rsa, ..self.clone() }
    }

    /// Whose key it is, where the file says so: a service account's address.
    #[must_use]
    pub fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }

    /// The name of the algorithm (RFC 7518 §3.1, RFC 8037).
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match &*self.pair {
            Pair::Rsa(_) => self.rsa.name(),
            Pair::P256(_) => "ES256",
            Pair::P384(_) => "ES384",
            Pair::Ed25519(_) => "EdDSA",
            Pair::Hmac(_) => "HS256",
        }
    }

    /// A signed JWT of these claims; `header` adds to `alg` and `kid`.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn sign(&self, mut header: Value, claims: &Value) -> Result<Secret, KeyError> {
        header["alg"] = self.algorithm().into();
        if let Some(id) = &self.id {
            header["kid"] = id.as_str().into();
        }
        let encoded = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let mut token = format!("{}.{}", encoded(&header), encoded(claims));
        let signature = self.pair.sign(token.as_bytes(), self.rsa).ok_or(KeyError::NoRandomness)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(Secret::new(token))
    }

    /// The public half as a JWK (RFC 7517), for a P-256 key: the only kind that is sent along.
    #[must_use]
    pub fn public_jwk(&self) -> Option<Value> {
        let Pair::P256(pair) = &*self.pair else { return None };
        // SEC 1: 0x04, then the two coordinates.
        let (x, y) = pair.public_key().as_ref().get(1..)?.split_at_checked(32)?;
        Some(json!({"kty": "EC", "crv": "P-256", "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)}))
    }

    /// The public half's thumbprint (RFC 7638), for a key that has a [`SigningKey::public_jwk`].
    #[must_use]
    pub fn thumbprint(&self) -> Option<String> {
        // serde_json sorts the members, as §3.3 wants them.
        let jwk = self.public_jwk()?.to_string();
        Some(URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, jwk.as_bytes())))
    }

    /// The key itself, for the record it belongs to: PKCS#8 in base64url. `None` for keys that are not ours to store.
    #[must_use]
    pub fn to_text(&self) -> Option<Secret> {
        let Pair::P256(pair) = &*self.pair else { return None };
        Some(Secret::new(URL_SAFE_NO_PAD.encode(pair.to_pkcs8v1().ok()?.as_ref())))
    }

    /// Reads what [`SigningKey::to_text`] wrote.
    ///
    /// # Errors
    /// When it did not.
    pub fn from_text(text: &Secret) -> Result<Self, KeyError> {
        let der = URL_SAFE_NO_PAD.decode(text.expose()).map_err(|_| KeyError::NotAKey)?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der).map_err(|_| KeyError::OfNoUse)?;
        Ok(Self { pair: Arc::new(Pair::P256(pair)), rsa: RsaAlgorithm::default(), id: None, owner: None })
    }
}

/// 128 random bits in base64url: the id of a statement.
pub(super) fn random_text() -> Result<String, KeyError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| KeyError::NoRandomness)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

impl Pair {
    fn from_pem(pem: &Secret) -> Result<Self, KeyError> {
        let key = PrivateKeyDer::from_pem_slice(pem.expose().as_bytes()).map_err(|_| KeyError::NotAKey)?;
        let curves = [
            (&ECDSA_P256_SHA256_FIXED_SIGNING, Self::P256 as fn(EcdsaKeyPair) -> Self),
            (&ECDSA_P384_SHA384_FIXED_SIGNING, Self::P384),
        ];
        let ec = |der: &[u8]| {
            curves.iter().find_map(|(curve, pair)| EcdsaKeyPair::from_private_key_der(curve, der).ok().map(pair))
        };
        match &key {
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()).ok().map(Self::Rsa),
            PrivateKeyDer::Sec1(der) => ec(der.secret_sec1_der()),
            PrivateKeyDer::Pkcs8(der) => {
                let der = der.secret_pkcs8_der();
                let rsa = || RsaKeyPair::from_pkcs8(der).ok().map(Self::Rsa);
                rsa().or_else(|| ec(der)).or_else(|| Ed25519KeyPair::from_pkcs8(der).ok().map(Self::Ed25519))
            }
            _ => None,
        }
        .ok_or(KeyError::OfNoUse)
    }

    fn sign(&self, message: &[u8], rsa: RsaAlgorithm) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let encoding: &'static dyn RsaEncoding = match rsa {
                    RsaAlgorithm::Rs256 => &RSA_PKCS1_SHA256,
                    RsaAlgorithm::Rs384 => &RSA_PKCS1_SHA384,
                    RsaAlgorithm::Rs512 => &RSA_PKCS1_SHA512,
                    RsaAlgorithm::Ps256 => &RSA_PSS_SHA256,
                };
                pair.sign(encoding, &random, message, &mut signature).ok()?;
                Some(signature)
            }
            Self::P256(pair) | Self::P384(pair) => Some(pair.sign(&random, message).ok()?.as_ref().to_vec()),
            Self::Ed25519(pair) => Some(pair.sign(message).as_ref().to_vec()),
            Self::Hmac(key) => Some(hmac::sign(key, message).as_ref().to_vec()),
        }
    }
}

#[cfg(test)]
mod tests;
