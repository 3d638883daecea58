//! Values as Secrets of the Kubernetes API.

mod index;
mod lease;
mod watch;

use std::{collections::BTreeMap, error::Error as _, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::{
        authorization::v1::{SelfSubjectRulesReview, SelfSubjectRulesReviewSpec},
        coordination::v1::Lease,
        core::v1::Secret,
    },
};
use kube::{
    Api, Client, Config,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions},
};

use super::{
    Acquired, ByteStore, Capabilities, Changes, Codec, Due, Key, Kind, Meta, Page, Scan, StoreError, StoreOptions,
    Value, Version, lease_expiry::LeaseExpiry, watch::follow,
};
use crate::secrets::Secrets;

/// The key of the value in its Secret.
const RECORD: &str = "record";
/// Of a whole request: with an API server that hangs, the other replicas are better off than we are.
const PATIENCE: Duration = Duration::from_secs(10);

/// One Secret for each value, named `FUNCTION-token-PATH` ([`Key::path`]; with `secret_prefix` before it), and a Lease
/// (`coordination.k8s.io`) of the same name. Kinds other than tokens have `FUNCTION.KIND` for `FUNCTION`. The version is the
/// Secret's `resourceVersion`.
///
/// It works with as little as `get`, `patch` and `watch` of Secrets that are there already, each by its name: the manifest in
/// `deploy/` makes them empty. Where it may create them, it does. Which keys there are it learns from its own rights
/// when they name Secrets, and by a list of all Secrets with its labels when they do not.
///
/// Kubernetes finds an object by its name and its labels alone. So the index of what is due is in annotations, and every
/// question to it reads the metadata of all Secrets. That is right for up to 2,000 values of a kind: beyond, a write of a new
/// one is refused, and PostgreSQL or NATS is the store to choose.
#[derive(Clone, Debug)]
pub struct Kubernetes(Arc<Inner>);

struct Inner {
    client: Client,
    secrets: Api<Secret>,
    leases: Api<Lease>,
    namespace: String,
    secret_names: Secrets,
    codec: Codec,
    observed: LeaseExpiry,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kubernetes")
            .field("namespace", &self.namespace)
            .field("function", &self.codec.function())
            .finish()
    }
}

impl Kubernetes {
    /// The store of the cluster that the function runs in, or of the kubeconfig. Sealed where the secret
    /// `etl-oauth-seal-keys` is mounted.
    ///
    /// # Errors
    /// [`StoreError::Config`] when there is neither, or the seal keys are damaged.
    pub async fn open(options: &StoreOptions) -> Result<Self, StoreError> {
        let config = Config::infer().await.map_err(|err| {
            StoreError::config(
                "store=kubernetes finds no cluster: the function's pod has no service account token \
                 (automountServiceAccountToken), and there is no kubeconfig",
            )
            .because(err)
        })?;
        Self::with_config(config, options)
    }

    /// The store of the cluster that `config` names.
    ///
    /// # Errors
    /// [`StoreError::Config`] when `config` makes no client, or the seal keys are damaged.
    pub fn with_config(config: Config, options: &StoreOptions) -> Result<Self, StoreError> {
        let namespace = options.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        // The source may quote a path of the kubeconfig, and nothing secret.
        let client = Client::try_from(config)
            .map_err(|err| StoreError::config(format!("store=kubernetes cannot use its credentials: {err}")))?;
        Ok(Self(Arc::new(Inner {
            secrets: Api::namespaced(client.clone(), &namespace),
            leases: Api::namespaced(client.clone(), &namespace),
            client,
            namespace,
            secret_names: options.secrets.clone(),
            codec: Codec::optional(&options.function, options.secrets.clone())?,
            observed: LeaseExpiry::default(),
        })))
    }
}

impl Inner {
    /// All of a name but the key's path.
    fn prefix(&self, kind: Kind) -> String {
        self.secret_names.name(&format!("{}-token-", kind.space(self.codec.function())))
    }

    fn name(&self, key: &Key) -> String {
        format!("{}{}", self.prefix(key.kind()), key.path())
    }

    fn key(&self, kind: Kind, name: &str) -> Option<Key> {
        Key::from_path(kind, name.strip_prefix(&self.prefix(kind))?).ok()
    }

