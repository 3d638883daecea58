//! Authorisation: the tokens that a person just granted go into the store. Until they are there, they are in the memory of
//! this process alone.

use std::sync::atomic::Ordering;

use jiff::Timestamp;

use super::{Keeper, account_store::Updated, state_machine::UNSAVED};
use crate::{
    renewal::Stored,
    store::{StoreError, Version},
    token::{Record, TokenResponse},
};

/// Where new tokens are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// In the store.
    Stored,
    /// In memory; the write failed for this reason and is tried again.
    InMemory(StoreError),
}

/// Another grant is stored, and this one may not take its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the account is authorised already")]
pub struct Taken;

/// What a new grant may replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    /// Nothing: anybody may have sent it.
    Free,
    /// What a person decided earlier; `owner_known` when the stored owner was compared with the new one.
    Over { owner_known: bool },
}

/// Why a grant was not written.
#[derive(Clone, Debug)]
enum Lost {
    Taken,
    /// A person authorised or revoked the account after this grant.
    Later,
    /// Another person's grant is stored, and it could not be read when this one was taken.
    OtherOwner,
    Foreign(StoreError),
}

/// What became of a grant, with what is stored now.
enum Put {
    Stored(Stored),
    Lost(Lost, Option<Stored>),
}

impl Keeper {
    /// Takes the tokens of a new authorisation, requested at `sent_at`. They are good to use at once; [`Kept`] says whether
    /// they are safe, too. A write that fails is tried again until it succeeds, or a person decides otherwise.
    pub async fn authorise(&self, answer: TokenResponse, sent_at: Timestamp) -> Kept {
        self.take(&self.grant(answer, sent_at)).await
    }

    /// What an answer to an authorisation grants, as a record of nothing else.
    #[must_use]
    pub fn grant(&self, answer: TokenResponse, sent_at: Timestamp) -> Record {
        Record::default().authorised(answer, sent_at, self.0.parts.policy.lifetime)
    }

    /// Takes a [`Keeper::grant`], in place of whatever was stored before it: a store that cannot be read now may hold an
    /// older grant of any generation, and the new one wins over it when the store is back. Over another person's grant, which
    /// could not be read when this one was requested, it does not win.
    pub async fn take(&self, grant: &Record) -> Kept {
        let owner_known = self.load().await.is_ok() || self.current().is_some();
        // A grant over another person's is refused where that is known, so that this is what a person decided.
        self.keep(grant, Claim::Over { owner_known }).await.unwrap_or(Kept::Stored)
    }

    /// Takes a [`Keeper::grant`] only where no grant is stored: of two that arrive at the same moment, the first one wins.
    ///
    /// # Errors
    /// [`Taken`], where one is stored.
    pub async fn take_where_free(&self, grant: &Record) -> Result<Kept, Taken> {
        self.keep(grant, Claim::Free).await
    }

    async fn keep(&self, grant: &Record, claim: Claim) -> Result<Kept, Taken> {
        let generation = self.current().map_or(0, |current| current.record.generation) + 1;
        let grant = Record { generation, decided_at: Some(self.now()), ..grant.clone() };
        let err = match self.put(&grant, claim).await {
            Ok(Put::Stored(stored)) => {
                self.publish(stored);
                return Ok(Kept::Stored);
            }
            Ok(Put::Lost(Lost::Taken, _)) => {
                self.sync().await;
                return Err(Taken);
            }
            Ok(Put::Lost(Lost::Later, _)) => {
                self.sync().await;
                return Ok(Kept::Stored);
            }
            Ok(Put::Lost(Lost::OtherOwner, _)) => return Ok(Kept::InMemory(other_owner())),
            Ok(Put::Lost(Lost::Foreign(err), _)) | Err(err) => err,
        };
        self.0.pending.fetch_add(1, Ordering::AcqRel);
        self.publish(Stored { record: grant.clone(), version: Version::new("unsaved") });
        tracing::error!(account = self.account(), error = %err, "the new tokens are not saved yet; retrying");
        self.announce_unsaved();
        let (keeper, work) = (self.clone(), self.0.work.token());
        tokio::spawn(async move {
            let _unfinished = work;
            keeper.put_until_done(grant, claim).await;
        });
        Ok(Kept::InMemory(err))
    }

