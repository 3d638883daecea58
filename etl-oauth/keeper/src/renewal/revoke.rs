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

/// Why an account still has its tokens.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotRevoked {
    /// The provider did not revoke them.
    #[error("the provider did not revoke the tokens: {0}")]
    Provider(Failure),
    /// They could not be deleted here.
    #[error("the tokens could not be deleted: {0}")]
    Store(StoreError),
}

impl Keeper {
    /// Revokes the tokens at the provider (RFC 7009: the refresh token first, which ends the grant, then the access
    /// token), and deletes them from the store whatever the provider said: a person who revokes wants them gone.
    pub async fn revoke(&self) -> Revoked {
        Revoked { provider: self.revoke_at_provider().await, store: self.forget().await }
    }

    /// The same, but where the provider does not revoke the tokens they stay, so that it can be asked again. Where it has no
    /// way to, they are deleted here.
    ///
    /// # Errors
    /// [`NotRevoked`]; the tokens are still there.
    pub async fn revoke_or_keep(&self) -> Result<(), NotRevoked> {
        match self.revoke_at_provider().await {
            Some(Err(failure)) => Err(NotRevoked::Provider(failure)),
            Some(Ok(())) | None => self.forget().await.map_err(NotRevoked::Store),
        }
    }

    async fn revoke_at_provider(&self) -> Option<Result<(), Failure>> {
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
        provider
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
                    let mut before = self.current().map(|known| known.record.clone()).unwrap_or_default();
                    before.generation = before.generation.max(self.newest_generation());
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
