use std::time::Duration;

use tokio::sync::mpsc;

use super::{Changes, Key, StoreError};

/// Between one watch that ended and the next.
const PAUSE: Duration = Duration::from_secs(1);

/// Whom a watch tells.
pub(super) type Told = mpsc::Sender<Key>;

/// Watches again and again until the receiver is dropped. One round lasts until its connection breaks or is closed, and
/// begins by naming every key, so that nothing that happened between two rounds is missed.
pub(super) fn follow<W, R>(what: &'static str, watch: W) -> Changes
where
    W: Fn(Told) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), StoreError>> + Send,
{
    let (sender, receiver) = mpsc::channel(64);
    tokio::spawn(async move {
        let told = sender.clone();
        let rounds = async {
            let mut known = false;
            loop {
                match watch(told.clone()).await {
                    Ok(()) => {}
                    Err(err) if known => tracing::debug!(error = %err, "the watch on {what} broke; watching anew"),
                    Err(err) => {
                        tracing::warn!(error = %err, "{what} cannot be watched: other replicas' renewals are seen when needed");
                    }
                }
                known = true;
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::select! {
            () = sender.closed() => {}
            () = rounds => {}
        }
    });
    receiver
}
