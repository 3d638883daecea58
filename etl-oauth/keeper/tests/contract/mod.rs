//! What every store does, whatever it is made of. [`holds`] runs it all against one store that is opened several times, as
//! several replicas do.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use token_keeper::{
    store::{Acquired, StoreError, TokenStore, Version},
    token::{Record, Secret, Tokens},
};

/// The accounts that the contract uses; none of them has a record when it starts.
pub(crate) const ACCOUNTS: [&str; 9] =
    ["first-write", "swap", "race", "large", "holder", "lease-race", "silent", "prolonged", "watched"];

/// Longer than a server on a busy machine needs for anything.
const PATIENCE: Duration = Duration::from_secs(30);
/// The shortest that every store can tell apart from nothing: some count in seconds.
const TTL: Duration = Duration::from_secs(1);

/// Runs the whole contract; returns how many clauses it has.
pub(crate) async fn holds<S: TokenStore>(open: impl AsyncFn() -> S) -> usize {
    let (one, two) = (open().await, open().await);
    let capabilities = one.capabilities();
    assert!(capabilities.read_back && capabilities.compare_and_swap && capabilities.lease && capabilities.accounts);
    nothing_is_there_before_the_first_write(&one, &two).await;
    a_write_names_the_version_that_it_replaces(&one, &two).await;
    of_writers_at_the_same_moment_one_wins(&one, &two).await;
    a_record_of_any_size_and_text_comes_back_whole(&one, &two).await;
    a_lease_has_one_holder_and_only_it_can_release(&one, &two).await;
    of_replicas_at_the_same_moment_one_gets_the_lease(&one, &two).await;
    a_silent_holder_loses_its_lease_and_not_too_soon(&one, &two).await;
    a_holder_that_prolongs_keeps_its_lease(&one, &two).await;
    a_lease_is_never_shortened(&one, &two).await;
    every_account_with_a_record_is_listed(&one, &two).await;
    a_name_that_is_no_account_is_refused(&one).await;
    a_write_is_told_to_other_replicas(&one, &two).await;
    12
}

/// A record that can be told from others.
pub(crate) fn record(generation: u64, marker: &str) -> Record {
    let tokens =
        Tokens::bare(Some(Secret::new(format!("access-{marker}"))), Some(Secret::new(format!("refresh-{marker}"))));
    Record { generation, tokens: Some(tokens), ..Record::default() }
}

fn now() -> Timestamp {
    Timestamp::now()
}

async fn shows<S: TokenStore>(store: &S, account: &str, wanted: &Record) -> Version {
    let stored = store.load(account).await.unwrap().expect("a record");
    assert_eq!(*stored.record.to_json(), *wanted.to_json());
    stored.version
}

async fn nothing_is_there_before_the_first_write<S: TokenStore>(one: &S, two: &S) {
    let account = "first-write";
    assert!(one.load(account).await.unwrap().is_none());
    let guessed = Version::new("1");
    let unfounded = one.save(account, &record(1, "unfounded"), Some(&guessed)).await;
    assert!(unfounded.is_err(), "a write that names a version where there is none");
    let version = one.save(account, &record(1, "a"), None).await.unwrap();
    assert_eq!(two.save(account, &record(1, "b"), None).await, Err(StoreError::Conflict));
    assert_eq!(shows(two, account, &record(1, "a")).await, version);
}

async fn a_write_names_the_version_that_it_replaces<S: TokenStore>(one: &S, two: &S) {
    let account = "swap";
    let first = one.save(account, &record(1, "a"), None).await.unwrap();
    let second = two.save(account, &record(2, "b"), Some(&first)).await.unwrap();
    assert_ne!(first, second);
    assert_eq!(one.save(account, &record(2, "c"), Some(&first)).await, Err(StoreError::Conflict));
    assert_eq!(shows(one, account, &record(2, "b")).await, second);
    // The same contents again may keep their version: nobody's write is lost by that.
    let third = one.save(account, &record(2, "b"), Some(&second)).await.unwrap();
    assert_eq!(shows(two, account, &record(2, "b")).await, third);
    assert_eq!(two.save(account, &record(3, "d"), Some(&first)).await, Err(StoreError::Conflict));
}

