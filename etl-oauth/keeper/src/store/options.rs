use std::path::PathBuf;

use url::Url;

use super::{Store, StoreError};
use crate::secrets::Secrets;

/// What the stores need to know; each takes its own part.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoreOptions {
    /// The function's name: part of every record's name, and of what a sealed record is bound to.
    pub function: String,
    /// The mounted secrets.
    pub secrets: Secrets,
    /// Whether the provider ends a refresh token when it is spent: then losing a write loses the grant.
    pub rotates: bool,
    /// `gateway`: the gateway's REST API.
    pub gateway_url: Option<Url>,
    /// `kubernetes`: the namespace of the Secrets and Leases; the pod's own where it is not set.
    pub namespace: Option<String>,
    /// `nats`: the server, unless the secret `etl-oauth-nats-url` names one.
    pub nats_url: String,
    /// `nats`: the bucket.
    pub nats_bucket: String,
    /// `file`: the folder.
    pub path: Option<PathBuf>,
    /// `file`: take a folder that the next restart may empty.
    pub allow_ephemeral: bool,
}

impl StoreOptions {
    /// The defaults, for `function` with `secrets`.
    pub fn new(function: impl Into<String>, secrets: Secrets) -> Self {
        Self {
            function: function.into(),
            secrets,
            rotates: true,
            gateway_url: None,
            namespace: None,
            nats_url: "nats://nats.openfaas:4222".into(),
            nats_bucket: "etl-oauth".into(),
            path: None,
            allow_ephemeral: false,
        }
    }
}

impl Store {
    /// The names that [`Store::open`] knows.
    pub const KINDS: [&str; 5] = ["gateway", "kubernetes", "nats", "postgres", "file"];

    /// Opens the store of this name. No server is called: one that is away is found to be so by the first use, which may be
    /// tried again.
    ///
    /// ```
    /// use token_keeper::{secrets::Secrets, store::{Store, StoreError, StoreOptions}};
    ///
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let options = StoreOptions::new("etl-oauth", Secrets::new("/var/openfaas/secrets", ""));
    /// let Err(StoreError::Config(why)) = Store::open("redis", &options).await else { panic!() };
    /// assert_eq!(why.to_string(), "store=redis is not known: choose gateway, kubernetes, nats, postgres or file");
    /// # });
    /// ```
    ///
    /// # Errors
    /// [`StoreError::Config`] when something is missing or makes no sense, [`StoreError::Disabled`] when the store is not
    /// part of this build.
    #[cfg_attr(
        not(any(
            feature = "gateway",
            feature = "kubernetes",
            feature = "nats",
            feature = "postgres",
            feature = "file"
        )),
        expect(unused_variables, reason = "only stores have options")
    )]
    pub async fn open(kind: &str, options: &StoreOptions) -> Result<Self, StoreError> {
        match kind {
            #[cfg(feature = "gateway")]
            "gateway" => super::Gateway::open(options).map(Self::Gateway),
            #[cfg(not(feature = "gateway"))]
            "gateway" => Err(StoreError::Disabled { kind: "gateway" }),
            #[cfg(feature = "kubernetes")]
            "kubernetes" => super::Kubernetes::open(options).await.map(Self::Kubernetes),
            #[cfg(not(feature = "kubernetes"))]
            "kubernetes" => Err(StoreError::Disabled { kind: "kubernetes" }),
            #[cfg(feature = "nats")]
            "nats" => super::Nats::open(options).map(Self::Nats),
            #[cfg(not(feature = "nats"))]
            "nats" => Err(StoreError::Disabled { kind: "nats" }),
            #[cfg(feature = "postgres")]
            "postgres" => super::Postgres::open(options).map(Self::Postgres),
            #[cfg(not(feature = "postgres"))]
            "postgres" => Err(StoreError::Disabled { kind: "postgres" }),
            #[cfg(feature = "file")]
            "file" => super::Files::open(options).map(Self::File),
            #[cfg(not(feature = "file"))]
            "file" => Err(StoreError::Disabled { kind: "file" }),
            _ => Err(StoreError::config(format!(
                "store={kind} is not known: choose gateway, kubernetes, nats, postgres or file"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_store_that_is_not_built_in_is_an_error_that_names_the_feature() {
        let built_in = [
            ("gateway", cfg!(feature = "gateway")),
            ("kubernetes", cfg!(feature = "kubernetes")),
            ("nats", cfg!(feature = "nats")),
            ("postgres", cfg!(feature = "postgres")),
            ("file", cfg!(feature = "file")),
        ];
        assert_eq!(built_in.map(|(kind, _)| kind), Store::KINDS);
        let folder = tempfile::tempdir().unwrap();
        let options = StoreOptions::new("etl", Secrets::new(folder.path(), ""));
        for (kind, built_in) in built_in {
            let opened = Store::open(kind, &options).await;
            assert_eq!(matches!(opened, Err(StoreError::Disabled { kind: named }) if named == kind), !built_in);
        }
        let err = StoreError::Disabled { kind: "nats" };
        assert_eq!(err.to_string(), "store=nats is not built in: build with the cargo feature nats");
    }
}