    async fn put_until_done(&self, grant: Record, claim: Claim) {
        let mut tries = 0_u32;
        let account = self.account();
        loop {
            tries = tries.saturating_add(1);
            tokio::time::sleep(UNSAVED.after(tries)).await;
            let put = match self.put(&grant, claim).await {
                Ok(Put::Lost(Lost::Foreign(err), _)) | Err(err) => {
                    tracing::warn!(account, error = %err, "the new tokens are not saved yet; retrying");
                    continue;
                }
                Ok(put) => put,
            };
            self.0.pending.fetch_sub(1, Ordering::AcqRel);
            match put {
                Put::Stored(stored) => {
                    tracing::info!(account, generation = stored.record.generation, "the new tokens are saved");
                    self.publish(stored);
                }
                Put::Lost(why, stored) => {
                    tracing::error!(
                        account,
                        reason = ?why,
                        "the new authorisation is discarded: the store holds one that it may not replace; to replace that, \
                         revoke it and authorise again"
                    );
                    if let Some(stored) = stored {
                        self.replace(stored);
                    }
                }
            }
            self.announce_trouble(None);
            return;
        }
    }

    /// Writes the grant over what is stored, where `claim` lets it.
    async fn put(&self, grant: &Record, claim: Claim) -> Result<Put, StoreError> {
        let (heard, now) = (self.0.parts.announcer.is_heard(), self.now());
        let mut lost = None;
        let updated = self.update_any(|there| {
            lost = None;
            let before = there.cloned().unwrap_or_default();
            if is_same(&before, grant) {
                return None;
            }
            lost = self.loses(grant, &before, claim);
            if lost.is_some() {
                return None;
            }
            let mut record = Record {
                generation: grant.generation.max(before.generation + 1),
                authorisations: before.authorisations.saturating_add(1),
                ..grant.clone()
            };
            // Another browser may have come back from the provider meanwhile: what it used up stays so.
            record.used.extend(before.used.clone());
            Some(record.over(&before, heard, now))
        });
        Ok(match (updated.await?, lost) {
            (Updated::Written(before, stored), _) => {
                if before.tokens.is_some() {
                    tracing::info!(
                        account = self.account(),
                        replaced = before.generation,
                        generation = stored.record.generation,
                        "the new authorisation replaces the stored one"
                    );
                }
                self.announce(before.condition(), &stored.record);
                Put::Stored(stored)
            }
            (Updated::Left(stored), Some(why)) => Put::Lost(why, stored),
            // Ours already, by a write whose answer was lost.
            (Updated::Left(Some(stored)), None) => Put::Stored(stored),
            (Updated::Left(None), None) => return Err(StoreError::Conflict),
        })
    }

    fn loses(&self, grant: &Record, before: &Record, claim: Claim) -> Option<Lost> {
        match claim {
            // The first one that is stored stays, whichever of the two was decided first.
            Claim::Free if before.tokens.is_some() => return Some(Lost::Taken),
            Claim::Free | Claim::Over { .. } if before.decided_at > grant.decided_at => return Some(Lost::Later),
            Claim::Over { owner_known: false } if is_other_owner(before, grant) => return Some(Lost::OtherOwner),
            Claim::Free | Claim::Over { .. } => {}
        }
        // A client that was replaced has no use for the tokens of the one before; another provider's are another function's.
        let ours = self.0.parts.authority.client_ref();
        let is_elsewhere =
            before.client.as_ref().zip(ours).is_some_and(|(theirs, ours)| theirs.provider != ours.provider);
        self.check_client(before).err().filter(|_| is_elsewhere).map(Lost::Foreign)
    }
}

fn is_same(stored: &Record, grant: &Record) -> bool {
    let tokens = stored.tokens.as_ref().zip(grant.tokens.as_ref());
    stored.decided_at == grant.decided_at && tokens.is_some_and(|(theirs, ours)| theirs.same(ours))
}

fn is_other_owner(stored: &Record, grant: &Record) -> bool {
    let owners = stored.tokens.as_ref().and(stored.owner.as_ref());
    owners.is_some_and(|theirs| grant.owner.as_ref().is_none_or(|ours| ours.id != theirs.id))
}

fn other_owner() -> StoreError {
    StoreError::Refused(
        "another person's authorisation is stored, and could not be read before; revoke it, or authorise once more"
            .into(),
    )
}
