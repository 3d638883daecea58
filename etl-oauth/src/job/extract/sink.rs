use std::sync::Arc;

use bytes::Bytes;

use super::{
    bucket::Bucket,
    folder::Folder,
    plan::{Plan, Target},
    webhook::Webhook,
};
use crate::job::JobError;
use token_keeper::secrets::Secrets;

/// Where parts become safe: written whole under their names, or not at all.
#[derive(Clone, Debug)]
pub(super) enum Sink {
    Folder(Folder),
    Bucket(Arc<Bucket>),
    Webhook(Webhook),
}

impl Sink {
    pub(super) fn open(plan: &Plan, secrets: &Secrets) -> Result<Self, JobError> {
        match plan.target() {
            Target::Folder { path, .. } => Ok(Self::Folder(Folder::new(path))),
            Target::Bucket { url, options, .. } => Ok(Self::Bucket(Arc::new(Bucket::open(url, options, secrets)?))),
            Target::Webhook { .. } => Webhook::open(secrets).map(Self::Webhook),
        }
    }

    /// Writes a part. What had the name before is replaced as a whole; when this returns it is safe.
    pub(super) async fn put(&self, name: &str, kind: &'static str, bytes: Bytes) -> Result<(), JobError> {
        match self {
            Self::Folder(folder) => folder.put(name, bytes).await,
            Self::Bucket(bucket) => bucket.put(name, bytes).await,
            Self::Webhook(webhook) => webhook.put(name, kind, bytes).await,
        }
    }

    /// Removes a part that a run which was cut off may have left, and that this run has nothing for.
    pub(super) async fn remove(&self, name: &str) -> Result<(), JobError> {
        match self {
            Self::Folder(folder) => folder.remove(name).await,
            Self::Bucket(bucket) => bucket.remove(name).await,
            // What was posted can't be taken back; the receiver has it under a name that comes again with the next run.
            Self::Webhook(_) => Ok(()),
        }
    }
}
