//! What is due, from the headers of the bucket's messages.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use async_nats::{
    HeaderMap,
    jetstream::{
        consumer::{DeliverPolicy, pull::OrderedConfig},
        stream::LastRawMessageErrorKind,
    },
};
use futures_util::StreamExt;
use tokio::sync::watch;

use super::Inner;
use crate::store::{Key, Kind, Meta, StoreError, index::Index};

/// Says of a message of a bucket that it is the mark of a deleted key.
pub(super) const OPERATION: &str = "KV-Operation";
const DUE: &str = "Etl-Oauth-Due";
const TAG: &str = "Etl-Oauth-Tag";
/// Between two readings of all headers.
const PAUSE: Duration = Duration::from_secs(1);

/// The index entry as headers.
pub(super) fn headers(meta: &Meta) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(at) = meta.due_at {
        headers.insert(DUE, at.to_string());
    }
    if let Some(tag) = &meta.tag {
        headers.insert(TAG, tag.as_str());
    }
    headers
}

fn meta(headers: Option<&HeaderMap>) -> Meta {
    let text = |name: &str| headers?.get(name).map(async_nats::HeaderValue::as_str);
    Meta { generation: 0, due_at: text(DUE).and_then(|at| at.parse().ok()), tag: text(TAG).map(str::to_owned) }
}

/// The index of each kind that was asked for.
#[derive(Debug, Default)]
pub(super) struct Indexes(Mutex<BTreeMap<Kind, Arc<Followed>>>);

/// An index that follows the bucket.
#[derive(Debug)]
struct Followed {
    index: Mutex<Index>,
    /// The stream's number of the last message that is in the index; `None` while it is being read from the beginning.
    seen: watch::Sender<Option<u64>>,
}

impl Followed {
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Asks the index of a kind, after all that was written until now is in it.
    pub(super) async fn ask<T>(
        self: &Arc<Self>,
        kind: Kind,
        question: impl FnOnce(&Index) -> T,
    ) -> Result<T, StoreError> {
        let followed = self.followed(kind);
        let kv = self.kv().await?;
        let subject = format!("{}{}>", kv.prefix, self.prefix(kind));
        let newest = match kv.stream.get_last_raw_message_by_subject(&subject).await {
            Ok(message) => message.sequence,
            Err(err) if err.kind() == LastRawMessageErrorKind::NoMessageFound => 0,
            Err(err) => return Err(self.unavailable(err)),
        };
        let mut seen = followed.seen.subscribe();
        let caught_up = seen.wait_for(|seen| seen.is_some_and(|seen| seen >= newest)).await;
        caught_up.map_err(|_| StoreError::unavailable("the function is stopping"))?;
        let answer = question(&followed.index());
        Ok(answer)
    }

    fn followed(self: &Arc<Self>, kind: Kind) -> Arc<Followed> {
        let mut indexes = self.indexes.0.lock().unwrap_or_else(PoisonError::into_inner);
        let followed = indexes.entry(kind).or_insert_with(|| {
            let followed = Arc::new(Followed { index: Mutex::default(), seen: watch::Sender::new(None) });
            tokio::spawn(follow(Arc::downgrade(self), Arc::clone(&followed), kind));
            followed
        });
        Arc::clone(followed)
    }

    /// Reads all headers, and then those that are written, until that breaks.
    async fn follow(&self, kind: Kind, followed: &Followed) -> Result<(), StoreError> {
        let kv = self.kv().await?;
        let prefix = format!("{}{}", kv.prefix, self.prefix(kind));
        let config = OrderedConfig {
            description: Some("index of what is due".into()),
            filter_subject: format!("{prefix}>"),
            headers_only: true,
            deliver_policy: DeliverPolicy::LastPerSubject,
            ..OrderedConfig::default()
        };
        let consumer = kv.stream.create_consumer(config).await.map_err(|err| self.unavailable(err))?;
        if consumer.cached_info().num_pending == 0 {
            followed.seen.send_replace(Some(0));
        }
        let mut messages = consumer.messages().await.map_err(|err| self.unavailable(err))?;
        while let Some(message) = messages.next().await {
            let message = message.map_err(|err| self.unavailable(err))?;
            let Ok((sequence, pending)) = message.info().map(|info| (info.stream_sequence, info.pending)) else {
                continue;
            };
            let path = message.subject.as_str().strip_prefix(&prefix);
            if let Some(key) = path.and_then(|path| Key::from_path(kind, path).ok()) {
                let headers = message.headers.as_ref();
                if headers.is_some_and(|headers| headers.get(OPERATION).is_some()) {
                    followed.index().remove(&key);
                } else {
                    followed.index().set(&key, &meta(headers));
                }
            }
            followed.seen.send_if_modified(|seen| {
                let is_read = seen.is_some() || pending == 0;
                if is_read {
                    *seen = Some(sequence);
                }
                is_read
            });
        }
        Ok(())
    }
}

async fn follow(inner: Weak<Inner>, followed: Arc<Followed>, kind: Kind) {
    loop {
        let Some(inner) = inner.upgrade() else { return };
        if let Err(err) = inner.follow(kind, &followed).await {
            tracing::debug!(error = %err, "the index of what is due is read anew");
        }
        drop(inner);
        followed.seen.send_replace(None);
        *followed.index() = Index::default();
        tokio::time::sleep(PAUSE).await;
    }
}