    /// What marks the Secrets and Leases of this function and kind.
    fn labels(&self, kind: Kind) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("app.kubernetes.io/managed-by".to_owned(), "etl-oauth".to_owned()),
            ("app.kubernetes.io/instance".to_owned(), kind.space(self.codec.function())),
        ])
    }

    fn selector(&self, kind: Kind) -> String {
        let labels: Vec<_> = self.labels(kind).into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        labels.join(",")
    }

    fn metadata(&self, key: &Key, version: Option<&str>) -> ObjectMeta {
        ObjectMeta {
            name: Some(self.name(key)),
            resource_version: version.map(str::to_owned),
            labels: Some(self.labels(key.kind())),
            ..ObjectMeta::default()
        }
    }

    /// One request, within [`PATIENCE`]. `what` completes "to …" in a message.
    async fn ask<T>(&self, what: &str, request: impl Future<Output = kube::Result<T>>) -> Result<T, Failed> {
        let Ok(result) = tokio::time::timeout(PATIENCE, request).await else {
            return Err(Failed::Store(StoreError::unavailable(format!(
                "the Kubernetes API did not answer a request to {what} in {} s",
                PATIENCE.as_secs()
            ))));
        };
        result.map_err(|err| match err {
            kube::Error::Api(status) => match status.code {
                404 => Failed::Missing,
                409 => Failed::Conflict,
                401 | 403 => Failed::Store(StoreError::refused(format!(
                    "the Kubernetes API does not let this service account {what} in the namespace {}: apply \
                     deploy/kubernetes.yaml, with this account's names in it",
                    self.namespace
                ))),
                429 | 500.. => Failed::Store(StoreError::unavailable(format!(
                    "the Kubernetes API answered {} to a request to {what}",
                    status.code
                ))),
                code => Failed::Store(StoreError::refused(format!(
                    "the Kubernetes API answered {code} to a request to {what}"
                ))),
            },
            kube::Error::SerdeError(_) => {
                // Its words may quote the answer, which has the token in it.
                Failed::Store(StoreError::unavailable("the Kubernetes API gave an answer that makes no sense"))
            }
            err => {
                let mut cause = err.source();
                while let Some(deeper) = cause.and_then(|cause| cause.source()) {
                    cause = Some(deeper);
                }
                let cause = cause.map_or_else(|| err.to_string(), ToString::to_string);
                let what = format!("no way to the Kubernetes API to {what}: {cause}");
                Failed::Store(StoreError::unavailable(what).because(err))
            }
        })
    }

    /// The keys that our rights name; `None` where they cover all Secrets.
    async fn named_keys(&self, kind: Kind) -> Result<Option<Vec<Key>>, StoreError> {
        let spec = SelfSubjectRulesReviewSpec { namespace: Some(self.namespace.clone()) };
        let review = SelfSubjectRulesReview { spec, ..SelfSubjectRulesReview::default() };
        let api: Api<SelfSubjectRulesReview> = Api::all(self.client.clone());
        let review = self.ask("review its own rights", api.create(&PostParams::default(), &review)).await?;
        let covers = |have: &[String], wanted: &str| have.iter().any(|it| it == wanted || it == "*");
        let mut keys = Vec::new();
        for rule in review.status.unwrap_or_default().resource_rules {
            let (groups, resources) = (rule.api_groups.unwrap_or_default(), rule.resources.unwrap_or_default());
            let verbs = rule.verbs;
            if !covers(&groups, "") || !covers(&resources, "secrets") || !covers(&verbs, "get") {
                continue;
            }
            match rule.resource_names.unwrap_or_default() {
                names if names.is_empty() && covers(&verbs, "list") => return Ok(None),
                names => keys.extend(names.iter().filter_map(|name| self.key(kind, name))),
            }
        }
        keys.sort_unstable();
        keys.dedup();
        Ok(Some(keys))
    }

    async fn get(&self, name: &str) -> Result<Option<Secret>, Failed> {
        self.ask(&format!("get the Secret {name}"), self.secrets.get_opt(name)).await
    }

    /// Writes over the Secret of this `resourceVersion`, leaving what others put on it.
    async fn patch(&self, key: &Key, version: &str, secret: Secret) -> Result<Version, Failed> {
        let name = self.name(key);
        let metadata = ObjectMeta { annotations: secret.metadata.annotations, ..self.metadata(key, Some(version)) };
        let secret = Secret { metadata, ..secret };
        let (params, patch) = (PatchParams::default(), Patch::Merge(&secret));
        let request = self.secrets.patch(&name, &params, &patch);
        let written = self.ask(&format!("patch the Secret {name}"), request).await?;
        Ok(version_of(&written))
    }

    async fn put(&self, key: &Key, secret: Secret, was: Option<&Version>) -> Result<Version, StoreError> {
        if let Some(was) = was {
            return Ok(self.patch(key, was.as_str(), secret).await?);
        }
        let name = self.name(key);
        match self.get(&name).await? {
            Some(there) if bytes_of(&there).is_some() => Err(StoreError::Conflict),
            Some(there) => Ok(self.patch(key, version_of(&there).as_str(), secret).await?),
            None => {
                self.check_room(key.kind()).await?;
                let annotations = secret.metadata.annotations;
                let metadata = ObjectMeta { annotations, ..self.metadata(key, None) };
                let secret = Secret { metadata, ..secret };
                let what = format!("create the Secret {name}, which is missing,");
                let params = PostParams::default();
                Ok(version_of(&self.ask(&what, self.secrets.create(&params, &secret)).await?))
            }
        }
    }

    /// Deletes the Secret where it may; where it may not, it leaves one without a value.
    async fn delete(&self, key: &Key, was: &Version) -> Result<(), StoreError> {
        let name = self.name(key);
        let resource_version = Some(was.as_str().to_owned());
        let preconditions = Some(Preconditions { resource_version, uid: None });
        let params = DeleteParams { preconditions, ..DeleteParams::default() };
        match self.ask(&format!("delete the Secret {name}"), self.secrets.delete(&name, &params)).await {
            Err(Failed::Store(StoreError::Refused(_))) => {}
            other => return Ok(other.map(drop)?),
        }
        let nothing = serde_json::json!({
            "metadata": {"resourceVersion": was.as_str(), "annotations": {index::ENTRY: null}}, "data": {RECORD: null}
        });
        let patch = Patch::Merge(&nothing);
        let params = PatchParams::default();
        self.ask(&format!("patch the Secret {name}"), self.secrets.patch(&name, &params, &patch)).await?;
        Ok(())
    }
}

