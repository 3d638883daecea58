//! Records as Secrets of the Kubernetes API.

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
    api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams},
};

use super::{
    Acquired, Capabilities, Changes, Codec, StoreError, StoreOptions, Stored, TokenStore, Version, check_account,
    lease_expiry::LeaseExpiry, watch::follow,
};
use crate::token::Record;

/// The key of the record in its Secret.
const RECORD: &str = "record";
/// Of a whole request: with an API server that hangs, the other replicas are better off than we are.
const PATIENCE: Duration = Duration::from_secs(10);

/// One Secret for each account, named `FUNCTION-token-ACCOUNT` (with `secret_prefix` before it), and a Lease
/// (`coordination.k8s.io`) of the same name. The version is the Secret's `resourceVersion`.
///
/// It works with as little as `get`, `patch` and `watch` of Secrets that are there already, each by its name: the manifest in
/// `deploy/` makes them empty. Where it may create them, it does. Which accounts there are it learns from its own rights
/// when they name Secrets, and by a list of all Secrets with its labels when they do not.
#[derive(Clone, Debug)]
pub struct Kubernetes(Arc<Inner>);

struct Inner {
    client: Client,
    secrets: Api<Secret>,
    leases: Api<Lease>,
    namespace: String,
    /// All of a name but the account.
    prefix: String,
    codec: Codec,
    observed: LeaseExpiry,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kubernetes").field("namespace", &self.namespace).field("prefix", &self.prefix).finish()
    }
}

impl Kubernetes {
    /// The store of the cluster that the function runs in, or of the kubeconfig. Sealed where the secret
    /// `etl-oauth-seal-keys` is mounted.
    ///
    /// # Errors
    /// [`StoreError::Config`] when there is neither, or the seal keys are damaged.
    pub async fn open(options: &StoreOptions) -> Result<Self, StoreError> {
        let config = Config::infer().await.map_err(|_| {
            StoreError::Config(
                "store=kubernetes finds no cluster: the function's pod has no service account token \
                 (automountServiceAccountToken), and there is no kubeconfig"
                    .into(),
            )
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
            .map_err(|err| StoreError::Config(format!("store=kubernetes cannot use its credentials: {err}")))?;
        Ok(Self(Arc::new(Inner {
            secrets: Api::namespaced(client.clone(), &namespace),
            leases: Api::namespaced(client.clone(), &namespace),
            client,
            namespace,
            prefix: options.secrets.name(&format!("{}-token-", options.function)),
            codec: Codec::optional(&options.function, options.secrets.clone())?,
            observed: LeaseExpiry::default(),
        })))
    }
}

impl Inner {
    fn name(&self, account: &str) -> Result<String, StoreError> {
        check_account(account)?;
        Ok(format!("{}{account}", self.prefix))
    }

    fn account<'a>(&self, name: &'a str) -> Option<&'a str> {
        name.strip_prefix(&self.prefix).filter(|account| check_account(account).is_ok())
    }

