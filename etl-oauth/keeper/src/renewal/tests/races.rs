//! Callers, replicas and clocks that race: one renewal, and nobody sends without the lease.

use super::*;

#[tokio::test]
async fn a1_a_hundred_callers_of_an_expired_token_are_one_renewal() {
    let it = Setting::new();
    let keeper = it.expired().await;
    let callers: Vec<_> = (0..100)
        .map(|_| {
            let keeper = keeper.clone();
            tokio::spawn(async move { shown(keeper.token().await) })
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), "a1");
    }
    assert_eq!(it.sandbox.posts(), 1);
}

#[tokio::test]
async fn a2_replicas_over_one_store_are_one_renewal() {
    let it = Setting::new();
    it.expired().await;
    let callers: Vec<_> = (0..8)
        .map(|n| {
            let keeper = it.replica(&format!("replica {n}"));
            tokio::spawn(async move { shown(keeper.token().await) })
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), "a1");
    }
    assert_eq!(it.sandbox.posts(), 1);
    assert_eq!(it.record().await.generation, 2);
}

#[tokio::test]
async fn a_caller_that_goes_away_cancels_no_renewal() {
    let it = Setting::new();
    let keeper = it.expired().await;
    it.sandbox.plan(&[Act::Slow(Duration::from_millis(50))]);
    let left = tokio::time::timeout(Duration::from_millis(1), keeper.token()).await;
    assert!(left.is_err());
    assert_eq!(shown(keeper.token().await), "a1");
    assert_eq!(it.sandbox.posts(), 1);
}

/// Another replica's write arrives while ours is being refused with `body`.
async fn overtaken(body: &'static str) {
    let it = Setting::new();
    let keeper = it.expired().await;
    let (store, sandbox, now) = (it.store.clone(), it.sandbox.clone(), it.now());
    let wire = HttpClient::new(move |request| {
        let (store, sandbox) = (store.clone(), sandbox.clone());
        async move {
            let there = store.load(&Key::default()).await.unwrap().unwrap();
            let theirs = there.record.renewed(answer("theirs", "r9"), now, None);
            store.save(&Key::default(), &theirs, None, Some(&there.version)).await.unwrap();
            sandbox.plan(&[Act::Say(400, body)]);
            sandbox.answer(request.body().to_owned()).await
        }
    });
    let keeper = Keeper::new(Key::default(), Parts { authority: over(wire), ..Parts::clone(&keeper.0.parts) });
    assert_eq!(shown(keeper.token().await), "theirs");
    assert_eq!(keeper.state(), State::Enabled);
}

#[tokio::test]
async fn a6_a_refused_refresh_token_that_another_replica_has_renewed_is_a_lost_race() {
    overtaken(r#"{"error":"invalid_grant"}"#).await;
}

#[tokio::test]
async fn a5_a_crash_between_intent_and_answer_is_recovered_by_another_replica_within_the_lease() {
    let it = Setting::new();
    it.expired().await;
    it.sandbox.plan(&[Act::Slow(Duration::from_secs(3600))]);
    let replica = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let dying = it.replica("one");
    replica.spawn(async move { dying.token().await });
    while it.record().await.intent.is_none() {
        tokio::task::yield_now().await;
    }
    // It dies with its lease and its intent in the store; nothing reached the provider.
    replica.shutdown_background();
    let other = it.replica("two");
    let waiting = tokio::spawn({
        let other = other.clone();
        async move { shown(other.token().await) }
    });
    tokio::task::yield_now().await;
    it.pass(31);
    assert_eq!(waiting.await.unwrap(), "a1");
}

#[tokio::test]
async fn a7_an_unrelated_write_does_not_make_the_new_tokens_lose() {
    let it = Setting::new();
    let keeper = it.expired().await;
    let store = it.store.clone();
    let sandbox = it.sandbox.clone();
    let wire = HttpClient::new(move |request| {
        let (store, sandbox) = (store.clone(), sandbox.clone());
        async move {
            let mut there = store.load(&Key::default()).await.unwrap().unwrap();
            there.record.used.insert("state".into(), Timestamp::MAX);
            store.save(&Key::default(), &there.record, None, Some(&there.version)).await.unwrap();
            sandbox.answer(request.body().to_owned()).await
        }
    });
    let keeper = Keeper::new(Key::default(), Parts { authority: over(wire), ..Parts::clone(&keeper.0.parts) });
    assert_eq!(shown(keeper.token().await), "a1");
    let record = it.record().await;
    assert_eq!(record.tokens.unwrap().refresh_token.unwrap().expose(), "r1");
    assert!(record.used.contains_key("state"), "nor the other way round");
}

#[tokio::test]
async fn a8_nineteen_refusals_of_one_token_are_one_renewal() {
    let it = Setting::new();
    let keeper = it.replica("one");
    keeper.authorise(answer("a0", "r0"), it.now()).await;
    let generation = keeper.token().await.unwrap().generation();
    let callers: Vec<_> = (0..19)
        .map(|_| {
            let keeper = keeper.clone();
            tokio::spawn(async move { shown(keeper.token_instead_of(generation).await) })
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), "a1");
    }
    assert_eq!(it.sandbox.posts(), 1);
}

