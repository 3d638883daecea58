//! Who is to be told of an account's state is told at least once: the change stands in the record from the write that made
//! it until they have heard. Its writer tells at once; where it dies first, another replica does when it next looks.

use std::sync::atomic::Ordering;

use crate::renewal::{Announcement, Keeper};
use crate::{
    store::{StoreError, Stored, TokenStore},
    token::{Failure, PendingNotification, Record, State},
};

impl Keeper {
    /// Tells of a change that a write of this replica made. Who adopts it says nothing.
    pub(in crate::renewal) fn announce(&self, from: State, record: &Record) {
        if from == record.state() {
            return;
        }
        let news = self.news(from, record);
        news.log();
        let Some(untold) = record.untold.clone() else { return };
        let delivery = self.0.parts.announcer.deliver(news);
        let (keeper, work) = (self.clone(), self.0.work.token());
        tokio::spawn(crate::trace_context::carry(async move {
            let _unfinished = work;
            if delivery.await {
                keeper.told(&untold).await;
            }
        }));
    }

    /// Tells what a record says that nobody has been told of, although there was time.
    pub(in crate::renewal) fn tell_for_others(&self, record: &Record) {
        let is_due = record.untold.as_ref().is_some_and(|untold| untold.again_at <= self.now());
        if !is_due || !self.0.parts.announcer.is_heard() || self.0.telling.swap(true, Ordering::AcqRel) {
            return;
        }
        let (keeper, work) = (self.clone(), self.0.work.token());
        tokio::spawn(crate::trace_context::carry(async move {
            let _unfinished = work;
            if let Err(err) = keeper.take_over().await {
                tracing::debug!(account = keeper.account(), error = %err, "somebody else may tell the news");
            }
            keeper.0.telling.store(false, Ordering::Release);
        }));
    }

    /// Of all replicas that would tell, the one whose write says so does.
    async fn take_over(&self) -> Result<(), StoreError> {
        let Some(Stored { mut record, version }) = self.load().await? else { return Ok(()) };
        let Some(untold) = record.untold.take().filter(|untold| untold.again_at <= self.now()) else { return Ok(()) };
        record.untold = Some(untold.taken_over(self.now()));
        self.0.parts.store.save(self.account(), &record, Some(&version)).await?;
        let news = Announcement { at: untold.at, ..self.news(untold.from, &record) };
        if self.0.parts.announcer.deliver(news).await {
            self.told(&untold).await;
        }
        Ok(())
    }

    /// Takes the change out of the record. Where that fails it is told once more.
    async fn told(&self, untold: &PendingNotification) {
        loop {
            let Ok(Some(Stored { record, version })) = self.load().await else { return };
            if !record.untold.as_ref().is_some_and(|there| there.is(untold)) {
                return;
            }
            let record = Record { untold: None, ..record };
            match self.0.parts.store.save(self.account(), &record, Some(&version)).await {
                Err(StoreError::Conflict) => {}
                _ => return,
            }
        }
    }

    fn news(&self, from: State, record: &Record) -> Announcement {
        let health = &record.health;
        let failure = health.class.map(|class| Failure::new(class, health.detail.clone().unwrap_or_default()));
        Announcement { account: self.0.account.clone(), from, to: record.state(), failure, at: self.now() }
    }
}
