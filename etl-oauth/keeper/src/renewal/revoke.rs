//! Revocation: at the provider first, then here.

use super::{Keeper, account_store::Updated};
use crate::{provider::TokenKind, renewal::Stored, store::StoreError, token::Failure};

/// What a revocation did. Each half may fail alone.
#[derive(Clone, Debug)]
pub struct Revoked {
    /// At the provider; `None` where it has no revocation endpoint.
    pub provider: Option<Result<(), Failure>>,
    /// In the store.
    pub store: Result<(), StoreError>,
}

impl Keeper {
    /// Revokes the tokens at the provider (RFC 7009: the refresh token first, which ends the grant, then the access
    /// token), and deletes them from the store whatever the provider said: a person who revokes wants them gone.
    pub async fn revoke(&self) -> Revoked {
        self.sync().await;
        let current = self.current();
        let tokens = current.as_ref().and_then(|stored| stored.record.tokens.as_ref());
        let kept = tokens.map(|tokens| tokens.kept.clone()).unwrap_or_default();
        let mut provider = None;
        for (token, kind) in [
            (tokens.and_then(|tokens| tokens.refresh_token.as_ref()), TokenKind::RefreshToken),
            (tokens.map(|tokens| &tokens.access_token), TokenKind::AccessToken),
        ] {
            let Some(token) = token.filter(|token| !token.expose().is_empty()) else { continue };
            let twice = tokens.and_then(|tokens| tokens.refresh_token.as_ref()).is_some_and(|other| other.same(token));
            // An access token that is exchanged for the next one is its own refresh token.
            if twice && kind == TokenKind::AccessToken && provider.is_some() {
                continue;
            }
            match self.0.parts.authority.revoke(token, kind, &kept, self.now()).await {
                None => {}
                Some(Err(failure)) => provider = provider.or(Some(Ok(()))).map(|_| Err(failure)),
                Some(Ok(())) => provider = provider.or(Some(Ok(()))),
            }
        }
        Revoked { provider, store: self.forget().await }
    }

    async fn forget(&self) -> Result<(), StoreError> {
        let (heard, now) = (self.0.parts.announcer.is_heard(), self.now());
        loop {
            let updated = self.update_any(|there| there.map(|there| there.revoked(now).over(there, heard, now))).await;
            let (before, stored) = match updated {
                Ok(Updated::Written(before, stored)) => (*before, stored),
                Ok(Updated::Left(_)) => return Ok(()),
                // What cannot be read is what the operator wants gone. What this replica knew of it stays in the count.
                Err(StoreError::Damaged { version, .. }) => {
                    let before = self.current().map(|known| known.record.clone()).unwrap_or_default();
                    let record = before.revoked(now).over(&before, heard, now);
                    match self.save(&record, Some(&version)).await {
                        Ok(version) => (before, Stored { record, version }),
                        Err(StoreError::Conflict) => continue,
                        Err(err) => return Err(err),
                    }
                }
                Err(err) => return Err(err),
            };
            self.0.damage.store(None);
            self.announce(before.condition(), &stored.record);
            self.publish(stored);
            return Ok(());
        }
    }
}
