//! The device grant: a code that a person types somewhere, and a task that asks until they have.
//!
//! What is asked with is kept in the account's record, with the name of the one replica that asks. Should that one die, any
//! other that looks at the record goes on in its place, so that nobody's consent is lost. A store that cannot be read back
//! or compared with serves one replica, and for that one its memory has to do.

use std::{
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use url::Url;

use super::{AUTHORISED, Keeper, account_store::Updated, policy::after};
use crate::{
    grant::{DeviceCodes, Polled, Polling},
    store::{ByteStore, StoreError},
    token::{Device, Failure, FailureKind, LastRenewal, Record, TokenResponse},
};

/// After a failure nobody asks for codes again for so long, however many want to.
const AGAIN: SignedDuration = SignedDuration::from_secs(5);
/// How long an asker may be silent beyond its questions before another replica takes over.
const SILENT: Duration = Duration::from_secs(20);
/// For how long after its end people are shown what came to nothing.
const SHOWN: SignedDuration = SignedDuration::from_hours(1);

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
    pub failure: Option<String>,
}

impl Invitation {
    fn of(device: Device, now: Timestamp) -> Self {
        // Whoever would have written it down may be gone.
        let lapsed = (now >= device.ends_at).then(|| Polling::expired().to_string());
        Self {
            user_code: device.user_code,
            verification_uri: device.verification_uri,
            verification_uri_complete: device.verification_uri_complete,
            ends_at: device.ends_at,
            failure: device.failure.or(lapsed),
        }
    }
}

/// What is known of devices beside the record.
#[derive(Default)]
struct Desk {
    /// A device authorisation that the store cannot hold for all replicas.
    device: Mutex<Option<Device>>,
    /// Who asks for a code; the last failure, which stands for a moment.
    inviting: tokio::sync::Mutex<Option<(Timestamp, Failure)>>,
}

impl Desk {
    fn device(&self) -> MutexGuard<'_, Option<Device>> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The device flow of an account in this replica.
#[derive(Default)]
pub(super) struct DeviceFlow {
    /// A task of this replica asks the provider whether a person has typed a code.
    asking: AtomicBool,
    /// Made when an account first has need of it.
    desk: OnceLock<Box<Desk>>,
}

/// A replica asks in one task at a time, and in none when that has gone, however it went.
struct Asking(Keeper);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.0.devices.asking.store(false, Ordering::Release);
    }
}

impl Keeper {
    fn desk(&self) -> &Desk {
        self.0.devices.desk.get_or_init(Box::default)
    }

    /// Begins a device authorisation (RFC 8628), or gives the one that is under way: however often this is called, by
    /// whichever replica, the provider is asked for codes once in their lifetime. The tokens are taken as those of any
    /// authorisation when the person has allowed it.
    ///
    /// # Errors
    /// The [`Failure`], where the provider gives no codes, or the store does not keep them.
    pub async fn invite(&self) -> Result<Invitation, Failure> {
        // One at a time: the second caller finds what the first one got.
        let mut last = self.desk().inviting.lock().await;
        self.sync().await;
        let now = self.now();
        if let Some(open) = self.device().filter(|device| device.is_open(now)) {
            return Ok(Invitation::of(open, now));
        }
        if let Some((at, failure)) = &*last
            && now.duration_since(*at) < AGAIN
        {
            return Err(failure.clone());
        }
        let invited = match self.0.parts.authority.device_codes(now).await {
            Ok(codes) => self.begin_asking(self.begun(codes, now)).await.map_err(|err| {
                let detail = format!("the code was not kept: {err}");
                Failure::new(FailureKind::StoreUnavailable, detail)
            }),
            Err(failure) => Err(failure),
        };
        let device = invited.inspect_err(|failure| *last = Some((now, failure.clone())))?;
        Ok(Invitation::of(device, now))
    }

