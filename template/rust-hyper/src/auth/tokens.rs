//! Tokens, and the keys that they are checked with.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use http::HeaderMap;
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header,
    jwk::{AlgorithmParameters, JwkSet},
};
use serde::Deserialize;
use tokio::{sync::Mutex, time::Instant};
use tracing::{info, warn};

use super::{Denied, Settings, bearer, matches};
use crate::{BoxError, invocation::with_causes};

/// Only with these a key that everybody may see is of no use for making tokens.
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
/// Clocks differ by so many seconds.
const LEEWAY: u64 = 1;
/// A key that its issuer has withdrawn is taken for so long.
const KEYS_LIFETIME: Duration = Duration::from_secs(300);
/// The keys are looked up again for a key id that is not among them, but no more often than this: anybody can make up
/// key ids.
const REFRESH_INTERVAL: Duration = Duration::from_secs(30);
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two tries of the first look-up, doubled each time.
const RETRY: Duration = Duration::from_millis(500);
const RETRY_LIMIT: Duration = Duration::from_secs(15);
/// A key set is a few kilobytes.
const DOCUMENT_LIMIT: usize = 1 << 20;

/// Checks tokens.
pub(crate) struct Auth {
    settings: Settings,
    client: reqwest::Client,
    keys: RwLock<Arc<Keys>>,
    /// When the keys were looked up last.
    looked_up: Mutex<Instant>,
}

struct Keys {
    issuer: String,
    uri: String,
    by_id: BTreeMap<String, (DecodingKey, Option<Algorithm>)>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    function: Function,
}

#[derive(Deserialize, Default)]
struct Function {
    #[serde(default)]
    permissions: Vec<String>,
    /// When it is not empty, it narrows what the permissions allow.
    #[serde(default)]
    audience: Vec<String>,
}

impl Auth {
    /// Looks the keys up, again and again until it has them: a gateway that starts a moment later is no reason to end.
    pub(crate) async fn load(settings: Settings) -> Self {
        let client = client();
        let mut pause = RETRY;
        let keys = loop {
            match Keys::look_up(&client, &settings.url).await {
                Ok(keys) => break keys,
                Err(error) => warn!(
                    target: "watchdog",
                    "jwt_auth: cannot fetch the issuer's keys from {}, retrying in {pause:?}: {}",
                    settings.url,
                    with_causes(&*error)
                ),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_LIMIT);
        };
        if settings.debug {
            info!(target: "watchdog", "[JWT Auth] Issuer: {}\tJWKS URI: {}", keys.issuer, keys.uri);
            for id in keys.by_id.keys() {
                info!(target: "watchdog", "[JWT Auth] Key: {id}");
            }
        }
        let keys = RwLock::new(Arc::new(keys));
        Self { settings, client, keys, looked_up: Mutex::new(Instant::now()) }
    }

    /// Lets a call in, or says why not.
    pub(crate) async fn check(&self, headers: &HeaderMap) -> Result<(), Denied> {
        let token = bearer(headers)?;
        let claims = self.claims(token).await.map_err(|error| {
            if self.settings.debug {
                info!(target: "watchdog", "jwt_auth: {}", with_causes(&*error));
            }
            Denied::Invalid
        })?;
        let Function { permissions, audience } = claims.function;
        let allows = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, &self.settings.function));
        if allows(&permissions) && (audience.is_empty() || allows(&audience)) {
            return Ok(());
        }
        if self.settings.debug {
            info!(target: "watchdog", "jwt_auth: the token does not permit {}", self.settings.function);
        }
        Err(Denied::NotPermitted)
    }

    async fn claims(&self, token: &str) -> Result<Claims, BoxError> {
        let header = decode_header(token)?;
        let id = header.kid.ok_or("the token names no key")?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err("the token's algorithm is not allowed".into());
        }
        let mut keys = self.keys();
        if !keys.by_id.contains_key(&id) {
            keys = self.refreshed(REFRESH_INTERVAL).await;
        }
        let (key, algorithm) = keys.by_id.get(&id).ok_or("the token names a key that is not known")?;
        if algorithm.is_some_and(|algorithm| algorithm != header.alg) {
            return Err("the token's algorithm is not its key's".into());
        }
        let mut validation = Validation::new(header.alg);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.set_issuer(&[&keys.issuer]);
        validation.set_audience(&[&keys.issuer]);
        Ok(decode(token, key, &validation)?.claims)
    }

    fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks the keys up again and again, until it is dropped.
    pub(crate) async fn keep_fresh(&self) {
        loop {
            tokio::time::sleep(KEYS_LIFETIME).await;
            self.refreshed(REFRESH_INTERVAL).await;
        }
    }

    /// The keys, looked up anew unless that was done within `age`. One call does it, the others wait for it.
    async fn refreshed(&self, age: Duration) -> Arc<Keys> {
        let mut looked_up = self.looked_up.lock().await;
        if looked_up.elapsed() >= age {
            *looked_up = Instant::now();
            match Keys::look_up(&self.client, &self.settings.url).await {
                Ok(keys) => *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys),
                // The known ones stay good.
                Err(error) => {
                    warn!(target: "watchdog", "jwt_auth: cannot fetch the issuer's keys anew: {}", with_causes(&*error));
                }
            }
        }
        self.keys()
    }
}

