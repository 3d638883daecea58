use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    coordination::v1::Lease,
    core::v1::{Namespace, Secret, ServiceAccount},
    rbac::v1::{Role, RoleBinding},
};
use kube::{
    Api, Client, Config,
    api::{ObjectMeta, PostParams},
    config::Kubeconfig,
};
use serde::de::DeserializeOwned;
use token_keeper::store::Kubernetes;

use super::*;

/// A namespace of its own, with what `deploy/kubernetes.yaml` makes in it, and the service account that it binds.
pub(crate) struct Cluster {
    pub(crate) setting: Setting,
    admin: Client,
    pub(crate) namespace: String,
    pub(crate) config: Config,
}

/// The manifest's documents of one kind, moved to `namespace`: one for the tokens, and perhaps one for what jobs remember.
pub(crate) fn manifest<T: DeserializeOwned>(kind: &str, namespace: &str, rename: impl Fn(String) -> String) -> Vec<T> {
    let text = include_str!("../../../../deploy/kubernetes.yaml").replace("openfaas-fn", namespace);
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(&rename(text)).unwrap();
    let of_kind = documents.into_iter().filter(|document| document["kind"] == kind);
    let found: Vec<T> = of_kind.map(|document| serde_json::from_value(document).unwrap()).collect();
    assert!(!found.is_empty(), "{kind}");
    found
}

impl Cluster {
    /// With the manifest for `accounts` of the function etl-oauth.
    pub(crate) async fn new(accounts: &[&str]) -> Self {
        Self::of("etl-oauth", accounts).await
    }

    /// With the manifest for `accounts`: the Secrets and the Leases of each, and all their names in the Role.
    pub(crate) async fn of(function: &str, accounts: &[&str]) -> Self {
        let mut setting = Setting::new();
        std::fs::remove_file(setting.root.path().join("etl-oauth-seal-keys")).unwrap();
        let namespace = unique();
        setting.options.function = function.into();
        setting.options.namespace = Some(namespace.clone());
        let kubeconfig = Kubeconfig::read().unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
        let admin = Client::try_from(config.clone()).unwrap();
        let metadata = ObjectMeta { name: Some(namespace.clone()), ..ObjectMeta::default() };
        let created = Namespace { metadata, ..Namespace::default() };
        Api::all(admin.clone()).create(&PostParams::default(), &created).await.unwrap();
        let mut it = Self { setting, admin, namespace, config };
        let own = |text: String| text.replace("etl-oauth", function);
        for account in accounts {
            // The lease of all accounts is there once.
            let all = if *account == "default" { "" } else { account };
            let of_account = |text: String| {
                let text = own(text).replace("token-revoke-all", &format!("token-revoke-all{all}"));
                text.replace("token-default", &format!("token-{account}"))
            };
            it.create::<Secret>("Secret", of_account).await;
            it.create::<Lease>("Lease", of_account).await;
        }
        let both = |account: &&str| [format!("{function}-token-{account}"), format!("{function}.job-token-{account}")];
        let names: Vec<_> = accounts.iter().flat_map(both).collect();
        let (default, named) = (both(&"default").join(", "), names.join(", "));
        it.create::<Role>("Role", |text| {
            let text = own(text);
            assert!(text.contains(&default), "the Role names both");
            text.replace(&default, &named)
        })
        .await;
        it.create::<RoleBinding>("RoleBinding", own).await;
        // The controller that makes it does not run here.
        let metadata = ObjectMeta { name: Some("default".into()), ..ObjectMeta::default() };
        let account = ServiceAccount { metadata, ..ServiceAccount::default() };
        let api: Api<ServiceAccount> = Api::namespaced(it.admin.clone(), &it.namespace);
        api.create(&PostParams::default(), &account).await.unwrap();
        let request = TokenRequest { spec: Some(TokenRequestSpec::default()), ..TokenRequest::default() };
        let request = api.create_token_request("default", &PostParams::default(), &request).await.unwrap();
        it.config.auth_info = kube::config::AuthInfo {
            token: request.status.unwrap().token.map(Into::into),
            ..kube::config::AuthInfo::default()
        };
        it
    }

    async fn create<T>(&self, kind: &str, rename: impl Fn(String) -> String)
    where
        T: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::Serialize
            + DeserializeOwned,
    {
        let api: Api<T> = Api::namespaced(self.admin.clone(), &self.namespace);
        for object in manifest::<T>(kind, &self.namespace, rename) {
            api.create(&PostParams::default(), &object).await.unwrap();
        }
    }

    pub(crate) fn open(&self) -> Kubernetes {
        Kubernetes::with_config(self.config.clone(), &self.setting.options).unwrap()
    }

    pub(crate) fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.admin.clone(), &self.namespace)
    }
}