    /// The last invitation that this replica knows of, until it has brought tokens.
    #[must_use]
    pub fn invitation(&self) -> Option<Invitation> {
        let now = self.now();
        let recent = |device: &Device| device.ends_at.checked_add(SHOWN).is_ok_and(|end| now < end);
        self.device().filter(recent).map(|device| Invitation::of(device, now))
    }

    fn begun(&self, codes: DeviceCodes, sent_at: Timestamp) -> Device {
        let polling = Polling::of(&codes, sent_at);
        Device {
            device_code: codes.device_code,
            user_code: codes.user_code,
            verification_uri: codes.verification_uri,
            verification_uri_complete: codes.verification_uri_complete,
            ends_at: polling.ends_at(),
            interval: polling.interval().as_secs(),
            asker: self.0.parts.owner.clone(),
            asked_until: silent_until(sent_at, polling.interval()),
            failure: None,
        }
    }

    fn device(&self) -> Option<Device> {
        if self.shares_devices() {
            return self.current()?.record.device.as_deref().cloned();
        }
        self.0.devices.desk.get()?.device().clone()
    }

    fn shares_devices(&self) -> bool {
        let can = self.0.parts.store.capabilities();
        can.read_back && can.compare_and_swap
    }

    /// Keeps a new one, unless another replica has been faster: then that one's. Asking begins where it is kept.
    async fn begin_asking(&self, device: Device) -> Result<Device, StoreError> {
        let now = self.now();
        if !self.shares_devices() {
            *self.desk().device() = Some(device.clone());
            self.go_on_asking(&device);
            return Ok(device);
        }
        let kept = self.change_device(|there| match there {
            Some(open) if open.is_open(now) => None,
            _ => Some(device.clone()),
        });
        match kept.await? {
            Some(kept) => Ok(kept),
            None => self.device().ok_or(StoreError::Conflict),
        }
    }

    /// Writes what `change` makes of the device authorisation that is stored; `None` leaves it, and comes back.
    async fn change_device(
        &self,
        change: impl Fn(Option<&Device>) -> Option<Device> + Send + Sync,
    ) -> Result<Option<Device>, StoreError> {
        let updated = self.update(|there| {
            let device = change(there.and_then(|there| there.device.as_deref()))?;
            Some(Record { device: Some(Box::new(device)), ..there.cloned().unwrap_or_default() })
        });
        match updated.await? {
            Updated::Left(there) => {
                if let Some(there) = there {
                    self.publish(there);
                }
                Ok(None)
            }
            Updated::Written(_, stored) => {
                let device = stored.record.device.as_deref().cloned();
                self.publish(stored);
                Ok(device)
            }
        }
    }

    /// Asks on where it is this replica's turn: it has begun, or the one that did is silent. Whoever sees a record comes by
    /// here.
    pub(super) fn go_on_asking(&self, device: &Device) {
        let now = self.now();
        let is_ours = device.asker == self.0.parts.owner || device.asked_until <= now;
        if !is_ours || !device.is_open(now) || self.0.devices.asking.swap(true, Ordering::AcqRel) {
            return;
        }
        let (asking, device) = (Asking(self.clone()), device.clone());
        tokio::spawn(crate::trace_context::carry(async move {
            let keeper = asking.0.clone();
            keeper.ask_on(device.clone()).await;
            drop(asking);
            // Another may have been begun while this one lay waiting to be asked for.
            if let Some(next) = keeper.device().filter(|next| !next.is(&device)) {
                keeper.go_on_asking(&next);
            }
        }));
    }

