//! Authorization codes (RFC 6749 §4.1) with PKCE (RFC 7636), bound to a key on request (RFC 9449 §10).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::{Consent, Digest, Faults, Grant, Grants, Issued, Refused, seconds};
use crate::random;

#[derive(Debug)]
pub(super) struct Code {
    grant: u64,
    redirect_uri: String,
    challenge: Option<String>,
    /// Thumbprint of the key that it is bound to.
    key: Option<String>,
    expires_at: Timestamp,
    used: bool,
}

impl Code {
    pub(super) fn grant(&self) -> u64 {
        self.grant
    }
}

/// What the client sends with a code.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::provider) struct Shown<'a> {
    pub(in crate::provider) redirect_uri: Option<&'a str>,
    pub(in crate::provider) verifier: Option<&'a str>,
    /// Thumbprint of the key in the proof of possession.
    pub(in crate::provider) key: Option<&'a str>,
}

/// What an authorization request binds its code to.
#[derive(Clone, Debug, Default)]
pub(in crate::provider) struct Bound {
    pub(in crate::provider) challenge: Option<String>,
    pub(in crate::provider) key: Option<String>,
}

impl Grants {
    /// Issues a code for a grant that a person has just allowed.
    pub(in crate::provider) fn code(
        &mut self,
        consent: Consent,
        redirect_uri: String,
        bound: Bound,
        faults: &Faults,
        now: Timestamp,
    ) -> anyhow::Result<String> {
        self.codes.retain(|_, code| code.expires_at > now);
        let code = random::token()?;
        let grant = self.next();
        self.grants.insert(grant, Grant { consent, revoked: false });
        let expires_at = now + seconds(faults.code_lifetime);
        self.codes.insert(
            Digest::of(&code),
            Code { grant, redirect_uri, challenge: bound.challenge, key: bound.key, expires_at, used: false },
        );
        Ok(code)
    }

    /// RFC 6749 §4.1.3 with RFC 7636 §4.6.
    pub(in crate::provider) fn redeem(
        &mut self,
        client: &str,
        code: &str,
        shown: Shown<'_>,
        faults: &mut Faults,
        now: Timestamp,
    ) -> anyhow::Result<Result<Issued, Refused>> {
        let refused = |description| Ok(Err(Refused::new("invalid_grant", description)));
        let digest = Digest::of(code);
        let Some(found) = self.codes.get_mut(&digest) else { return refused("The code is unknown or has expired") };
        let grant = found.grant;
        if self.grants.get(&grant).is_none_or(|grant| grant.consent.client != client) {
            return refused("The code was issued to another client");
        }
        if std::mem::replace(&mut found.used, true) {
            // RFC 6749 §4.1.2: what was issued from a code that comes twice should end.
            self.revoke_grant(grant);
            return Ok(Err(Refused {
                error: "invalid_grant",
                description: "The code was used before; its tokens are revoked",
                reused: true,
            }));
        }
        if found.expires_at <= now {
            return refused("The code is unknown or has expired");
        }
        if shown.redirect_uri != Some(found.redirect_uri.as_str()) {
            return refused("redirect_uri differs from the one of the authorization request");
        }
        if found.key.is_some() && found.key.as_deref() != shown.key {
            return refused("The code is good with another key alone");
        }
        match (&found.challenge, shown.verifier) {
            (Some(challenge), Some(verifier)) if s256(verifier) == *challenge => {}
            (None, None) => {}
            (Some(_), Some(_)) => return refused("code_verifier does not match code_challenge"),
            (Some(_), None) => return refused("code_verifier is missing"),
            // RFC 9700 §2.1.1: otherwise an attacker strips the challenge from the authorization request.
            (None, Some(_)) => return refused("code_verifier came without a code_challenge before it"),
        }
        let scope = self.grants.get(&grant).map(|grant| grant.consent.scope.clone()).unwrap_or_default();
        let refresh = !faults.omit_refresh_token.take();
        self.issue(grant, scope, refresh, None, faults, now).map(Ok)
    }
}

/// The challenge of a PKCE verifier.
fn s256(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()))
}
