//! Keeps one account's token valid: the renewal protocol. The protocol itself is a state machine without IO; here it meets
//! the store, the provider and the clock.

mod account_store;
mod accounts;
mod authorize;
mod clock;
mod device;
mod dpop;
mod driver;
mod due;
mod error;
mod mark;
mod notify;
mod pace;
mod policy;
mod protocol;
mod records;
mod replay_guard;
mod revoke;
mod single_flight;
mod state_machine;
mod sweeper;
mod token;
mod token_cache;

pub use accounts::{AccountPage, Keepers, Limits};
pub use authorize::{Kept, Taken};
pub use clock::Clock;
pub use device::Invitation;
pub(crate) use driver::jitter;
pub use error::{KeeperError, RECORD_DAMAGED};
pub use notify::{AUTHORISED, Announcement, Announcer, Origin, Severity};
pub use policy::{Policy, Renew};
pub use protocol::{Action, Event, Outcome, Reason};
pub use records::{RecordStore, Stored};
pub use revoke::{NotRevoked, Revoked};
pub use state_machine::RenewalMachine;
pub use sweeper::SweepOptions;
pub use token::Token;
pub use token_cache::DAMAGED;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use account_store::{StoreHealth, Updated};
use arc_swap::ArcSwapOption;
use device::Desk;
use jiff::Timestamp;
use single_flight::{Flight, Landing};
use token_cache::Current;
use tokio_util::task::TaskTracker;

use crate::{
    grant::Authority,
    store::{Key, Store, StoreError},
    token::{Failure, FailureKind, Health, LastRenewal, Record, State},
};

/// What a keeper is made of.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "holds closures and secrets")]
pub struct Parts {
    /// The provider's authorization server.
    pub authority: Authority,
    /// Where the record lives.
    pub store: Arc<Store>,
    /// The rules.
    pub policy: Policy,
    /// This replica's name in leases and intents.
    pub owner: String,
    /// The time.
    pub clock: Clock,
    /// Who is told of changes of an account's state.
    pub announcer: Announcer,
}

/// Keeps one account's token valid. Cheap to clone; all clones are one keeper.
#[derive(Clone)]
pub struct Keeper(Arc<Inner>);

struct Inner {
    key: Key,
    parts: Arc<Parts>,
    current: ArcSwapOption<Current>,
    flight: Mutex<Option<Arc<Flight>>>,
    /// Renewals and writes under way.
    work: TaskTracker,
    /// The newest generation that the API has taken.
    worked: AtomicU64,
    /// The lease is ours.
    leased: AtomicBool,
    /// The tokens of a renewal are in memory alone.
    unsaved: AtomicBool,
    /// Authorisations whose tokens are in memory alone.
    pending: AtomicU32,
    /// What makes the stored record unreadable.
    damage: ArcSwapOption<StoreError>,
    /// What is known of the store.
    store: StoreHealth,
    /// The store trouble that was announced last, see [`notify`].
    trouble: AtomicU8,
    /// That a token worked is being written.
    noting: AtomicBool,
    /// A notification that another replica left behind is being delivered.
    telling: AtomicBool,
    /// The last renewals, newest first.
    history: Mutex<VecDeque<LastRenewal>>,
    /// The account has metrics of its own.
    shown: AtomicBool,
    /// A task of this replica asks the provider whether a person has typed a code.
    asking: AtomicBool,
    /// What only accounts of the device grant have.
    desk: OnceLock<Box<Desk>>,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").field("account", &self.0.key).finish_non_exhaustive()
    }
}

impl Keeper {
    /// The keeper of the tokens at `key`. Keepers of many accounts share their parts in an [`Arc`].
    pub fn new(key: Key, parts: impl Into<Arc<Parts>>) -> Self {
        Self::alone(key, parts.into(), TaskTracker::new())
    }

    /// The keeper of the tokens at `key`, whose work counts as that of others.
    fn sharing(key: Key, parts: Arc<Parts>, work: TaskTracker) -> Self {
        let keeper = Self::alone(key, parts, work);
        keeper.0.shown.store(false, Ordering::Release);
        keeper
    }

    fn alone(key: Key, parts: Arc<Parts>, work: TaskTracker) -> Self {
        Self(Arc::new(Inner {
            key,
            parts,
            current: ArcSwapOption::empty(),
            flight: Mutex::new(None),
            work,
            worked: AtomicU64::new(0),
            leased: AtomicBool::new(false),
            unsaved: AtomicBool::new(false),
            damage: ArcSwapOption::empty(),
            pending: AtomicU32::new(0),
            store: StoreHealth::default(),
            trouble: AtomicU8::new(0),
            noting: AtomicBool::new(false),
            telling: AtomicBool::new(false),
            history: Mutex::default(),
            shown: AtomicBool::new(true),
            asking: AtomicBool::new(false),
            desk: OnceLock::new(),
        }))
    }

    /// The account.
    #[must_use]
    pub fn account(&self) -> &str {
        self.0.key.name()
    }

    /// The connection that the account is at.
    #[must_use]
    pub fn connection(&self) -> &str {
        self.0.key.connection()
    }

