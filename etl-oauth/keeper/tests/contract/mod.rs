//! What every store does, whatever it is made of. [`holds`] runs it all against one store that is opened several times, as
//! several replicas do.

mod index;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use token_keeper::{
    renewal::RecordStore,
    store::{Acquired, ByteStore, Key, Kind, Meta, Scan, StoreError, Version},
    token::{Record, Secret, Tokens},
};

/// The paths of the keys that the contract uses; none of them has a value when it starts.
pub(crate) const ACCOUNTS: [&str; 17] = [
    "first-write",
    "swap",
    "race",
    "large",
    "holder",
    "lease-race",
    "silent",
    "prolonged",
    "watched",
    "deleted",
    "other.swap",
    "other.swapped",
    "due.a",
    "due.b",
    "due.c",
    "due.d",
    "due.e",
];

/// Longer than a server on a busy machine needs for anything.
const PATIENCE: Duration = Duration::from_secs(30);
/// The shortest that every store can tell apart from nothing: some count in seconds.
const TTL: Duration = Duration::from_secs(1);

/// Runs the whole contract; returns how many clauses it has.
pub(crate) async fn holds<S: RecordStore>(open: impl AsyncFn() -> S) -> usize {
    let (one, two) = (open().await, open().await);
    let capabilities = one.capabilities();
    assert!(capabilities.read_back && capabilities.compare_and_swap && capabilities.lease && capabilities.accounts);
    assert!(capabilities.index);
    nothing_is_there_before_the_first_write(&one, &two).await;
    a_write_names_the_version_that_it_replaces(&one, &two).await;
    of_writers_at_the_same_moment_one_wins(&one, &two).await;
    a_record_of_any_size_and_text_comes_back_whole(&one, &two).await;
    a_lease_has_one_holder_and_only_it_can_release(&one, &two).await;
    of_replicas_at_the_same_moment_one_gets_the_lease(&one, &two).await;
    a_silent_holder_loses_its_lease_and_not_too_soon(&one, &two).await;
    a_holder_that_prolongs_keeps_its_lease(&one, &two).await;
    a_lease_is_never_shortened(&one, &two).await;
    a_value_of_any_bytes_comes_back_with_its_index_entry(&one, &two).await;
    a_deletion_names_the_version_that_it_deletes(&one, &two).await;
    connections_and_kinds_are_apart(&one, &two).await;
    index::every_key_with_a_value_is_listed_in_pages(&one, &two).await;
    index::what_is_due_comes_in_order(&one, &two).await;
    index::of_claims_at_the_same_moment_no_two_get_one_key(&one, &two).await;
    index::what_a_dead_owner_claimed_is_free_after_its_lease(&one, &two).await;
    a_write_is_told_to_other_replicas(&one, &two).await;
    17
}

/// A record that can be told from others.
pub(crate) fn record(generation: u64, marker: &str) -> Record {
    let tokens =
        Tokens::bare(Some(Secret::new(format!("access-{marker}"))), Some(Secret::new(format!("refresh-{marker}"))));
    Record { generation, tokens: Some(tokens), ..Record::default() }
}

/// The key of the tokens at this path.
pub(crate) fn key(path: &str) -> Key {
    Key::from_path(Kind::TOKEN, path).unwrap()
}

/// The paths of all keys of tokens.
pub(crate) async fn accounts<S: ByteStore>(store: &S) -> Result<Vec<String>, StoreError> {
    let page = store.list(&Scan::of(Kind::TOKEN, 1000)).await?;
    assert_eq!(page.next, None);
    Ok(page.keys.iter().map(Key::path).collect())
}

fn now() -> Timestamp {
    Timestamp::now()
}

async fn shows<S: RecordStore>(store: &S, account: &str, wanted: &Record) -> Version {
    let stored = store.load(&key(account)).await.unwrap().expect("a record");
    assert_eq!(*stored.record.to_json(), *wanted.to_json());
    stored.version
}

