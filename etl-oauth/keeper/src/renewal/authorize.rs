//! Authorisation: tokens that a person just granted go into the store, and until they are there into no one's hands but
//! this process's memory.

use std::{sync::atomic::Ordering, time::Duration};

use jiff::Timestamp;

use super::Keeper;
use crate::{
    store::{StoreError, Stored, TokenStore, Version},
    token::{Answer, Record},
};

/// Where new tokens are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// In the store.
    Stored,
    /// In memory; the write failed for this reason and is being tried again.
    InMemory(StoreError),
}

/// Another grant is stored, and this one may not take its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the account is authorised already")]
pub struct Taken;

impl Keeper {
    /// Takes the tokens of a new authorisation, requested at `sent_at`. They are good to use at once; [`Kept`] says whether
    /// they are safe, too. A write that fails is tried again until it succeeds or newer tokens are stored.
    pub async fn authorise(&self, answer: Answer, sent_at: Timestamp) -> Kept {
        self.take(&self.grant(answer, sent_at)).await
    }

    /// What an answer to an authorisation grants, as a record of nothing else.
    #[must_use]
    pub fn grant(&self, answer: Answer, sent_at: Timestamp) -> Record {
        Record::default().authorised(answer, sent_at, self.0.parts.policy.lifetime)
    }

    /// Takes a [`Keeper::grant`], in place of whatever is there.
    pub async fn take(&self, grant: &Record) -> Kept {
        let before = self.load().await.ok().flatten().map(|stored| stored.record);
        let known = self.current().map(|current| current.record.clone());
        let base = before.into_iter().chain(known).max_by_key(|record| record.generation).unwrap_or_default();
        let authorisations = base.authorisations.saturating_add(1);
        let record = Record { generation: base.generation + 1, used: base.used, authorisations, ..grant.clone() };
        match self.put(&record).await {
            Ok(Some(stored)) => {
                self.publish(stored);
                Kept::Stored
            }
            // Somebody authorised at the same moment, and later than we did.
            Ok(None) => {
                self.sync().await;
                Kept::Stored
            }
            Err(err) => {
                tracing::error!(account = self.account(), error = %err, "the new tokens are not saved yet; trying on");
                self.0.unsaved.store(true, Ordering::Release);
                self.publish(Stored { record: record.clone(), version: Version::new("unsaved") });
                let keeper = self.clone();
                let work = self.0.work.token();
                tokio::spawn(async move {
                    let _unfinished = work;
                    keeper.put_until_done(record).await;
                });
                Kept::InMemory(err)
            }
        }
    }

    /// Takes a [`Keeper::grant`] only where no grant is stored: of two that arrive at the same moment, the first one wins.
    ///
    /// # Errors
    /// [`Taken`], where one is stored.
    pub async fn take_where_free(&self, grant: &Record) -> Result<Kept, Taken> {
        loop {
            let there = match self.load().await {
                Ok(there) => there,
                // What cannot be read may be another's grant, and then the generation of this one is too low to replace it.
                Err(_) => return Ok(self.take(grant).await),
            };
            let (before, was) = there.map(|there| (there.record, there.version)).unzip();
            let before = before.unwrap_or_default();
            if before.tokens.is_some() {
                self.sync().await;
                return Err(Taken);
            }
            let authorisations = before.authorisations.saturating_add(1);
            let used = before.used.clone();
            let record = Record { generation: before.generation + 1, used, authorisations, ..grant.clone() };
            let record = record.over(&before, self.0.parts.announcer.is_heard(), self.now());
            match self.0.parts.store.save(self.account(), &record, was.as_ref()).await {
                Ok(version) => {
                    self.announce(before.state(), &record);
                    self.publish(Stored { record, version });
                    return Ok(Kept::Stored);
                }
                Err(StoreError::Conflict) => {}
                Err(_) => return Ok(self.take(grant).await),
            }
        }
    }

    async fn put_until_done(&self, record: Record) {
        let mut pause = Duration::from_millis(250);
        loop {
            tokio::time::sleep(pause).await;
            match self.put(&record).await {
                Ok(stored) => {
                    self.0.unsaved.store(false, Ordering::Release);
                    match stored {
                        Some(stored) => self.publish(stored),
                        None => self.sync().await,
                    }
                    tracing::info!(account = self.account(), "the new tokens are saved");
                    return;
                }
                Err(err) => tracing::warn!(account = self.account(), error = %err, "the new tokens are not saved yet"),
            }
            pause = (pause * 2).min(Duration::from_secs(30));
        }
    }

    /// Writes the record over whatever older generation is stored; `None` when a newer one is.
    async fn put(&self, record: &Record) -> Result<Option<Stored>, StoreError> {
        loop {
            let there = self.load().await?;
            let same = |tokens: &crate::token::Tokens| {
                record.tokens.as_ref().is_some_and(|ours| ours.access_token.same(&tokens.access_token))
            };
            if let Some(there) = &there
                && there.record.generation >= record.generation
            {
                // Ours already, by a write whose answer was lost?
                return Ok(there.record.tokens.as_ref().is_some_and(same).then(|| there.clone()));
            }
            let (before, was) = there.map(|there| (there.record, there.version)).unzip();
            let before = before.unwrap_or_default();
            let mut record = record.clone().over(&before, self.0.parts.announcer.is_heard(), self.now());
            // Somebody may have come back from the provider since ours were asked for: what they used up stays so.
            record.used.extend(before.used.clone());
            let result = self.0.parts.store.save(self.account(), &record, was.as_ref()).await;
            self.note_store(result.as_ref().err());
            match result {
                Ok(version) => {
                    self.announce(before.state(), &record);
                    return Ok(Some(Stored { record, version }));
                }
                Err(StoreError::Conflict) => {}
                Err(err) => return Err(err),
            }
        }
    }
}