async fn of_writers_at_the_same_moment_one_wins<S: TokenStore>(one: &S, two: &S) {
    let account = "race";
    let mut was = None;
    for round in 1..=5 {
        let records: Vec<_> = (0..4).map(|writer| record(round, &format!("{round}-{writer}"))).collect();
        let (a, b, c, d) = tokio::join!(
            one.save(account, &records[0], was.as_ref()),
            two.save(account, &records[1], was.as_ref()),
            one.save(account, &records[2], was.as_ref()),
            two.save(account, &records[3], was.as_ref()),
        );
        let results = [a, b, c, d];
        let winners: Vec<_> = results.iter().enumerate().filter(|(_, result)| result.is_ok()).collect();
        assert_eq!(winners.len(), 1, "{results:?}");
        assert!(results.iter().all(|result| matches!(result, Ok(_) | Err(StoreError::Conflict))), "{results:?}");
        let (winner, version) = winners[0];
        assert_eq!(shows(one, account, &records[winner]).await, *version.as_ref().unwrap());
        was = Some(version.clone().unwrap());
    }
}

async fn a_record_of_any_size_and_text_comes_back_whole<S: TokenStore>(one: &S, two: &S) {
    let mut large = record(u64::MAX >> 11, "\u{1F511} \"quoted\" \\ \n \u{0}");
    if let Some(tokens) = &mut large.tokens {
        tokens.answer = serde_json::Map::from_iter([("id_token".into(), "x".repeat(200_000).into())]).into();
        tokens.expires_at = Some("2026-01-31T11:27:38.123456789Z".parse().unwrap());
    }
    large.health.detail = Some("für später".into());
    let version = one.save("large", &large, None).await.unwrap();
    assert_eq!(shows(two, "large", &large).await, version);
}

async fn a_lease_has_one_holder_and_only_it_can_release<S: TokenStore>(one: &S, two: &S) {
    let (account, long) = ("holder", Duration::from_secs(60));
    let before = now();
    let Acquired::Until(until) = one.acquire(account, "a", long, before).await.unwrap() else {
        panic!("the lease was free");
    };
    assert!(until <= now() + jiff::SignedDuration::from_secs(60) && until > before);
    assert_eq!(two.acquire(account, "b", long, now()).await, Ok(Acquired::Busy));
    assert_eq!(one.acquire(account, "b", long, now()).await, Ok(Acquired::Busy), "nor in the same process");
    assert!(matches!(one.acquire(account, "a", long, now()).await, Ok(Acquired::Until(_))), "its holder prolongs it");
    two.release(account, "b").await.unwrap();
    one.release(account, "b").await.unwrap();
    assert_eq!(two.acquire(account, "b", long, now()).await, Ok(Acquired::Busy), "nobody else's to release");
    let other = two.acquire("swap", "b", long, now()).await;
    assert!(matches!(other, Ok(Acquired::Until(_))), "another account's lease is another lease");
    two.release("swap", "b").await.unwrap();
    one.release(account, "a").await.unwrap();
    assert!(matches!(two.acquire(account, "b", long, now()).await, Ok(Acquired::Until(_))), "released");
    two.release(account, "b").await.unwrap();
    two.release(account, "b").await.unwrap();
}

async fn of_replicas_at_the_same_moment_one_gets_the_lease<S: TokenStore>(one: &S, two: &S) {
    let (account, long) = ("lease-race", Duration::from_secs(60));
    for _ in 0..5 {
        let (a, b, c, d) = tokio::join!(
            one.acquire(account, "a", long, now()),
            two.acquire(account, "b", long, now()),
            one.acquire(account, "c", long, now()),
            two.acquire(account, "d", long, now()),
        );
        let results = [(one, "a", a), (two, "b", b), (one, "c", c), (two, "d", d)];
        let holders: Vec<_> =
            results.iter().filter(|(_, _, result)| matches!(result, Ok(Acquired::Until(_)))).collect();
        let shown: Vec<_> = results.iter().map(|(_, owner, result)| (owner, result)).collect();
        assert_eq!(holders.len(), 1, "{shown:?}");
        assert!(results.iter().all(|(_, _, result)| result.is_ok()), "{shown:?}");
        holders[0].0.release(account, holders[0].1).await.unwrap();
    }
}

