//! What every store knows of its values without reading them: which there are, and which are due.

use std::{
    collections::{BTreeMap, HashSet},
    sync::LazyLock,
    time::Instant,
};

use jiff::{SignedDuration, Timestamp};
use token_keeper::store::{Acquired, ByteStore, Claim, Due, Key, Kind, Meta, Scan, StoreError};

use super::{PATIENCE, TTL, accounts, key, now};

const START: Timestamp = Timestamp::constant(1_800_000_000, 0);

fn at(second: i64) -> Timestamp {
    START + SignedDuration::from_secs(second)
}

fn meta(due: Option<i64>, tag: &str) -> Meta {
    Meta { generation: 1, due_at: due.map(at), tag: Some(tag.into()) }
}

fn paths(due: &[Due]) -> Vec<String> {
    due.iter().map(|due| due.key.path()).collect()
}

pub(super) async fn every_key_with_a_value_is_listed_in_pages<S: ByteStore>(one: &S, two: &S) {
    one.put(&key("other.swapped"), b"x", &meta(None, "off"), None).await.unwrap();
    // The other keys were asked for, or leased, or deleted, and have no value.
    let all = ["first-write", "large", "race", "swap", "other.swap", "other.swapped"];
    assert_eq!(accounts(one).await.unwrap(), all);
    assert_eq!(accounts(two).await.unwrap(), all);
    let (mut scan, mut listed) = (Scan::of(Kind::TOKEN, 4), Vec::new());
    loop {
        let page = two.list(&scan).await.unwrap();
        assert!(page.keys.len() == 4 || page.next.is_none(), "{page:?}");
        listed.extend(page.keys.iter().map(Key::path));
        let Some(next) = page.next else { break };
        scan.after = Some(next);
    }
    assert_eq!(listed, all);
    let by = async |connection: Option<&str>, prefix: &str, tag: Option<&str>| -> Vec<String> {
        let (connection, tag) = (connection.map(str::to_owned), tag.map(str::to_owned));
        let scan = Scan { connection, prefix: prefix.into(), tag, ..Scan::of(Kind::TOKEN, 9) };
        two.list(&scan).await.unwrap().keys.iter().map(Key::path).collect()
    };
    assert_eq!(by(Some("other"), "", None).await, ["other.swap", "other.swapped"]);
    assert_eq!(by(Some("other"), "swapp", None).await, ["other.swapped"]);
    assert_eq!(by(Some("default"), "swap", None).await, ["swap"]);
    assert_eq!(by(None, "swap", None).await, ["swap", "other.swap", "other.swapped"]);
    assert_eq!(by(None, "", Some("off")).await, ["other.swapped"]);
    assert!(by(Some("nowhere"), "", None).await.is_empty());
    let counts = two.counts(Kind::TOKEN, Some("other")).await.unwrap();
    assert_eq!(counts, BTreeMap::from([(String::new(), 1), ("off".into(), 1)]));
    let counts = two.counts(Kind::TOKEN, None).await.unwrap();
    assert_eq!((counts["off"], counts["enabled"], counts.values().sum::<u64>()), (1, 3, 6));
}

