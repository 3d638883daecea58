//! The contract of stores, on those that need no server; and what the file store promises besides.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what cannot be set up fails its test")]

mod contract;

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use contract::{accounts, key};
use jiff::Timestamp;
use token_keeper::{
    renewal::{RecordStore, Stored},
    secrets::Secrets,
    store::{Acquired, ByteStore, Kind, Memory, Store, StoreError, StoreOptions},
};

/// Whether what is stored is there and does not open.
fn does_not_open(loaded: &Result<Option<Stored>, StoreError>) -> bool {
    matches!(loaded, Err(StoreError::Damaged { why, .. }) if matches!(**why, StoreError::Sealed(_)))
}

const LONG: Duration = Duration::from_secs(60);

struct Setting {
    root: tempfile::TempDir,
}

impl Setting {
    fn new() -> Self {
        let it = Self { root: tempfile::tempdir().unwrap() };
        it.keys("one");
        it
    }

    fn folder(&self) -> PathBuf {
        self.root.path().join("tokens")
    }

    /// Mounts a key ring of these names.
    fn keys(&self, names: &str) {
        let key = |name: &str| format!("{name}:{}\n", STANDARD.encode([name.as_bytes()[0]; 32]));
        let ring: String = names.split(' ').map(key).collect();
        fs::write(self.root.path().join("etl-oauth-seal-keys"), ring).unwrap();
    }

    fn options(&self) -> StoreOptions {
        let mut options = StoreOptions::new("etl", Secrets::new(self.root.path(), ""));
        options.path = Some(self.folder());
        options.allow_ephemeral = true;
        options
    }

