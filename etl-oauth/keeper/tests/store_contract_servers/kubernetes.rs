use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, Config, api::PostParams, config::Kubeconfig};
use token_keeper::store::{Meta, Scan};

use super::{
    cluster::{Cluster, manifest},
    *,
};

#[tokio::test(flavor = "multi_thread")]
async fn kubernetes_holds_the_contract_with_the_rights_that_deploy_gives() {
    let it = Cluster::new(&contract::ACCOUNTS).await;
    let clauses = contract::holds(async || it.open()).await;
    println!("kubernetes: {clauses} clauses of the contract hold, under the Role of deploy/kubernetes.yaml");
}

#[tokio::test(flavor = "multi_thread")]
async fn kubernetes_outlives_its_server() {
    let mut it = Cluster::new(&["first-write", "swap", "watched"]).await;
    let detour = Detour::to(it.config.cluster_url.authority().unwrap().as_str()).await;
    let direct = it.open();
    it.config.cluster_url = format!("https://{}", detour.address).parse().unwrap();
    outlives_its_server(&it.open(), &direct, &detour).await;
}

#[tokio::test]
async fn the_rights_that_deploy_gives_cover_the_named_secrets_and_nothing_else() {
    let it = Cluster::new(&["default"]).await;
    let store = it.open();
    let version = store.save(&key("default"), &contract::record(1, "a"), None, None).await.unwrap();
    store.save(&key("default"), &contract::record(2, "b"), None, Some(&version)).await.unwrap();
    assert_eq!(accounts(&store).await.unwrap(), ["default"]);
    assert!(matches!(store.acquire(&key("default"), "a", PATIENCE, Timestamp::now()).await, Ok(Acquired::Until(_))));
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
    for refused in [
        store.load(&key("other")).await.map(drop),
        store.acquire(&key("other"), "a", PATIENCE, Timestamp::now()).await.map(drop),
    ] {
        let Err(StoreError::Refused(why)) = refused else { panic!("{refused:?}") };
        assert!(why.contains("etl-oauth-token-other") && why.contains("apply deploy/kubernetes.yaml"), "{why}");
    }
    it.secrets().delete("etl-oauth-token-default", &Default::default()).await.unwrap();
    let Err(StoreError::Refused(why)) = store.save(&key("default"), &contract::record(3, "c"), None, None).await else {
        panic!("a Secret was created without the right to")
    };
    assert!(why.contains("create the Secret etl-oauth-token-default, which is missing"), "{why}");
}

/// As `sed s/etl-oauth/NAME/g` makes the manifest for a function of another name.
#[tokio::test]
async fn what_jobs_remember_is_written_under_the_rights_that_deploy_gives() {
    let it = Cluster::of("strava", &["default"]).await;
    let tokens = it.open();
    tokens.save(&key("default"), &contract::record(1, "a"), None, None).await.unwrap();
    let jobs = key("default").of_kind(Kind::JOB);
    let meta = Meta { generation: 1, due_at: None, tag: Some("job".into()) };
    let first = tokens.put(&jobs, b"{}", &meta, None).await.unwrap();
    let second = tokens.put(&jobs, b"[]", &meta, Some(&first)).await.unwrap();
    assert!(matches!(tokens.put(&jobs, b"{}", &meta, Some(&first)).await, Err(StoreError::Conflict)));
    let read = tokens.get(&jobs).await.unwrap().unwrap();
    assert_eq!((&**read.bytes, read.version), (&b"[]"[..], second));
    assert!(matches!(tokens.acquire(&jobs, "a", PATIENCE, Timestamp::now()).await, Ok(Acquired::Until(_))));
    // Neither is taken for a key of the other kind.
    assert_eq!(accounts(&tokens).await.unwrap(), ["default"]);
    assert_eq!(tokens.list(&Scan::of(Kind::JOB, 9)).await.unwrap().keys, [jobs]);
    let other = key("other").of_kind(Kind::JOB);
    let Err(StoreError::Refused(why)) = tokens.get(&other).await else { panic!("another account's was read") };
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
    store.save(&key("default"), &contract::record(1, "marker"), None, None).await.unwrap();
    assert!(raw().await.contains("access-marker"), "plain without a key: the cluster keeps its Secrets itself");
    it.setting.keys(&["one"]);
    assert_eq!(store.reseal(Kind::TOKEN).await, Ok(1));
    let sealed = raw().await;
    assert!(sealed.contains(r#""key":"one""#) && !sealed.contains("marker"), "{sealed}");
    let stored = store.load(&key("default")).await.unwrap().unwrap();
    assert_eq!(*stored.record.to_json(), *contract::record(1, "marker").to_json());
}

#[tokio::test]
async fn b5_what_is_damaged_in_kubernetes_is_no_missing_record() {
    let it = Cluster::new(&["swap"]).await;
    damage_is_no_missing_record(&it.open(), async |damaged| {
        let mut secret = it.secrets().get("etl-oauth-token-swap").await.unwrap();
        secret.data = Some(BTreeMap::from([("record".into(), k8s_openapi::ByteString(damaged.into()))]));
        it.secrets().replace("etl-oauth-token-swap", &PostParams::default(), &secret).await.unwrap();
    })
    .await;
}