impl Keys {
    async fn look_up(client: &reqwest::Client, url: &str) -> Result<Self, BoxError> {
        let discovery = get(client, &format!("{url}/.well-known/openid-configuration")).await?;
        let Discovery { issuer, jwks_uri } = serde_json::from_slice(&discovery)?;
        let set: JwkSet = serde_json::from_slice(&get(client, &jwks_uri).await?)?;
        let by_id = set.keys.iter().filter_map(|jwk| {
            if matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_)) {
                return None;
            }
            let algorithm = jwk.common.key_algorithm.and_then(|algorithm| algorithm.to_string().parse().ok());
            Some((jwk.common.key_id.clone()?, (DecodingKey::from_jwk(jwk).ok()?, algorithm)))
        });
        Ok(Self { issuer, by_id: by_id.collect(), uri: jwks_uri })
    }
}

fn client() -> reqwest::Client {
    // A second provider would be in vain: the first one that the process installs stays.
    let builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(FETCH_TIMEOUT)
        .timeout(FETCH_TIMEOUT)
        .no_proxy();
    // Fails only where there are no root certificates; then plain http still works.
    builder.build().unwrap_or_default()
}

async fn get(client: &reqwest::Client, url: &str) -> Result<Vec<u8>, BoxError> {
    let mut response = client.get(url).send().await.map_err(reqwest::Error::without_url)?;
    let status = response.status();
    if !status.is_success() {
        return Err(format!("the answer is {status}").into());
    }
    let mut document = Vec::new();
    while let Some(bytes) = response.chunk().await.map_err(reqwest::Error::without_url)? {
        document.extend_from_slice(&bytes);
        if document.len() > DOCUMENT_LIMIT {
            return Err("the answer is too large".into());
        }
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader, Write as _},
        net::TcpListener,
    };

    use super::*;

    const KEY: &str = r#"{"kty":"EC","crv":"P-256","kid":"first","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;

    /// Serves the discovery document, then each of `sets` once.
    fn issuer(sets: &'static [&'static str]) -> String {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let issuer = url.clone();
        std::thread::spawn(move || {
            for keys in sets {
                let discovery = format!(r#"{{"issuer":"{issuer}","jwks_uri":"{issuer}/keys"}}"#);
                for document in [discovery, format!(r#"{{"keys":[{keys}]}}"#)] {
                    let (mut stream, _) = listener.accept().unwrap();
                    let mut lines = BufReader::new(&stream).lines();
                    while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
                    let head =
                        format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", document.len());
                    stream.write_all((head + &document).as_bytes()).unwrap();
                }
            }
        });
        url
    }

    #[tokio::test]
    async fn a_key_that_is_withdrawn_goes_with_the_next_look_up() {
        let url = issuer(&[KEY, ""]);
        let auth = Auth::load(Settings { url, function: "dev:env".into(), debug: false }).await;
        assert!(auth.refreshed(REFRESH_INTERVAL).await.by_id.contains_key("first"), "looked up a moment ago");
        assert!(auth.refreshed(Duration::ZERO).await.by_id.is_empty());
        // The issuer is gone: the known keys stay.
        assert!(auth.refreshed(Duration::ZERO).await.by_id.is_empty());
    }
}
