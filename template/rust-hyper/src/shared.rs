//! What all calls of a watchdog share.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::{auth::Auth, config::Config, gate::Gate, leftover::Leftovers, lock::Lock, log::Log, metrics::Metrics};

/// A connection's own handle to what all calls share. Calls come and go by it, so that they do not count references in
/// the one place where all cores do.
pub(crate) type Local = Arc<Arc<Shared>>;

pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) gate: Gate,
    pub(crate) leftovers: Leftovers,
    pub(crate) metrics: Metrics,
    pub(crate) log: Log,
    pub(crate) lock: Lock,
    pub(crate) auth: Option<Auth>,
    pub(crate) draining: AtomicBool,
}

impl Shared {
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether calls should be sent here.
    pub(crate) fn is_up(&self) -> bool {
        !self.is_draining() && self.lock.is_there()
    }
}