/// What a request can come to besides success.
enum Failed {
    Missing,
    Conflict,
    Store(StoreError),
}

impl From<Failed> for StoreError {
    fn from(failed: Failed) -> Self {
        match failed {
            // What had a version has it no more.
            Failed::Missing | Failed::Conflict => Self::Conflict,
            Failed::Store(err) => err,
        }
    }
}

impl From<StoreError> for Failed {
    fn from(err: StoreError) -> Self {
        Self::Store(err)
    }
}

fn version_of(secret: &Secret) -> Version {
    Version::new(secret.metadata.resource_version.as_deref().unwrap_or_default())
}

fn bytes_of(secret: &Secret) -> Option<&[u8]> {
    Some(&secret.data.as_ref()?.get(RECORD)?.0)
}

impl ByteStore for Kubernetes {
    fn capabilities(&self) -> Capabilities {
        Capabilities { read_back: true, compare_and_swap: true, lease: true, accounts: true, index: true }
    }

    async fn get(&self, key: &Key) -> Result<Option<Value>, StoreError> {
        let secret = self.0.get(&self.0.name(key)).await?;
        // A Secret without a value is one that was made for us, and holds a token as little as none does.
        let Some((secret, bytes)) = secret.as_ref().and_then(|secret| Some((secret, bytes_of(secret)?))) else {
            return Ok(None);
        };
        let version = version_of(secret);
        match self.0.codec.decode(key, bytes) {
            Ok((generation, bytes)) => {
                let meta = index::entry(&secret.metadata).unwrap_or_default();
                let generation = meta.generation.max(generation);
                Ok(Some(Value { bytes, version, meta: Meta { generation, ..meta } }))
            }
            Err(err) => Err(err.at(version)),
        }
    }

    async fn put(&self, key: &Key, bytes: &[u8], meta: &Meta, was: Option<&Version>) -> Result<Version, StoreError> {
        let bytes = self.0.codec.encode(key, meta.generation, bytes)?;
        let data = BTreeMap::from([(RECORD.to_owned(), ByteString(bytes.to_vec()))]);
        let metadata = ObjectMeta { annotations: Some(index::annotations(meta)), ..ObjectMeta::default() };
        self.0.put(key, Secret { data: Some(data), metadata, ..Secret::default() }, was).await
    }

    async fn delete(&self, key: &Key, was: &Version) -> Result<(), StoreError> {
        self.0.delete(key, was).await
    }

    async fn list(&self, scan: &Scan) -> Result<Page, StoreError> {
        Ok(self.0.index(scan.kind).await?.list(scan))
    }

    async fn counts(&self, kind: Kind, connection: Option<&str>) -> Result<BTreeMap<String, u64>, StoreError> {
        Ok(self.0.index(kind).await?.counts(kind, connection))
    }

    async fn due(&self, kind: Kind, connection: &str, before: Timestamp, limit: usize) -> Result<Vec<Due>, StoreError> {
        Ok(self.0.index(kind).await?.due(kind, connection, before, limit))
    }

    async fn acquire(&self, key: &Key, owner: &str, ttl: Duration, now: Timestamp) -> Result<Acquired, StoreError> {
        self.0.acquire(key, owner, ttl, now).await
    }

    async fn release(&self, key: &Key, owner: &str) -> Result<(), StoreError> {
        self.0.release(key, owner).await
    }

    fn changes(&self, kind: Kind) -> Option<Changes> {
        let inner = Arc::clone(&self.0);
        Some(follow("the Secrets", move |told| {
            let inner = Arc::clone(&inner);
            async move { watch::watch(&inner, kind, &told).await }
        }))
    }
}