pub(super) async fn what_is_due_comes_in_order<S: ByteStore>(one: &S, two: &S) {
    let mut versions = Vec::new();
    for (path, due, tag) in
        [("due.a", Some(30), "on"), ("due.b", Some(10), "on"), ("due.c", None, "off"), ("due.d", Some(20), "on")]
    {
        versions.push(one.put(&key(path), b"x", &meta(due, tag), None).await.unwrap());
    }
    // As a program that knows of no index writes it.
    let bare = one.put(&key("due.e"), b"x", &Meta::default(), None).await.unwrap();
    let due = async |before, limit| paths(&two.due(Kind::TOKEN, "due", at(before), limit).await.unwrap());
    assert_eq!(due(30, 9).await, ["due.e", "due.b", "due.d", "due.a"]);
    assert_eq!(due(29, 9).await, ["due.e", "due.b", "due.d"]);
    assert_eq!(due(9, 9).await, ["due.e"]);
    assert_eq!(due(30, 2).await, ["due.e", "due.b"]);
    one.put(&key("due.e"), b"x", &meta(None, "off"), Some(&bare)).await.unwrap();
    one.put(&key("due.b"), b"y", &meta(Some(40), "on"), Some(&versions[1])).await.unwrap();
    assert_eq!(due(39, 9).await, ["due.d", "due.a"]);
    let first = two.due(Kind::TOKEN, "due", Timestamp::MAX, 1).await.unwrap();
    assert_eq!(first, [Due { key: key("due.d"), at: at(20) }]);
    assert!(two.due(Kind::TOKEN, "nowhere", Timestamp::MAX, 9).await.unwrap().is_empty());
}

fn claim<'a>(owner: &'a str, before: i64, limit: usize) -> Claim<'a> {
    static NONE: LazyLock<HashSet<Key>> = LazyLock::new(HashSet::new);
    let except = &*NONE;
    Claim { kind: Kind::TOKEN, connection: "due", before: at(before), limit, owner, except, ttl: TTL * 60, now: now() }
}

pub(super) async fn of_claims_at_the_same_moment_no_two_get_one_key<S: ByteStore>(one: &S, two: &S) {
    for _ in 0..5 {
        let (of_a, of_b, of_c, of_d) = (claim("a", 99, 2), claim("b", 99, 2), claim("c", 99, 2), claim("d", 99, 2));
        let claims = tokio::join!(one.claim(&of_a), two.claim(&of_b), one.claim(&of_c), two.claim(&of_d));
        let claims = [claims.0, claims.1, claims.2, claims.3].map(Result::unwrap);
        assert!(claims.iter().all(|claimed| claimed.len() <= 2));
        let mut claimed: Vec<String> = claims.iter().flat_map(|claimed| paths(claimed)).collect();
        claimed.sort_unstable();
        let mut once = claimed.clone();
        once.dedup();
        assert_eq!(claimed, once, "a key was claimed twice");
        // What no claim got, because another one was just looking at it, the next one gets.
        let rest = one.claim(&claim("e", 99, 9)).await.unwrap();
        claimed.extend(paths(&rest));
        claimed.sort_unstable();
        assert_eq!(claimed, ["due.a", "due.b", "due.d"]);
        assert!(two.claim(&claim("f", 99, 9)).await.unwrap().is_empty());
        let (claims, rest) = (claims.iter(), [&rest]);
        for ((owner, store), claimed) in
            [("a", one), ("b", two), ("c", one), ("d", two), ("e", one)].iter().zip(claims.chain(rest))
        {
            for due in claimed {
                for other in [one, two] {
                    assert_eq!(
                        other.acquire(&due.key, "f", TTL, now()).await,
                        Ok(Acquired::Busy),
                        "a claim is a lease"
                    );
                }
                assert!(matches!(store.acquire(&due.key, owner, TTL, now()).await, Ok(Acquired::Until(_))));
                store.release(&due.key, owner).await.unwrap();
            }
        }
    }
}

pub(super) async fn what_a_dead_owner_claimed_is_free_after_its_lease<S: ByteStore>(one: &S, two: &S) {
    let start = Instant::now();
    let claimed = one.claim(&Claim { ttl: TTL, ..claim("dead", 25, 9) }).await.unwrap();
    assert_eq!(paths(&claimed), ["due.d"]);
    loop {
        let taken: Result<Vec<Due>, StoreError> = two.claim(&claim("alive", 25, 9)).await;
        if !taken.unwrap().is_empty() {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "a dead owner keeps its claim");
        tokio::time::sleep(TTL / 50).await;
    }
    assert!(start.elapsed() >= TTL, "taken over after {:?}", start.elapsed());
    two.release(&key("due.d"), "alive").await.unwrap();
}