    /// The key of the account's record in the store.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.0.key
    }

    /// How long a holder of a lease may be silent before it loses it.
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.0.parts.policy.lease
    }

    /// The store's name.
    #[must_use]
    pub fn store_kind(&self) -> &'static str {
        self.0.parts.store.kind()
    }

    /// The last renewals of this replica, newest first.
    #[must_use]
    pub fn history(&self) -> Vec<LastRenewal> {
        self.0.history.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Gives the account metrics of its own.
    fn show_in_metrics(&self) {
        self.0.shown.store(true, Ordering::Release);
    }

    /// Whether nothing uses it, and the store has all that it knows.
    fn can_be_forgotten(&self) -> bool {
        Arc::strong_count(&self.0) == 1 && self.is_saved() && self.0.trouble.load(Ordering::Acquire) == 0
    }

    /// Whether all that this replica knows is in the store.
    #[must_use]
    pub fn is_saved(&self) -> bool {
        !self.0.unsaved.load(Ordering::Acquire) && !self.is_authorisation_pending()
    }

    /// Whether the tokens of an authorisation are still to be written.
    fn is_authorisation_pending(&self) -> bool {
        self.0.pending.load(Ordering::Acquire) > 0
    }

    /// Whether the store can be read and written, as far as the last calls of each kind tell, and holds the newest tokens.
    #[must_use]
    pub fn is_store_ok(&self) -> bool {
        self.0.store.is_ok() && self.is_saved()
    }

    /// Why the stored record cannot be read, where it is there and damaged, or sealed with a key that is not mounted.
    #[must_use]
    pub fn damage(&self) -> Option<Arc<StoreError>> {
        self.0.damage.load_full()
    }

    /// When the account stops working unless a person authorises it again, where that is known: the end of its refresh
    /// token, or of its access token where there is nothing to renew it with.
    #[must_use]
    pub fn grant_ends_at(&self) -> Option<Timestamp> {
        let stored = self.current()?;
        let tokens = stored.record.tokens.as_ref().filter(|_| !self.0.parts.policy.asks_again)?;
        if tokens.refresh_token.is_some() { tokens.refresh_expires_at } else { tokens.expires_at }
    }

    /// Whether the first use will bring a token, though nobody has authorised anything.
    #[must_use]
    pub fn begins_by_itself(&self) -> bool {
        self.0.parts.policy.asks_again && self.current().is_none_or(|stored| stored.record.generation == 0)
    }

    /// When the next renewal is due by itself.
    #[must_use]
    pub fn next_renewal_at(&self) -> Option<Timestamp> {
        self.0.parts.policy.next_renewal_at(&self.current()?.record)
    }

    /// A token that is good for now.
    ///
    /// While it is fresh this takes no lock and asks nobody. Else it is renewed first, by one task however many callers
    /// wait; a caller that goes away cancels nothing. Where the renewal fails and the old token still lives, that one is
    /// handed out.
    ///
    /// # Errors
    /// [`KeeperError`], with what a person can do about it.
    pub async fn token(&self) -> Result<Token, KeeperError> {
        if let Some(token) = self.fresh() {
            self.keep_alive();
            return Ok(token);
        }
        let result = match self.standing() {
            Some(err) => Err(err),
            None => match self.landing_for(Reason::Expiry).await {
                Landing { fresh: Some(token), .. } => return Ok(token),
                Landing { result, .. } => result,
            },
        };
        match self.fresh() {
            Some(token) => Ok(token),
            None => self.usable(result),
        }
    }

    /// Begins the renewal that keeps an idle refresh token alive, where that is due. The caller does not wait for it: its
    /// access token is fresh.
    fn keep_alive(&self) {
        let is_idle = self.0.current.load().as_ref().is_some_and(|current| current.idle_at <= self.now());
        if is_idle && self.standing().is_none() {
            drop(self.board(Reason::Idle));
        }
    }

    /// A token instead of the one of `generation`, which the API has refused: one renewal for however many callers were
    /// refused with it.
    ///
    /// # Errors
    /// [`KeeperError`]; also when the tokens of the last renewal were refused like those before, and the next forced
    /// renewal has to wait.
    pub async fn token_instead_of(&self, generation: u64) -> Result<Token, KeeperError> {
        let is_newer = |stored: &Stored| stored.record.generation > generation;
        if !self.current().is_some_and(|stored| is_newer(&stored)) {
            let worked = self.0.worked.load(Ordering::Acquire) == generation;
            self.renew(Reason::Refused { generation, worked }).await?;
        }
        self.token_where(|current| is_newer(&current.stored)).ok_or_else(|| self.disabled())
    }

    /// Takes note that the API has taken a token of `generation`. Where the record says that such tokens were refused, the
    /// record takes note, too: another process must not take an old refusal for a new one.
    pub fn worked(&self, generation: u64) {
        self.0.worked.fetch_max(generation, Ordering::AcqRel);
        let is_noted = move |record: &Record| record.health.refused.is_none() || record.generation > generation;
        let current = self.0.current.load();
        if current.as_ref().is_none_or(|current| is_noted(&current.stored.record))
            || self.0.store.waits(self.now())
            || self.0.noting.swap(true, Ordering::AcqRel)
        {
            return;
        }
        let (keeper, work) = (self.clone(), self.0.work.token());
        tokio::spawn(crate::trace_context::carry(async move {
            let _unfinished = work;
            let cleared = keeper.update(|there| {
                let mut record = there.filter(|there| !is_noted(there))?.clone();
                record.health.refused = None;
                Some(record)
            });
            // The store's own log line says why not; the next call that works tries again.
            if let Ok(Updated::Written(_, stored) | Updated::Left(Some(stored))) = cleared.await {
                keeper.publish(stored);
            }
            keeper.0.noting.store(false, Ordering::Release);
        }));
    }

    /// What a run of the job begins with: looks at the store, renews where every run does, and keeps a refresh token alive
    /// that would lapse of idleness. A failure here is the failure of a later [`Keeper::token`], or of nothing.
    pub async fn begin_run(&self) {
        self.sync().await;
        let Some(stored) = self.current() else { return };
        let parts = &self.0.parts;
        let policy = &parts.policy;
        let outdated = stored.record.tokens.as_ref().is_some_and(|tokens| parts.authority.is_outdated(tokens));
        let need = if policy.renew == Renew::EachRun || outdated {
            Reason::Run { generation: stored.record.generation }
        } else if policy.idle_at(&stored.record).is_some_and(|at| at <= self.now()) {
            Reason::Idle
        } else {
            return;
        };
        if self.standing().is_none()
            && let Err(err) = self.renew(need).await
        {
            tracing::warn!(account = self.account(), error = %err, "the renewal before this run failed");
        }
    }

    /// Renews now, whatever waits stand, as an operator asks. Where a grant needs nobody, this begins it, too.
    ///
    /// # Errors
    /// [`KeeperError`] when no new token came.
    pub async fn refresh(&self) -> Result<Token, KeeperError> {
        self.sync().await;
        let stored = self.current();
        // Where the store cannot be read, the renewal says why.
        if stored.is_none() && !self.0.parts.policy.asks_again && self.is_store_readable() {
            return Err(self.disabled());
        }
        let now = self.now();
        let tokens = stored.as_ref().and_then(|stored| stored.record.tokens.as_ref());
        if !self.0.parts.policy.asks_again
            && tokens.is_some_and(|tokens| tokens.refresh_token.is_none() && tokens.is_alive(now))
        {
            return Err(KeeperError::NoRefreshToken { account: self.account().to_owned() });
        }
        let generation = stored.map_or(0, |stored| stored.record.generation);
        self.renew(Reason::Asked { generation }).await?;
        self.token_where(|_| true).ok_or_else(|| self.disabled())
    }

    /// What the last failure says of a try now, so that a caller under a backoff costs neither store nor provider a call.
    fn standing(&self) -> Option<KeeperError> {
        let now = self.now();
        let stored = self.current()?;
        let health = &stored.record.health;
        let waits = health.next_try_at.is_some_and(|at| now < at);
        // Only a wait is worth a look at the client's credentials.
        if health.needs_authorisation || (waits && health.waits(self.client_digest(health).as_deref(), now)) {
            let unknown = || Failure::new(FailureKind::ProviderUnavailable, "");
            return Some(self.failed(health.failure().unwrap_or_else(unknown)));
        }
        let why = match self.store_problem() {
            Some(problem) => problem.to_string(),
            None => "the new tokens are not saved yet; retrying".to_owned(),
        };
        (self.0.store.waits(now) || self.is_authorisation_pending())
            .then(|| self.failed(Failure::new(FailureKind::StoreUnavailable, why)))
    }

    /// Digest of the client's credentials, where a failure has noted one to compare with.
    fn client_digest(&self, health: &Health) -> Option<String> {
        health.client.as_ref().map(|_| self.0.parts.authority.credentials_digest())
    }

    /// After a renewal: its tokens, or the old ones while they live.
    fn usable(&self, result: Result<(), KeeperError>) -> Result<Token, KeeperError> {
        let now = self.now();
        let alive = |current: &Current| current.stored.record.tokens.as_ref().is_some_and(|it| it.is_alive(now));
        match (self.token_where(alive), result) {
            (Some(token), _) => Ok(token),
            (None, Err(err)) => Err(err),
            // A renewal whose second exchange failed leaves a refresh token alone.
            (None, Ok(())) if self.current().is_some_and(|stored| stored.record.tokens.is_some()) => {
                Err(self.failed(Failure::new(
                    FailureKind::ProviderUnavailable,
                    "the renewal brought no access token that is good for now",
                )))
            }
            (None, Ok(())) => Err(self.disabled()),
        }
    }

    fn disabled(&self) -> KeeperError {
        KeeperError::Disabled { account: self.account().to_owned() }
    }

    fn failed(&self, failure: Failure) -> KeeperError {
        let account = self.account().to_owned();
        match self.state() {
            State::NeedsAuthorisation => KeeperError::NeedsAuthorisation { account, failure },
            _ => KeeperError::Failed { account, failure },
        }
    }

    fn now(&self) -> Timestamp {
        self.0.parts.clock.now()
    }
}

#[cfg(test)]
mod tests;
