use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::api::{Patch, PatchParams, PostParams};

use super::{Failed, Inner};
use crate::store::{Acquired, Key, StoreError};

impl Inner {
    pub(super) async fn acquire(
        &self,
        key: &Key,
        owner: &str,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Acquired, StoreError> {
        let name = self.name(key);
        let lease = self.lease(&name).await?;
        let spec = lease.as_ref().and_then(|lease| lease.spec.as_ref());
        let revision = lease.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
        let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
        if !holder.is_empty() && holder != owner {
            let seconds = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or_default();
            let length = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
            let renewed = spec.and_then(|spec| spec.renew_time.as_ref()).map_or(Timestamp::MIN, |time| time.0);
            let seen = revision.as_deref().unwrap_or_default();
            if !self.observed.is_over(&name, seen, renewed, length, now) {
                return Ok(Acquired::Busy);
            }
        }
        // Whole seconds: rounded up, so that nobody ends our lease before we do.
        let seconds = i32::try_from(ttl.as_millis().div_ceil(1000)).unwrap_or(i32::MAX);
        // Prolonged, and never shortened.
        let before = spec.filter(|_| holder == owner);
        let renewed = before.and_then(|spec| spec.renew_time.as_ref()).map_or(now, |time| time.0.max(now));
        let spec = LeaseSpec {
            holder_identity: Some(owner.to_owned()),
            lease_duration_seconds: before.and_then(|spec| spec.lease_duration_seconds).max(Some(seconds)),
            acquire_time: before.is_none().then_some(MicroTime(now)),
            renew_time: Some(MicroTime(renewed)),
            ..LeaseSpec::default()
        };
        match self.put_lease(key, revision.as_deref(), spec).await {
            Ok(()) => Ok(Acquired::Until(now.checked_add(ttl).unwrap_or(Timestamp::MAX))),
            // Another replica was quicker.
            Err(Failed::Conflict | Failed::Missing) => Ok(Acquired::Busy),
            Err(Failed::Store(err)) => Err(err),
        }
    }

    pub(super) async fn release(&self, key: &Key, owner: &str) -> Result<(), StoreError> {
        let name = self.name(key);
        let Some(lease) = self.lease(&name).await? else { return Ok(()) };
        let holder = lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
        if holder != owner {
            return Ok(());
        }
        let spec = LeaseSpec { holder_identity: Some(String::new()), ..LeaseSpec::default() };
        match self.put_lease(key, lease.metadata.resource_version.as_deref(), spec).await {
            // Somebody else has it by now.
            Ok(()) | Err(Failed::Conflict | Failed::Missing) => Ok(()),
            Err(Failed::Store(err)) => Err(err),
        }
    }

    async fn lease(&self, name: &str) -> Result<Option<Lease>, Failed> {
        self.ask(&format!("get the Lease {name}"), self.leases.get_opt(name)).await
    }

    /// Writes over the Lease of this `resourceVersion`, or makes it.
    async fn put_lease(&self, key: &Key, version: Option<&str>, spec: LeaseSpec) -> Result<(), Failed> {
        let name = &self.name(key);
        let lease = Lease { metadata: self.metadata(key, version), spec: Some(spec) };
        if version.is_none() {
            let what = format!("create the Lease {name}, which is missing,");
            self.ask(&what, self.leases.create(&PostParams::default(), &lease)).await?;
        } else {
            let (params, patch) = (PatchParams::default(), Patch::Merge(&lease));
            self.ask(&format!("patch the Lease {name}"), self.leases.patch(name, &params, &patch)).await?;
        }
        Ok(())
    }
}
