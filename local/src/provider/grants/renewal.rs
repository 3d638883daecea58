//! Renewals, with the rotation rules of real providers.

use jiff::Timestamp;

use super::{Digest, Faults, Grants, Issued, Refused, seconds};

/// How many spent refresh tokens of a grant are remembered, to detect reuse.
const SPENT_KEPT: usize = 1000;

impl Grants {
    /// RFC 6749 §6, with rotation and reuse detection of RFC 9700 §4.14.
    pub(in crate::provider) fn renew(
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

    fn forget(&mut self, grant: u64) {
        let spent = || self.refresh.iter().filter(|(_, refresh)| refresh.grant == grant && refresh.spent_at.is_some());
        if spent().count() > SPENT_KEPT {
            let oldest = spent().min_by_key(|(_, refresh)| refresh.serial).map(|(digest, _)| digest.clone());
            oldest.map(|digest| self.refresh.remove(&digest));
        }
    }
}
