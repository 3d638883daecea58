//! The newest record that this replica knows of, and how it learns of a newer one.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::{ArcSwapOption, Guard};

use jiff::Timestamp;

use super::{Keeper, Token};
use crate::{renewal::Stored, store::StoreError, token::State};

/// What a person does about a damaged record.
pub const DAMAGED: &str = "Restore the record from a backup, or mount the key that it is sealed with; or clear it by POST \
                                  /revoke, and authorise again.";

/// The newest record, with what every call asks of it worked out once.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) stored: Arc<Stored>,
    pub(super) fresh_until: Timestamp,
    /// When an idle refresh token is renewed to keep it alive.
    pub(super) idle_at: Timestamp,
}

/// The newest record in memory. Reading it takes no lock.
#[derive(Debug, Default)]
pub(super) struct TokenCache {
    current: ArcSwapOption<Current>,
    /// The newest generation that the API has taken.
    worked: AtomicU64,
}

impl TokenCache {
    pub(super) fn load(&self) -> Guard<Option<Arc<Current>>> {
        self.current.load()
    }

    /// Keeps it, whatever was there.
    fn replace(&self, new: Current) {
        self.current.store(Some(Arc::new(new)));
    }

    /// Keeps it, unless a newer one is there.
    fn offer(&self, new: Current) {
        let new = Arc::new(new);
        self.current.rcu(|current| match current {
            Some(current) if current.stored.record.generation > new.stored.record.generation => {
                Some(Arc::clone(current))
            }
            _ => Some(Arc::clone(&new)),
        });
    }

    /// Takes note that the API has taken a token of `generation`.
    pub(super) fn worked(&self, generation: u64) {
        self.worked.fetch_max(generation, Ordering::AcqRel);
    }

    /// Whether the newest token that the API has taken is of `generation`.
    pub(super) fn has_worked(&self, generation: u64) -> bool {
        self.worked.load(Ordering::Acquire) == generation
    }
}

impl Keeper {
    /// The newest record that this replica knows of, without asking the store.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Stored>> {
        self.0.cache.load().as_ref().map(|current| Arc::clone(&current.stored))
    }

    /// The state of the newest record that this replica knows of.
    #[must_use]
    pub fn state(&self) -> State {
        if self.0.damage.load().is_some() {
            return State::Degraded;
        }
        let state = self.current().map_or(State::Disabled, |stored| stored.record.state());
        if state == State::Enabled && !self.is_store_ok() { State::Degraded } else { state }
    }

    /// Its token, while that needs no thought of renewal.
    pub(super) fn fresh(&self) -> Option<Token> {
        let now = self.now();
        self.token_where(|current| now < current.fresh_until)
    }

    /// The token of the newest record that this replica knows of, if that one is as wanted.
    pub(super) fn token_where(&self, wanted: impl FnOnce(&Current) -> bool) -> Option<Token> {
        let held = self.0.cache.load();
        let is_wanted = held.as_deref().is_some_and(wanted);
        is_wanted.then(|| Token::of(held)).flatten()
    }

    /// Reads the store and takes what is newer there. A store that cannot be read changes nothing but
    /// [`Keeper::is_store_ok`].
    pub async fn sync(&self) {
        if !self.is_saved() {
            return;
        }
        match self.load().await {
            Ok(Some(stored)) => self.publish(stored),
            // Nothing is known of it, or it cannot be read, and that is a state to be seen, too.
            Ok(None) | Err(StoreError::Damaged { .. }) => self.show(self.state()),
            Err(_) => {}
        }
    }

    fn entry(&self, stored: Stored) -> Current {
        let policy = &self.0.parts.policy;
        let fresh_until = policy.fresh_until(&stored.record);
        let idle_at = policy.idle_at(&stored.record).unwrap_or(Timestamp::MAX);
        Current { stored: Arc::new(stored), fresh_until, idle_at }
    }

    /// Makes a record the current one, whatever generation is: the stored one won over tokens that were in memory alone.
    pub(super) fn replace(&self, stored: Stored) {
        self.0.cache.replace(self.entry(stored));
        self.show(self.state());
    }

    /// Makes a record the current one, unless a newer one is.
    pub(super) fn publish(&self, stored: Stored) {
        self.tell_for_others(&stored.record);
        let device = stored.record.device.clone();
        self.0.cache.offer(self.entry(stored));
        self.show(self.state());
        // After the record is known: the task looks there whether it is still wanted.
        if let Some(device) = device {
            self.go_on_asking(&device);
        }
    }

    /// In the metrics.
    pub(super) fn show(&self, state: State) {
        if !self.0.shown.load(Ordering::Acquire) {
            return;
        }
        for each in State::ALL {
            let labels = [
                ("connection", self.connection().to_owned()),
                ("account", self.account().to_owned()),
                ("state", each.as_str().to_owned()),
            ];
            metrics::gauge!("etl_oauth_account_state", &labels).set(f64::from(u8::from(each == state)));
        }
        let current = self.current();
        let tokens = current.as_ref().and_then(|stored| stored.record.tokens.as_ref());
        for (name, end) in [
            ("etl_oauth_token_expiry_timestamp_seconds", tokens.and_then(|tokens| tokens.expires_at)),
            ("etl_oauth_refresh_token_expiry_timestamp_seconds", tokens.and_then(|tokens| tokens.refresh_expires_at)),
            ("etl_oauth_grant_expiry_timestamp_seconds", self.grant_ends_at()),
        ] {
            // A gauge cannot be taken away; NaN compares with nothing, so that an alert passes it over.
            #[expect(clippy::cast_precision_loss, reason = "seconds of the calendar are exact in a double")]
            let end = end.map_or(f64::NAN, |end| end.as_second() as f64);
            let labels = [("connection", self.connection().to_owned()), ("account", self.account().to_owned())];
            metrics::gauge!(name, &labels).set(end);
        }
    }
}
