//! The calls of one HTTP/2 connection: there may be many at a time, and for how long there may be none is limited.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// A call whose time is over ends its own stream. Only a client that does not even take that holds it up longer.
const GRACE: Duration = Duration::from_secs(1);
/// For a limit that lies beyond what a clock can say.
const FAR: Duration = Duration::from_secs(86_400);

/// Counts the calls of a connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Streams(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    open: Mutex<Open>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    /// When each call was begun, by its number: the first one is the oldest.
    calls: BTreeMap<u64, Instant>,
}

/// A call that is not over until its answer is written; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Stream {
    streams: Streams,
    number: u64,
}

impl Streams {
    pub(crate) fn begin(&self) -> Stream {
        let mut open = self.open();
        let number = open.next;
        open.next += 1;
        open.calls.insert(number, Instant::now());
        drop(open);
        self.0.changed.notify_one();
        Stream { streams: self.clone(), number }
    }

    /// Waits until there was no call for `idle` (zero: however long), or until one was not over `write` after it was
    /// begun: its client does not read, and one stream cannot be ended without it.
    pub(crate) async fn over(&self, idle: Duration, write: Duration) {
        loop {
            let oldest = self.open().calls.first_key_value().map(|(_, begun)| *begun);
            let end = match oldest {
                Some(begun) => begun.checked_add(write.saturating_add(GRACE)),
                None if idle.is_zero() => None,
                None => Instant::now().checked_add(idle),
            };
            let sleep = tokio::time::sleep_until(end.unwrap_or_else(|| Instant::now() + FAR));
            tokio::select! {
                () = sleep => if end.is_some() { return },
                // Kept for whoever comes later, so that no change is missed.
                () = self.0.changed.notified() => {}
            }
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.streams.open().calls.remove(&self.number);
        self.streams.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(30);
    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn a_connection_without_calls_is_over_after_a_while() {
        let streams = Streams::default();
        let call = streams.begin();
        assert!(tokio::time::timeout(4 * SHORT, streams.over(SHORT, LONG)).await.is_err(), "a call is under way");
        drop(call);
        tokio::time::timeout(LONG, streams.over(SHORT, LONG)).await.unwrap();
        assert!(tokio::time::timeout(4 * SHORT, streams.over(Duration::ZERO, LONG)).await.is_err(), "no limit");
    }
}
