//! What a program keeps between sending a person away and the redirect that brings them back.

use std::time::Duration;

use aws_lc_rs::digest;
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use url::Url;

use super::{AuthorizeError, BuildError, ExchangeError};
use crate::{
    seal::{self, KeyRing, Purpose},
    token::Secret,
};

/// How long a person may take.
const LIFETIME: Duration = Duration::from_secs(600);

/// No account has such a name: what is sealed for a session opens as nothing else.
const PURPOSE: Purpose<'_> = Purpose { function: "token-keeper", account: " session" };

/// An authorisation that has begun.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Authorization {
    /// Where the person goes.
    pub url: Url,
    /// What [`TokenKeeper::exchange`](super::TokenKeeper::exchange) wants beside the redirect: sealed, good for ten minutes
    /// and once. A web program keeps it in the browser's session (an HttpOnly cookie), so that no one else's redirect is
    /// taken (RFC 6749 §10.12); another program keeps it in a variable.
    pub session: Secret,
}

/// One authorisation, under way.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Pending {
    account: String,
    state: String,
    verifier: String,
    seed: String,
    ends_at: i64,
}

impl Pending {
    pub(super) fn begin(account: &str, now: Timestamp) -> Result<Self, AuthorizeError> {
        let ends_at = now.checked_add(SignedDuration::try_from(LIFETIME).unwrap_or_default()).unwrap_or(now);
        Ok(Self {
            account: account.to_owned(),
            state: random()?,
            verifier: random()?,
            seed: random()?,
            ends_at: ends_at.as_second(),
        })
    }

    pub(super) fn account(&self) -> &str {
        &self.account
    }

    pub(super) fn state(&self) -> &str {
        &self.state
    }

    /// The code verifier (RFC 7636 §4.1).
    pub(super) fn verifier(&self) -> Secret {
        Secret::new(&*self.verifier)
    }

    /// What the key of a code follows from (RFC 9449 §10).
    pub(super) fn seed(&self) -> Secret {
        Secret::new(&*self.seed)
    }

    /// The name under which it is used up.
    pub(super) fn digest(&self) -> String {
        Secret::new(&*self.state).digest()
    }

    pub(super) fn ends_at(&self) -> Timestamp {
        Timestamp::from_second(self.ends_at).unwrap_or(Timestamp::MIN)
    }
}

/// Seals and opens sessions.
pub(super) struct Sessions(KeyRing);

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sessions(..)")
    }
}

impl Sessions {
    /// With the keys that seal records, where the program has them; else with a key that ends with the process.
    pub(super) fn new(keys: Option<&Secret>) -> Result<Self, BuildError> {
        let ring = match keys {
            Some(keys) => keys.expose().parse(),
            None => {
                let mut key = [0; digest::SHA256_OUTPUT_LEN];
                aws_lc_rs::rand::fill(&mut key).map_err(|_| BuildError::NoRandomness)?;
                format!("process:{}", STANDARD.encode(key)).parse()
            }
        };
        ring.map(Self).map_err(|err: seal::KeyRingError| BuildError::Keys(err.to_string()))
    }

    pub(super) fn seal(&self, pending: &Pending) -> Result<Secret, AuthorizeError> {
        // Strings and a number: nothing of it can fail to serialise.
        let plain = serde_json::to_vec(pending).unwrap_or_default();
        let sealed = seal::seal(&self.0, PURPOSE, 0, &plain);
        Ok(Secret::new(URL_SAFE_NO_PAD.encode(sealed)))
    }

    pub(super) fn open(&self, session: &Secret, now: Timestamp) -> Result<Pending, ExchangeError> {
        let sealed = URL_SAFE_NO_PAD.decode(session.expose()).map_err(|_| ExchangeError::Session)?;
        let (_, plain) = seal::open(&self.0, PURPOSE, &sealed).map_err(|_| ExchangeError::Session)?;
        let pending: Pending = serde_json::from_slice(&plain).map_err(|_| ExchangeError::Session)?;
        if now >= pending.ends_at() { Err(ExchangeError::Expired) } else { Ok(pending) }
    }
}

/// 256 random bits in base64url.
fn random() -> Result<String, AuthorizeError> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| AuthorizeError::NoRandomness)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_opens_with_its_own_keys_alone_and_in_time() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let (sessions, others) = (Sessions::new(None).unwrap(), Sessions::new(None).unwrap());
        let pending = Pending::begin("a", now).unwrap();
        let session = sessions.seal(&pending).unwrap();
        let opened = sessions.open(&session, now).unwrap();
        assert_eq!((opened.account(), opened.state()), ("a", pending.state()));
        assert!(matches!(others.open(&session, now), Err(ExchangeError::Session)));
        assert!(matches!(sessions.open(&Secret::new("x"), now), Err(ExchangeError::Session)));
        let late = now + SignedDuration::from_secs(600);
        assert!(matches!(sessions.open(&session, late), Err(ExchangeError::Expired)));
        assert!(
            !format!(
                "{session:?}{:?}",
                Authorization { url: "https://a.example".parse().unwrap(), session: session.clone() }
            )
            .contains(session.expose())
        );
    }
}
