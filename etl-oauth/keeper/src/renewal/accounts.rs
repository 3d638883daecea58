//! The keepers of all accounts of a function.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::task::TaskTracker;

use super::{Keeper, Parts};
use crate::store::{Capabilities, DEFAULT_ACCOUNT, StoreError, TokenStore, check_account};

/// One keeper an account, made when it is first asked for; all share store, provider and client.
pub struct Keepers {
    parts: Arc<Parts>,
    known: Mutex<BTreeMap<String, Keeper>>,
    work: TaskTracker,
}

impl std::fmt::Debug for Keepers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keepers").field("accounts", &self.known().keys()).finish_non_exhaustive()
    }
}

impl Keepers {
    /// Keepers made of `parts`, that of the account `default` to begin with.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let (parts, work) = (Arc::new(parts), TaskTracker::new());
        let first = Keeper::sharing(DEFAULT_ACCOUNT, Arc::clone(&parts), work.clone());
        Self { parts, known: Mutex::new(BTreeMap::from([(DEFAULT_ACCOUNT.to_owned(), first)])), work }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Keeper>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keeper of `account`.
    ///
    /// # Errors
    /// When that is no name of an account, or the store holds the one account `default` only.
    pub fn get(&self, account: &str) -> Result<Keeper, StoreError> {
        self.check(account)?;
        let make = || Keeper::sharing(account, Arc::clone(&self.parts), self.work.clone());
        Ok(self.known().entry(account.to_owned()).or_insert_with(make).clone())
    }

    /// The keeper of `account`, where the store or this replica knows a record of it, or it is `default`. Asking for an
    /// account without a record reads the store once and leaves nothing behind.
    ///
    /// # Errors
    /// As [`Keepers::get`].
    pub async fn existing(&self, account: &str) -> Result<Option<Keeper>, StoreError> {
        self.check(account)?;
        let known = self.known().get(account).cloned();
        let keeper = match known {
            Some(keeper) => keeper,
            None => Keeper::sharing(account, Arc::clone(&self.parts), self.work.clone()),
        };
        if account == DEFAULT_ACCOUNT || keeper.current().is_some() {
            return Ok(Some(keeper));
        }
        keeper.sync().await;
        if keeper.current().is_none() {
            return Ok(None);
        }
        Ok(Some(self.known().entry(account.to_owned()).or_insert(keeper).clone()))
    }

    /// The store's name, and what it can do.
    #[must_use]
    pub fn store(&self) -> (&'static str, Capabilities) {
        (self.parts.store.kind(), self.parts.store.capabilities())
    }

    /// Whether `account` can be one of this function's.
    ///
    /// # Errors
    /// As [`Keepers::get`], without making a keeper.
    pub fn check(&self, account: &str) -> Result<(), StoreError> {
        check_account(account)?;
        if account != DEFAULT_ACCOUNT && !self.parts.store.capabilities().accounts {
            let kind = self.parts.store.kind();
            return Err(StoreError::Refused(format!(
                "the store {kind} holds one account only, called {DEFAULT_ACCOUNT}; choose another store for more"
            )));
        }
        Ok(())
    }

    /// The keepers of all accounts that the store or this replica knows, read anew from the store; in the order of their
    /// names.
    pub async fn all(&self) -> Vec<Keeper> {
        let stored = self.parts.store.accounts().await.unwrap_or_default();
        let names: BTreeSet<String> = self.known().keys().cloned().chain(stored).collect();
        let keepers: Vec<Keeper> = names.iter().filter_map(|name| self.get(name).ok()).collect();
        for keeper in &keepers {
            keeper.sync().await;
        }
        keepers
    }

    /// Writes every account's record anew, sealed with the key that is now the first; gives how many were written.
    ///
    /// # Errors
    /// When the store fails; it can be asked again.
    pub async fn reseal(&self) -> Result<usize, StoreError> {
        self.parts.store.reseal().await
    }

    /// Waits until no renewal, no write of tokens and no notification of any account is under way: what a process waits for
    /// before it exits.
    pub fn finished(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let work = self.work.clone();
        async move {
            work.close();
            work.wait().await;
        }
    }

    /// Looks at the store again whenever another replica has written, where the store tells of that: a rotation is known
    /// at once. Runs for as long as the store tells.
    pub async fn follow(&self) {
        let Some(mut changes) = self.parts.store.changes() else { return };
        while let Some(account) = changes.recv().await {
            let keeper = self.known().get(&account).cloned();
            if let Some(keeper) = keeper {
                keeper.sync().await;
            }
        }
    }
}
