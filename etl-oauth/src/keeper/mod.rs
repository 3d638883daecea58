//! Keeps one account's token valid: the renewal protocol. The protocol itself is a state machine without IO; here it meets
//! the store, the provider and the clock.

mod accounts;
mod clock;
mod device;
mod flight;
mod machine;
mod notify;
mod once;
mod persist;
mod policy;
mod proof;
mod revoke;
mod step;
mod tell;
mod work;

pub use accounts::Keepers;
pub use clock::Clock;
pub use device::Invitation;
pub use machine::Renewal;
pub use notify::{Announcement, Announcer};
pub use persist::Kept;
pub use policy::{Policy, Renew};
pub use revoke::Revoked;
pub use step::{Event, Need, Outcome, Step};

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use work::Work;

use crate::{
    grant::Authority,
    store::{Store, StoreError, Stored, TokenStore},
    token::{Class, Device, Failure, Renewal as LastRenewal, State, Tokens},
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
    account: String,
    parts: Arc<Parts>,
    current: ArcSwapOption<Current>,
    flight: Mutex<Option<Arc<flight::Flight>>>,
    /// Renewals and writes under way.
    work: Arc<Work>,
    /// The newest generation that the API has taken.
    worked: AtomicU64,
    /// The lease is ours.
    leased: AtomicBool,
    /// New tokens are in memory alone.
    unsaved: AtomicBool,
    /// The last call to the store went well.
    store_ok: AtomicBool,
    /// News that another replica left untold are being told.
    telling: AtomicBool,
    /// The last renewals, newest first.
    history: Mutex<VecDeque<LastRenewal>>,
    /// Unix milliseconds before which an unreachable store is left alone.
    store_again_at: AtomicI64,
    /// A device authorisation that the store cannot hold for all replicas.
    device: Mutex<Option<Device>>,
    /// A task of this replica asks the provider whether a person has typed a code.
    asking: AtomicBool,
    /// Who asks for a code; the last failure, which stands for a moment.
    inviting: tokio::sync::Mutex<Option<(Timestamp, Failure)>>,
}

/// The newest record, with what every call asks of it worked out once.
struct Current {
    stored: Arc<Stored>,
    fresh_until: Timestamp,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").field("account", &self.0.account).finish_non_exhaustive()
    }
}

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeeperError {
    /// Nobody has authorised the account, or it was revoked.
    #[error("account {account} is not authorised")]
    Disabled {
        /// The account.
        account: String,
    },
    /// The grant is gone, and a person must authorise again.
    #[error("account {account} must be authorised again: {failure}")]
    NeedsAuthorisation {
        /// The account.
        account: String,
        /// What the provider said.
        failure: Failure,
    },
    /// There is no token just now.
    #[error("account {account} has no usable token just now: {failure}")]
    Failed {
        /// The account.
        account: String,
        /// Why not.
        failure: Failure,
    },
}

/// An access token, with what it was when it was handed out.
#[derive(Clone, Debug)]
pub struct Token {
    stored: Arc<Stored>,
}

impl Token {
    fn new(stored: Arc<Stored>) -> Option<Self> {
        stored.record.tokens.as_ref()?;
        Some(Self { stored })
    }

    /// The tokens and what is known of them.
    #[must_use]
    pub fn tokens(&self) -> &Tokens {
        static NONE: std::sync::LazyLock<Tokens> = std::sync::LazyLock::new(|| Tokens::bare(None, None));
        // `new` has looked.
        self.stored.record.tokens.as_ref().unwrap_or(&NONE)
    }

    /// The generation that a refusal by the API must name.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.stored.record.generation
    }
}

impl Keeper {
    /// The keeper of `account`. Keepers of many accounts share their parts in an [`Arc`].
    pub fn new(account: impl Into<String>, parts: impl Into<Arc<Parts>>) -> Self {
        Self::sharing(account, parts.into(), Arc::default())
    }

    /// The keeper of `account`, whose work counts as that of others.
    fn sharing(account: impl Into<String>, parts: Arc<Parts>, work: Arc<Work>) -> Self {
        Self(Arc::new(Inner {
            account: account.into(),
            parts,
            current: ArcSwapOption::empty(),
            flight: Mutex::new(None),
            work,
            worked: AtomicU64::new(0),
            leased: AtomicBool::new(false),
            unsaved: AtomicBool::new(false),
            store_ok: AtomicBool::new(true),
            telling: AtomicBool::new(false),
            history: Mutex::default(),
            store_again_at: AtomicI64::new(i64::MIN),
            device: Mutex::default(),
            asking: AtomicBool::new(false),
            inviting: tokio::sync::Mutex::default(),
        }))
    }

