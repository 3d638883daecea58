//! The contract of stores on real servers, which `tests/stores.sh` starts: a Kubernetes API server with RBAC, NATS with
//! JetStream, PostgreSQL.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what cannot be set up fails its test")]

mod contract;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use etl_oauth::{
    job::{JobError, Ledger, ledger_options},
    secrets::Secrets,
    store::{Acquired, Kubernetes, Store, StoreError, StoreOptions, TokenStore},
};
use futures_util::TryStreamExt as _;
use jiff::Timestamp;
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
use tokio::{net::TcpListener, sync::watch};

const PATIENCE: Duration = Duration::from_secs(60);

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: tests/stores.sh starts the servers and sets it"))
}

/// A name that no other test, and no other run, has.
fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let nanos = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    format!("etl-{nanos:x}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The mounted secrets of a function, and its options.
struct Setting {
    root: tempfile::TempDir,
    options: StoreOptions,
}

impl Setting {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut options = StoreOptions::new(unique(), Secrets::new(root.path(), ""));
        options.nats_bucket = unique();
        let it = Self { root, options };
        it.keys(&["one"]);
        it
    }

    fn keys(&self, names: &[&str]) {
        let line = |name: &&str| format!("{name}:{}\n", STANDARD.encode([name.as_bytes()[0]; 32]));
        self.mount("etl-oauth-seal-keys", &names.iter().map(line).collect::<String>());
    }

    fn mount(&self, name: &str, value: &str) {
        std::fs::write(self.root.path().join(name), value).unwrap();
    }

    fn nats() -> Self {
        let mut it = Self::new();
        it.options.nats_url = variable("NATS_URL");
        it
    }

    fn postgres() -> Self {
        let it = Self::new();
        it.mount("etl-oauth-postgres-url", &variable("POSTGRES_URL"));
        it
    }

    async fn open(&self, kind: &str) -> Store {
        Store::open(kind, &self.options).await.unwrap()
    }
}

/// A way to a server that can be cut.
struct Detour {
    address: SocketAddr,
    open: watch::Sender<bool>,
}

impl Detour {
    async fn to(server: &str) -> Self {
        let (listener, server) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), server.to_owned());
        let address = listener.local_addr().unwrap();
        let open = watch::Sender::new(false);
        let opened = open.clone();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (server, mut opened) = (server.clone(), opened.subscribe());
                tokio::spawn(async move {
                    if *opened.borrow_and_update() {
                        let mut far = tokio::net::TcpStream::connect(server).await.unwrap();
                        tokio::select! {
                            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                            _ = opened.wait_for(|open| !open) => {}
                        }
                    }
                });
            }
        });
        Self { address, open }
    }
}

/// A server that is away when the function starts, comes, goes and comes back, is no more than an error each time.
async fn outlives_its_server(store: &impl TokenStore, detour: &Detour) {
    let away = async || {
        assert!(matches!(store.load("first-write").await, Err(StoreError::Unavailable(_))));
        let saved = store.save("first-write", &contract::record(1, "a"), None).await;
        assert!(matches!(saved, Err(StoreError::Unavailable(_))), "{saved:?}");
        let leased = store.acquire("first-write", "a", PATIENCE, Timestamp::now()).await;
        assert!(matches!(leased, Err(StoreError::Unavailable(_))), "{leased:?}");
    };
    let back = async || {
        let start = Instant::now();
        loop {
            match store.load("swap").await {
                Ok(stored) => return stored,
                Err(StoreError::Unavailable(_)) => assert!(start.elapsed() < PATIENCE),
                Err(err) => panic!("{err}"),
            }
        }
    };
    away().await;
    detour.open.send_replace(true);
    assert!(back().await.is_none());
    let version = store.save("swap", &contract::record(1, "a"), None).await.unwrap();
    detour.open.send_replace(false);
    away().await;
    detour.open.send_replace(true);
    assert_eq!(back().await.unwrap().version, version);
}

