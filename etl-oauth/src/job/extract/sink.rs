use std::sync::Arc;

use bytes::Bytes;

use super::{
    bucket::Bucket,
    checkpoint::Checkpoint,
    column::Schema,
    folder::Folder,
    plan::{Format, Plan, Target},
    postgres::Postgres,
    resource::Resource,
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
    Postgres(Arc<Postgres>),
}

/// A part, and how far its resource is copied with it.
#[derive(Debug)]
pub(super) struct Part<'a> {
    pub(super) resource: &'a Resource,
    pub(super) account: &'a str,
    /// The name of its file.
    pub(super) name: String,
    pub(super) format: Format,
    /// As the writer made it: lines of JSON for a table.
    pub(super) bytes: Bytes,
    /// The run and the part of the checkpoint that it begins at.
    pub(super) before: (u64, u64),
    /// The checkpoint when it is written.
    pub(super) after: Checkpoint,
    /// Whether the run ends with it.
    pub(super) last: bool,
    /// The columns as they are.
    pub(super) schema: Schema,
}

/// What was made of a part.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// The columns as they are now.
    pub(super) schema: Schema,
    /// Records that do not fit, and were kept apart.
    pub(super) dead: u64,
    /// Values that were left out.
    pub(super) discarded: u64,
}

impl Sink {
    pub(super) fn open(plan: &Plan, secrets: &Secrets) -> Result<Self, JobError> {
        match plan.target() {
            Target::Folder { path, .. } => Ok(Self::Folder(Folder::new(path))),
            Target::Bucket { url, options, .. } => Ok(Self::Bucket(Arc::new(Bucket::open(url, options, secrets)?))),
            Target::Webhook { .. } => Webhook::open(secrets).map(Self::Webhook),
            #[cfg(feature = "postgres")]
            Target::Postgres { schema } => Ok(Self::Postgres(Arc::new(Postgres::open(schema.as_deref(), secrets)))),
            #[cfg(not(feature = "postgres"))]
            Target::Postgres { .. } => {
                Err(JobError::Sink("databases are not built in: build with the cargo feature postgres".into()))
            }
        }
    }

    /// How far a resource is copied, where the sink itself knows: its data and that cannot part.
    pub(super) async fn position(&self, account: &str, resource: &str) -> Result<Option<Checkpoint>, JobError> {
        match self {
            Self::Postgres(database) => Ok(Some(database.position(account, resource).await?.unwrap_or_default())),
            _ => Ok(None),
        }
    }

    /// Writes a part. What had the name before is replaced as a whole; when this returns it is safe.
    pub(super) async fn put(&self, part: &Part<'_>) -> Result<Written, JobError> {
        if let Self::Postgres(database) = self {
            return database.put(part).await;
        }
        let (bytes, dead, written) = encoded(part)?;
        if let Some(dead) = dead {
            let stem = part.name.trim_end_matches(part.format.ending());
            self.put_file(&format!("{stem}dead.jsonl"), Format::Jsonl.media_type(), dead).await?;
        }
        self.put_file(&part.name, part.format.media_type(), bytes).await?;
        Ok(written)
    }

    async fn put_file(&self, name: &str, kind: &'static str, bytes: Bytes) -> Result<(), JobError> {
        match self {
            Self::Folder(folder) => folder.put(name, bytes).await,
            Self::Bucket(bucket) => bucket.put(name, bytes).await,
            Self::Webhook(webhook) => webhook.put(name, kind, bytes).await,
            Self::Postgres(_) => Ok(()),
        }
    }

    /// Ends a run that has nothing for its last part: removes what a run that was cut off may have left there.
    pub(super) async fn finish(&self, part: &Part<'_>) -> Result<(), JobError> {
        match self {
            Self::Folder(folder) => folder.remove(&part.name).await,
            Self::Bucket(bucket) => bucket.remove(&part.name).await,
            // What was posted can't be taken back; the receiver has it under a name that comes again with the next run.
            Self::Webhook(_) => Ok(()),
            Self::Postgres(database) => database.put(part).await.map(drop),
        }
    }
}

/// The file of a part, and that of its records that do not fit.
type Files = (Bytes, Option<Bytes>, Written);

#[cfg(feature = "parquet")]
fn encoded(part: &Part<'_>) -> Result<Files, JobError> {
    use super::{batch::Batch, parquet};
    if part.format != Format::Parquet {
        return Ok((part.bytes.clone(), None, Written { schema: part.schema.clone(), ..Written::default() }));
    }
    let mut schema = part.schema.clone();
    let name = &part.resource.name;
    let batch = Batch::read(&part.bytes, part.resource, &mut schema)
        .map_err(|why| JobError::Sink(format!("{name} does not fit its files: {why}")))?;
    let bytes = parquet::encode(&batch, &schema).map_err(JobError::Sink)?.into();
    let letters = batch.dead.iter().map(|(line, why)| serde_json::json!({ "record": line, "reason": why }).to_string());
    let letters: Vec<_> = letters.collect();
    let dead = (!letters.is_empty()).then(|| Bytes::from(letters.join("\n") + "\n"));
    let (dead_count, discarded) = (batch.dead.len() as u64, batch.discarded);
    Ok((bytes, dead, Written { schema, dead: dead_count, discarded }))
}

#[cfg(not(feature = "parquet"))]
#[expect(clippy::unnecessary_wraps, reason = "the other one fails")]
fn encoded(part: &Part<'_>) -> Result<Files, JobError> {
    Ok((part.bytes.clone(), None, Written { schema: part.schema.clone(), ..Written::default() }))
}