async fn nothing_is_there_before_the_first_write<S: RecordStore>(one: &S, two: &S) {
    let account = "first-write";
    assert!(one.load(&key(account)).await.unwrap().is_none());
    let guessed = Version::new("1");
    let unfounded = one.save(&key(account), &record(1, "unfounded"), None, Some(&guessed)).await;
    assert!(unfounded.is_err(), "a write that names a version where there is none");
    let version = one.save(&key(account), &record(1, "a"), None, None).await.unwrap();
    assert_eq!(two.save(&key(account), &record(1, "b"), None, None).await, Err(StoreError::Conflict));
    assert_eq!(shows(two, account, &record(1, "a")).await, version);
}

async fn a_write_names_the_version_that_it_replaces<S: RecordStore>(one: &S, two: &S) {
    let account = "swap";
    let first = one.save(&key(account), &record(1, "a"), None, None).await.unwrap();
    let second = two.save(&key(account), &record(2, "b"), None, Some(&first)).await.unwrap();
    assert_ne!(first, second);
    assert_eq!(one.save(&key(account), &record(2, "c"), None, Some(&first)).await, Err(StoreError::Conflict));
    assert_eq!(shows(one, account, &record(2, "b")).await, second);
    // The same contents again may keep their version: nobody's write is lost by that.
    let third = one.save(&key(account), &record(2, "b"), None, Some(&second)).await.unwrap();
    assert_eq!(shows(two, account, &record(2, "b")).await, third);
    assert_eq!(two.save(&key(account), &record(3, "d"), None, Some(&first)).await, Err(StoreError::Conflict));
}

async fn of_writers_at_the_same_moment_one_wins<S: RecordStore>(one: &S, two: &S) {
    let race = key("race");
    let mut was = None;
    for round in 1..=5 {
        let records: Vec<_> = (0..4).map(|writer| record(round, &format!("{round}-{writer}"))).collect();
        let (a, b, c, d) = tokio::join!(
            one.save(&race, &records[0], None, was.as_ref()),
            two.save(&race, &records[1], None, was.as_ref()),
            one.save(&race, &records[2], None, was.as_ref()),
            two.save(&race, &records[3], None, was.as_ref()),
        );
        let results = [a, b, c, d];
        let winners: Vec<_> = results.iter().enumerate().filter(|(_, result)| result.is_ok()).collect();
        assert_eq!(winners.len(), 1, "{results:?}");
        assert!(results.iter().all(|result| matches!(result, Ok(_) | Err(StoreError::Conflict))), "{results:?}");
        let (winner, version) = winners[0];
        assert_eq!(shows(one, "race", &records[winner]).await, *version.as_ref().unwrap());
        was = Some(version.clone().unwrap());
    }
}

async fn a_record_of_any_size_and_text_comes_back_whole<S: RecordStore>(one: &S, two: &S) {
    let mut large = record(u64::MAX >> 11, "\u{1F511} \"quoted\" \\ \n \u{0}");
    if let Some(tokens) = &mut large.tokens {
        tokens.answer = serde_json::Map::from_iter([("id_token".into(), "x".repeat(200_000).into())]).into();
        tokens.expires_at = Some("2026-01-31T11:27:38.123456789Z".parse().unwrap());
    }
    large.health.detail = Some("für später".into());
    let version = one.save(&key("large"), &large, None, None).await.unwrap();
    assert_eq!(shows(two, "large", &large).await, version);
}

