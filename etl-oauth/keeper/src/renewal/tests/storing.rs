//! Tokens on their way into the store, and a store that is away.

use super::*;

#[tokio::test]
async fn b1_a_failed_write_keeps_the_rotated_token_in_use_and_is_tried_until_it_is_stored() {
    let it = Setting::new();
    let keeper = it.expired().await;
    let store = it.store.clone();
    let sandbox = it.sandbox.clone();
    let wire = HttpClient::new(move |request| {
        store.fail(true);
        let sandbox = sandbox.clone();
        async move { sandbox.answer(request.body().to_owned()).await }
    });
    let keeper = Keeper::new(Key::default(), Parts { authority: over(wire), ..Parts::clone(&keeper.0.parts) });
    assert_eq!(shown(keeper.token().await), "a1");
    assert!(!keeper.is_saved() && !keeper.is_store_ok());
    assert_eq!(keeper.state(), State::Degraded);
    it.store.fail(false);
    while !keeper.is_saved() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(it.record().await.tokens.unwrap().refresh_token.unwrap().expose(), "r1");
    assert_eq!(it.sandbox.posts(), 1);
}

#[tokio::test]
async fn b1_an_authorisation_that_cannot_be_saved_is_kept_and_saved_later() {
    let it = Setting::new();
    let keeper = it.replica("one");
    it.store.fail(true);
    assert!(matches!(keeper.authorise(answer("a0", "r0"), it.now()).await, Kept::InMemory(_)));
    assert_eq!(shown(keeper.token().await), "a0");
    it.store.fail(false);
    while !keeper.is_saved() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(shown(it.replica("two").token().await), "a0");
}

#[tokio::test(start_paused = true)]
async fn tokens_that_come_late_into_the_store_leave_what_others_used_up_meanwhile() {
    let it = Setting::new();
    let keeper = it.replica("one");
    it.store.fail(true);
    assert!(matches!(keeper.authorise(answer("a0", "r0"), it.now()).await, Kept::InMemory(_)));
    it.store.fail(false);
    let two = it.replica("two");
    let until = it.now() + jiff::SignedDuration::from_secs(600);
    assert!(two.use_up("state", until).await.unwrap());
    assert!(!keeper.is_saved());
    while !keeper.is_saved() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(shown(two.token().await), "a0");
    assert!(!two.use_up("state", until).await.unwrap(), "once for all replicas");
}

#[tokio::test]
async fn b4_b7_a_renewal_without_a_refresh_token_leaves_one_for_the_next() {
    let it = Setting::new();
    let keeper = it.expired().await;
    it.sandbox.plan(&[Act::Silent]);
    assert_eq!(shown(keeper.token().await), "again");
    it.pass(3600);
    assert_eq!(shown(keeper.token().await), "a1");
    it.pass(3600);
    assert_eq!(shown(keeper.token().await), "a2");
}

#[tokio::test]
async fn a_store_that_is_away_is_tried_again_and_loses_nothing() {
    let it = Setting::new();
    let keeper = it.expired().await;
    it.store.fail(true);
    let fresh = it.replica("late");
    assert!(fresh.token().await.is_err());
    let err = keeper.token().await.unwrap_err();
    assert_eq!(class(&err), Some(FailureKind::StoreUnavailable));
    assert_eq!(it.sandbox.posts(), 0);
    it.store.fail(false);
    it.pass(2);
    assert_eq!(shown(keeper.token().await), "a1");
    assert_eq!(shown(fresh.token().await), "a1");
}

#[tokio::test]
async fn an_account_that_nobody_authorised_is_disabled() {
    let it = Setting::new();
    let keeper = it.replica("one");
    assert_eq!(keeper.token().await.unwrap_err(), KeeperError::Disabled { account: "default".into() });
    assert_eq!(keeper.state(), State::Disabled);
}

#[tokio::test]
async fn b3_a_rotation_survives_a_restart() {
    let it = Setting::new();
    let keeper = it.expired().await;
    assert_eq!(shown(keeper.token().await), "a1");
    drop(keeper);
    it.pass(3600);
    assert_eq!(shown(it.replica("started again").token().await), "a2");
    assert_eq!(it.sandbox.posts(), 2);
}

#[tokio::test]
async fn b8_no_failed_renewal_deletes_the_refresh_token() {
    for act in [
        Act::NotSent,
        Act::LoseAnswer,
        Act::Say(500, ""),
        Act::Say(429, ""),
        Act::Say(200, "<html>"),
        Act::Say(400, r#"{"error":"invalid_grant"}"#),
        Act::Say(400, r#"{"error":"invalid_scope"}"#),
        Act::Say(401, r#"{"error":"invalid_client"}"#),
    ] {
        let it = Setting::new();
        let keeper = it.expired().await;
        it.sandbox.plan(&[act]);
        assert!(keeper.token().await.is_err(), "{act:?}");
        assert_eq!(it.record().await.tokens.unwrap().refresh_token.unwrap().expose(), "r0", "{act:?}");
    }
}

#[tokio::test]
async fn c2_an_intent_whose_write_nobody_confirmed_costs_no_replay() {
    let it = Setting::new();
    let keeper = it.expired().await;
    it.store.lose_answer(1);
    assert_eq!(shown(keeper.token().await), "a1");
    assert_eq!(it.record().await.generation, 2);
    // The write of the new tokens alike.
    it.pass(3600);
    it.store.lose_answer(2);
    assert_eq!(shown(keeper.token().await), "a2");
    while !keeper.is_saved() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(it.record().await.generation, 3);
    assert_eq!(it.sandbox.posts(), 2);
}

#[tokio::test]
async fn b5_a_damaged_record_is_a_store_that_fails_and_no_account_that_nobody_authorised() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("etl-oauth-seal-keys"), "1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
        .unwrap();
    let mut options = crate::store::StoreOptions::new("etl", crate::secrets::Secrets::new(folder.path(), ""));
    (options.path, options.allow_ephemeral) = (Some(folder.path().join("tokens")), true);
    let mut it = Setting::new();
    it.parts.store = Arc::new(Store::open("file", &options).await.unwrap());
    it.replica("one").authorise(answer("a0", "r0"), it.now()).await;
    it.pass(3600);
    let path = folder.path().join("tokens/default.json");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let keeper = it.replica("two");
    let err = keeper.token().await.unwrap_err();
    assert_eq!(class(&err), Some(FailureKind::StoreUnavailable), "{err}");
    assert!(matches!(err, KeeperError::Failed { .. }) && err.is_damage() && !keeper.is_store_readable());
    assert_eq!((keeper.state(), keeper.damage().is_some()), (State::Degraded, true));
    assert!(keeper.refresh().await.is_err());
    assert_eq!(it.sandbox.posts(), 0);
    assert_eq!(std::fs::read(&path).unwrap(), &whole[..whole.len() / 2]);
    std::fs::write(&path, &whole).unwrap();
    it.pass(2);
    assert_eq!(shown(keeper.token().await), "a1");
}

#[tokio::test(start_paused = true)]
async fn o1_writes_that_failed_while_nothing_could_be_read_are_forgotten_when_the_store_is_back() {
    let it = Setting::new();
    let keeper = it.replica("one");
    it.store.fail(true);
    keeper.sync().await;
    let grant = keeper.grant(answer("a0", "r0"), it.now());
    assert!(matches!(keeper.take_where_free(&grant).await, Ok(Kept::InMemory(_))));
    let other = it.replica("two");
    other.sync().await;
    assert!(other.token().await.is_err() && !other.is_store_ok());
    it.store.fail(false);
    it.pass(2);
    other.sync().await;
    assert!(other.is_store_ok());
}
