//! One account: its token, its API, its end.

use std::sync::Arc;

use super::ExchangeError;
use crate::{
    api::{Api, ApiError},
    grant::Authority,
    renewal::{Keeper, KeeperError, Revoked, Token},
    token::{State, Subject},
};

/// One person's grant at the provider. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Account {
    keeper: Keeper,
    authority: Authority,
}

impl Account {
    pub(super) fn new(keeper: Keeper, authority: Authority) -> Self {
        Self { keeper, authority }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.keeper.account()
    }

    /// Its state, as far as this process knows.
    #[must_use]
    pub fn state(&self) -> State {
        self.keeper.state()
    }

    /// A token that is good for now. While it is fresh this takes no lock; else it is renewed, once, however many tasks,
    /// processes and hosts want it. A token that still lives is given while renewals fail.
    ///
    /// # Errors
    /// [`KeeperError`]: not authorised, to be authorised again, or no token just now, each with the cause.
    pub async fn token(&self) -> Result<Token, KeeperError> {
        if self.keeper.current().is_none() {
            // A new process: the store knows what it does not.
            self.keeper.sync().await;
        }
        self.keeper.token().await
    }

    /// A token instead of one that the API has refused: one renewal for all who were refused with it.
    ///
    /// # Errors
    /// [`KeeperError`]; also when the new token is refused like the one before.
    pub async fn token_instead_of(&self, refused: &Token) -> Result<Token, KeeperError> {
        self.keeper.token_instead_of(refused.generation()).await
    }

    /// The provider's API with this account's token on each request: renewed when it is refused, within the API's limits.
    ///
    /// # Errors
    /// When the definition holds what no header can carry, or TLS does not start.
    pub fn api(&self) -> Result<Api, ApiError> {
        let provider = self.authority.provider();
        let client = self.authority.client(jiff::Timestamp::now()).map(|client| client.id).unwrap_or_default();
        Api::of(Arc::clone(&provider), &client, self.keeper.clone()).map_err(|_| ApiError::NotConfigured)
    }

    /// Revokes the tokens at the provider (RFC 7009) and deletes them from the store, whatever the provider says.
    pub async fn revoke(&self) -> Revoked {
        self.keeper.revoke().await
    }

    /// The parts below: state, history, renewal on demand.
    #[must_use]
    pub fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    /// Refuses the grant of another person than the one whose account this is.
    pub(super) async fn is_same_person(&self, new: Option<&Subject>) -> Result<(), ExchangeError> {
        self.keeper.sync().await;
        let current = self.keeper.current();
        let stored = current.as_ref().filter(|stored| stored.record.tokens.is_some());
        match (stored.and_then(|stored| stored.record.owner.as_ref()), new) {
            (Some(known), Some(new)) if known.id != new.id => {
                Err(ExchangeError::OtherPerson { account: self.name().to_owned() })
            }
            _ => Ok(()),
        }
    }
}
