//! The keepers of all accounts of a function.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use super::{Keeper, Parts};
use crate::{
    store::{ByteStore, DEFAULT_ACCOUNT, DEFAULT_CONNECTION, Key, Kind, Scan, StoreError},
    token::State,
};

/// How many accounts are asked for at once.
const PAGE: usize = 500;

/// Which accounts a page is to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountPage {
    /// Those whose names begin so.
    pub prefix: String,
    /// Those in this state.
    pub state: Option<State>,
    /// Those after this name.
    pub after: Option<String>,
    /// No more than so many.
    pub limit: usize,
}

/// How much of the accounts a replica has in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many accounts' tokens stay in memory; more only while they are in use.
    pub cached: usize,
    /// How many accounts have metrics of their own: the first ones that are used.
    pub series: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { cached: 10_000, series: 100 }
    }
}

/// One keeper an account, made when it is first asked for; all share store, provider and client.
pub struct Keepers {
    connection: String,
    parts: Arc<Parts>,
    limits: Limits,
    known: Mutex<Known>,
    work: TaskTracker,
}

/// The keepers in memory, and their names in the order in which they came.
#[derive(Default)]
struct Known {
    keepers: HashMap<String, Keeper>,
    order: VecDeque<String>,
    /// How many accounts have metrics of their own.
    shown: usize,
}

impl Known {
    fn insert(&mut self, keeper: Keeper, limits: Limits) {
        if self.keepers.len() >= limits.cached {
            self.forget(limits.cached);
        }
        if self.shown < limits.series {
            self.shown += 1;
            keeper.show_in_metrics();
        }
        let name = keeper.account().to_owned();
        self.order.push_back(name.clone());
        self.keepers.insert(name, keeper);
    }

    /// Makes room for one: the first that nothing uses goes, and is read again when it is needed. One that is in use, or
    /// holds what the store does not, goes to the end of the queue.
    fn forget(&mut self, cached: usize) {
        for _ in 0..self.order.len() {
            if self.keepers.len() < cached {
                return;
            }
            let Some(name) = self.order.pop_front() else { return };
            if self.keepers.get(&name).is_some_and(Keeper::can_be_forgotten) {
                self.keepers.remove(&name);
            } else {
                self.order.push_back(name);
            }
        }
    }
}

impl std::fmt::Debug for Keepers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keepers").field("accounts", &self.known().keepers.keys()).finish_non_exhaustive()
    }
}

impl Keepers {
    /// Keepers made of `parts`, for the accounts of the connection without a name; that of the account `default` to begin
    /// with.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let keepers = Self::of_connection(DEFAULT_CONNECTION, parts);
        let first = keepers.make(Key::default());
        keepers.known().insert(first, keepers.limits);
        keepers
    }

    /// Keepers made of `parts`, for the accounts of `connection`: a name that [`Keepers::check`] knows how to judge.
    #[must_use]
    pub fn of_connection(connection: &str, parts: Parts) -> Self {
        let (parts, work) = (Arc::new(parts), TaskTracker::new());
        Self { connection: connection.to_owned(), parts, limits: Limits::default(), known: Mutex::default(), work }
    }

    /// The same within these limits.
    #[must_use]
    pub fn within(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// The connection whose accounts these are.
    #[must_use]
    pub fn connection(&self) -> &str {
        &self.connection
    }

    pub(super) fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Whether the process waits for the work under way to end: no more is begun.
    pub(super) fn is_ending(&self) -> bool {
        self.work.is_closed()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    /// How many accounts' tokens are in memory.
    #[must_use]
    pub fn in_memory(&self) -> usize {
        self.known().keepers.len()
    }

    fn make(&self, key: Key) -> Keeper {
        Keeper::sharing(key, Arc::clone(&self.parts), self.work.clone())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keeper of `account`.
    ///
    /// # Errors
    /// When that is no name of an account, or the store holds the one account `default` only.
    pub fn get(&self, account: &str) -> Result<Keeper, StoreError> {
        let key = self.check(account)?;
        Ok(self.keep(account, || self.make(key)))
    }

    /// The keeper in memory, or else the one that is made now.
    fn keep(&self, account: &str, make: impl FnOnce() -> Keeper) -> Keeper {
        let mut known = self.known();
        if let Some(keeper) = known.keepers.get(account) {
            return keeper.clone();
        }
        let keeper = make();
        known.insert(keeper.clone(), self.limits);
        keeper
    }

    /// The keeper of `account`, where the store or this replica knows a record of it, or it is `default`. Asking for an
    /// account without a record reads the store once and leaves nothing behind.
    ///
    /// # Errors
    /// As [`Keepers::get`].
    pub async fn existing(&self, account: &str) -> Result<Option<Keeper>, StoreError> {
        let key = self.check(account)?;
        let known = self.known().keepers.get(account).cloned();
        let keeper = known.unwrap_or_else(|| self.make(key));
        if account == DEFAULT_ACCOUNT || keeper.current().is_some() {
            return Ok(Some(self.keep(account, || keeper)));
        }
        keeper.sync().await;
        if keeper.current().is_none() {
            return Ok(None);
        }
        Ok(Some(self.keep(account, || keeper)))
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
        let names: BTreeSet<String> = self.known().keepers.keys().cloned().chain(stored).collect();
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

    /// The keepers of a page of accounts, read anew from the store, in the order of their names, and the name after which the
    /// next page begins.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn page(&self, wanted: &AccountPage) -> Result<(Vec<Keeper>, Option<String>), StoreError> {
        let after = wanted.after.as_deref().map(|name| Key::token(&self.connection, name)).transpose()?;
        let scan = Scan {
            kind: Kind::TOKEN,
            connection: Some(self.connection.clone()),
            prefix: wanted.prefix.clone(),
            tag: wanted.state.map(|state| state.as_str().to_owned()),
            after,
            limit: wanted.limit,
        };
        let page = self.parts.store.list(&scan).await?;
        let keepers = page.keys.iter().map(|key| self.get(key.name())).collect::<Result<Vec<_>, _>>()?;
        let mut reading: JoinSet<()> = JoinSet::new();
        for keeper in &keepers {
            let keeper = keeper.clone();
            reading.spawn(async move { keeper.sync().await });
        }
        reading.join_all().await;
        Ok((keepers, page.next.map(|key| key.name().to_owned())))
    }

    /// How many accounts the store has in each state, in the order of [`State::ALL`]. One that no replica of this version
    /// has written yet counts as `enabled`.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn counts(&self) -> Result<[u64; 4], StoreError> {
        let counts = self.parts.store.counts(Kind::TOKEN, Some(&self.connection)).await?;
        let of = |tag: &str| counts.get(tag).copied().unwrap_or_default();
        Ok(State::ALL.map(|state| of(state.as_str()) + if state == State::Enabled { of("") } else { 0 }))
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
            let keeper = self.known().keepers.get(key.name()).filter(|keeper| *keeper.key() == key).cloned();
            if let Some(keeper) = keeper {
                keeper.sync().await;
            }
        }
    }
}
