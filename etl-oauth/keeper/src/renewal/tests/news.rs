//! Announcements of state changes: each is delivered once.

use super::*;

#[tokio::test]
async fn a_change_of_state_is_told_once_by_the_replica_that_made_it() {
    let it = Setting::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    let announcer = {
        let told = Arc::clone(&told);
        Announcer::new(move |news| {
            told.lock().unwrap().push((news.from, news.to, news.text()));
            std::future::ready(true)
        })
    };
    let replica = |owner: &str| {
        let parts = Parts { owner: owner.into(), announcer: announcer.clone(), ..it.parts.clone() };
        Keeper::new(Key::default(), parts)
    };
    let (one, two) = (replica("one"), replica("two"));
    one.authorise(answer("a0", "r0"), it.now()).await;
    two.sync().await;
    it.pass(3600);
    it.sandbox.0.lock().unwrap().revoked = true;
    for _ in 0..3 {
        assert!(one.token().await.is_err() && two.token().await.is_err());
        it.pass(3600);
    }
    two.authorise(answer("b0", "q0"), it.now()).await;
    one.sync().await;
    two.revoke().await;
    one.sync().await;
    let told = told.lock().unwrap();
    let changes: Vec<_> = told.iter().map(|(from, to, _)| (*from, *to)).collect();
    assert_eq!(
        changes,
        [
            (State::Disabled, State::Enabled),
            (State::Enabled, State::NeedsAuthorisation),
            (State::NeedsAuthorisation, State::Enabled),
            (State::Enabled, State::Disabled),
        ]
    );
    assert!(told[1].2.contains("default") && told[1].2.contains("Authorise again"), "{}", told[1].2);
}

type News = Arc<Mutex<Vec<(State, State)>>>;

/// News that arrive where they are kept, or do not.
fn listener(arrives: bool) -> (Announcer, News) {
    let told = News::default();
    let heard = Arc::clone(&told);
    let announcer = Announcer::new(move |news| {
        heard.lock().unwrap().push((news.from, news.to));
        std::future::ready(arrives)
    });
    (announcer, told)
}

