//! Changes of state are told, once, and by somebody.

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
        Keeper::new("default", parts)
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
        Keeper::new("default", parts)
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
    let keeper = Keeper::new("default", Parts { announcer, ..it.parts.clone() });
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
