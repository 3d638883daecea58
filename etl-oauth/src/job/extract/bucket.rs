//! Objects in a bucket, by the features `s3`, `gcs` and `azure`.

pub(super) use imp::Bucket;

#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
mod imp {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use object_store::{ObjectStore, ObjectStoreExt, path::Path};
    use url::Url;

    use crate::job::JobError;
    use token_keeper::secrets::Secrets;

    /// A bucket, and where in it.
    #[derive(Debug)]
    pub(in crate::job::extract) struct Bucket {
        store: Box<dyn ObjectStore>,
        prefix: Path,
        url: String,
    }

    impl Bucket {
        /// Opens it with the options of the plan and of the secret `etl-oauth-sink-options`: lines `NAME=VALUE`, with the
        /// names that object_store has for them, such as `aws_access_key_id`.
        pub(in crate::job::extract) fn open(
            url: &str,
            options: &BTreeMap<String, String>,
            secrets: &Secrets,
        ) -> Result<Self, JobError> {
            let failed = |why: String| JobError::Sink(format!("the bucket {url} can't be opened: {why}"));
            let read: Url = url.parse().map_err(|_| failed("it is no URL such as s3://bucket/prefix".into()))?;
            let secret = secrets.read("etl-oauth-sink-options").map_err(|err| JobError::Sink(err.to_string()))?;
            let lines = secret.as_ref().map_or("", |secret| secret.expose()).lines();
            let hidden = lines.filter_map(|line| line.split_once('=')).map(|(name, value)| (name.trim(), value.trim()));
            let options = options.iter().map(|(name, value)| (name.as_str(), value.as_str())).chain(hidden);
            let (store, prefix) =
                object_store::parse_url_opts(&read, options).map_err(|err| failed(err.to_string()))?;
            Ok(Self { store, prefix, url: url.to_owned() })
        }

        pub(in crate::job::extract) async fn put(&self, name: &str, bytes: Bytes) -> Result<(), JobError> {
            // One request: an object is there whole, or not at all.
            self.store.put(&self.at(name), bytes.into()).await.map(drop).map_err(|err| self.failed(&err))
        }

        pub(in crate::job::extract) async fn remove(&self, name: &str) -> Result<(), JobError> {
            match self.store.delete(&self.at(name)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(err) => Err(self.failed(&err)),
            }
        }

        fn at(&self, name: &str) -> Path {
            Path::from_iter(self.prefix.parts().chain(Path::from(name).parts()))
        }

        fn failed(&self, err: &object_store::Error) -> JobError {
            // A kind, and no more: the long form may quote a signed address.
            let why = match err {
                object_store::Error::NotFound { .. } => "there is no such bucket",
                object_store::Error::PermissionDenied { .. } => "the keys do not permit it",
                object_store::Error::Unauthenticated { .. } => "the keys are missing or wrong",
                _ => "it failed, or could not be reached",
            };
            tracing::debug!(bucket = self.url, error = %err, "the bucket failed");
            JobError::Sink(format!("the bucket {} did not take an object: {why}", self.url))
        }
    }
}

#[cfg(not(any(feature = "s3", feature = "gcs", feature = "azure")))]
mod imp {
    use std::collections::BTreeMap;

    use bytes::Bytes;

    use crate::job::JobError;
    use token_keeper::secrets::Secrets;

    /// Buckets are not part of this build.
    #[derive(Debug)]
    pub(in crate::job::extract) enum Bucket {}

    #[allow(clippy::unused_async, reason = "the other one waits")]
    impl Bucket {
        pub(in crate::job::extract) fn open(
            _: &str,
            _: &BTreeMap<String, String>,
            _: &Secrets,
        ) -> Result<Self, JobError> {
            Err(JobError::Sink("buckets are not built in: build with the cargo feature s3, gcs or azure".into()))
        }

        pub(in crate::job::extract) async fn put(&self, _: &str, _: Bytes) -> Result<(), JobError> {
            match *self {}
        }

        pub(in crate::job::extract) async fn remove(&self, _: &str) -> Result<(), JobError> {
            match *self {}
        }
    }
}