async fn a_silent_holder_loses_its_lease_and_not_too_soon<S: TokenStore>(one: &S, two: &S) {
    let account = "silent";
    let start = Instant::now();
    assert!(matches!(one.acquire(account, "a", TTL, now()).await, Ok(Acquired::Until(_))));
    while two.acquire(account, "b", TTL, now()).await.unwrap() == Acquired::Busy {
        assert!(start.elapsed() < PATIENCE, "a silent holder keeps its lease");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(start.elapsed() >= TTL, "lost after {:?}", start.elapsed());
    let regained = one.acquire(account, "a", TTL, now()).await.unwrap();
    assert_eq!(regained, Acquired::Busy, "who was too late asks like everyone else");
    one.release(account, "a").await.unwrap();
    assert_eq!(one.acquire(account, "c", TTL, now()).await, Ok(Acquired::Busy), "and has nothing to release");
    two.release(account, "b").await.unwrap();
}

async fn a_holder_that_prolongs_keeps_its_lease<S: TokenStore>(one: &S, two: &S) {
    let account = "prolonged";
    let start = Instant::now();
    while start.elapsed() < TTL * 3 {
        let asked = Instant::now();
        assert!(matches!(one.acquire(account, "a", TTL, now()).await, Ok(Acquired::Until(_))));
        let answer = two.acquire(account, "b", TTL, now()).await.unwrap();
        // A machine that stopped for longer than the lease proves nothing.
        assert!(answer == Acquired::Busy || asked.elapsed() >= TTL, "taken from a holder that prolongs");
        if answer != Acquired::Busy {
            two.release(account, "b").await.unwrap();
        }
        tokio::time::sleep(TTL / 10).await;
    }
    one.release(account, "a").await.unwrap();
}

async fn a_lease_is_never_shortened<S: TokenStore>(one: &S, two: &S) {
    let account = "prolonged";
    let start = Instant::now();
    for ttl in [Duration::from_secs(60), TTL] {
        assert!(matches!(one.acquire(account, "a", ttl, now()).await, Ok(Acquired::Until(_))));
    }
    while start.elapsed() < TTL * 5 / 2 {
        assert_eq!(two.acquire(account, "b", TTL, now()).await, Ok(Acquired::Busy));
        tokio::time::sleep(TTL / 10).await;
    }
    one.release(account, "a").await.unwrap();
}

async fn every_account_with_a_record_is_listed<S: TokenStore>(one: &S, two: &S) {
    let mut listed = one.accounts().await.unwrap();
    listed.sort_unstable();
    // The others were asked for, or leased, and have no record.
    assert_eq!(listed, ["first-write", "large", "race", "swap"]);
    let other: BTreeSet<_> = two.accounts().await.unwrap().into_iter().collect();
    assert!(other.into_iter().eq(listed));
}

async fn a_name_that_is_no_account_is_refused<S: TokenStore>(one: &S) {
    for name in ["", "-a", "a-", "A", "a b", "a.b", "a/b", "../a", "ä", "*", ">", &"a".repeat(64)] {
        assert!(matches!(one.load(name).await, Err(StoreError::Refused(_))), "{name}");
        assert!(matches!(one.save(name, &record(1, "a"), None).await, Err(StoreError::Refused(_))), "{name}");
        assert!(matches!(one.acquire(name, "a", TTL, now()).await, Err(StoreError::Refused(_))), "{name}");
    }
}

async fn a_write_is_told_to_other_replicas<S: TokenStore>(one: &S, two: &S) {
    let Some(mut changes) = two.changes() else { return };
    let told = async {
        let mut was = None;
        for generation in 1..=3 {
            was = Some(one.save("watched", &record(generation, "w"), was.as_ref()).await.unwrap());
            // However often it is told, in the end a look shows what was written.
            loop {
                let account = changes.recv().await.expect("the watch goes on");
                if account == "watched" {
                    let stored = two.load("watched").await.unwrap();
                    if stored.is_some_and(|stored| stored.record.generation == generation) {
                        break;
                    }
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("a write is told");
}
