//! State changes are delivered at least once: a change stands in the record from the write that made it until delivery
//! succeeds. Its writer delivers it at once; where that one dies first, another replica does when it next reads the record.
//!
//! Trouble with the store cannot be written there: each replica announces its own, once until it is over.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use super::Severity;
use crate::renewal::{Announcement, Keeper, account_store::Updated};
use crate::{
    renewal::Stored,
    store::StoreError,
    token::{Failure, FailureKind, PendingNotification, Record, State},
};

/// Trouble with the store, as it is announced: the larger number is the worse.
const NONE: u8 = 0;
const UNUSABLE: u8 = 1;
const UNSAVED: u8 = 2;

/// What this replica has announced of the store, and is delivering for another one.
#[derive(Debug, Default)]
pub(in crate::renewal) struct Outbox {
    /// The store trouble that was announced last.
    trouble: AtomicU8,
    /// A notification that another replica left behind is being delivered.
    telling: AtomicBool,
}

impl Outbox {
    /// Whether no trouble stands announced.
    pub(in crate::renewal) fn is_quiet(&self) -> bool {
        self.trouble.load(Ordering::Acquire) == NONE
    }
}

impl Keeper {
    /// Announces a change that a write of this replica made. Replicas that adopt the change do not announce it.
    pub(in crate::renewal) fn announce(&self, before: (State, Option<FailureKind>), record: &Record) {
        if !record.is_news_after(before) {
            return;
        }
        let news = self.news(before.0, record);
        news.log();
        let Some(untold) = record.untold.clone() else { return };
        // By its time a receiver knows it again, whichever replica delivers it.
        let delivery = self.0.parts.announcer.deliver(Announcement { at: untold.at, ..news });
        let (keeper, work) = (self.clone(), self.0.work.token());
        tokio::spawn(crate::trace_context::carry(async move {
            let _unfinished = work;
            if delivery.await {
                keeper.delivered(&untold).await;
            }
        }));
    }

    /// Announces that the newest tokens are in memory alone.
    pub(in crate::renewal) fn announce_unsaved(&self) {
        let why = self.store_problem().map_or_else(|| "the store failed".to_owned(), |problem| problem.to_string());
        let detail = format!("the newest tokens are in memory alone, and lost if this process ends: {why}");
        self.announce_store(UNSAVED, Some(Failure::new(FailureKind::StoreUnavailable, detail)));
    }

    /// Announces that the store cannot be written; or, without a failure, that it can be again.
    pub(in crate::renewal) fn announce_trouble(&self, failure: Option<Failure>) {
        match failure {
            Some(failure) => self.announce_store(UNUSABLE, Some(failure)),
            None if self.is_store_ok() => self.announce_store(NONE, None),
            None => {}
        }
    }

    fn announce_store(&self, trouble: u8, failure: Option<Failure>) {
        let account = self.account().to_owned();
        if !self.has_tokens() {
            return;
        }
        let before = match trouble {
            NONE => self.0.outbox.trouble.swap(NONE, Ordering::AcqRel),
            _ => self.0.outbox.trouble.fetch_max(trouble, Ordering::AcqRel),
        };
        let is_saved = if self.is_saved() { 0.0 } else { 1.0 };
        let connection = self.connection().to_owned();
        metrics::gauge!("etl_oauth_tokens_unsaved", "connection" => connection.clone(), "account" => account.clone())
            .set(is_saved);
        self.show(self.state());
        if before == trouble || (trouble != NONE && trouble < before) {
            return;
        }
        let stored = self.current().map_or(State::Disabled, |stored| stored.record.state());
        let (from, to) = match (before, trouble) {
            (NONE, _) => (stored, self.state()),
            (_, NONE) => (State::Degraded, stored),
            _ => (State::Degraded, State::Degraded),
        };
        let severity = match trouble {
            UNSAVED => Severity::Critical,
            UNUSABLE => Severity::Warning,
            _ => Severity::of(to),
        };
        let news = Announcement { connection, account, from, to, failure, severity, at: self.now() };
        news.log();
        if self.0.parts.announcer.is_heard() {
            let (delivery, work) = (self.0.parts.announcer.deliver(news), self.0.work.token());
            tokio::spawn(crate::trace_context::carry(async move {
                let _unfinished = work;
                delivery.await;
            }));
        }
    }

    /// Delivers a notification that another replica left behind.
    pub(in crate::renewal) fn tell_for_others(&self, record: &Record) {
        let is_due = record.untold.as_ref().is_some_and(|untold| untold.again_at <= self.now());
        if !is_due || !self.0.parts.announcer.is_heard() || self.0.outbox.telling.swap(true, Ordering::AcqRel) {
            return;
        }
        let (keeper, work) = (self.clone(), self.0.work.token());
        tokio::spawn(crate::trace_context::carry(async move {
            let _unfinished = work;
            if let Err(err) = keeper.take_over().await {
                tracing::debug!(account = keeper.account(), error = %err, "the notification is left to another replica");
            }
            keeper.0.outbox.telling.store(false, Ordering::Release);
        }));
    }

    /// The replica whose compare-and-swap wins sends the notification.
    async fn take_over(&self) -> Result<(), StoreError> {
        let mut taken = None;
        let updated = self.update(|there| {
            let mut record = there?.clone();
            taken = record.untold.take().filter(|untold| untold.again_at <= self.now());
            record.untold = Some(taken.as_ref()?.taken_over(self.now()));
            Some(record)
        });
        if let (Updated::Written(_, Stored { record, .. }), Some(untold)) = (updated.await?, taken) {
            let news = Announcement { at: untold.at, ..self.news(untold.from, &record) };
            if self.0.parts.announcer.deliver(news).await {
                self.delivered(&untold).await;
            }
        }
        Ok(())
    }

    /// Takes the change out of the record. Where that fails it is delivered once more.
    async fn delivered(&self, untold: &PendingNotification) {
        let _ = self
            .update(|there| {
                let there = there.filter(|there| there.untold.as_ref().is_some_and(|it| it.is(untold)))?;
                Some(Record { untold: None, ..there.clone() })
            })
            .await;
    }

    fn news(&self, from: State, record: &Record) -> Announcement {
        let failure = record.health.failure();
        let (connection, account, to) = (self.connection().to_owned(), self.account().to_owned(), record.state());
        Announcement { connection, account, from, to, failure, severity: Severity::of(to), at: self.now() }
    }
}
