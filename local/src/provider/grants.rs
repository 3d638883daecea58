//! Who was granted what, and which codes and tokens are alive. No IO: time and faults are passed in, and what is kept
//! of a secret is its digest.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::faults::Faults;
use crate::random;

/// So many spent refresh tokens of a grant are remembered, to know one that comes again.
const SPENT_KEPT: usize = 1000;

/// A dead access token is remembered for so long, to tell "expired" from "unknown".
const DEAD_KEPT: SignedDuration = SignedDuration::from_hours(1);

/// SHA-256 in hex: a token's name wherever the token itself must not be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Digest(String);

impl Digest {
    pub(super) fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Enough of it to tell tokens apart.
    pub(super) fn short(&self) -> &str {
        &self.0[..16]
    }
}

/// What a person allowed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Consent {
    pub(super) client: String,
    pub(super) user: String,
    pub(super) scope: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Grant {
    consent: Consent,
    revoked: bool,
}

#[derive(Debug)]
struct Code {
    grant: u64,
    redirect_uri: String,
    challenge: Option<String>,
    expires_at: Timestamp,
    used: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Access {
    grant: u64,
    scope: String,
    dies_at: Timestamp,
    revoked: bool,
    /// The refresh token that bought it.
    bought_with: Option<Digest>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Refresh {
    grant: u64,
    issued_at: Timestamp,
    spent_at: Option<Timestamp>,
    /// The access token that it bought has been used.
    settled: bool,
    revoked: bool,
    /// Order of issue, so that the oldest spent ones are forgotten first.
    serial: u64,
}

/// Every grant, code and token of the provider.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Grants {
    serial: u64,
    grants: BTreeMap<u64, Grant>,
    access: BTreeMap<Digest, Access>,
    refresh: BTreeMap<Digest, Refresh>,
    /// A code lives for minutes: not worth keeping over a restart.
    #[serde(skip)]
    codes: BTreeMap<Digest, Code>,
}

/// What a token request got.
#[derive(Debug)]
pub(super) struct Issued {
    pub(super) grant: u64,
    pub(super) access_token: String,
    pub(super) expires_in: Option<u64>,
    pub(super) refresh_token: Option<String>,
    pub(super) scope: String,
    pub(super) created_at: Timestamp,
    /// A spent refresh token was taken again.
    pub(super) replayed: bool,
}

/// Why a token request got nothing: `error` of RFC 6749 §5.2, and what to tell.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) error: &'static str,
    pub(super) description: &'static str,
    pub(super) reused: bool,
}

impl Refused {
    pub(super) fn new(error: &'static str, description: &'static str) -> Self {
        Self { error, description, reused: false }
    }
}

/// Why an access token is no good, as Doorkeeper says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dead {
    Unknown,
    Expired,
    Revoked,
}

impl fmt::Display for Dead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "The access token is invalid",
            Self::Expired => "The access token expired",
            Self::Revoked => "The access token was revoked",
        })
    }
}

impl Grants {
    /// A code for what a person has just allowed.
    pub(super) fn code(
        &mut self,
        consent: Consent,
        redirect_uri: String,
        challenge: Option<String>,
        faults: &Faults,
        now: Timestamp,
    ) -> anyhow::Result<String> {
        self.codes.retain(|_, code| code.expires_at > now);
        let code = random::token()?;
        let grant = self.next();
        self.grants.insert(grant, Grant { consent, revoked: false });
        let expires_at = now + seconds(faults.code_lifetime);
        self.codes.insert(Digest::of(&code), Code { grant, redirect_uri, challenge, expires_at, used: false });
        Ok(code)
    }

