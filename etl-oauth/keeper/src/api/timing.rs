//! Clock, sleep and randomness of the API client, as values.

use std::{fmt, sync::Arc, time::Duration};

use futures_core::future::BoxFuture;
use jiff::Timestamp;

use crate::renewal::{Clock, jitter};

type Sleep = dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync;

/// Time and chance as values: a test brings its own, and waits for nothing.
#[derive(Clone)]
pub struct Timing {
    clock: Clock,
    sleep: Arc<Sleep>,
    chance: Arc<dyn Fn() -> f64 + Send + Sync>,
}

impl fmt::Debug for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Timing(..)")
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self::new(Clock::system(), |time| Box::pin(tokio::time::sleep(time)), jitter)
    }
}

impl Timing {
    /// A clock, a way to wait, and a source of numbers from 0 to 1.
    pub fn new(
        clock: Clock,
        sleep: impl Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync + 'static,
        chance: impl Fn() -> f64 + Send + Sync + 'static,
    ) -> Self {
        Self { clock, sleep: Arc::new(sleep), chance: Arc::new(chance) }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) async fn sleep(&self, time: Duration) {
        (self.sleep)(time).await;
    }

    pub(super) fn chance(&self) -> f64 {
        (self.chance)()
    }
}