async fn a_lease_has_one_holder_and_only_it_can_release<S: RecordStore>(one: &S, two: &S) {
    let (account, long) = ("holder", Duration::from_secs(60));
    let before = now();
    let Acquired::Until(until) = one.acquire(&key(account), "a", long, before).await.unwrap() else {
        panic!("the lease was free");
    };
    assert!(until <= now() + jiff::SignedDuration::from_secs(60) && until > before);
    assert_eq!(two.acquire(&key(account), "b", long, now()).await, Ok(Acquired::Busy));
    assert_eq!(one.acquire(&key(account), "b", long, now()).await, Ok(Acquired::Busy), "nor in the same process");
    assert!(
        matches!(one.acquire(&key(account), "a", long, now()).await, Ok(Acquired::Until(_))),
        "its holder prolongs it"
    );
    two.release(&key(account), "b").await.unwrap();
    one.release(&key(account), "b").await.unwrap();
    assert_eq!(two.acquire(&key(account), "b", long, now()).await, Ok(Acquired::Busy), "nobody else's to release");
    let other = two.acquire(&key("swap"), "b", long, now()).await;
    assert!(matches!(other, Ok(Acquired::Until(_))), "another account's lease is another lease");
    two.release(&key("swap"), "b").await.unwrap();
    one.release(&key(account), "a").await.unwrap();
    assert!(matches!(two.acquire(&key(account), "b", long, now()).await, Ok(Acquired::Until(_))), "released");
    two.release(&key(account), "b").await.unwrap();
    two.release(&key(account), "b").await.unwrap();
}

async fn of_replicas_at_the_same_moment_one_gets_the_lease<S: RecordStore>(one: &S, two: &S) {
    let (race, long) = (key("lease-race"), Duration::from_secs(60));
    for _ in 0..5 {
        let (a, b, c, d) = tokio::join!(
            one.acquire(&race, "a", long, now()),
            two.acquire(&race, "b", long, now()),
            one.acquire(&race, "c", long, now()),
            two.acquire(&race, "d", long, now()),
        );
        let results = [(one, "a", a), (two, "b", b), (one, "c", c), (two, "d", d)];
        let holders: Vec<_> =
            results.iter().filter(|(_, _, result)| matches!(result, Ok(Acquired::Until(_)))).collect();
        let shown: Vec<_> = results.iter().map(|(_, owner, result)| (owner, result)).collect();
        assert_eq!(holders.len(), 1, "{shown:?}");
        assert!(results.iter().all(|(_, _, result)| result.is_ok()), "{shown:?}");
        holders[0].0.release(&race, holders[0].1).await.unwrap();
    }
}

