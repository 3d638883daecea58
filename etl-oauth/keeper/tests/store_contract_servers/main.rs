//! The contract of stores on real servers, which `tests/stores.sh` starts: a Kubernetes API server with RBAC, NATS with
//! JetStream, PostgreSQL.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what cannot be set up fails its test")]

mod cluster;
#[path = "../contract/mod.rs"]
mod contract;
mod detour;
mod kubernetes;
mod nats;
mod postgres;

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use contract::{accounts, key};
use detour::Detour;
use jiff::Timestamp;
use token_keeper::{
    renewal::RecordStore,
    secrets::Secrets,
    store::{Acquired, ByteStore, Kind, Store, StoreError, StoreOptions},
};

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

/// A server that is away when the function starts, comes, goes and comes back, is no more than an error each time, and what
/// other replicas write meanwhile, by `direct`, is told all the same.
async fn outlives_its_server(store: &impl RecordStore, direct: &impl RecordStore, detour: &Detour) {
    let away = async || {
        let first = key("first-write");
        let unwritten = contract::record(1, "a");
        // At once: each may take as long as the store has patience.
        let (loaded, saved, leased) = tokio::join!(
            store.load(&first),
            store.save(&first, &unwritten, None, None),
            store.acquire(&first, "a", PATIENCE, Timestamp::now()),
        );
        assert!(matches!(loaded, Err(StoreError::Unavailable(_))), "{loaded:?}");
        assert!(matches!(saved, Err(StoreError::Unavailable(_))), "{saved:?}");
        assert!(matches!(leased, Err(StoreError::Unavailable(_))), "{leased:?}");
    };
    let back = async |account: &str| {
        let start = Instant::now();
        loop {
            match store.load(&key(account)).await {
                Ok(stored) => return stored,
                Err(StoreError::Unavailable(_)) => assert!(start.elapsed() < PATIENCE),
                Err(err) => panic!("{err}"),
            }
        }
    };
    // Begun while there is nothing to watch.
    let mut changes = store.changes(Kind::TOKEN).expect("it tells");
    let mut is_told = async |generation| {
        let told = async {
            loop {
                let told = changes.recv().await.expect("the watch goes on");
                if told == key("watched") && back("watched").await.is_some_and(|it| it.record.generation == generation)
                {
                    break;
                }
            }
        };
        tokio::time::timeout(PATIENCE, told).await.unwrap_or_else(|_| panic!("generation {generation} is not told"));
    };
    away().await;
    let first = direct.save(&key("watched"), &contract::record(1, "w"), None, None).await.unwrap();
    detour.open();
    assert!(back("swap").await.is_none());
    is_told(1).await;
    let second = direct.save(&key("watched"), &contract::record(2, "w"), None, Some(&first)).await.unwrap();
    is_told(2).await;
    let version = store.save(&key("swap"), &contract::record(1, "a"), None, None).await.unwrap();
    detour.cut();
    away().await;
    direct.save(&key("watched"), &contract::record(3, "w"), None, Some(&second)).await.unwrap();
    detour.open();
    assert_eq!(back("swap").await.unwrap().version, version);
    is_told(3).await;
}

/// What somebody else put in a record's place is an error, is not taken for "nobody has authorised it", and is not written
/// over by whoever has not seen it.
async fn damage_is_no_missing_record(store: &impl RecordStore, put: impl AsyncFn(&str)) {
    let version = store.save(&key("swap"), &contract::record(1, "a"), None, None).await.unwrap();
    for damaged in ["", "{", "[]", "null", r#"{"sealed":1,"key":"one","generation":1,"#] {
        put(damaged).await;
        let loaded = store.load(&key("swap")).await;
        assert!(matches!(loaded, Err(StoreError::Damaged { .. })), "{damaged}: {loaded:?}");
        for was in [None, Some(&version)] {
            let over = store.save(&key("swap"), &contract::record(2, "b"), None, was).await;
            assert_eq!(over, Err(StoreError::Conflict), "{damaged}");
        }
        assert_eq!(accounts(&store).await.unwrap(), ["swap"]);
    }
}

/// Functions that share a server see nothing of each other.
async fn functions_are_apart(kind: &str, mut it: Setting) {
    let one = it.open(kind).await;
    one.save(&key("swap"), &contract::record(1, "a"), None, None).await.unwrap();
    assert!(matches!(one.acquire(&key("swap"), "a", PATIENCE, Timestamp::now()).await, Ok(Acquired::Until(_))));
    it.options.function = unique();
    let other = it.open(kind).await;
    assert!(other.load(&key("swap")).await.unwrap().is_none() && accounts(&other).await.unwrap().is_empty());
    assert!(matches!(other.acquire(&key("swap"), "b", PATIENCE, Timestamp::now()).await, Ok(Acquired::Until(_))));
}

async fn a_new_first_key_reseals(kind: &str, it: &Setting, raw: impl AsyncFn() -> String) {
    let store = it.open(kind).await;
    store.save(&key("swap"), &contract::record(3, "marker"), None, None).await.unwrap();
    let before = raw().await;
    assert!(before.contains(r#""key":"one""#) && !before.contains("marker"), "{before}");
    it.keys(&["two", "one"]);
    assert_eq!(store.reseal(Kind::TOKEN).await, Ok(1));
    assert!(raw().await.contains(r#""key":"two""#));
    it.keys(&["two"]);
    let stored = it.open(kind).await.load(&key("swap")).await.unwrap().unwrap();
    assert_eq!(*stored.record.to_json(), *contract::record(3, "marker").to_json());
}

#[tokio::test]
async fn tls_to_nats_and_postgres_trusts_the_authority_that_ssl_cert_file_names_and_the_name_in_the_certificate() {
    let mut it = Setting::nats();
    let (nats, postgres) = (variable("NATS_TLS_URL"), format!("{}?sslmode=require", variable("POSTGRES_URL")));
    for (host, is_trusted) in [("127.0.0.1", true), ("localhost", false)] {
        it.options.nats_url = nats.replace("127.0.0.1", host);
        it.mount("etl-oauth-postgres-url", &postgres.replace("127.0.0.1", host));
        for kind in ["nats", "postgres"] {
            let loaded = it.open(kind).await.load(&key("swap")).await;
            let refused = matches!(&loaded, Err(StoreError::Unavailable(why)) if why.contains("certificate"));
            assert!(if is_trusted { matches!(loaded, Ok(None)) } else { refused }, "{kind} at {host}: {loaded:?}");
        }
    }
    it.mount("etl-oauth-postgres-url", &postgres.replace("require", "verify-full"));
    let Err(StoreError::Config(why)) = Store::open("postgres", &it.options).await else { panic!("it was taken") };
    assert!(why.contains("sslmode=require") && !why.contains("127.0.0.1"), "{why}");
}
