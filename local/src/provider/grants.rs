//! Grants, and the codes and tokens that are valid. No IO: time and faults are passed in, and secrets are kept as digests.

mod codes;
mod renewal;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use self::codes::Code;
pub(super) use self::codes::{Bound, Shown};
use super::{digest::Digest, faults::Faults};
use crate::random;

/// How long an expired access token is remembered, to tell "expired" from "unknown".
const DEAD_KEPT: SignedDuration = SignedDuration::from_hours(1);

/// A person's grant.
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

#[derive(Debug, Serialize, Deserialize)]
struct Access {
    grant: u64,
    scope: String,
    dies_at: Timestamp,
    revoked: bool,
    /// The refresh token that it was issued for.
    bought_with: Option<Digest>,
    /// Thumbprint of the key that it is bound to (RFC 9449), if any.
    #[serde(default)]
    key: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Refresh {
    grant: u64,
    issued_at: Timestamp,
    spent_at: Option<Timestamp>,
    /// Whether the access token that was issued for it has been used.
    settled: bool,
    revoked: bool,
    /// Order of issue: the oldest spent ones are forgotten first.
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
    /// Valid for minutes: not kept over a restart.
    #[serde(skip)]
    codes: BTreeMap<Digest, Code>,
}

/// The outcome of a token request.
#[derive(Debug)]
pub(super) struct Issued {
    pub(super) grant: u64,
    pub(super) access_token: String,
    pub(super) expires_in: Option<u64>,
    pub(super) refresh_token: Option<String>,
    pub(super) scope: String,
    pub(super) created_at: Timestamp,
    /// A spent refresh token was accepted again.
    pub(super) replayed: bool,
}

/// Why a token request was refused: `error` of RFC 6749 §5.2, and its description.
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

/// Why an access token is invalid, in Doorkeeper's words.
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
    /// Tokens that need no code: the client's own, or those of the person that an assertion or a device code names.
    pub(super) fn give(
        &mut self,
        consent: Consent,
        refresh: bool,
        faults: &mut Faults,
        now: Timestamp,
    ) -> anyhow::Result<Issued> {
        let refresh = refresh && !faults.omit_refresh_token.take();
        let (grant, scope) = (self.next(), consent.scope.clone());
        self.grants.insert(grant, Grant { consent, revoked: false });
        let issued = self.issue(grant, scope, refresh, None, faults, now);
        // Clients ask like this for ever, and each time it is a grant.
        let used = self.access.values().map(|access| access.grant).chain(self.refresh.values().map(|it| it.grant));
        let used: BTreeSet<u64> = used.chain(self.codes.values().map(Code::grant)).collect();
        self.grants.retain(|grant, _| used.contains(grant));
        issued
    }

    /// Binds an access token to the key of this thumbprint.
    pub(super) fn bind(&mut self, token: &str, key: &str) {
        if let Some(access) = self.access.get_mut(&Digest::of(token)) {
            access.key = Some(key.to_owned());
        }
    }

    /// The thumbprint of the key that an access token is bound to.
    pub(super) fn key_of(&self, token: &str) -> Option<&str> {
        self.access.get(&Digest::of(token))?.key.as_deref()
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
        let dies_at = now + seconds(lifetime);
        let access = Access { grant, scope: scope.clone(), dies_at, revoked: false, bought_with, key: None };
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

    /// The grant of an access token, or why the token is invalid. The first use settles the refresh token that it was
    /// issued for.
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

    /// Revokes (RFC 7009): an access token alone, or with a refresh token the grant. Another client's token stays valid.
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

    fn next(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }
}

/// A length of time from a switch, which was checked when it was set.
fn seconds(seconds: f64) -> SignedDuration {
    SignedDuration::try_from_secs_f64(seconds).unwrap_or(SignedDuration::ZERO)
}

#[cfg(test)]
mod tests;