#[tokio::test]
async fn e2_news_whose_teller_died_are_told_by_one_other_replica_once() {
    let it = Setting::new();
    let (deaf, unheard) = listener(false);
    let (announcer, told) = listener(true);
    let replica = |owner: &str, announcer: &Announcer| {
        let parts = Parts { owner: owner.into(), announcer: announcer.clone(), ..it.parts.clone() };
        Keeper::new(Key::default(), parts)
    };
    // It tells, and dies before anybody hears.
    replica("one", &deaf).authorise(answer("a0", "r0"), it.now()).await;
    assert_eq!(*unheard.lock().unwrap(), [(State::Disabled, State::Enabled)]);
    let others = ["two", "three", "four"].map(|owner| replica(owner, &announcer));
    let look = async || {
        for other in &others {
            other.sync().await;
        }
        while others.iter().any(|other| !other.0.work.is_empty()) {
            tokio::task::yield_now().await;
        }
    };
    look().await;
    assert!(told.lock().unwrap().is_empty(), "it may still be telling");
    it.pass(61);
    look().await;
    assert_eq!(*told.lock().unwrap(), [(State::Disabled, State::Enabled)]);
    let record = it.record().await;
    assert_eq!((record.state(), record.generation, record.untold), (State::Enabled, 1, None));
    it.pass(100_000);
    look().await;
    assert_eq!(told.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn news_that_nobody_takes_are_told_again_ever_more_rarely_and_disturb_no_renewal() {
    let it = Setting::new();
    let (announcer, told) = listener(false);
    let keeper = Keeper::new(Key::default(), Parts { announcer, ..it.parts.clone() });
    keeper.authorise(answer("a0", "r0"), it.now()).await;
    for _ in 0..3600 {
        it.pass(1);
        keeper.sync().await;
        while !keeper.0.work.is_empty() {
            tokio::task::yield_now().await;
        }
    }
    // By its writer; then after 1, 3, 7, 15, 31 minutes.
    assert_eq!(told.lock().unwrap().len(), 6);
    assert_eq!(shown(keeper.token().await), "a1");
    assert_eq!(it.record().await.untold.unwrap().from, State::Disabled, "the renewal has not forgotten it");
    // Where nobody is to be told, nothing is written down.
    let it = Setting::new();
    it.expired().await;
    assert_eq!(it.record().await.untold, None);
}

/// Everything that is announced: the states, the class of the failure, the severity.
type Heard = Arc<Mutex<Vec<(State, State, Option<FailureKind>, Severity)>>>;

fn recorder() -> (Announcer, Heard) {
    let heard = Heard::default();
    let all = Arc::clone(&heard);
    let announcer = Announcer::new(move |news| {
        let class = news.failure.as_ref().map(Failure::class);
        all.lock().unwrap().push((news.from, news.to, class, news.severity));
        std::future::ready(true)
    });
    (announcer, heard)
}

async fn settled(keeper: &Keeper) {
    while !keeper.0.work.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn o9_a_cause_that_only_the_operator_can_end_is_announced_within_degraded_once() {
    let mut it = Setting::new();
    let (announcer, heard) = recorder();
    it.parts.announcer = announcer;
    let keeper = it.expired().await;
    let refused = Act::Say(401, r#"{"error":"invalid_client"}"#);
    for act in [Act::NotSent, Act::Say(500, ""), refused, refused, Act::NotSent, refused] {
        it.sandbox.plan(&[act]);
        assert!(keeper.token().await.is_err());
        settled(&keeper).await;
        it.pass(4000);
    }
    let causes: Vec<_> = heard.lock().unwrap().iter().map(|(from, to, class, _)| (*from, *to, *class)).collect();
    assert_eq!(
        causes,
        [
            (State::Disabled, State::Enabled, None),
            (State::Enabled, State::Degraded, Some(FailureKind::NetworkNotSent)),
            (State::Degraded, State::Degraded, Some(FailureKind::InvalidClient)),
            (State::Degraded, State::Degraded, Some(FailureKind::InvalidClient)),
        ]
    );
    assert_eq!(it.record().await.untold, None);
}

#[tokio::test]
async fn o4_tokens_that_are_in_memory_alone_are_announced_and_so_is_that_they_are_saved() {
    let mut it = Setting::new();
    let (announcer, heard) = recorder();
    it.parts.announcer = announcer;
    let keeper = it.expired().await;
    let (store, sandbox) = (it.store.clone(), it.sandbox.clone());
    let wire = HttpClient::new(move |request| {
        store.fail_writes(true);
        let sandbox = sandbox.clone();
        async move { sandbox.answer(request.body().to_owned()).await }
    });
    let keeper = Keeper::new(Key::default(), Parts { authority: over(wire), ..Parts::clone(&keeper.0.parts) });
    assert_eq!(shown(keeper.token().await), "a1");
    assert_eq!((keeper.state(), keeper.is_saved()), (State::Degraded, false));
    it.store.fail_writes(false);
    settled(&keeper).await;
    let unavailable = Some(FailureKind::StoreUnavailable);
    assert_eq!(
        heard.lock().unwrap()[1..],
        [
            (State::Enabled, State::Degraded, unavailable, Severity::Critical),
            (State::Degraded, State::Enabled, None, Severity::Info),
        ]
    );
    // An authorisation alike.
    it.store.fail(true);
    keeper.authorise(answer("b0", "q0"), it.now()).await;
    it.store.fail(false);
    settled(&keeper).await;
    assert_eq!(heard.lock().unwrap().len(), 5);
}

#[tokio::test]
async fn o1_a_store_that_takes_nothing_is_not_healed_by_a_read() {
    let mut it = Setting::new();
    let (announcer, heard) = recorder();
    it.parts.announcer = announcer;
    let keeper = it.expired().await;
    settled(&keeper).await;
    it.store.fail_writes(true);
    for _ in 0..3 {
        assert_eq!(class(&keeper.token().await.unwrap_err()), Some(FailureKind::StoreUnavailable));
        keeper.sync().await;
        assert!(!keeper.is_store_ok() && keeper.is_store_readable());
        assert_eq!(keeper.state(), State::Degraded);
        assert!(keeper.store_problem().unwrap().to_string().contains("no space left"));
        it.pass(2);
    }
    it.store.fail_writes(false);
    assert_eq!(shown(keeper.token().await), "a1");
    settled(&keeper).await;
    assert_eq!((keeper.state(), keeper.store_problem(), it.sandbox.posts()), (State::Enabled, None, 1));
    assert_eq!(
        heard.lock().unwrap()[1..],
        [
            (State::Enabled, State::Degraded, Some(FailureKind::StoreUnavailable), Severity::Warning),
            (State::Degraded, State::Enabled, None, Severity::Info),
        ]
    );
}
