//! JSON web tokens, and the keys of their issuer.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use http::HeaderMap;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header,
    jwk::{AlgorithmParameters, CommonParameters, JwkSet, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;
use tokio::sync::{Mutex, Semaphore};
use url::Url;

use super::{Caller, IamRules, Identity, JwtRules, bearer, claims::Claims, signed};
use token_keeper::provider::checked_url;

/// Only with these a key that everybody may see is of no use for making tokens; `none` is not even known here.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::EdDSA,
];
/// An unknown key id causes another look-up, but no more often than this, because a stranger can make up key ids.
const AGAIN: SignedDuration = SignedDuration::from_secs(30);
/// The same while there are none at all.
const AGAIN_WITHOUT: SignedDuration = SignedDuration::from_secs(1);
/// Keys are looked up anew after this, so that one that its issuer took back does not stay good.
const STALE: SignedDuration = SignedDuration::from_hours(1);
const TIMEOUT: Duration = Duration::from_secs(5);
/// How many calls may wait for the keys while the issuer is slow. A stranger can make such a call. Further calls are
/// judged by the known keys.
const WAITING: usize = 16;
/// A key set is a few kilobytes, and so is a token.
const DOCUMENT_LIMIT: usize = 1 << 20;
const TOKEN_LIMIT: usize = 16 << 10;

/// Judges by tokens.
#[derive(Debug)]
pub(super) struct Jwt {
    rules: Rules,
    leeway: SignedDuration,
    /// The claim that holds a caller's rights.
    claim: String,
    client: reqwest::Client,
    keys: RwLock<Arc<Keys>>,
    /// When the keys were looked up last.
    looked_up: Mutex<Option<Timestamp>>,
    /// Places for calls that wait for that.
    waiting: Semaphore,
}

#[derive(Debug)]
enum Rules {
    Issuer { issuer: String, audience: String, jwks_url: Option<Url> },
    Gateway { metadata: Url, function: String },
}

#[derive(Default)]
struct Keys {
    /// As the metadata name it.
    issuer: String,
    all: Vec<Key>,
    read_at: Option<Timestamp>,
}

struct Key {
    id: Option<String>,
    key: DecodingKey,
    algorithm: Option<Algorithm>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("issuer", &self.issuer).field("count", &self.all.len()).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: Url,
}

impl Jwt {
    /// By the tokens of an issuer, whose metadata tell where its keys are unless that is configured.
    pub(super) fn of_issuer(rules: &JwtRules) -> Result<Self, reqwest::Error> {
        let JwtRules { issuer, audience, jwks_url, leeway, claim } = rules.clone();
        Self::new(Rules::Issuer { issuer, audience, jwks_url }, leeway, claim)
    }

    /// By the tokens that the gateway's IAM gives for a function.
    pub(super) fn of_gateway(rules: &IamRules) -> Result<Self, reqwest::Error> {
        let metadata = metadata_url(rules.gateway_url.as_str());
        let metadata = metadata.unwrap_or_else(|| rules.gateway_url.clone());
        Self::new(Rules::Gateway { metadata, function: rules.function.clone() }, rules.leeway, rules.claim.clone())
    }

    fn new(rules: Rules, leeway: Duration, claim: String) -> Result<Self, reqwest::Error> {
        let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(TIMEOUT);
        let (keys, looked_up) = (RwLock::default(), Mutex::default());
        Ok(Self {
            rules,
            leeway: signed(leeway),
            claim,
            client: builder.build()?,
            keys,
            looked_up,
            waiting: Semaphore::new(WAITING),
        })
    }