    async fn ask_on(&self, mut device: Device) {
        let mut polling = Polling::again(Duration::from_secs(device.interval), device.ends_at);
        let mut pause = polling.interval();
        loop {
            if !self.is_asker(&mut device, polling.interval(), pause).await {
                return;
            }
            tokio::time::sleep(pause).await;
            // Authorised in another way, or revoked meanwhile?
            if !self.still_asks(&device).await {
                return;
            }
            let sent_at = self.now();
            // From here until the tokens are stored the process had better not end.
            let _unfinished = self.0.work.token();
            let over = match self.0.parts.authority.poll(&device.device_code, &mut polling, sent_at).await {
                Polled::Wait(next) => {
                    pause = next;
                    continue;
                }
                Polled::Allowed(answer) => match self.owned(answer, sent_at).await {
                    Ok(answer) => {
                        self.authorise(answer, sent_at).await;
                        // Not before: a page that looks in between would say that nothing is connected, and no code open.
                        *self.desk().device() = None;
                        tracing::info!(account = self.account(), "authorised from a device");
                        let done = LastRenewal { at: sent_at, outcome: AUTHORISED.into() };
                        self.0.parts.announcer.renewed(self.account(), &done);
                        return;
                    }
                    Err(failure) => failure,
                },
                Polled::Over(failure) => failure,
            };
            tracing::warn!(account = self.account(), error = %over, "the device was not authorised");
            return self.end(&device, &over).await;
        }
    }

    /// Whether it is this one that is to be asked for, and by its asker. What is known here may be older than what is stored:
    /// a read that took long is published after a write that overtook it.
    async fn still_asks(&self, device: &Device) -> bool {
        let asks = || self.device().is_some_and(|there| there.is(device) && there.asker == device.asker);
        if asks() {
            return true;
        }
        self.sync().await;
        asks()
    }

    /// Makes sure that it is this replica that asks, and writes that down before others could think it gone: its next question
    /// comes after `pause`. While the store is away, whoever has been asking goes on.
    async fn is_asker(&self, device: &mut Device, interval: Duration, pause: Duration) -> bool {
        let (now, owner) = (self.now(), &self.0.parts.owner);
        if !self.shares_devices() {
            return self.device().is_some_and(|there| there.is(device));
        }
        let ours = device.asker == *owner;
        let soon = silent_until(now, pause) - SignedDuration::try_from(SILENT / 2).unwrap_or_default();
        if ours && device.asked_until > soon && device.interval == interval.as_secs() {
            return self.still_asks(device).await;
        }
        let claimed = self.change_device(|there| {
            let there = there.filter(|there| there.is(device) && there.is_open(now))?;
            (there.asker == *owner || there.asked_until <= now).then(|| Device {
                asker: owner.clone(),
                asked_until: silent_until(now, pause),
                interval: interval.as_secs(),
                ..there.clone()
            })
        });
        match claimed.await {
            Ok(Some(claimed)) => {
                *device = claimed;
                true
            }
            Ok(None) => false,
            Err(_) => ours,
        }
    }

    /// Writes down why it came to nothing, unless it is somebody else's by now.
    async fn end(&self, device: &Device, failure: &Failure) {
        let ended = Device { failure: Some(failure.to_string()), ..device.clone() };
        if !self.shares_devices() {
            *self.desk().device() = Some(ended);
            return;
        }
        let ours = |there: &Device| there.is(device) && there.asker == device.asker;
        if let Err(err) = self.change_device(|there| there.filter(|there| ours(there)).map(|_| ended.clone())).await {
            tracing::warn!(account = self.account(), error = %err, "that the device was not authorised is not kept");
        }
    }

    /// The answer with whose it is. Nobody is there to be asked whether somebody else may take the account over.
    async fn owned(&self, mut answer: TokenResponse, now: Timestamp) -> Result<TokenResponse, Failure> {
        answer.owner = self.0.parts.authority.owner(&answer, now).await?;
        self.sync().await;
        let known = self.current().and_then(|stored| Some(stored.record.owner.as_ref()?.id.clone()));
        match (&answer.owner, known) {
            (Some(new), Some(known)) if new.id != known => Err(Failure::new(
                FailureKind::Config,
                "somebody else allowed it than the one whose this account is: revoke it first, and begin again",
            )),
            _ => Ok(answer),
        }
    }
}

/// Until when an asker counts as alive whose next question comes within `pause`.
fn silent_until(now: Timestamp, pause: Duration) -> Timestamp {
    after(now, SILENT.saturating_add(pause)).unwrap_or(Timestamp::MAX)
}