/// Functions that share a server see nothing of each other.
async fn functions_are_apart(kind: &str, mut it: Setting) {
    let one = it.open(kind).await;
    one.save("swap", &contract::record(1, "a"), None).await.unwrap();
    assert!(matches!(one.acquire("swap", "a", PATIENCE, Timestamp::now()).await, Ok(Acquired::Until(_))));
    it.options.function = unique();
    let other = it.open(kind).await;
    assert!(other.load("swap").await.unwrap().is_none() && other.accounts().await.unwrap().is_empty());
    assert!(matches!(other.acquire("swap", "b", PATIENCE, Timestamp::now()).await, Ok(Acquired::Until(_))));
}

async fn a_new_first_key_reseals(kind: &str, it: &Setting, raw: impl AsyncFn() -> String) {
    let store = it.open(kind).await;
    store.save("swap", &contract::record(3, "marker"), None).await.unwrap();
    let before = raw().await;
    assert!(before.contains(r#""key":"one""#) && !before.contains("marker"), "{before}");
    it.keys(&["two", "one"]);
    assert_eq!(store.reseal().await, Ok(1));
    assert!(raw().await.contains(r#""key":"two""#));
    it.keys(&["two"]);
    let stored = it.open(kind).await.load("swap").await.unwrap().unwrap();
    assert_eq!(*stored.record.to_json(), *contract::record(3, "marker").to_json());
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_holds_the_contract() {
    let it = Setting::nats();
    let clauses = contract::holds(async || it.open("nats").await).await;
    println!("nats: {clauses} clauses of the contract hold");
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_outlives_its_server() {
    let mut it = Setting::nats();
    let detour = Detour::to(it.options.nats_url.trim_start_matches("nats://")).await;
    it.options.nats_url = format!("nats://{}", detour.address);
    outlives_its_server(&it.open("nats").await, &detour).await;
}

#[tokio::test]
async fn nats_keeps_functions_apart() {
    functions_are_apart("nats", Setting::nats()).await;
}

#[tokio::test]
async fn nats_keeps_nothing_in_the_clear_and_reseals() {
    let it = Setting::nats();
    let client = async_nats::connect(variable("NATS_URL")).await.unwrap();
    let jetstream = async_nats::jetstream::new(client);
    let key = format!("{}.record.swap", it.options.function);
    a_new_first_key_reseals("nats", &it, async || {
        let bucket = jetstream.get_key_value(&it.options.nats_bucket).await.unwrap();
        let keys: Vec<String> = bucket.keys().await.unwrap().try_collect().await.unwrap();
        assert_eq!(keys, std::slice::from_ref(&key));
        String::from_utf8(bucket.get(&key).await.unwrap().unwrap().to_vec()).unwrap()
    })
    .await;
}

#[tokio::test]
async fn nats_prefers_the_url_of_the_secret() {
    let mut it = Setting::nats();
    it.mount("etl-oauth-nats-url", &it.options.nats_url);
    it.options.nats_url = "nats://127.0.0.1:1".into();
    assert!(it.open("nats").await.load("swap").await.unwrap().is_none());
    it.mount("etl-oauth-nats-url", "nats://user:marker@:x");
    let Err(StoreError::Config(why)) = Store::open("nats", &it.options).await else { panic!("a URL was taken") };
    assert!(why.contains("etl-oauth-nats-url") && !why.contains("marker"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_holds_the_contract() {
    let it = Setting::postgres();
    let clauses = contract::holds(async || it.open("postgres").await).await;
    println!("postgres: {clauses} clauses of the contract hold");
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_outlives_its_server() {
    let it = Setting::postgres();
    let url = variable("POSTGRES_URL");
    let (before, rest) = url.split_once('@').unwrap();
    let (server, database) = rest.split_once('/').unwrap();
    let detour = Detour::to(server).await;
    it.mount("etl-oauth-postgres-url", &format!("{before}@{}/{database}", detour.address));
    outlives_its_server(&it.open("postgres").await, &detour).await;
}

#[tokio::test]
async fn postgres_keeps_functions_apart() {
    functions_are_apart("postgres", Setting::postgres()).await;
}

async fn postgres_client() -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(&variable("POSTGRES_URL"), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn postgres_keeps_nothing_in_the_clear_and_reseals() {
    let it = Setting::postgres();
    let client = postgres_client().await;
    a_new_first_key_reseals("postgres", &it, async || {
        let row = "SELECT row_to_json(it)::text FROM etl_oauth_record it WHERE function = $1";
        let row: String = client.query_one(row, &[&it.options.function]).await.unwrap().get(0);
        row.replace("\\\"", "\"")
    })
    .await;
}

#[tokio::test]
async fn postgres_makes_its_schema_once_however_many_start_together() {
    let it = Setting::postgres();
    let client = postgres_client().await;
    let schema = unique().replace('-', "_");
    client.batch_execute(&format!("CREATE SCHEMA {schema}")).await.unwrap();
    let url = variable("POSTGRES_URL");
    it.mount("etl-oauth-postgres-url", &format!("{url}?options=-csearch_path%3D{schema}"));
    let stores: Vec<_> = futures_util::future::join_all((0..8).map(|_| it.open("postgres"))).await;
    let loads = futures_util::future::join_all(stores.iter().map(|store| store.load("swap"))).await;
    assert!(loads.iter().all(|loaded| matches!(loaded, Ok(None))), "{loads:?}");
    stores[0].save("swap", &contract::record(1, "a"), None).await.unwrap();
    // Who has it made may use it without the right to make anything.
    let role = unique().replace('-', "_");
    let grants = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'p'; GRANT USAGE ON SCHEMA {schema} TO {role};
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role};
         GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role};"
    );
    client.batch_execute(&grants).await.unwrap();
    let (_, server) = url.split_once('@').unwrap();
    it.mount("etl-oauth-postgres-url", &format!("postgres://{role}:p@{server}?options=-csearch_path%3D{schema}"));
    let modest = it.open("postgres").await;
    let stored = modest.load("swap").await.unwrap().unwrap();
    modest.save("swap", &contract::record(2, "b"), Some(&stored.version)).await.unwrap();
    it.mount("etl-oauth-postgres-url", &format!("postgres://{role}:marker@{server}"));
    let refused = it.open("postgres").await.load("swap").await;
    assert!(
        matches!(&refused, Err(StoreError::Refused(why)) if why.contains("28P01") && !why.contains("marker")),
        "{refused:?}"
    );
}

#[tokio::test]
async fn tls_to_nats_and_postgres_trusts_the_authority_that_ssl_cert_file_names_and_the_name_in_the_certificate() {
    let mut it = Setting::nats();
    let (nats, postgres) = (variable("NATS_TLS_URL"), format!("{}?sslmode=require", variable("POSTGRES_URL")));
    for (host, is_trusted) in [("127.0.0.1", true), ("localhost", false)] {
        it.options.nats_url = nats.replace("127.0.0.1", host);
        it.mount("etl-oauth-postgres-url", &postgres.replace("127.0.0.1", host));
        for kind in ["nats", "postgres"] {
            let loaded = it.open(kind).await.load("swap").await;
            let refused = matches!(&loaded, Err(StoreError::Unavailable(why)) if why.contains("certificate"));
            assert!(if is_trusted { matches!(loaded, Ok(None)) } else { refused }, "{kind} at {host}: {loaded:?}");
        }
    }
    it.mount("etl-oauth-postgres-url", &postgres.replace("require", "verify-full"));
    let Err(StoreError::Config(why)) = Store::open("postgres", &it.options).await else { panic!("it was taken") };
    assert!(why.contains("sslmode=require") && !why.contains("127.0.0.1"), "{why}");
}

/// A namespace of its own, with what `deploy/kubernetes.yaml` makes in it, and the service account that it binds.
struct Cluster {
    setting: Setting,
    admin: Client,
    namespace: String,
    config: Config,
}

/// The manifest's documents of one kind, moved to `namespace`: one for the tokens, and perhaps one for what jobs remember.
fn manifest<T: DeserializeOwned>(kind: &str, namespace: &str, rename: impl Fn(String) -> String) -> Vec<T> {
    let text = include_str!("../../deploy/kubernetes.yaml").replace("openfaas-fn", namespace);
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(&rename(text)).unwrap();
    let of_kind = documents.into_iter().filter(|document| document["kind"] == kind);
    let found: Vec<T> = of_kind.map(|document| serde_json::from_value(document).unwrap()).collect();
    assert!(!found.is_empty(), "{kind}");
    found
}

impl Cluster {
    /// With the manifest for `accounts` of the function etl-oauth.
    async fn new(accounts: &[&str]) -> Self {
        Self::of("etl-oauth", accounts).await
    }

    /// With the manifest for `accounts`: the Secrets and the Leases of each, and all their names in the Role.
    async fn of(function: &str, accounts: &[&str]) -> Self {
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
            let of_account = |text: String| own(text).replace("token-default", &format!("token-{account}"));
            it.create::<Secret>("Secret", of_account).await;
            it.create::<Lease>("Lease", of_account).await;
        }
        let both = |account: &&str| [format!("{function}-token-{account}"), format!("{function}.job-token-{account}")];
        let names: Vec<_> = accounts.iter().flat_map(both).collect();
        let default = format!("resourceNames: [{}]", both(&"default").join(", "));
        let named = format!("resourceNames: [{}]", names.join(", "));
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

    fn open(&self) -> Kubernetes {
        Kubernetes::with_config(self.config.clone(), &self.setting.options).unwrap()
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.admin.clone(), &self.namespace)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kubernetes_holds_the_contract_with_the_rights_that_deploy_gives() {
    let it = Cluster::new(&contract::ACCOUNTS).await;
    let clauses = contract::holds(async || it.open()).await;
    println!("kubernetes: {clauses} clauses of the contract hold, under the Role of deploy/kubernetes.yaml");
}

#[tokio::test(flavor = "multi_thread")]
async fn kubernetes_outlives_its_server() {
    let mut it = Cluster::new(&["first-write", "swap"]).await;
    let detour = Detour::to(it.config.cluster_url.authority().unwrap().as_str()).await;
    it.config.cluster_url = format!("https://{}", detour.address).parse().unwrap();
    outlives_its_server(&it.open(), &detour).await;
}

#[tokio::test]
async fn the_rights_that_deploy_gives_cover_the_named_secrets_and_nothing_else() {
    let it = Cluster::new(&["default"]).await;
    let store = it.open();
    let version = store.save("default", &contract::record(1, "a"), None).await.unwrap();
    store.save("default", &contract::record(2, "b"), Some(&version)).await.unwrap();
    assert_eq!(store.accounts().await.unwrap(), ["default"]);
    assert!(matches!(store.acquire("default", "a", PATIENCE, Timestamp::now()).await, Ok(Acquired::Until(_))));
    let mut other = manifest::<Secret>("Secret", &it.namespace, |text| text).remove(0);
    other.metadata.name = Some("basic-auth".into());
    it.secrets().create(&PostParams::default(), &other).await.unwrap();
    let client = Client::try_from(it.config.clone()).unwrap();
    let theirs: Api<Secret> = Api::namespaced(client, &it.namespace);
    let forbidden = |result: kube::Result<()>| {
        assert!(matches!(&result, Err(kube::Error::Api(status)) if status.code == 403), "{result:?}");
    };
    forbidden(theirs.get("basic-auth").await.map(drop));
    forbidden(theirs.list(&Default::default()).await.map(drop));
    forbidden(theirs.watch(&Default::default(), "0").await.map(drop));
    forbidden(theirs.delete("etl-oauth-token-default", &Default::default()).await.map(drop));
    forbidden(theirs.create(&PostParams::default(), &other).await.map(drop));
    for refused in
        [store.load("other").await.map(drop), store.acquire("other", "a", PATIENCE, Timestamp::now()).await.map(drop)]
    {
        let Err(StoreError::Refused(why)) = refused else { panic!("{refused:?}") };
        assert!(why.contains("etl-oauth-token-other") && why.contains("apply deploy/kubernetes.yaml"), "{why}");
    }
    it.secrets().delete("etl-oauth-token-default", &Default::default()).await.unwrap();
    let Err(StoreError::Refused(why)) = store.save("default", &contract::record(3, "c"), None).await else {
        panic!("a Secret was created without the right to")
    };
    assert!(why.contains("create the Secret etl-oauth-token-default, which is missing"), "{why}");
}

/// As `sed s/etl-oauth/NAME/g` makes the manifest for a function of another name.
#[tokio::test]
async fn what_jobs_remember_is_written_under_the_rights_that_deploy_gives() {
    let it = Cluster::of("strava", &["default"]).await;
    let tokens = it.open();
    tokens.save("default", &contract::record(1, "a"), None).await.unwrap();
    let options = ledger_options(&it.setting.options, "strava");
    let jobs = Kubernetes::with_config(it.config.clone(), &options).unwrap();
    let ledger = Ledger::new(Arc::new(Store::Kubernetes(jobs.clone())), "default");
    let mut first = ledger.read::<u64>("count").await.unwrap();
    let stale = ledger.read::<u64>("count").await.unwrap();
    first.notes = 1;
    let mut second = ledger.write("count", first).await.unwrap();
    assert!(matches!(ledger.write("count", stale).await, Err(JobError::Overtaken)));
    second.notes = 2;
    ledger.write("count", second).await.unwrap();
    assert_eq!(ledger.read::<u64>("count").await.unwrap().notes, 2);
    assert!(matches!(jobs.acquire("default", "a", PATIENCE, Timestamp::now()).await, Ok(Acquired::Until(_))));
    // Neither is taken for an account of the other.
    assert_eq!(tokens.accounts().await.unwrap(), ["default"]);
    assert_eq!(jobs.accounts().await.unwrap(), ["default"]);
    let Err(JobError::Ledger(StoreError::Refused(why))) =
        Ledger::new(Arc::new(Store::Kubernetes(jobs)), "other").read::<u64>("count").await
    else {
        panic!("another account's was read")
    };
    assert!(why.contains("strava.job-token-other") && why.contains("apply deploy/kubernetes.yaml"), "{why}");
}

#[tokio::test]
async fn with_wider_rights_kubernetes_makes_its_secrets_and_lists_them_by_label() {
    let mut it = Cluster::new(&["default"]).await;
    it.config = Config::from_custom_kubeconfig(Kubeconfig::read().unwrap(), &Default::default()).await.unwrap();
    it.setting.options.secrets = Secrets::new(it.setting.root.path(), "mine-");
    let clauses = contract::holds(async || it.open()).await;
    println!("kubernetes: {clauses} clauses of the contract hold, as an administrator");
    let made = it.secrets().get("mine-etl-oauth-token-swap").await.unwrap();
    let labels = made.metadata.labels.unwrap();
    assert_eq!(labels.get("app.kubernetes.io/managed-by").map(String::as_str), Some("etl-oauth"));
}

#[tokio::test]
async fn what_others_put_on_a_secret_stays_and_sealing_begins_with_a_key() {
    let it = Cluster::new(&["default"]).await;
    let mut secret = it.secrets().get("etl-oauth-token-default").await.unwrap();
    secret.metadata.annotations =
        Some(BTreeMap::from([("argocd.argoproj.io/sync-options".into(), "Prune=false".into())]));
    it.secrets().replace("etl-oauth-token-default", &PostParams::default(), &secret).await.unwrap();
    let raw = async || {
        let secret = it.secrets().get("etl-oauth-token-default").await.unwrap();
        assert!(secret.metadata.annotations.unwrap().contains_key("argocd.argoproj.io/sync-options"));
        String::from_utf8(secret.data.unwrap()["record"].0.clone()).unwrap()
    };
    let store = Arc::new(Store::Kubernetes(it.open()));
    store.save("default", &contract::record(1, "marker"), None).await.unwrap();
    assert!(raw().await.contains("access-marker"), "plain without a key: the cluster keeps its Secrets itself");
    it.setting.keys(&["one"]);
    assert_eq!(store.reseal().await, Ok(1));
    let sealed = raw().await;
    assert!(sealed.contains(r#""key":"one""#) && !sealed.contains("marker"), "{sealed}");
    let stored = store.load("default").await.unwrap().unwrap();
    assert_eq!(*stored.record.to_json(), *contract::record(1, "marker").to_json());
}
