use futures_util::{StreamExt, stream::select_all};
use kube::api::{WatchEvent, WatchParams};

use super::{Failed, Inner};
use crate::store::{StoreError, follow::Told};

/// One round: until the first of its watches ends, which the server does every few minutes. Each begins with the Secrets as
/// they are, so that nothing that happened between two rounds is missed.
pub(super) async fn watch(inner: &Inner, sender: &Told) -> Result<(), StoreError> {
    let targets = match inner.named_accounts().await? {
        Some(accounts) => {
            // Rights to one Secret cover a watch of exactly that one.
            let field = |account| format!("metadata.name={}{account}", inner.prefix);
            accounts.iter().map(|account| WatchParams::default().fields(&field(account))).collect()
        }
        None => vec![WatchParams::default().labels(&inner.selector())],
    };
    let mut streams = Vec::new();
    for target in targets {
        let stream = inner.ask("watch Secrets", inner.secrets.watch_metadata(&target, "0")).await?;
        streams.push(stream.map(Some).chain(futures_util::stream::iter([None])).boxed());
    }
    let mut events = select_all(streams);
    while let Some(event) = events.next().await {
        let secret = match event {
            Some(Ok(WatchEvent::Added(secret) | WatchEvent::Modified(secret) | WatchEvent::Deleted(secret))) => secret,
            Some(Ok(WatchEvent::Bookmark(_))) => continue,
            Some(Ok(WatchEvent::Error(_))) | None => return Ok(()),
            Some(Err(err)) => return inner.ask("watch Secrets", async { Err(err) }).await.map_err(Failed::into),
        };
        let account = secret.metadata.name.as_deref().and_then(|name| inner.account(name));
        if let Some(account) = account
            && sender.send(account.to_owned()).await.is_err()
        {
            return Ok(());
        }
    }
    Ok(())
}