    /// What marks the Secrets and Leases of this function.
    fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("app.kubernetes.io/managed-by".to_owned(), "etl-oauth".to_owned()),
            ("app.kubernetes.io/instance".to_owned(), self.codec.function().to_owned()),
        ])
    }

    fn selector(&self) -> String {
        let labels: Vec<_> = self.labels().into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        labels.join(",")
    }

    fn metadata(&self, name: &str, version: Option<&str>) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.to_owned()),
            resource_version: version.map(str::to_owned),
            labels: Some(self.labels()),
            ..ObjectMeta::default()
        }
    }

    /// One request, within [`PATIENCE`]. `what` completes "to …" in a message.
    async fn ask<T>(&self, what: &str, request: impl Future<Output = kube::Result<T>>) -> Result<T, Failed> {
        let Ok(result) = tokio::time::timeout(PATIENCE, request).await else {
            return Err(Failed::Store(StoreError::Unavailable(format!(
                "the Kubernetes API did not answer a request to {what} in {} s",
                PATIENCE.as_secs()
            ))));
        };
        result.map_err(|err| match err {
            kube::Error::Api(status) => match status.code {
                404 => Failed::Missing,
                409 => Failed::Conflict,
                401 | 403 => Failed::Store(StoreError::Refused(format!(
                    "the Kubernetes API does not let this service account {what} in the namespace {}: apply \
                     deploy/kubernetes.yaml, with this account's names in it",
                    self.namespace
                ))),
                429 | 500.. => Failed::Store(StoreError::Unavailable(format!(
                    "the Kubernetes API answered {} to a request to {what}",
                    status.code
                ))),
                code => Failed::Store(StoreError::Refused(format!(
                    "the Kubernetes API answered {code} to a request to {what}"
                ))),
            },
            kube::Error::SerdeError(_) => {
                // Its words may quote the answer, which has the token in it.
                Failed::Store(StoreError::Unavailable("the Kubernetes API gave an answer that makes no sense".into()))
            }
            err => {
                let mut cause = err.source();
                while let Some(deeper) = cause.and_then(|cause| cause.source()) {
                    cause = Some(deeper);
                }
                let cause = cause.map_or_else(|| err.to_string(), ToString::to_string);
                Failed::Store(StoreError::Unavailable(format!("no way to the Kubernetes API to {what}: {cause}")))
            }
        })
    }

    /// The accounts that our rights name; `None` where they cover all Secrets.
    async fn named_accounts(&self) -> Result<Option<Vec<String>>, StoreError> {
        let spec = SelfSubjectRulesReviewSpec { namespace: Some(self.namespace.clone()) };
        let review = SelfSubjectRulesReview { spec, ..SelfSubjectRulesReview::default() };
        let api: Api<SelfSubjectRulesReview> = Api::all(self.client.clone());
        let review = self.ask("review its own rights", api.create(&PostParams::default(), &review)).await?;
        let covers = |have: &[String], wanted: &str| have.iter().any(|it| it == wanted || it == "*");
        let mut accounts = Vec::new();
        for rule in review.status.unwrap_or_default().resource_rules {
            let (groups, resources) = (rule.api_groups.unwrap_or_default(), rule.resources.unwrap_or_default());
            let verbs = rule.verbs;
            if !covers(&groups, "") || !covers(&resources, "secrets") || !covers(&verbs, "get") {
                continue;
            }
            match rule.resource_names.unwrap_or_default() {
                names if names.is_empty() && covers(&verbs, "list") => return Ok(None),
                names => accounts.extend(names.iter().filter_map(|name| self.account(name)).map(str::to_owned)),
            }
        }
        accounts.sort_unstable();
        accounts.dedup();
        Ok(Some(accounts))
    }

    async fn get(&self, name: &str) -> Result<Option<Secret>, Failed> {
        self.ask(&format!("get the Secret {name}"), self.secrets.get_opt(name)).await
    }

    /// Writes over the Secret of this `resourceVersion`, leaving what others put on it.
    async fn patch(&self, name: &str, version: &str, data: BTreeMap<String, ByteString>) -> Result<Version, Failed> {
        let secret = Secret { metadata: self.metadata(name, Some(version)), data: Some(data), ..Secret::default() };
        let (params, patch) = (PatchParams::default(), Patch::Merge(&secret));
        let request = self.secrets.patch(name, &params, &patch);
        let written = self.ask(&format!("patch the Secret {name}"), request).await?;
        Ok(version_of(&written))
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

impl TokenStore for Kubernetes {
    fn capabilities(&self) -> Capabilities {
        Capabilities { read_back: true, compare_and_swap: true, lease: true, accounts: true }
    }

    async fn load(&self, account: &str) -> Result<Option<Stored>, StoreError> {
        let secret = self.0.get(&self.0.name(account)?).await?;
        // A Secret without a record is one that was made for us, and holds a token as little as none does.
        let Some((secret, bytes)) = secret.as_ref().and_then(|secret| Some((secret, bytes_of(secret)?))) else {
            return Ok(None);
        };
        match self.0.codec.decode(account, bytes) {
            Ok(record) => Ok(Some(Stored { record, version: version_of(secret) })),
            Err(err) => Err(err.at(version_of(secret))),
        }
    }

    async fn save(&self, account: &str, record: &Record, was: Option<&Version>) -> Result<Version, StoreError> {
        let name = self.0.name(account)?;
        let bytes = self.0.codec.encode(account, record)?;
        let data = BTreeMap::from([(RECORD.to_owned(), ByteString(bytes.to_vec()))]);
        if let Some(was) = was {
            return Ok(self.0.patch(&name, was.as_str(), data).await?);
        }
        match self.0.get(&name).await? {
            Some(secret) if bytes_of(&secret).is_some() => Err(StoreError::Conflict),
            Some(secret) => Ok(self.0.patch(&name, version_of(&secret).as_str(), data).await?),
            None => {
                let secret = Secret { metadata: self.0.metadata(&name, None), data: Some(data), ..Secret::default() };
                let what = format!("create the Secret {name}, which is missing,");
                let params = PostParams::default();
                Ok(version_of(&self.0.ask(&what, self.0.secrets.create(&params, &secret)).await?))
            }
        }
    }

    async fn accounts(&self) -> Result<Vec<String>, StoreError> {
        let Some(named) = self.0.named_accounts().await? else {
            let params = ListParams::default().labels(&self.0.selector());
            let list = self.0.ask("list Secrets", self.0.secrets.list(&params)).await?;
            let with_record = list.items.iter().filter(|secret| bytes_of(secret).is_some());
            let names = with_record.filter_map(|secret| secret.metadata.name.as_deref());
            return Ok(names.filter_map(|name| self.0.account(name)).map(str::to_owned).collect());
        };
        let mut accounts = Vec::new();
        for account in named {
            if self.0.get(&self.0.name(&account)?).await?.is_some_and(|secret| bytes_of(&secret).is_some()) {
                accounts.push(account);
            }
        }
        Ok(accounts)
    }

    async fn acquire(&self, account: &str, owner: &str, ttl: Duration, now: Timestamp) -> Result<Acquired, StoreError> {
        self.0.acquire(account, owner, ttl, now).await
    }

    async fn release(&self, account: &str, owner: &str) -> Result<(), StoreError> {
        self.0.release(account, owner).await
    }

    fn changes(&self) -> Option<Changes> {
        let inner = Arc::clone(&self.0);
        Some(follow("the Secrets", move |told| {
            let inner = Arc::clone(&inner);
            async move { watch::watch(&inner, &told).await }
        }))
    }
}
