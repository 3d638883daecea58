//! What a failure does to the account: its state, the next try, what a person is told.

use super::*;

#[tokio::test]
async fn e2_e3_a_dead_grant_is_told_once_and_never_tried_again() {
    let it = Setting::new();
    let keeper = it.expired().await;
    it.sandbox.0.lock().unwrap().revoked = true;
    let err = keeper.token().await.unwrap_err();
    assert!(matches!(&err, KeeperError::NeedsAuthorisation { .. }), "{err:?}");
    for _ in 0..20 {
        it.pass(3600);
        assert!(keeper.token().await.is_err());
        assert!(it.replica("other").token().await.is_err());
    }
    assert_eq!(it.sandbox.posts(), 1);
    let record = it.record().await;
    assert_eq!(record.state(), State::NeedsAuthorisation);
    // B8: the refresh token is still there, for whoever wants to look into it.
    assert_eq!(record.tokens.unwrap().refresh_token.unwrap().expose(), "r0");
}

#[tokio::test]
async fn d3_authorising_again_ends_it() {
    let it = Setting::new();
    let keeper = it.expired().await;
    it.sandbox.0.lock().unwrap().revoked = true;
    keeper.token().await.unwrap_err();
    keeper.authorise(answer("b0", "q0"), it.now()).await;
    assert_eq!(shown(keeper.token().await), "b0");
    assert_eq!(keeper.state(), State::Enabled);
}

#[tokio::test]
async fn e1_a_provider_out_of_reach_is_degraded_service_with_the_old_token() {
    let it = Setting::new();
    let keeper = it.replica("one");
    keeper.authorise(answer("a0", "r0"), it.now()).await;
    it.pass(3600 - 30);
    it.sandbox.plan(&[Act::NotSent]);
    assert_eq!(shown(keeper.token().await), "a0");
    assert_eq!(keeper.state(), State::Degraded);
    it.pass(10);
    assert_eq!(shown(keeper.token().await), "a1");
    assert_eq!(keeper.state(), State::Enabled);
}

#[tokio::test]
async fn e1_an_outage_is_never_a_reason_to_authorise_again() {
    for act in [Act::NotSent, Act::Say(500, ""), Act::Say(503, "<html>"), Act::Say(429, "")] {
        let it = Setting::new();
        let keeper = it.expired().await;
        for _ in 0..50 {
            it.sandbox.plan(&[act]);
            let err = keeper.token().await.unwrap_err();
            assert!(matches!(err, KeeperError::Failed { .. }), "{act:?} {err:?}");
            it.pass(3600);
        }
        it.sandbox.0.lock().unwrap().script.clear();
        assert_eq!(shown(keeper.token().await), "a1", "{act:?}");
    }
}

#[tokio::test]
async fn e3_an_outage_costs_one_call_a_backoff_step() {
    let it = Setting::new();
    let keeper = it.expired().await;
    it.sandbox.plan(&[Act::Say(500, ""); 1000]);
    for _ in 0..3600 {
        assert!(keeper.token().await.is_err());
        it.pass(1);
    }
    assert!((5..=12).contains(&it.sandbox.posts()), "{}", it.sandbox.posts());
}

#[tokio::test]
async fn e4_tokens_that_are_refused_although_new_do_not_make_a_storm() {
    let it = Setting::new();
    let keeper = it.replica("one");
    keeper.authorise(answer("a0", "r0"), it.now()).await;
    for _ in 0..600 {
        if let Ok(token) = keeper.token().await {
            let _ = keeper.token_instead_of(token.generation()).await;
        }
        it.pass(1);
    }
    // At 0, 60, 180 and 420 seconds.
    assert_eq!(it.sandbox.posts(), 4);
    keeper.worked(keeper.current().unwrap().record.generation);
    keeper.token_instead_of(keeper.current().unwrap().record.generation).await.unwrap();
    assert_eq!(it.sandbox.posts(), 5);
}