    async fn open(&self) -> Store {
        Store::open("file", &self.options()).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_holds_the_contract() {
    let memory = Memory::default();
    contract::holds(async || memory.clone()).await;
    let used = accounts(&memory).await.unwrap();
    assert!(used.iter().all(|account| contract::ACCOUNTS.contains(&account.as_str())), "{used:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn file_holds_the_contract() {
    let it = Setting::new();
    contract::holds(async || it.open().await).await;
}

#[tokio::test]
async fn a_store_that_is_away_says_so_and_comes_back() {
    let memory = Memory::default();
    memory.fail(true);
    assert!(matches!(memory.load(&key("a")).await, Err(StoreError::Unavailable(_))));
    memory.fail(false);
    assert!(memory.load(&key("a")).await.unwrap().is_none());
    let it = Setting::new();
    let store = it.open().await;
    fs::rename(it.folder(), it.root.path().join("away")).unwrap();
    assert!(
        matches!(store.load(&key("a")).await, Err(StoreError::Unavailable(_))),
        "a lost folder is not an empty one"
    );
    assert!(matches!(
        store.save(&key("a"), &contract::record(1, "a"), None, None).await,
        Err(StoreError::Unavailable(_))
    ));
    assert!(matches!(accounts(&store).await, Err(StoreError::Unavailable(_))));
    fs::rename(it.root.path().join("away"), it.folder()).unwrap();
    assert!(store.load(&key("a")).await.unwrap().is_none());
}

#[tokio::test]
async fn a_file_shows_no_token_and_is_its_owners_alone() {
    let it = Setting::new();
    let store = it.open().await;
    store.save(&key("default"), &contract::record(1, "marker"), None, None).await.unwrap();
    let path = it.folder().join("default.json");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with(r#"{"sealed":1,"key":"one","generation":1"#) && !text.contains("marker"));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&it.folder()), mode(&path)), (0o700, 0o600));
}

#[tokio::test]
async fn a_record_moved_to_another_account_or_function_does_not_open() {
    let it = Setting::new();
    let store = it.open().await;
    store.save(&key("mine"), &contract::record(1, "a"), None, None).await.unwrap();
    fs::copy(it.folder().join("mine.json"), it.folder().join("yours.json")).unwrap();
    assert!(does_not_open(&store.load(&key("yours")).await));
    let mut options = it.options();
    options.function = "another".into();
    let another = Store::open("file", &options).await.unwrap();
    assert!(does_not_open(&another.load(&key("mine")).await));
}

#[tokio::test]
async fn resealing_writes_every_record_with_the_first_key() {
    let it = Setting::new();
    let store = it.open().await;
    for account in ["a", "b"] {
        store.save(&key(account), &contract::record(4, account), None, None).await.unwrap();
    }
    it.keys("two one");
    assert_eq!(store.reseal(Kind::TOKEN).await, Ok(2));
    it.keys("two");
    for account in ["a", "b"] {
        let stored = it.open().await.load(&key(account)).await.unwrap().unwrap();
        assert_eq!(*stored.record.to_json(), *contract::record(4, account).to_json());
    }
}

#[tokio::test]
async fn b5_a_full_disk_leaves_the_old_record() {
    let it = Setting::new();
    let store = it.open().await;
    let version = store.save(&key("default"), &contract::record(1, "old"), None, None).await.unwrap();
    // A process whose files may hold not a byte.
    let mut limited = Command::new("sh");
    limited.args(["-c", r#"trap '' XFSZ; ulimit -f 0; exec "$0" "$@""#]).arg(std::env::current_exe().unwrap());
    let output = process_of(limited, &it, "full").wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let stored = it.open().await.load(&key("default")).await.unwrap().unwrap();
    assert_eq!(*stored.record.to_json(), *contract::record(1, "old").to_json());
    store.save(&key("default"), &contract::record(2, "new"), None, Some(&version)).await.expect("there is room again");
}

#[tokio::test]
async fn s18_what_others_have_planted_in_the_folder_is_neither_followed_nor_read() {
    let it = Setting::new();
    let store = it.open().await;
    let version = store.save(&key("default"), &contract::record(1, "old"), None, None).await.unwrap();
    let victim = it.root.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    let path = |name: &str| it.folder().join(name);
    // A link where a new record is written first is removed, and not followed.
    symlink(&victim, path(".default.new")).unwrap();
    let version = store.save(&key("default"), &contract::record(2, "new"), None, Some(&version)).await.unwrap();
    assert!(!fs::symlink_metadata(path("default.json")).unwrap().is_symlink());
    let refused = |result: Result<(), StoreError>| match result {
        Err(StoreError::Refused(why)) => why,
        other => panic!("{other:?}"),
    };
    for name in [".linked.lock", ".linked.lease", "linked.json"] {
        symlink(&victim, path(name)).unwrap();
    }
    let saved = store.save(&key("linked"), &contract::record(1, "a"), None, None).await.map(drop);
    assert!(refused(saved).contains("symbolic link"));
    assert!(refused(store.load(&key("linked")).await.map(drop)).contains("symbolic link"));
    let lease = store.acquire(&key("linked"), "one", LONG, Timestamp::now()).await.map(drop);
    assert!(refused(lease).contains("symbolic link"));
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    // A record that others may write, or that another user owns.
    fs::set_permissions(path("default.json"), fs::Permissions::from_mode(0o666)).unwrap();
    assert!(refused(store.load(&key("default")).await.map(drop)).contains("written by others"));
    fs::set_permissions(path("default.json"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(store.load(&key("default")).await.unwrap().unwrap().version, version);
    if std::os::unix::fs::chown(path("default.json"), Some(4242), None).is_ok() {
        assert!(refused(store.load(&key("default")).await.map(drop)).contains("another user"));
        std::os::unix::fs::chown(it.folder(), Some(4242), None).unwrap();
        let opened = Store::open("file", &it.options()).await;
        assert!(matches!(&opened, Err(StoreError::Config(why)) if why.contains("user 4242")), "{opened:?}");
    }
}

#[tokio::test]
async fn b5_a_crash_in_the_middle_of_a_write_leaves_the_old_record() {
    let it = Setting::new();
    let store = it.open().await;
    let version = store.save(&key("default"), &contract::record(1, "old"), None, None).await.unwrap();
    fs::write(it.folder().join(".default.new"), r#"{"sealed":1,"key":"one","gener"#).unwrap();
    let store = it.open().await;
    assert_eq!(store.load(&key("default")).await.unwrap().unwrap().version, version);
    assert_eq!(accounts(&store).await.unwrap(), ["default"]);
    store.save(&key("default"), &contract::record(2, "new"), None, Some(&version)).await.unwrap();
}

#[tokio::test]
async fn b5_a_damaged_file_is_an_error_and_nothing_overwrites_it_unasked() {
    let it = Setting::new();
    let store = it.open().await;
    store.save(&key("default"), &contract::record(1, "a"), None, None).await.unwrap();
    let path = it.folder().join("default.json");
    let whole = fs::read(&path).unwrap();
    for damaged in [&b""[..], b"{", b"{}", &whole[..whole.len() / 2], &whole[..whole.len() - 20], b"\xff"] {
        fs::write(&path, damaged).unwrap();
        assert!(does_not_open(&store.load(&key("default")).await));
        let over = store.save(&key("default"), &contract::record(1, "b"), None, None).await;
        assert_eq!(over, Err(StoreError::Conflict));
        assert_eq!(fs::read(&path).unwrap(), damaged);
    }
}

#[tokio::test]
async fn b6_a_folder_that_a_restart_empties_is_refused_where_the_provider_rotates() {
    let it = Setting::new();
    let shm = tempfile::tempdir_in("/dev/shm").unwrap();
    let open = async |rotates, allow| {
        let mut options = it.options();
        options.path = Some(shm.path().join("tokens"));
        (options.rotates, options.allow_ephemeral) = (rotates, allow);
        Store::open("file", &options).await
    };
    let Err(StoreError::Config(why)) = open(true, false).await else { panic!("a tmpfs was taken") };
    assert!(why.contains("is on a tmpfs") && why.contains("allow_ephemeral_store=true"), "{why}");
    open(false, false).await.expect("tokens that can be had again");
    open(true, true).await.expect("as it was asked for");
}

#[tokio::test]
async fn what_is_wrong_with_the_folder_or_the_keys_is_said_at_the_start() {
    let it = Setting::new();
    let why = async |change: &dyn Fn(&mut StoreOptions)| {
        let mut options = it.options();
        change(&mut options);
        match Store::open("file", &options).await {
            Err(StoreError::Config(why)) => why,
            other => panic!("{other:?}"),
        }
    };
    assert!(why(&|options| options.path = None).await.contains("needs store_path"));
    let nowhere = it.root.path().join("no/where");
    assert!(why(&|options| options.path = Some(nowhere.clone())).await.contains("cannot be made: No such file"));
    let file = it.root.path().join("etl-oauth-seal-keys");
    assert!(why(&|options| options.path = Some(file.clone())).await.contains("is not a folder"));
    fs::write(&file, "one:short").unwrap();
    assert!(why(&|_| ()).await.contains("etl-oauth-seal-keys line 1 does not hold base64 of 32 bytes"));
    fs::remove_file(&file).unwrap();
    assert!(why(&|_| ()).await.contains("etl-oauth-seal-keys is missing"));
}

/// Another process: this test binary with one test, which does what the environment asks for.
fn process(it: &Setting, work: &str) -> std::process::Child {
    process_of(Command::new(std::env::current_exe().unwrap()), it, work)
}

fn process_of(mut command: Command, it: &Setting, work: &str) -> std::process::Child {
    command
        .args(["--exact", "a10_another_process", "--nocapture", "--test-threads=1"])
        .env("STORE_ROOT", it.root.path())
        .env("STORE_WORK", work)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn a10_another_process() {
    let (Ok(root), Ok(work)) = (std::env::var("STORE_ROOT"), std::env::var("STORE_WORK")) else { return };
    let mut options = StoreOptions::new("etl", Secrets::new(&root, ""));
    (options.path, options.allow_ephemeral) = (Some(Path::new(&root).join("tokens")), true);
    let store = Store::open("file", &options).await.unwrap();
    if work == "hold" {
        assert!(matches!(
            store.acquire(&key("default"), "child", LONG, Timestamp::now()).await,
            Ok(Acquired::Until(_))
        ));
        println!("\nholding");
        // Until the parent ends it, or itself.
        std::io::read_to_string(std::io::stdin()).unwrap();
        return;
    }
    if work == "full" {
        let stored = store.load(&key("default")).await.unwrap().unwrap();
        let full = store.save(&key("default"), &contract::record(2, "new"), None, Some(&stored.version)).await;
        assert!(matches!(&full, Err(StoreError::Unavailable(why)) if why.contains("File too large")), "{full:?}");
        return;
    }
    // "add N": a shared counter, each step under the lease and by compare-and-swap.
    for _ in 0..work.parse::<u32>().unwrap() {
        let owner = std::process::id().to_string();
        while store.acquire(&key("default"), &owner, LONG, Timestamp::now()).await.unwrap() == Acquired::Busy {
            tokio::task::yield_now().await;
        }
        let stored = store.load(&key("default")).await.unwrap().unwrap();
        let next = stored.record.generation + 1;
        store
            .save(&key("default"), &contract::record(next, "n"), None, Some(&stored.version))
            .await
            .expect("no one in between");
        store.release(&key("default"), &owner).await.unwrap();
    }
}

fn wait_for_line(child: &mut std::process::Child, wanted: &str) {
    use std::io::BufRead as _;
    let lines = std::io::BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == wanted), "the process ended early");
}

#[tokio::test]
async fn a10_processes_over_one_folder_exclude_each_other_and_lose_nothing() {
    let it = Setting::new();
    let store = it.open().await;
    store.save(&key("default"), &contract::record(0, "n"), None, None).await.unwrap();
    let children: Vec<_> = (0..4).map(|_| process(&it, "50")).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    assert_eq!(store.load(&key("default")).await.unwrap().unwrap().record.generation, 200);
}

#[tokio::test]
async fn a10_a_lease_ends_with_its_process_at_once() {
    let it = Setting::new();
    let store = it.open().await;
    let mut child = process(&it, "hold");
    wait_for_line(&mut child, "holding");
    let now = Timestamp::now;
    assert_eq!(store.acquire(&key("default"), "parent", LONG, now()).await, Ok(Acquired::Busy));
    child.kill().unwrap();
    child.wait().unwrap();
    let start = Instant::now();
    while store.acquire(&key("default"), "parent", LONG, now()).await == Ok(Acquired::Busy) {
        assert!(start.elapsed() < LONG / 2, "the lease outlives its process");
        tokio::task::yield_now().await;
    }
    assert!(matches!(store.acquire(&key("default"), "parent", LONG, now()).await, Ok(Acquired::Until(_))));
}