    pub(super) async fn judge(&self, headers: &HeaderMap, now: Timestamp) -> Result<Identity, Caller> {
        let token = bearer(headers).ok_or(Caller::Anonymous)?;
        if token.len() > TOKEN_LIMIT {
            return Err(Caller::Wrong("the token is too long"));
        }
        let header =
            decode_header(token).map_err(|_| Caller::Wrong("this is no token, or one of an unknown algorithm"))?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(Caller::Wrong("the token's algorithm is not allowed"));
        }
        // Nothing that a token can call critical is known here (RFC 7515 §4.1.11).
        if header.crit.is_some() {
            return Err(Caller::Wrong("the token has a header `crit`, none of which is known"));
        }
        if !header.typ.as_deref().is_none_or(is_access_token) {
            return Err(Caller::Wrong("the token's `typ` says that it is no access token"));
        }
        let keys = self.keys(header.kid.as_deref(), now).await;
        if keys.all.is_empty() {
            return Err(Caller::Unavailable);
        }
        let unknown = Caller::Wrong("the token names a key that the issuer does not have");
        let key = keys.find(header.kid.as_deref()).ok_or(unknown)?;
        if key.algorithm.is_some_and(|algorithm| algorithm != header.alg) {
            return Err(Caller::Wrong("the token's algorithm is not its key's"));
        }
        // Times, issuer and audience are checked below, by a clock that is handed in.
        let mut validation = Validation::new(header.alg);
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let claims = decode::<Claims>(token, &key.key, &validation);
        let claims = claims.map_err(|_| Caller::Wrong("the token's signature does not fit"))?.claims;
        match &self.rules {
            Rules::Issuer { issuer, audience, .. } => claims.check(issuer, audience, self.leeway, now)?,
            Rules::Gateway { function, .. } => {
                claims.check(&keys.issuer, &keys.issuer, self.leeway, now)?;
                if !claims.permits(function) {
                    return Err(Caller::Forbidden);
                }
            }
        }
        claims.caller(&self.claim)
    }

    /// The keys; looked up when there are none, when the one that is asked for is not among them, and when they are old.
    /// One call does it, the others wait for it.
    async fn keys(&self, id: Option<&str>, now: Timestamp) -> Arc<Keys> {
        let known = || Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner));
        let serves = |keys: &Keys| {
            keys.find(id).is_some() && keys.read_at.is_some_and(|at| now.duration_since(at).abs() < STALE)
        };
        let keys = known();
        if serves(&keys) {
            return keys;
        }
        let Ok(_place) = self.waiting.try_acquire() else { return keys };
        let mut looked_up = self.looked_up.lock().await;
        let keys = known();
        let again = if keys.all.is_empty() { AGAIN_WITHOUT } else { AGAIN };
        if serves(&keys) || looked_up.is_some_and(|at| now.duration_since(at).abs() < again) {
            return keys;
        }
        *looked_up = Some(now);
        match self.look_up(now).await {
            Ok(keys) => {
                let keys = Arc::new(keys);
                *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&keys);
                keys
            }
            Err(error) => {
                // The known ones stay good.
                tracing::warn!(error, "cannot fetch the issuer's JWKS");
                keys
            }
        }
    }

    async fn look_up(&self, now: Timestamp) -> Result<Keys, String> {
        let (issuer, url) = match &self.rules {
            Rules::Issuer { issuer, jwks_url: Some(url), .. } => (issuer.clone(), url.clone()),
            Rules::Issuer { issuer, .. } => {
                let url = metadata_url(issuer).ok_or("the issuer is no URL")?;
                let metadata: Metadata = self.get(url).await?;
                if metadata.issuer != *issuer {
                    return Err("the metadata are of another issuer".into());
                }
                // http is usual within a cluster. Across the internet its keys prove nothing.
                checked_url(metadata.jwks_uri.as_str()).map_err(|err| format!("jwks_uri {err}"))?;
                (metadata.issuer, metadata.jwks_uri)
            }
            Rules::Gateway { metadata, .. } => {
                let metadata: Metadata = self.get(metadata.clone()).await?;
                (metadata.issuer, metadata.jwks_uri)
            }
        };
        let set: JwkSet = self.get(url).await?;
        let all = set.keys.iter().filter_map(|jwk| {
            if matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_)) || !verifies(&jwk.common) {
                return None;
            }
            let algorithm = jwk.common.key_algorithm.and_then(|algorithm| algorithm.to_string().parse().ok());
            Some(Key { id: jwk.common.key_id.clone(), key: DecodingKey::from_jwk(jwk).ok()?, algorithm })
        });
        Ok(Keys { issuer, all: all.collect(), read_at: Some(now) })
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, url: Url) -> Result<T, String> {
        let failed = |err: reqwest::Error| err.without_url().to_string();
        let mut response = self.client.get(url).send().await.map_err(failed)?;
        if !response.status().is_success() {
            return Err(format!("the answer is {}", response.status()));
        }
        let mut document = Vec::new();
        while let Some(bytes) = response.chunk().await.map_err(failed)? {
            document.extend_from_slice(&bytes);
            if document.len() > DOCUMENT_LIMIT {
                return Err("the answer is too large".into());
            }
        }
        serde_json::from_slice(&document).map_err(|_| "the answer is not what it should be".into())
    }
}

impl Keys {
    /// The key of that id; where a token names none, the only one that there is.
    fn find(&self, id: Option<&str>) -> Option<&Key> {
        match (id, &self.all[..]) {
            (None, [only]) => Some(only),
            (None, _) => None,
            (id, all) => all.iter().find(|key| key.id.as_deref() == id),
        }
    }
}

/// Whether a token of that `typ` grants access (RFC 8725 §3.11): the same issuer signs logout tokens, security events and
/// proofs of possession with the same keys.
fn is_access_token(typ: &str) -> bool {
    let typ = typ.to_ascii_lowercase();
    matches!(typ.strip_prefix("application/").unwrap_or(&typ), "jwt" | "at+jwt")
}

/// Whether a key is for checking signatures, as far as it says (RFC 7517 §4.2, §4.3).
fn verifies(key: &CommonParameters) -> bool {
    let by_use = key.public_key_use.as_ref().is_none_or(|it| *it == PublicKeyUse::Signature);
    by_use && key.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify))
}

fn metadata_url(issuer: &str) -> Option<Url> {
    format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')).parse().ok()
}
