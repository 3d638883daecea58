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
mod obtain;
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
pub use notify::{AUTHORISED, Announcement, Announcer, Origin, Severity, WebhookKey, post_webhook};
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
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use account_store::StoreHealth;
use arc_swap::ArcSwapOption;
use device::DeviceFlow;
use jiff::Timestamp;
use notify::Outbox;
use single_flight::SingleFlight;
use token_cache::TokenCache;
use tokio_util::task::TaskTracker;

use crate::{
    grant::Authority,
    store::{Key, Store, StoreError},
    token::{Failure, LastRenewal, State},
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
    /// The newest record that this replica knows of.
    cache: TokenCache,
    /// The renewal under way in this process.
    flights: SingleFlight,
    /// Renewals and writes under way.
    work: TaskTracker,
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
    /// What is to be announced, and what was.
    outbox: Outbox,
    /// That a token worked is being written.
    noting: AtomicBool,
    /// The last renewals, newest first.
    history: Mutex<VecDeque<LastRenewal>>,
    /// The account has metrics of its own.
    shown: AtomicBool,
    /// What only accounts of the device grant have.
    devices: DeviceFlow,
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
            cache: TokenCache::default(),
            flights: SingleFlight::default(),
            work,
            leased: AtomicBool::new(false),
            unsaved: AtomicBool::new(false),
            damage: ArcSwapOption::empty(),
            pending: AtomicU32::new(0),
            store: StoreHealth::default(),
            outbox: Outbox::default(),
            noting: AtomicBool::new(false),
            history: Mutex::default(),
            shown: AtomicBool::new(true),
            devices: DeviceFlow::default(),
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
        Arc::strong_count(&self.0) == 1 && self.is_saved() && self.0.outbox.is_quiet()
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
