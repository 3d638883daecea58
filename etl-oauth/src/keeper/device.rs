//! The device grant: a code that a person types somewhere, and a task that asks until they have.

use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use url::Url;

use super::Keeper;
use crate::{
    grant::{DeviceCodes, Polled, Polling, SigningKey},
    token::{Answer, Class, Failure},
};

/// After a failure nobody asks again for so long, however many want to.
const AGAIN: SignedDuration = SignedDuration::from_secs(5);

/// What a person is asked to do, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// What they type.
    pub user_code: String,
    /// Where.
    pub verification_uri: Url,
    /// The same with the code in it.
    pub verification_uri_complete: Option<Url>,
    /// When it lapses.
    pub ends_at: Timestamp,
    /// Why it brought nothing, once that is known.
    pub failure: Option<Failure>,
}

/// The device grant of one account.
#[derive(Default)]
pub(super) struct Device {
    /// What a person was asked to do on another device.
    invitation: Mutex<Option<Invitation>>,
    /// Who asks for one; the last failure, which stands for a moment.
    inviting: tokio::sync::Mutex<Option<(Timestamp, Failure)>>,
}

impl Keeper {
    fn device(&self) -> &Device {
        self.0.device.get_or_init(Box::default)
    }

    /// Begins a device authorisation (RFC 8628), or gives the one that is under way: however often this is called, the
    /// provider is asked for codes once in their lifetime. The tokens are taken as those of any authorisation when the
    /// person has allowed it.
    ///
    /// It is this replica that asks: when it ends before the person is done, it has to be begun again.
    ///
    /// # Errors
    /// The [`Failure`], where the provider gives no codes.
    pub async fn invite(&self) -> Result<Invitation, Failure> {
        // One at a time: the second caller finds what the first one got.
        let mut last = self.device().inviting.lock().await;
        if let Some(open) = self.invitation().filter(|open| open.failure.is_none() && self.now() < open.ends_at) {
            return Ok(open);
        }
        let authority = &self.0.parts.authority;
        let sent_at = self.now();
        let key = authority.new_key()?;
        if let Some((at, failure)) = &*last
            && sent_at.duration_since(*at) < AGAIN
        {
            return Err(failure.clone());
        }
        let codes = authority.device_codes(sent_at).await.inspect_err(|failure| {
            *last = Some((sent_at, failure.clone()));
        })?;
        let polling = Polling::of(&codes, sent_at);
        let invitation = Invitation {
            user_code: codes.user_code.clone(),
            verification_uri: codes.verification_uri.clone(),
            verification_uri_complete: codes.verification_uri_complete.clone(),
            ends_at: polling.ends_at(),
            failure: None,
        };
        self.set_invitation(Some(invitation.clone()));
        let keeper = self.clone();
        tokio::spawn(async move { keeper.poll(&codes, key.as_ref(), polling).await });
        Ok(invitation)
    }

    /// The last invitation of this replica, until it has brought tokens.
    #[must_use]
    pub fn invitation(&self) -> Option<Invitation> {
        let device = self.0.device.get()?;
        device.invitation.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_invitation(&self, invitation: Option<Invitation>) {
        *self.device().invitation.lock().unwrap_or_else(PoisonError::into_inner) = invitation;
    }

    fn end_invitation(&self, failure: Failure) {
        tracing::warn!(account = self.account(), error = %failure, "the device was not authorised");
        let invitation = self.invitation().map(|open| Invitation { failure: Some(failure), ..open });
        self.set_invitation(invitation);
    }

    /// The answer with whose it is. Nobody is there to be asked whether somebody else may take the account over.
    async fn owned(&self, mut answer: Answer, now: Timestamp) -> Result<Answer, Failure> {
        answer.owner = self.0.parts.authority.owner(&answer, now).await?;
        self.sync().await;
        let known = self.current().and_then(|stored| Some(stored.record.owner.as_ref()?.id.clone()));
        match (&answer.owner, known) {
            (Some(new), Some(known)) if new.id != known => Err(Failure::new(
                Class::Config,
                "somebody else allowed it than the one whose this account is: revoke it first, and begin again",
            )),
            _ => Ok(answer),
        }
    }

    async fn poll(&self, codes: &DeviceCodes, key: Option<&SigningKey>, mut polling: Polling) {
        let mut pause = polling.first();
        loop {
            tokio::time::sleep(pause).await;
            let sent_at = self.now();
            match self.0.parts.authority.poll(&codes.device_code, key, &mut polling, sent_at).await {
                Polled::Wait(next) => pause = next,
                Polled::Allowed(answer) => match self.owned(answer, sent_at).await {
                    Ok(answer) => {
                        self.authorise(answer, sent_at).await;
                        self.set_invitation(None);
                        tracing::info!(account = self.account(), "authorised from a device");
                        return;
                    }
                    Err(failure) => return self.end_invitation(failure),
                },
                Polled::Over(failure) => return self.end_invitation(failure),
            }
        }
    }
}