async fn a_silent_holder_loses_its_lease_and_not_too_soon<S: RecordStore>(one: &S, two: &S) {
    let account = "silent";
    let start = Instant::now();
    assert!(matches!(one.acquire(&key(account), "a", TTL, now()).await, Ok(Acquired::Until(_))));
    while two.acquire(&key(account), "b", TTL, now()).await.unwrap() == Acquired::Busy {
        assert!(start.elapsed() < PATIENCE, "a silent holder keeps its lease");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(start.elapsed() >= TTL, "lost after {:?}", start.elapsed());
    let regained = one.acquire(&key(account), "a", TTL, now()).await.unwrap();
    assert_eq!(regained, Acquired::Busy, "who was too late asks like everyone else");
    one.release(&key(account), "a").await.unwrap();
    assert_eq!(one.acquire(&key(account), "c", TTL, now()).await, Ok(Acquired::Busy), "and has nothing to release");
    two.release(&key(account), "b").await.unwrap();
}

async fn a_holder_that_prolongs_keeps_its_lease<S: RecordStore>(one: &S, two: &S) {
    let account = "prolonged";
    let start = Instant::now();
    while start.elapsed() < TTL * 3 {
        let asked = Instant::now();
        assert!(matches!(one.acquire(&key(account), "a", TTL, now()).await, Ok(Acquired::Until(_))));
        let answer = two.acquire(&key(account), "b", TTL, now()).await.unwrap();
        // A machine that stopped for longer than the lease proves nothing.
        assert!(answer == Acquired::Busy || asked.elapsed() >= TTL, "taken from a holder that prolongs");
        if answer != Acquired::Busy {
            two.release(&key(account), "b").await.unwrap();
        }
        tokio::time::sleep(TTL / 10).await;
    }
    one.release(&key(account), "a").await.unwrap();
}

async fn a_lease_is_never_shortened<S: RecordStore>(one: &S, two: &S) {
    let account = "prolonged";
    let start = Instant::now();
    for ttl in [Duration::from_secs(60), TTL] {
        assert!(matches!(one.acquire(&key(account), "a", ttl, now()).await, Ok(Acquired::Until(_))));
    }
    while start.elapsed() < TTL * 5 / 2 {
        assert_eq!(two.acquire(&key(account), "b", TTL, now()).await, Ok(Acquired::Busy));
        tokio::time::sleep(TTL / 10).await;
    }
    one.release(&key(account), "a").await.unwrap();
}

async fn a_value_of_any_bytes_comes_back_with_its_index_entry<S: ByteStore>(one: &S, two: &S) {
    let there = one.get(&key("large")).await.unwrap().unwrap();
    let bytes: Vec<u8> = (0..=255).cycle().take(200_000).collect();
    let meta = Meta { generation: 7, due_at: Some("2026-01-31T11:27:38.5Z".parse().unwrap()), tag: Some("on".into()) };
    let version = one.put(&key("large"), &bytes, &meta, Some(&there.version)).await.unwrap();
    let back = two.get(&key("large")).await.unwrap().unwrap();
    assert!(*back.bytes == bytes);
    assert_eq!((back.version, back.meta), (version, meta));
}

async fn a_deletion_names_the_version_that_it_deletes<S: ByteStore>(one: &S, two: &S) {
    let (key, meta) = (key("deleted"), Meta { generation: 1, due_at: None, tag: Some("on".into()) });
    let first = one.put(&key, b"a", &meta, None).await.unwrap();
    let second = two.put(&key, b"b", &meta, Some(&first)).await.unwrap();
    assert_eq!(one.delete(&key, &first).await, Err(StoreError::Conflict));
    one.delete(&key, &second).await.unwrap();
    assert!(two.get(&key).await.unwrap().is_none());
    assert_eq!(two.delete(&key, &second).await, Err(StoreError::Conflict));
    assert_eq!(two.put(&key, b"c", &meta, Some(&second)).await, Err(StoreError::Conflict));
    let third = two.put(&key, b"c", &meta, None).await.unwrap();
    assert_eq!(*one.get(&key).await.unwrap().unwrap().bytes, b"c");
    one.delete(&key, &third).await.unwrap();
}

async fn connections_and_kinds_are_apart<S: ByteStore>(one: &S, two: &S) {
    let (theirs, job) = (key("other.swap"), key("swap").of_kind(Kind::JOB));
    let before = one.get(&key("swap")).await.unwrap().unwrap();
    for key in [&theirs, &job] {
        assert!(one.get(key).await.unwrap().is_none());
        one.put(key, key.to_string().as_bytes(), &Meta::default(), None).await.unwrap();
        assert!(matches!(one.acquire(key, "a", TTL * 60, now()).await, Ok(Acquired::Until(_))));
    }
    for key in [&theirs, &job] {
        assert_eq!(*two.get(key).await.unwrap().unwrap().bytes, key.to_string().into_bytes());
        one.release(key, "a").await.unwrap();
    }
    assert_eq!(two.get(&key("swap")).await.unwrap().unwrap().version, before.version);
    assert_eq!(two.list(&Scan::of(Kind::JOB, 9)).await.unwrap().keys, [job]);
}

async fn a_write_is_told_to_other_replicas<S: RecordStore>(one: &S, two: &S) {
    let Some(mut changes) = two.changes(Kind::TOKEN) else { return };
    let told = async {
        let mut was = None;
        for generation in 1..=3 {
            was = Some(one.save(&key("watched"), &record(generation, "w"), None, was.as_ref()).await.unwrap());
            // However often it is told, in the end a look shows what was written.
            loop {
                let told = changes.recv().await.expect("the watch goes on");
                if told == key("watched") {
                    let stored = two.load(&key("watched")).await.unwrap();
                    if stored.is_some_and(|stored| stored.record.generation == generation) {
                        break;
                    }
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("a write is told");
}
