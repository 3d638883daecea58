//! How a caller obtains a token, and what makes a renewal necessary.

use std::sync::atomic::Ordering;

use super::{
    Keeper, KeeperError, Reason, Renew, Stored, Token, account_store::Updated, single_flight::Landing,
    token_cache::Current,
};
use crate::token::{Failure, FailureKind, Health, Record};

impl Keeper {
    /// A token that is good for now.
    ///
    /// A fresh token is returned without a lock or a request. Otherwise one task renews it, however many callers wait; a
    /// caller that goes away cancels nothing. Where the renewal fails and the old token is still valid, this returns the
    /// old one.
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
        let is_idle = self.0.cache.load().as_ref().is_some_and(|current| current.idle_at <= self.now());
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
            let worked = self.0.cache.has_worked(generation);
            self.renew(Reason::Refused { generation, worked }).await?;
        }
        self.token_where(|current| is_newer(&current.stored)).ok_or_else(|| self.disabled())
    }

    /// Takes note that the API has taken a token of `generation`. Where the record says that such tokens were refused, the
    /// record takes note, too: another process must not take an old refusal for a new one.
    pub fn worked(&self, generation: u64) {
        self.0.cache.worked(generation);
        let is_noted = move |record: &Record| record.health.refused.is_none() || record.generation > generation;
        let current = self.0.cache.load();
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

    /// Renews now and ignores waits, as an operator requests. Begins a grant that needs no person, too.
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
    pub(super) fn standing(&self) -> Option<KeeperError> {
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
}