    /// The account.
    #[must_use]
    pub fn account(&self) -> &str {
        &self.0.account
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

    /// The newest record that this replica knows of, without asking the store.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Stored>> {
        self.0.current.load().as_ref().map(|current| Arc::clone(&current.stored))
    }

    /// The state of the newest record that this replica knows of.
    #[must_use]
    pub fn state(&self) -> State {
        let state = self.current().map_or(State::Disabled, |stored| stored.record.state());
        if state == State::Enabled && !self.is_saved() { State::Degraded } else { state }
    }

    /// Whether all that this replica knows is in the store.
    #[must_use]
    pub fn is_saved(&self) -> bool {
        !self.0.unsaved.load(Ordering::Acquire)
    }

    /// Whether the store can be used, as far as the last call to it tells.
    #[must_use]
    pub fn is_store_ok(&self) -> bool {
        self.0.store_ok.load(Ordering::Acquire) && self.is_saved()
    }

    /// Whether the first use will bring a token, though nobody has authorised anything.
    #[must_use]
    pub fn begins_by_itself(&self) -> bool {
        self.0.parts.policy.asks_again && self.current().is_none_or(|stored| stored.record.generation == 0)
    }

    /// When the next renewal is due by itself.
    #[must_use]
    pub fn next_renewal_at(&self) -> Option<Timestamp> {
        let stored = self.current()?;
        let health = &stored.record.health;
        if health.needs_authorisation || health.held {
            return None;
        }
        health.next_try_at.or_else(|| self.0.parts.policy.due_at(&stored.record))
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
            return Ok(token);
        }
        let result = match self.standing() {
            Some(err) => Err(err),
            None => self.renew(Need::Expiry).await,
        };
        match self.fresh() {
            Some(token) => Ok(token),
            None => self.usable(result),
        }
    }

    fn fresh(&self) -> Option<Token> {
        let now = self.now();
        let current = self.0.current.load();
        let current = current.as_ref().filter(|current| now < current.fresh_until)?;
        Token::new(Arc::clone(&current.stored))
    }

    /// A token instead of the one of `generation`, which the API has refused: one renewal for however many callers were
    /// refused with it.
    ///
    /// # Errors
    /// [`KeeperError`]; also when the tokens of the last renewal were refused like those before, and the next forced
    /// renewal has to wait.
    pub async fn token_instead_of(&self, generation: u64) -> Result<Token, KeeperError> {
        let newer = |keeper: &Self| keeper.current().filter(|stored| stored.record.generation > generation);
        if newer(self).is_none() {
            let worked = self.0.worked.load(Ordering::Acquire) == generation;
            self.renew(Need::Refused { generation, worked }).await?;
        }
        newer(self).and_then(Token::new).ok_or_else(|| self.disabled())
    }

    /// Takes note that the API has taken a token of `generation`.
    pub fn worked(&self, generation: u64) {
        self.0.worked.fetch_max(generation, Ordering::AcqRel);
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
            Need::Run { generation: stored.record.generation }
        } else if policy.idle_at(&stored.record).is_some_and(|at| at <= self.now()) {
            Need::Idle
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
        if stored.is_none() && !self.0.parts.policy.asks_again {
            return Err(self.disabled());
        }
        let generation = stored.map_or(0, |stored| stored.record.generation);
        self.renew(Need::Asked { generation }).await?;
        self.current().and_then(Token::new).ok_or_else(|| self.disabled())
    }

    /// Reads the store and takes what is newer there. A store that cannot be read changes nothing but
    /// [`Keeper::is_store_ok`].
    pub async fn sync(&self) {
        if self.is_saved()
            && let Ok(stored) = self.load().await
        {
            match stored {
                Some(stored) => self.publish(stored),
                // Nothing is known of it, and that is a state to be seen, too.
                None => self.show(self.state()),
            }
        }
    }

    async fn load(&self) -> Result<Option<Stored>, StoreError> {
        let result = self.0.parts.store.load(self.account()).await;
        self.note_store(result.as_ref().err());
        result
    }

    fn note_store(&self, err: Option<&StoreError>) {
        match err {
            None | Some(StoreError::Conflict) => self.0.store_ok.store(true, Ordering::Release),
            Some(err) => {
                if self.0.store_ok.swap(false, Ordering::AcqRel) {
                    tracing::warn!(account = self.account(), error = %err, "the store cannot be used; trying on");
                }
                let again = self.now().as_millisecond().saturating_add(1000);
                self.0.store_again_at.store(again, Ordering::Release);
            }
        }
    }

    /// Makes a record the current one, unless a newer one is.
    fn publish(&self, stored: Stored) {
        self.tell_for_others(&stored.record);
        let device = stored.record.device.clone();
        let fresh_until = self.0.parts.policy.fresh_until(&stored.record);
        let new = Arc::new(Current { stored: Arc::new(stored), fresh_until });
        self.0.current.rcu(|current| match current {
            Some(current) if current.stored.record.generation > new.stored.record.generation => {
                Some(Arc::clone(current))
            }
            _ => Some(Arc::clone(&new)),
        });
        self.show(self.state());
        // After the record is known: the task looks there whether it is still wanted.
        if let Some(device) = device {
            self.go_on_asking(&device);
        }
    }

    fn show(&self, state: State) {
        for each in State::ALL {
            let labels = [("account", self.account().to_owned()), ("state", each.as_str().to_owned())];
            metrics::gauge!("etl_oauth_account_state", &labels).set(f64::from(u8::from(each == state)));
        }
        let current = self.current();
        let tokens = current.as_ref().and_then(|stored| stored.record.tokens.as_ref());
        for (name, end) in [
            ("etl_oauth_token_expiry_timestamp_seconds", tokens.and_then(|tokens| tokens.expires_at)),
            ("etl_oauth_refresh_token_expiry_timestamp_seconds", tokens.and_then(|tokens| tokens.refresh_expires_at)),
        ] {
            // A gauge cannot be taken away; NaN compares with nothing, so that an alert passes it over.
            #[expect(clippy::cast_precision_loss, reason = "seconds of the calendar are exact in a double")]
            let end = end.map_or(f64::NAN, |end| end.as_second() as f64);
            metrics::gauge!(name, "account" => self.account().to_owned()).set(end);
        }
    }

    /// What the last failure says of a try now, so that a caller under a backoff costs neither store nor provider a call.
    fn standing(&self) -> Option<KeeperError> {
        let now = self.now();
        let stored = self.current()?;
        let health = &stored.record.health;
        let waits = health.next_try_at.is_some_and(|at| now < at);
        if health.needs_authorisation || health.held || waits {
            let class = health.class.unwrap_or(crate::token::Class::ProviderUnavailable);
            return Some(self.failed(Failure::new(class, health.detail.clone().unwrap_or_default())));
        }
        (now.as_millisecond() < self.0.store_again_at.load(Ordering::Acquire)).then(|| {
            self.failed(Failure::new(crate::token::Class::StoreUnavailable, "the store cannot be used; trying on"))
        })
    }

    /// After a renewal: its tokens, or the old ones while they live.
    fn usable(&self, result: Result<(), KeeperError>) -> Result<Token, KeeperError> {
        let now = self.now();
        let alive = |stored: &Arc<Stored>| stored.record.tokens.as_ref().is_some_and(|tokens| tokens.is_alive(now));
        match (self.current().filter(alive).and_then(Token::new), result) {
            (Some(token), _) => Ok(token),
            (None, Err(err)) => Err(err),
            // A renewal whose second exchange failed leaves a refresh token alone.
            (None, Ok(())) if self.current().is_some_and(|stored| stored.record.tokens.is_some()) => Err(self.failed(
                Failure::new(Class::ProviderUnavailable, "the renewal brought no access token that is good for now"),
            )),
            (None, Ok(())) => Err(self.disabled()),
        }
    }

    fn disabled(&self) -> KeeperError {
        KeeperError::Disabled { account: self.0.account.clone() }
    }

    fn failed(&self, failure: Failure) -> KeeperError {
        let account = self.0.account.clone();
        match self.state() {
            State::NeedsAuthorisation => KeeperError::NeedsAuthorisation { account, failure },
            _ => KeeperError::Failed { account, failure },
        }
    }

    fn now(&self) -> Timestamp {
        self.0.parts.clock.now()
    }
}

/// A random number from 0 to 1. Without randomness everybody waits equally long, which is no more than a pity.
pub(crate) fn jitter() -> f64 {
    let mut bytes = [0; 4];
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}

/// How often a lease is prolonged while a renewal lasts.
fn prolong_every(lease: Duration) -> Duration {
    (lease / 3).max(Duration::from_millis(10))
}

#[cfg(test)]
mod tests;