    /// RFC 6749 §4.1.3 with RFC 7636 §4.6.
    pub(super) fn redeem(
        &mut self,
        client: &str,
        code: &str,
        redirect_uri: Option<&str>,
        verifier: Option<&str>,
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
        if redirect_uri != Some(found.redirect_uri.as_str()) {
            return refused("redirect_uri differs from the one of the authorization request");
        }
        match (&found.challenge, verifier) {
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

    /// RFC 6749 §6, with rotation and reuse detection of RFC 9700 §4.14.
    pub(super) fn renew(
        &mut self,
        client: &str,
        token: &str,
        scope: Option<&str>,
        faults: &mut Faults,
        now: Timestamp,
    ) -> anyhow::Result<Result<Issued, Refused>> {
        let refused = |description| Ok(Err(Refused::new("invalid_grant", description)));
        let digest = Digest::of(token);
        let Some(found) = self.refresh.get(&digest) else { return refused("The refresh token is unknown") };
        let Some(grant) = self.grants.get(&found.grant) else { return refused("The refresh token is unknown") };
        if grant.consent.client != client {
            return refused("The refresh token was issued to another client");
        }
        if grant.revoked || found.revoked {
            return refused("The refresh token was revoked");
        }
        if faults.refresh_idle.is_some_and(|idle| found.issued_at + seconds(idle) <= now) {
            return refused("The refresh token expired");
        }
        let replayed = found.spent_at.is_some();
        if let Some(spent_at) = found.spent_at {
            let in_window = now < spent_at + seconds(faults.replay_window);
            if !in_window && (!faults.replay_until_used || found.settled) {
                if faults.reuse_detection {
                    let grant = found.grant;
                    self.revoke_grant(grant);
                }
                let description = "The refresh token was used before";
                return Ok(Err(Refused { error: "invalid_grant", description, reused: true }));
            }
        }
        let granted = grant.consent.scope.clone();
        let scope = match scope {
            Some(scope) if !scope.split(' ').all(|wanted| granted.split(' ').any(|has| has == wanted)) => {
                return Ok(Err(Refused::new("invalid_scope", "The scope is wider than what was granted")));
            }
            Some(scope) => scope.to_owned(),
            None => granted,
        };
        let grant = found.grant;
        if faults.revoke_previous_access {
            self.access.values_mut().filter(|access| access.grant == grant).for_each(|access| access.revoked = true);
        }
        let rotate = faults.rotation && !faults.omit_refresh_token.take();
        let mut issued = self.issue(grant, scope, rotate, Some(digest.clone()), faults, now)?;
        issued.replayed = replayed;
        match self.refresh.get_mut(&digest) {
            Some(spent) if rotate => {
                spent.spent_at.get_or_insert(now);
                self.forget(grant);
            }
            // Not rotated: it was used now, so its idle life starts again.
            Some(kept) => kept.issued_at = now,
            None => {}
        }
        Ok(Ok(issued))
    }

    fn issue(
        &mut self,
        grant: u64,
        scope: String,
        refresh: bool,
        bought_with: Option<Digest>,
        faults: &mut Faults,
        now: Timestamp,
    ) -> anyhow::Result<Issued> {
        self.access.retain(|_, access| access.dies_at + DEAD_KEPT > now);
        // The prefixes let a person, or a scanner of leaked secrets, see what a string is.
        let access_token = format!("sandbox_at_{}", random::token()?);
        let refresh_token = if refresh { Some(format!("sandbox_rt_{}", random::token()?)) } else { None };
        let lifetime = faults.early_revocation.unwrap_or(faults.token_lifetime);
        let access =
            Access { grant, scope: scope.clone(), dies_at: now + seconds(lifetime), revoked: false, bought_with };
        self.access.insert(Digest::of(&access_token), access);
        if let Some(token) = &refresh_token {
            let serial = self.next();
            let refresh = Refresh { grant, issued_at: now, spent_at: None, settled: false, revoked: false, serial };
            self.refresh.insert(Digest::of(token), refresh);
        }
        // A part of a second is not promised: the token would be dead before its time was up.
        let expires_in = (!faults.omit_expires_in.take()).then_some(faults.token_lifetime as u64);
        Ok(Issued { grant, access_token, expires_in, refresh_token, scope, created_at: now, replayed: false })
    }

    /// Who is behind an access token, or why nobody is. The first use settles the refresh token that bought it.
    pub(super) fn consent_of(&mut self, token: &str, now: Timestamp) -> Result<Consent, Dead> {
        let access = self.access.get_mut(&Digest::of(token)).ok_or(Dead::Unknown)?;
        let grant = self.grants.get(&access.grant).ok_or(Dead::Unknown)?;
        if access.revoked || grant.revoked {
            return Err(Dead::Revoked);
        }
        if access.dies_at <= now {
            return Err(Dead::Expired);
        }
        if let Some(before) = access.bought_with.take().and_then(|digest| self.refresh.get_mut(&digest)) {
            before.settled = true;
        }
        Ok(Consent { scope: access.scope.clone(), ..grant.consent.clone() })
    }

    /// RFC 7009: an access token ends alone, a refresh token ends the grant. Another client's token stays as it is.
    pub(super) fn revoke(&mut self, client: &str, token: &str) -> bool {
        let digest = Digest::of(token);
        let own = |grants: &BTreeMap<u64, Grant>, grant| {
            grants.get(&grant).is_some_and(|grant: &Grant| grant.consent.client == client)
        };
        if let Some(access) = self.access.get_mut(&digest).filter(|access| own(&self.grants, access.grant)) {
            access.revoked = true;
            return true;
        }
        match self.refresh.get(&digest).map(|refresh| refresh.grant).filter(|grant| own(&self.grants, *grant)) {
            Some(grant) => {
                self.revoke_grant(grant);
                true
            }
            None => false,
        }
    }

    /// What a person does in the provider's settings, or the provider after a breach.
    pub(super) fn revoke_all(&mut self, access: bool, refresh: bool) {
        if access {
            self.access.values_mut().for_each(|access| access.revoked = true);
        }
        if refresh {
            self.refresh.values_mut().for_each(|refresh| refresh.revoked = true);
        }
    }

    fn revoke_grant(&mut self, grant: u64) {
        if let Some(grant) = self.grants.get_mut(&grant) {
            grant.revoked = true;
        }
    }

    fn forget(&mut self, grant: u64) {
        let spent = || self.refresh.iter().filter(|(_, refresh)| refresh.grant == grant && refresh.spent_at.is_some());
        if spent().count() > SPENT_KEPT {
            let oldest = spent().min_by_key(|(_, refresh)| refresh.serial).map(|(digest, _)| digest.clone());
            oldest.map(|digest| self.refresh.remove(&digest));
        }
    }

    fn next(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }
}

/// A length of time from a switch, which was checked when it was set.
fn seconds(seconds: f64) -> SignedDuration {
    SignedDuration::try_from_secs_f64(seconds).unwrap_or(SignedDuration::ZERO)
}

/// The challenge that belongs to a PKCE verifier.
fn s256(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    /// RFC 7636, appendix B.
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    const REDIRECT: &str = "http://127.0.0.1/cb";

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn consent() -> Consent {
        Consent { client: "app".into(), user: "ada".into(), scope: "view_sales view_profile".into() }
    }

    fn enabled(grants: &mut Grants, faults: &mut Faults) -> Issued {
        let code = grants.code(consent(), REDIRECT.into(), Some(CHALLENGE.into()), faults, at(0)).unwrap();
        grants.redeem("app", &code, Some(REDIRECT), Some(VERIFIER), faults, at(0)).unwrap().unwrap()
    }

    fn renew(grants: &mut Grants, token: &str, faults: &mut Faults, now: i64) -> Result<Issued, &'static str> {
        grants.renew("app", token, None, faults, at(now)).unwrap().map_err(|refused| refused.error)
    }

    #[test]
    fn a_code_needs_its_client_redirect_uri_and_verifier() {
        let (mut grants, mut faults) = (Grants::default(), Faults::default());
        for (client, redirect, verifier) in [
            ("other", Some(REDIRECT), Some(VERIFIER)),
            ("app", Some("http://127.0.0.1/other"), Some(VERIFIER)),
            ("app", None, Some(VERIFIER)),
            ("app", Some(REDIRECT), Some("another-verifier-another-verifier-another-v")),
            ("app", Some(REDIRECT), None),
        ] {
            let code = grants.code(consent(), REDIRECT.into(), Some(CHALLENGE.into()), &faults, at(0)).unwrap();
            let refused = grants.redeem(client, &code, redirect, verifier, &mut faults, at(0)).unwrap().unwrap_err();
            assert_eq!(refused.error, "invalid_grant", "{client} {redirect:?} {verifier:?}");
        }
        let code = grants.code(consent(), REDIRECT.into(), None, &faults, at(0)).unwrap();
        assert!(grants.redeem("app", &code, Some(REDIRECT), Some(VERIFIER), &mut faults, at(0)).unwrap().is_err());
    }

    #[test]
    fn a_code_that_comes_twice_ends_the_tokens_of_the_first() {
        let (mut grants, mut faults) = (Grants::default(), Faults::default());
        let code = grants.code(consent(), REDIRECT.into(), Some(CHALLENGE.into()), &faults, at(0)).unwrap();
        let first = grants.redeem("app", &code, Some(REDIRECT), Some(VERIFIER), &mut faults, at(0)).unwrap().unwrap();
        assert!(grants.consent_of(&first.access_token, at(1)).is_ok());
        assert!(grants.redeem("app", &code, Some(REDIRECT), Some(VERIFIER), &mut faults, at(1)).unwrap().is_err());
        assert_eq!(grants.consent_of(&first.access_token, at(1)).unwrap_err(), Dead::Revoked);
    }

    #[test]
    fn a_code_expires() {
        let (mut grants, mut faults) = (Grants::default(), Faults::default());
        let code = grants.code(consent(), REDIRECT.into(), Some(CHALLENGE.into()), &faults, at(0)).unwrap();
        assert!(grants.redeem("app", &code, Some(REDIRECT), Some(VERIFIER), &mut faults, at(600)).unwrap().is_err());
    }

    #[test]
    fn a_spent_refresh_token_that_comes_again_ends_the_family() {
        let (mut grants, mut faults) = (Grants::default(), Faults::default());
        let first = enabled(&mut grants, &mut faults).refresh_token.unwrap();
        let second = renew(&mut grants, &first, &mut faults, 1).unwrap();
        assert_eq!(renew(&mut grants, &first, &mut faults, 2).unwrap_err(), "invalid_grant");
        assert_eq!(renew(&mut grants, &second.refresh_token.unwrap(), &mut faults, 3).unwrap_err(), "invalid_grant");
        assert_eq!(grants.consent_of(&second.access_token, at(3)).unwrap_err(), Dead::Revoked);
    }

    #[test]
    fn without_reuse_detection_the_successor_lives() {
        let (mut grants, mut faults) = (Grants::default(), Faults { reuse_detection: false, ..Faults::default() });
        let first = enabled(&mut grants, &mut faults).refresh_token.unwrap();
        let second = renew(&mut grants, &first, &mut faults, 1).unwrap();
        assert!(renew(&mut grants, &first, &mut faults, 2).is_err());
        assert!(renew(&mut grants, &second.refresh_token.unwrap(), &mut faults, 3).is_ok());
    }

    #[test]
    fn within_the_replay_window_a_spent_refresh_token_is_taken_again() {
        let (mut grants, mut faults) = (Grants::default(), Faults { replay_window: 30.0, ..Faults::default() });
        let first = enabled(&mut grants, &mut faults).refresh_token.unwrap();
        renew(&mut grants, &first, &mut faults, 1).unwrap();
        assert!(renew(&mut grants, &first, &mut faults, 30).unwrap().replayed);
        assert!(renew(&mut grants, &first, &mut faults, 31).is_err());
    }

    #[test]
    fn a_spent_refresh_token_is_taken_until_its_access_token_was_used_where_that_is_the_rule() {
        let (mut grants, mut faults) = (Grants::default(), Faults { replay_until_used: true, ..Faults::default() });
        let first = enabled(&mut grants, &mut faults).refresh_token.unwrap();
        renew(&mut grants, &first, &mut faults, 1).unwrap();
        let second = renew(&mut grants, &first, &mut faults, 1000).unwrap();
        grants.consent_of(&second.access_token, at(1001)).unwrap();
        assert!(renew(&mut grants, &first, &mut faults, 1002).is_err());
    }

    #[test]
    fn without_rotation_and_with_an_omitted_refresh_token_the_old_one_stays_good() {
        for mut faults in [
            Faults { rotation: false, ..Faults::default() },
            Faults { omit_refresh_token: super::super::faults::Times::Next(2), ..Faults::default() },
        ] {
            let mut grants = Grants::default();
            let kept = std::mem::replace(&mut faults.omit_refresh_token, super::super::faults::Times::Next(0));
            let first = enabled(&mut grants, &mut faults).refresh_token.unwrap();
            faults.omit_refresh_token = kept;
            assert!(renew(&mut grants, &first, &mut faults, 1).unwrap().refresh_token.is_none());
            assert!(renew(&mut grants, &first, &mut faults, 2).unwrap().refresh_token.is_none());
        }
    }

    #[test]
    fn access_tokens_expire_and_may_die_earlier_than_they_said() {
        let (mut grants, mut faults) = (Grants::default(), Faults { token_lifetime: 10.0, ..Faults::default() });
        let issued = enabled(&mut grants, &mut faults);
        assert_eq!(issued.expires_in, Some(10));
        assert!(grants.consent_of(&issued.access_token, at(9)).is_ok());
        assert_eq!(grants.consent_of(&issued.access_token, at(10)).unwrap_err(), Dead::Expired);
        faults.early_revocation = Some(1.0);
        let issued = renew(&mut grants, &issued.refresh_token.unwrap(), &mut faults, 20).unwrap();
        assert_eq!(issued.expires_in, Some(10));
        assert!(grants.consent_of(&issued.access_token, at(21)).is_err());
    }

    #[test]
    fn an_idle_refresh_token_lapses_where_that_is_the_rule() {
        let (mut grants, mut faults) = (Grants::default(), Faults { refresh_idle: Some(60.0), ..Faults::default() });
        let first = enabled(&mut grants, &mut faults).refresh_token.unwrap();
        let second = renew(&mut grants, &first, &mut faults, 59).unwrap().refresh_token.unwrap();
        assert!(renew(&mut grants, &second, &mut faults, 59 + 60).is_err());
    }

    #[test]
    fn scope_may_shrink_at_renewal_but_not_grow() {
        let (mut grants, mut faults) = (Grants::default(), Faults::default());
        let first = enabled(&mut grants, &mut faults).refresh_token.unwrap();
        let wider = grants.renew("app", &first, Some("view_sales refund_sales"), &mut faults, at(1)).unwrap();
        assert_eq!(wider.unwrap_err().error, "invalid_scope");
        let narrower = grants.renew("app", &first, Some("view_sales"), &mut faults, at(1)).unwrap().unwrap();
        assert_eq!(grants.consent_of(&narrower.access_token, at(2)).unwrap().scope, "view_sales");
    }

    #[test]
    fn revoking_a_refresh_token_ends_the_grant_and_another_client_cannot() {
        let (mut grants, mut faults) = (Grants::default(), Faults::default());
        let issued = enabled(&mut grants, &mut faults);
        let refresh = issued.refresh_token.unwrap();
        assert!(!grants.revoke("other", &refresh));
        assert!(grants.consent_of(&issued.access_token, at(1)).is_ok());
        assert!(grants.revoke("app", &refresh));
        assert_eq!(grants.consent_of(&issued.access_token, at(1)).unwrap_err(), Dead::Revoked);
    }

    #[test]
    fn what_is_kept_over_a_restart_holds_no_token() {
        let (mut grants, mut faults) = (Grants::default(), Faults::default());
        let issued = enabled(&mut grants, &mut faults);
        let kept = serde_json::to_string(&grants).unwrap();
        assert!(!kept.contains("sandbox_"), "{kept}");
        let mut again: Grants = serde_json::from_str(&kept).unwrap();
        assert!(again.consent_of(&issued.access_token, at(1)).is_ok());
        assert!(renew(&mut again, &issued.refresh_token.unwrap(), &mut faults, 2).is_ok());
    }
}
