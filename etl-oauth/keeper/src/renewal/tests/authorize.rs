//! New authorisations, and what they may replace.

use super::*;
use crate::{
    renewal::Stored,
    store::StoreError,
    token::{ClientRef, Subject},
};

/// An answer that `owner` granted.
fn granted(access: &str, refresh: &str, owner: &str) -> crate::token::TokenResponse {
    let mut answer = answer(access, refresh);
    answer.owner = Some(Subject::new(owner, None));
    answer
}

async fn saved(keeper: &Keeper) {
    while !keeper.is_saved() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn refresh_token(record: &Record) -> &str {
    record.tokens.as_ref().unwrap().refresh_token.as_ref().unwrap().expose()
}

/// A store that holds the third generation of an older grant by `owner`, and cannot be read.
async fn unreadable(owner: &str) -> Setting {
    let it = Setting::new();
    let old = it.replica("old");
    old.authorise(granted("a0", "r0", owner), it.now()).await;
    for _ in 0..2 {
        it.pass(3600);
        old.token().await.unwrap();
    }
    it.store.fail(true);
    it.pass(1);
    it
}

#[tokio::test(start_paused = true)]
async fn s5_a_new_authorisation_wins_over_what_an_unreadable_store_held_before_it() {
    let it = unreadable("7").await;
    let new = it.replica("new");
    assert!(matches!(new.authorise(granted("b0", "q0", "7"), it.now()).await, Kept::InMemory(_)));
    it.store.fail(false);
    assert_eq!(shown(new.token().await), "b0", "and nothing is renewed from what it replaces");
    saved(&new).await;
    let record = it.record().await;
    assert_eq!((refresh_token(&record), record.generation, record.authorisations), ("q0", 4, 2));
    assert_eq!(shown(it.replica("another").token().await), "b0");
    assert_eq!(it.sandbox.posts(), 2);
}

#[tokio::test(start_paused = true)]
async fn s5_another_persons_authorisation_that_could_not_be_read_is_not_replaced_unasked() {
    let it = unreadable("7").await;
    let new = it.replica("new");
    assert!(matches!(new.authorise(granted("b0", "q0", "8"), it.now()).await, Kept::InMemory(_)));
    it.store.fail(false);
    saved(&new).await;
    assert_eq!(refresh_token(&it.record().await), "r2");
    assert_eq!(shown(new.token().await), "a2", "what is stored is what is used");
}

#[tokio::test(start_paused = true)]
async fn s5_what_a_person_decided_later_wins_over_an_authorisation_that_waits_for_the_store() {
    for revokes in [false, true] {
        let it = unreadable("7").await;
        let new = it.replica("new");
        new.authorise(granted("b0", "q0", "7"), it.now()).await;
        it.store.fail(false);
        it.pass(1);
        let other = it.replica("other");
        if revokes {
            assert_eq!(other.revoke().await.store, Ok(()));
        } else {
            assert_eq!(other.authorise(granted("c0", "p0", "7"), it.now()).await, Kept::Stored);
        }
        saved(&new).await;
        let expected = if revokes { None } else { Some("c0") };
        let record = it.record().await;
        assert_eq!(record.tokens.as_ref().map(|tokens| tokens.access_token.expose()), expected);
        assert_eq!(new.state(), record.state());
    }
}

#[tokio::test(start_paused = true)]
async fn s8_a_grant_decided_earlier_and_written_later_is_refused_too() {
    let it = Setting::new();
    let slow = it.replica("slow");
    let grant = slow.grant(granted("b0", "q0", "8"), it.now());
    it.pass(1);
    let quick = it.replica("quick");
    quick.take_where_free(&quick.grant(granted("a0", "r0", "7"), it.now())).await.unwrap();
    // The replica whose clock is behind writes after the other one.
    it.pass(-1);
    assert!(slow.take_where_free(&grant).await.is_err());
    assert_eq!(refresh_token(&it.record().await), "r0");
}

#[tokio::test]
async fn s8_of_two_grants_for_a_free_account_one_is_written() {
    let it = Setting::new();
    let (one, two) = (it.replica("one"), it.replica("two"));
    let grants = [one.grant(answer("a0", "r0"), it.now()), two.grant(answer("b0", "q0"), it.now())];
    let (first, second) = tokio::join!(one.take_where_free(&grants[0]), two.take_where_free(&grants[1]));
    assert_eq!(
        [&first, &second].into_iter().filter(|kept| **kept == Ok(Kept::Stored)).count(),
        1,
        "{first:?} {second:?}"
    );
    assert_eq!([&first, &second].into_iter().filter(|kept| **kept == Err(Taken)).count(), 1);
    let winner = if first.is_ok() { "a0" } else { "b0" };
    assert_eq!((shown(one.token().await), shown(two.token().await)), (winner.to_owned(), winner.to_owned()));
    assert_eq!(two.take_where_free(&grants[1]).await, Err(Taken));
    one.revoke().await;
    assert_eq!(two.take_where_free(&grants[1]).await, Ok(Kept::Stored), "it is free again");
}

#[tokio::test(start_paused = true)]
async fn s8_a_grant_that_waits_for_the_store_does_not_replace_one_that_is_there() {
    let it = unreadable("7").await;
    let new = it.replica("new");
    let kept = new.take_where_free(&new.grant(granted("b0", "q0", "7"), it.now())).await;
    assert!(matches!(kept, Ok(Kept::InMemory(_))), "{kept:?}");
    it.store.fail(false);
    saved(&new).await;
    assert_eq!((refresh_token(&it.record().await), shown(new.token().await)), ("r2", "a2".to_owned()));
}

/// A keeper over the same store for another OAuth client.
fn function(it: &Setting, provider: &str, id: &str) -> Keeper {
    let definition = Definition { token_url: Some("https://p.example/token".into()), ..Definition::default() };
    let provider = Provider::new(provider, definition, Overrides::default()).unwrap();
    let client = Client { id: id.into(), ..client() };
    let authority = Authority::new(provider, Credentials::fixed(client), it.sandbox.wire());
    Keeper::new(Key::default(), Parts { authority, owner: format!("function {id}"), ..it.parts.clone() })
}

#[tokio::test]
async fn o2_the_record_of_another_functions_client_is_refused_and_named_and_left_alone() {
    let it = Setting::new();
    let first = function(&it, "acme", "first");
    first.authorise(answer("a0", "r0"), it.now()).await;
    it.pass(3600);
    for second in [function(&it, "other", "second"), function(&it, "acme", "second")] {
        let err = second.token().await.unwrap_err();
        assert_eq!(class(&err), Some(FailureKind::StoreUnavailable));
        assert!(err.to_string().contains("provider acme") && err.to_string().contains("secret_prefix"), "{err}");
        assert!(matches!(second.store_problem(), Some(StoreError::Foreign { .. })) && second.current().is_none());
    }
    let other = function(&it, "other", "second");
    let kept = other.authorise(answer("b0", "q0"), it.now()).await;
    assert!(matches!(kept, Kept::InMemory(StoreError::Foreign { .. })), "{kept:?}");
    assert_eq!((it.sandbox.posts(), refresh_token(&it.record().await)), (0, "r0"));
    assert_eq!(shown(first.token().await), "a1", "its owner has lost nothing");
}

#[tokio::test]
async fn o2_a_client_that_was_replaced_authorises_again_and_a_record_that_names_none_is_adopted() {
    let it = Setting::new();
    function(&it, "acme", "first").authorise(answer("a0", "r0"), it.now()).await;
    let moved = function(&it, "acme", "second");
    it.pass(1);
    assert_eq!(moved.authorise(answer("b0", "q0"), it.now()).await, Kept::Stored);
    assert_eq!(it.record().await.client, Some(ClientRef::new("acme", "second")));
    // Revoking clears another function's record without a call to a provider that has not issued it.
    let other = function(&it, "other", "third");
    let revoked = other.revoke().await;
    assert!(revoked.provider.is_none() && revoked.store.is_ok());
    assert_eq!(it.sandbox.posts(), 0);

    let it = Setting::new();
    let old = Record::default().authorised(answer("a0", "r0"), it.now(), None);
    it.store.save(&Key::default(), &Record { decided_at: None, ..old }, None, None).await.unwrap();
    it.pass(3600);
    assert_eq!(shown(function(&it, "acme", "first").token().await), "a1");
    assert_eq!(it.record().await.client, Some(ClientRef::new("acme", "first")));
}

#[tokio::test]
async fn s14_a_record_of_before_that_is_put_back_is_noticed() {
    let it = Setting::new();
    let keeper = it.expired().await;
    let Stored { record: old, .. } = it.store.load(&Key::default()).await.unwrap().unwrap();
    assert_eq!(shown(keeper.token().await), "a1");
    let noticed = || keeper.0.store.noticed();
    keeper.sync().await;
    assert_eq!(noticed(), None);
    let there = it.store.load(&Key::default()).await.unwrap().unwrap();
    it.store.save(&Key::default(), &old, None, Some(&there.version)).await.unwrap();
    keeper.sync().await;
    assert_eq!(noticed(), Some(1));
}
