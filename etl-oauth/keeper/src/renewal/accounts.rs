//! The keepers of all accounts of a function.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::task::TaskTracker;

use super::{Keeper, Parts};
use crate::store::{ByteStore, DEFAULT_ACCOUNT, DEFAULT_CONNECTION, Key, Kind, Scan, StoreError};

/// How many accounts are asked for at once.
const PAGE: usize = 500;

/// One keeper an account, made when it is first asked for; all share store, provider and client.
pub struct Keepers {
    connection: String,
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
    /// Keepers made of `parts`, for the accounts of the connection without a name; that of the account `default` to begin
    /// with.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let keepers = Self::of_connection(DEFAULT_CONNECTION, parts);
        let first = keepers.make(Key::default());
        keepers.known().insert(DEFAULT_ACCOUNT.to_owned(), first);
        keepers
    }

    /// Keepers made of `parts`, for the accounts of `connection`: a name that [`Keepers::check`] knows how to judge.
    #[must_use]
    pub fn of_connection(connection: &str, parts: Parts) -> Self {
        let (parts, work) = (Arc::new(parts), TaskTracker::new());
        Self { connection: connection.to_owned(), parts, known: Mutex::default(), work }
    }

    /// The connection whose accounts these are.
    #[must_use]
    pub fn connection(&self) -> &str {
        &self.connection
    }

    fn make(&self, key: Key) -> Keeper {
        Keeper::sharing(key, Arc::clone(&self.parts), self.work.clone())
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Keeper>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keeper of `account`.
    ///
    /// # Errors
    /// When that is no name of an account, or the store holds the one account `default` only.
    pub fn get(&self, account: &str) -> Result<Keeper, StoreError> {
        let key = self.check(account)?;
        Ok(self.known().entry(account.to_owned()).or_insert_with(|| self.make(key)).clone())
    }

    /// The keeper of `account`, where the store or this replica knows a record of it, or it is `default`. Asking for an
    /// account without a record reads the store once and leaves nothing behind.
    ///
    /// # Errors
    /// As [`Keepers::get`].
    pub async fn existing(&self, account: &str) -> Result<Option<Keeper>, StoreError> {
        let key = self.check(account)?;
        let known = self.known().get(account).cloned();
        let keeper = known.unwrap_or_else(|| self.make(key));
        if account == DEFAULT_ACCOUNT || keeper.current().is_some() {
            return Ok(Some(keeper));
        }
        keeper.sync().await;
        if keeper.current().is_none() {
            return Ok(None);
        }
        Ok(Some(self.known().entry(account.to_owned()).or_insert(keeper).clone()))
    }

    /// The key of `account`, where that can be one of this function's.
    ///
    /// # Errors
    /// As [`Keepers::get`], without making a keeper.
    pub fn check(&self, account: &str) -> Result<Key, StoreError> {
        let key = Key::token(&self.connection, account)?;
        if account != DEFAULT_ACCOUNT && !self.parts.store.capabilities().accounts {
            let kind = self.parts.store.kind();
            return Err(StoreError::refused(format!(
                "the store {kind} holds one account only, called {DEFAULT_ACCOUNT}; choose another store for more"
            )));
        }
        Ok(key)
    }

    /// The keepers of all accounts that the store or this replica knows, read anew from the store; in the order of their
    /// names.
    pub async fn all(&self) -> Vec<Keeper> {
        let stored = self.stored().await.unwrap_or_default();
        let names: BTreeSet<String> = self.known().keys().cloned().chain(stored).collect();
        let keepers: Vec<Keeper> = names.iter().filter_map(|name| self.get(name).ok()).collect();
        for keeper in &keepers {
            keeper.sync().await;
        }
        keepers
    }

    /// The names of all accounts that have a record.
    async fn stored(&self) -> Result<Vec<String>, StoreError> {
        let (mut names, mut scan) = (Vec::new(), Scan::of(Kind::TOKEN, PAGE));
        scan.connection = Some(self.connection.clone());
        loop {
            let page = self.parts.store.list(&scan).await?;
            names.extend(page.keys.iter().map(|key| key.name().to_owned()));
            if page.next.is_none() {
                return Ok(names);
            }
            scan.after = page.next;
        }
    }

    /// Writes every account's record anew, sealed with the key that is now the first; gives how many were written.
    ///
    /// # Errors
    /// When the store fails; it can be asked again.
    pub async fn reseal(&self) -> Result<usize, StoreError> {
        self.parts.store.reseal(Kind::TOKEN).await
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
        let Some(mut changes) = self.parts.store.changes(Kind::TOKEN) else { return };
        while let Some(key) = changes.recv().await {
            let keeper = self.known().get(key.name()).filter(|keeper| *keeper.key() == key).cloned();
            if let Some(keeper) = keeper {
                keeper.sync().await;
            }
        }
    }
}