#[tokio::test]
async fn e6_an_error_names_the_account_and_never_a_token() {
    let it = Setting::new();
    let keeper = it.expired().await;
    it.sandbox.plan(&[Act::Say(401, r#"{"error":"invalid_client"}"#)]);
    let err = keeper.token().await.unwrap_err();
    assert_eq!(class(&err), Some(FailureKind::InvalidClient));
    let text = format!("{err} {err:?}");
    assert!(text.contains("default") && text.contains("invalid_client") && !text.contains("r0"), "{text}");
}

#[tokio::test]
async fn e3_a_providers_wish_to_be_left_alone_holds_for_replicas_that_never_heard_it() {
    let it = Setting::new();
    let keeper = it.expired().await;
    it.sandbox.plan(&[Act::Later("600")]);
    assert_eq!(class(&keeper.token().await.unwrap_err()), Some(FailureKind::RateLimited));
    for _ in 0..6 {
        it.pass(99);
        let late = it.replica("started later");
        assert_eq!(class(&late.token().await.unwrap_err()), Some(FailureKind::RateLimited));
    }
    assert_eq!(it.sandbox.posts(), 1);
    it.pass(6);
    assert_eq!(shown(it.replica("started later").token().await), "a1");
}

#[tokio::test]
async fn an_exchange_after_the_renewal_that_fails_again_and_again_is_waited_out_and_costs_no_token() {
    let mut it = Setting::new();
    let text = "token_url = 'https://p.example/token'\nsecond_url = 'https://p.example/long'\n\
                second_on_renewal = true\nsecond.params = { short = '{access_token}' }";
    let provider = Provider::new("acme", Definition::read("acme.toml", text).unwrap(), Overrides::default()).unwrap();
    let calls = Arc::new(Mutex::new((0, 0)));
    let counted = Arc::clone(&calls);
    it.parts.policy = Policy::of(&provider);
    let wire = HttpClient::new(move |request| {
        let mut calls = counted.lock().unwrap();
        let (status, body) = if request.url().path() == "/long" {
            calls.1 += 1;
            if calls.1 < 3 {
                (503, String::new())
            } else {
                (200, r#"{"access_token":"long","expires_in":9000}"#.into())
            }
        } else {
            calls.0 += 1;
            let n = calls.0;
            assert!(request.body().contains(&format!("refresh_token=r{}", n - 1)), "{}", request.body());
            (200, format!(r#"{{"access_token":"short","refresh_token":"r{n}","expires_in":60}}"#))
        };
        let status = StatusCode::from_u16(status).unwrap();
        std::future::ready(Ok(HttpResponse {
            status,
            headers: HeaderMap::new(),
            body: body.into(),
            at: Timestamp::now(),
        }))
    });
    it.parts.authority = Authority::new(provider, Credentials::fixed(client()), wire);
    let keeper = it.replica("one");
    let _ = keeper.authorise(answer("a0", "r0"), it.now()).await;
    it.pass(3590);
    // While the old token lives it is served, and nobody asks again and again.
    for _ in 0..20 {
        assert_eq!(shown(keeper.token().await), "a0");
    }
    assert_eq!((*calls.lock().unwrap(), keeper.state()), ((1, 1), State::Degraded));
    it.pass(11);
    let mut waited = 0;
    let token = loop {
        match keeper.token().await {
            Ok(token) => break token,
            Err(err) => assert_eq!(class(&err), Some(FailureKind::ProviderUnavailable)),
        }
        it.pass(1);
        waited += 1;
    };
    assert_eq!((shown(Ok(token)), *calls.lock().unwrap()), ("long".to_owned(), (3, 3)));
    assert!(waited > 30, "the second wait is longer than the first: {waited}");
    assert_eq!(keeper.state(), State::Enabled);
}

#[test]
fn e3_a_failure_is_noted_over_what_was_written_beside_it_and_not_over_a_renewal() {
    use crate::store::{StoreError, Version};
    let it = Setting::new();
    let now = it.now();
    let record = Record::default().authorised(answer("a0", "r0"), now, None);
    let stored = |record: &Record, version: u32| {
        Event::Loaded(Ok(Some(Stored { record: record.clone(), version: Version::new(version) })))
    };
    // Up to the refused note: the machine, and the record with its intent.
    let refused = || {
        let mut machine = RenewalMachine::new(Reason::Run { generation: 1 }, it.parts.policy.clone(), "one", 0.0, now);
        machine.on(Event::Begin, now);
        machine.on(Event::Lease(Ok(Acquired::Until(now + jiff::SignedDuration::from_secs(30)))), now);
        let Action::Save(written, _) = machine.on(stored(&record, 1), now) else { panic!("no intent") };
        machine.on(Event::Saved(Ok(Version::new(2))), now);
        let failure = Failure::new(FailureKind::NetworkNotSent, "nobody there");
        let Action::Save(note, _) = machine.on(Event::Answered(Err(failure)), now) else { panic!("no note") };
        assert!(matches!(machine.on(Event::Saved(Err(StoreError::Conflict)), now), Action::Load));
        (machine, *written, note.health)
    };

    let (mut machine, mut there, health) = refused();
    there.used.insert("a state".into(), now);
    let Action::Save(again, over) = machine.on(stored(&there, 3), now) else { panic!("it is not noted again") };
    assert_eq!((over, &again.health, again.used.len()), (Some(Version::new(3)), &health, 1));
    assert!(again.intent.is_none(), "what was never sent does not count");

    let (mut machine, mut there, _) = refused();
    there.intent.as_mut().unwrap().owner = "two".into();
    let step = machine.on(stored(&there, 3), now);
    assert!(matches!(&step, Action::Done(outcome) if matches!(**outcome, Outcome::Failed(..))), "{step:?}");
}
