//! A deployed function: what it is to run, and its instances.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::NAMESPACE;
use super::executable::BuildFailure;
use super::log::Log;
use super::replica::{Launch, Ports, Replica};
use super::spec::Spec;

/// One function.
#[derive(Debug)]
pub(super) struct Deployment {
    created_at: Timestamp,
    pub(super) invocations: AtomicU64,
    pub(super) log: Log,
    pub(super) next: AtomicUsize,
    broken: Mutex<Option<Broken>>,
    current: Mutex<Current>,
}

/// What changes with a deployment.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) spec: Spec,
    pub(super) wanted: u32,
    pub(super) launch: Option<Arc<Launch>>,
    pub(super) replicas: Vec<Replica>,
    /// Ends the roll-out that is under way when a newer one begins.
    pub(super) rollout: CancellationToken,
}

/// The last build, where it failed.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) at: Timestamp,
    /// What the compiler printed.
    pub(crate) output: String,
}

/// An entry of `GET /system/functions`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    name: String,
    #[serde(flatten)]
    spec: serde_json::Map<String, serde_json::Value>,
    namespace: &'static str,
    invocation_count: u64,
    replicas: u32,
    available_replicas: u32,
    created_at: Timestamp,
}

impl Deployment {
    pub(super) fn new(spec: Spec, log: Log, rollout: CancellationToken) -> Self {
        let current = Current { wanted: spec.replicas(), spec, launch: None, replicas: Vec::new(), rollout };
        Self {
            created_at: Timestamp::now(),
            invocations: AtomicU64::new(0),
            log,
            next: AtomicUsize::new(0),
            broken: Mutex::default(),
            current: Mutex::new(current),
        }
    }

    pub(super) fn set_spec(&self, spec: Spec) {
        let mut current = self.current();
        current.wanted = spec.replicas();
        current.spec = spec;
    }

    /// Ends the roll-out that is under way.
    pub(super) fn begin_roll_out(&self) -> CancellationToken {
        let rollout = CancellationToken::new();
        std::mem::replace(&mut self.current().rollout, rollout.clone()).cancel();
        rollout
    }

    /// Keeps the compiler's output of a build that failed, until one succeeds; returns whether this one failed.
    pub(super) fn note_build<T>(&self, outcome: &anyhow::Result<T>) -> bool {
        let failure = outcome.as_ref().err().and_then(|error| error.downcast_ref::<BuildFailure>());
        let broken = failure.map(|failure| Broken { at: Timestamp::now(), output: failure.output.clone() });
        let failed = broken.is_some();
        *self.broken.lock().unwrap_or_else(PoisonError::into_inner) = broken;
        failed
    }

    pub(super) fn broken(&self) -> Option<Broken> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ready(&self) -> Vec<Ports> {
        self.current().replicas.iter().filter_map(Replica::ports).collect()
    }

    pub(super) fn end(&self) {
        let mut current = self.current();
        current.rollout.cancel();
        current.replicas.clear();
    }

    pub(super) fn status(&self) -> Status {
        let current = self.current();
        Status {
            name: current.spec.service.clone(),
            spec: current.spec.to_status(),
            namespace: NAMESPACE,
            invocation_count: self.invocations.load(Ordering::Relaxed),
            replicas: current.wanted,
            available_replicas: current.replicas.iter().filter(|replica| replica.ports().is_some()).count() as u32,
            created_at: self.created_at,
        }
    }
}