#[tokio::test]
async fn a9_whoever_asks_again_gets_the_newest_token() {
    let it = Setting::new();
    let keeper = it.replica("one");
    keeper.authorise(answer("a0", "r0"), it.now()).await;
    let other = it.replica("two");
    assert_eq!(shown(other.token().await), "a0");
    keeper.refresh().await.unwrap();
    other.sync().await;
    assert_eq!(shown(other.token().await), "a1");
}

#[tokio::test]
async fn a3_a_provider_slower_than_the_lease_is_called_by_one_replica_alone() {
    let it = Setting::with(|policy| policy.lease = Duration::from_millis(300));
    it.expired().await;
    it.sandbox.plan(&[Act::Slow(Duration::from_millis(900))]);
    // Leases of this store end by the clock that is passed in.
    let started = (tokio::time::Instant::now(), it.now());
    let clock = Clock::new(move || started.1 + started.0.elapsed());
    let replica = |owner: &str| {
        let policy = Policy { token_timeout: Duration::from_millis(100), ..it.parts.policy.clone() };
        Keeper::new(Key::default(), Parts { owner: owner.into(), clock: clock.clone(), policy, ..it.parts.clone() })
    };
    let (one, two) = (replica("one"), replica("two"));
    let first = tokio::spawn(async move { one.token().await.map(|_| ()) });
    while it.record().await.intent.is_none() {
        tokio::task::yield_now().await;
    }
    // Its patience may end before the provider answers; without the lease it sends nothing (case A4).
    let second = two.token().await;
    first.await.unwrap().unwrap();
    assert_eq!(it.sandbox.posts(), 1);
    assert_eq!(it.record().await.tokens.unwrap().access_token.expose(), "a1");
    match second {
        Ok(token) => assert_eq!(token.tokens().access_token.expose(), "a1"),
        Err(err) => assert_eq!(class(&err), Some(FailureKind::LostRace)),
    }
}

#[tokio::test(start_paused = true)]
async fn a4_a_waiter_whose_patience_ends_sends_nothing() {
    let it = Setting::new();
    it.expired().await;
    let until = it.now() + jiff::SignedDuration::from_hours(1);
    assert_ne!(
        it.store.acquire(&Key::default(), "somebody", Duration::from_secs(3600), it.now()).await,
        Ok(Acquired::Busy)
    );
    let started = (tokio::time::Instant::now(), it.now());
    let clock = Clock::new(move || started.1 + started.0.elapsed());
    let waiter =
        Keeper::new(Key::default(), Parts { owner: "waiter".into(), clock: clock.clone(), ..it.parts.clone() });
    let err = waiter.token().await.unwrap_err();
    assert_eq!(class(&err), Some(FailureKind::LostRace));
    assert_eq!(it.sandbox.posts(), 0);
    assert!(clock.now() < until);
}

#[tokio::test]
async fn a11_old_refresh_token_used_is_a_lost_race_where_another_replica_has_renewed() {
    overtaken(r#"{"error":"unauthorized_client","error_description":"Old refresh token used"}"#).await;
}

#[tokio::test]
async fn a12_a_grant_that_the_provider_ended_is_one_clear_call_for_a_person() {
    let it = Setting::new();
    it.expired().await;
    it.sandbox.0.lock().unwrap().revoked = true;
    let callers: Vec<_> = (0..8)
        .map(|n| {
            let keeper = it.replica(&format!("replica {n}"));
            tokio::spawn(async move { keeper.token().await.unwrap_err() })
        })
        .collect();
    for caller in callers {
        let err = caller.await.unwrap();
        assert!(matches!(&err, KeeperError::NeedsAuthorisation { .. }), "{err:?}");
    }
    assert_eq!(it.sandbox.posts(), 1);
}
