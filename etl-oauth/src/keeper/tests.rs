//! The protocol against a provider in memory: single replicas and several, over one store.

mod asking;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{HeaderMap, StatusCode};
use jiff::Timestamp;

use super::*;
use crate::{
    grant::{Client, Credentials, RawAnswer, SendError, Wire},
    provider::{Definition, Overrides, Provider},
    store::{Acquired, Memory},
    token::{AnswerShape, Class, Record, Secret},
};

/// A provider that rotates and revokes the family on reuse.
#[derive(Clone, Default)]
struct Sandbox(Arc<Mutex<Provided>>);

#[derive(Default)]
struct Provided {
    issued: u32,
    revoked: bool,
    posts: u32,
    reuses: u32,
    script: VecDeque<Act>,
    lifetime: u32,
}

#[derive(Clone, Copy, Debug)]
enum Act {
    /// Rotates, and the answer is lost.
    LoseAnswer,
    /// Nothing arrives.
    NotSent,
    /// An answer of this status and body.
    Say(u16, &'static str),
    /// Rotates after this long.
    Slow(Duration),
    /// Rotates without sending the new refresh token.
    Silent,
}

impl Sandbox {
    fn wire(&self) -> Wire {
        let sandbox = self.clone();
        Wire::new(move |request| {
            let sandbox = sandbox.clone();
            async move { sandbox.answer(request.body().to_owned()).await }
        })
    }

    async fn answer(&self, body: String) -> Result<RawAnswer, SendError> {
        let act = self.0.lock().unwrap().script.pop_front();
        if let Some(Act::NotSent) = act {
            return Err(SendError::NotSent);
        }
        let token = url::form_urlencoded::parse(body.as_bytes()).find(|(name, _)| name == "refresh_token").unwrap().1;
        if let Some(Act::Slow(time)) = act {
            tokio::time::sleep(time).await;
        }
        let mut it = self.0.lock().unwrap();
        it.posts += 1;
        let say = |status: u16, body: String| {
            let status = StatusCode::from_u16(status).unwrap();
            Ok(RawAnswer { status, headers: HeaderMap::new(), body: body.into(), at: Timestamp::now() })
        };
        if let Some(Act::Say(status, body)) = act {
            return say(status, body.to_owned());
        }
        if it.revoked || token != format!("r{}", it.issued) {
            it.revoked = true;
            it.reuses += 1;
            return say(400, r#"{"error":"invalid_grant"}"#.to_owned());
        }
        if let Some(Act::Silent) = act {
            return say(200, r#"{"access_token":"again","expires_in":3600}"#.to_owned());
        }
        it.issued += 1;
        let (n, life) = (it.issued, it.lifetime);
        match act {
            Some(Act::LoseAnswer) => Err(SendError::Ambiguous),
            _ => say(200, format!(r#"{{"access_token":"a{n}","refresh_token":"r{n}","expires_in":{life}}}"#)),
        }
    }

    fn posts(&self) -> u32 {
        self.0.lock().unwrap().posts
    }

    fn plan(&self, acts: &[Act]) {
        self.0.lock().unwrap().script.extend(acts);
    }
}

struct Setting {
    sandbox: Sandbox,
    store: Memory,
    time: Arc<Mutex<Timestamp>>,
    parts: Parts,
}

impl Setting {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Policy)) -> Self {
        let sandbox = Sandbox::default();
        sandbox.0.lock().unwrap().lifetime = 3600;
        let store = Memory::default();
        let time = Arc::new(Mutex::new(Timestamp::from_second(1_000_000).unwrap()));
        let mut policy = Policy::of(&provider());
        change(&mut policy);
        let clock = {
            let time = Arc::clone(&time);
            Clock::new(move || *time.lock().unwrap())
        };
        let parts = Parts {
            authority: over(sandbox.wire()),
            store: Arc::new(Store::Memory(store.clone())),
            policy,
            owner: "one".into(),
            clock,
            announcer: Announcer::default(),
        };
        Self { sandbox, store, time, parts }
    }

    fn replica(&self, owner: &str) -> Keeper {
        Keeper::new("default", Parts { owner: owner.into(), ..self.parts.clone() })
    }

    /// A replica of an account that was authorised an hour ago, so that its token has just ended.
    async fn expired(&self) -> Keeper {
        let keeper = self.replica("one");
        assert_eq!(keeper.authorise(answer("a0", "r0"), self.now()).await, Kept::Stored);
        self.pass(3600);
        keeper
    }

    fn pass(&self, seconds: i64) {
        let mut time = self.time.lock().unwrap();
        *time += jiff::SignedDuration::from_secs(seconds);
    }

    fn now(&self) -> Timestamp {
        *self.time.lock().unwrap()
    }

    async fn record(&self) -> Record {
        self.store.load("default").await.unwrap().unwrap().record
    }
}

fn provider() -> Provider {
    let definition = Definition { token_url: Some("https://p.example/token".into()), ..Definition::default() };
    Provider::new("custom", definition, Overrides::default()).unwrap()
}

fn over(wire: Wire) -> Authority {
    Authority::new(provider(), Credentials::fixed(client()), wire)
}

fn client() -> Client {
    Client { id: "id".into(), secret: Some(Secret::new("secret")), ..Client::default() }
}

fn answer(access: &str, refresh: &str) -> crate::token::Answer {
    let body = format!(r#"{{"access_token":"{access}","refresh_token":"{refresh}","expires_in":3600}}"#);
    AnswerShape::default().read(body.as_bytes()).unwrap()
}

fn shown(token: Result<Token, KeeperError>) -> String {
    token.unwrap().tokens().access_token.expose().to_owned()
}

fn class(error: &KeeperError) -> Option<Class> {
    match error {
        KeeperError::Disabled { .. } => None,
        KeeperError::NeedsAuthorisation { failure, .. } | KeeperError::Failed { failure, .. } => Some(failure.class()),
    }
}

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

#[tokio::test]
async fn a6_a_refused_refresh_token_that_another_replica_has_renewed_is_a_lost_race() {
    let it = Setting::new();
    let keeper = it.expired().await;
    // The other replica's write arrives while ours is being refused.
    let store = it.store.clone();
    let now = it.now();
    let sandbox = it.sandbox.clone();
    let wire = Wire::new(move |request| {
        let (store, sandbox) = (store.clone(), sandbox.clone());
        async move {
            let there = store.load("default").await.unwrap().unwrap();
            let theirs = there.record.renewed(answer("theirs", "r9"), now, None);
            store.save("default", &theirs, Some(&there.version)).await.unwrap();
            sandbox.plan(&[Act::Say(400, r#"{"error":"invalid_grant"}"#)]);
            sandbox.answer(request.body().to_owned()).await
        }
    });
    let keeper = Keeper::new("default", Parts { authority: over(wire), ..Parts::clone(&keeper.0.parts) });
    assert_eq!(shown(keeper.token().await), "theirs");
    assert_eq!(keeper.state(), State::Enabled);
}

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
async fn c1_a_lost_answer_without_a_replay_window_is_sent_once_more_and_then_a_person_is_asked() {
    let it = Setting::new();
    let keeper = it.expired().await;
    it.sandbox.plan(&[Act::LoseAnswer]);
    assert_eq!(class(&keeper.token().await.unwrap_err()), Some(Class::NetworkAmbiguous));
    it.pass(10);
    // The rotation had happened: the replay tells, and only now is it certain.
    let err = keeper.token().await.unwrap_err();
    assert!(matches!(err, KeeperError::NeedsAuthorisation { .. }), "{err:?}");
    assert_eq!(it.sandbox.posts(), 2);
}

#[tokio::test]
async fn c2_two_unanswered_renewals_hold_the_account_and_do_not_condemn_it() {
    let it = Setting::new();
    let keeper = it.expired().await;
    // Timeouts before the provider acted: the token lives.
    it.sandbox.plan(&[Act::Say(200, "<html>"), Act::Say(200, "")]);
    for _ in 0..100 {
        assert!(keeper.token().await.is_err());
        it.pass(600);
    }
    assert_eq!(it.sandbox.posts(), 2);
    assert_eq!(keeper.state(), State::Degraded);
    assert!(it.record().await.health.held);
    assert_eq!(shown(keeper.refresh().await), "a1");
    assert_eq!(keeper.state(), State::Enabled);
}

#[tokio::test]
async fn c1_within_a_replay_window_the_same_token_is_sent_again() {
    let it = Setting::with(|policy| policy.replay_window = Duration::from_secs(600));
    let keeper = it.expired().await;
    it.sandbox.plan(&[Act::Say(200, ""), Act::Say(200, ""), Act::Say(200, "")]);
    for _ in 0..3 {
        assert!(keeper.token().await.is_err());
        it.pass(60);
    }
    assert_eq!(shown(keeper.token().await), "a1");
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
async fn b1_a_failed_write_keeps_the_rotated_token_in_use_and_is_tried_until_it_is_stored() {
    let it = Setting::new();
    let keeper = it.expired().await;
    let store = it.store.clone();
    let sandbox = it.sandbox.clone();
    let wire = Wire::new(move |request| {
        store.fail(true);
        let sandbox = sandbox.clone();
        async move { sandbox.answer(request.body().to_owned()).await }
    });
    let keeper = Keeper::new("default", Parts { authority: over(wire), ..Parts::clone(&keeper.0.parts) });
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

#[tokio::test]
async fn a7_an_unrelated_write_does_not_make_the_new_tokens_lose() {
    let it = Setting::new();
    let keeper = it.expired().await;
    let store = it.store.clone();
    let sandbox = it.sandbox.clone();
    let wire = Wire::new(move |request| {
        let (store, sandbox) = (store.clone(), sandbox.clone());
        async move {
            let there = store.load("default").await.unwrap().unwrap();
            store.save("default", &there.record, Some(&there.version)).await.unwrap();
            sandbox.answer(request.body().to_owned()).await
        }
    });
    let keeper = Keeper::new("default", Parts { authority: over(wire), ..Parts::clone(&keeper.0.parts) });
    assert_eq!(shown(keeper.token().await), "a1");
    assert_eq!(it.record().await.tokens.unwrap().refresh_token.unwrap().expose(), "r1");
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
async fn d1_a_run_keeps_an_idle_refresh_token_alive_and_d4_makes_no_needless_call() {
    let it = Setting::with(|policy| policy.refresh_idle = Some(Duration::from_secs(2000)));
    let keeper = it.replica("one");
    keeper.authorise(answer("a0", "r0"), it.now()).await;
    for _ in 0..10 {
        it.pass(99);
        keeper.begin_run().await;
    }
    assert_eq!(it.sandbox.posts(), 0);
    it.pass(11);
    keeper.begin_run().await;
    assert_eq!(it.sandbox.posts(), 1);
}

#[tokio::test]
async fn each_run_renews_where_that_is_wanted_and_on_401_nothing_else_does() {
    let it = Setting::with(|policy| policy.renew = Renew::EachRun);
    let keeper = it.replica("one");
    keeper.authorise(answer("a0", "r0"), it.now()).await;
    keeper.begin_run().await;
    keeper.begin_run().await;
    assert_eq!(it.sandbox.posts(), 2);
    let it = Setting::with(|policy| policy.renew = Renew::On401);
    let keeper = it.expired().await;
    assert_eq!(shown(keeper.token().await), "a0");
    assert_eq!(shown(keeper.token_instead_of(1).await), "a1");
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
    assert_eq!(class(&err), Some(Class::StoreUnavailable));
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
async fn e6_an_error_names_the_account_and_never_a_token() {
    let it = Setting::new();
    let keeper = it.expired().await;
    it.sandbox.plan(&[Act::Say(401, r#"{"error":"invalid_client"}"#)]);
    let err = keeper.token().await.unwrap_err();
    assert_eq!(class(&err), Some(Class::InvalidClient));
    let text = format!("{err} {err:?}");
    assert!(text.contains("default") && text.contains("invalid_client") && !text.contains("r0"), "{text}");
}

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
        while others.iter().any(|other| other.0.work.unfinished().is_some()) {
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
        while keeper.0.work.unfinished().is_some() {
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

#[test]
fn c1_a_replay_whose_intent_outlasts_the_window_in_the_writing_is_not_sent() {
    let it = Setting::with(|policy| policy.replay_window = Duration::from_secs(60));
    let (begin, after) = (it.now(), |seconds| it.now() + jiff::SignedDuration::from_secs(seconds));
    let mut record = Record::default().authorised(answer("a0", "r0"), begin, None);
    let digest = record.tokens.as_ref().unwrap().refresh_token.as_ref().unwrap().digest();
    record.intent = Some(crate::token::Intent { digest, owner: "one".into(), first_at: begin, at: begin, attempt: 2 });
    for (written, is_sent) in [(after(49), true), (after(55), false)] {
        let mut machine = Renewal::new(Need::Run { generation: 1 }, it.parts.policy.clone(), "two", 0.0, after(45));
        machine.on(Event::Begin, after(45));
        machine.on(Event::Lease(Ok(Acquired::Until(after(75)))), after(45));
        let stored = crate::store::Stored { record: record.clone(), version: crate::store::Version::new(1) };
        let Step::Save(intent, _) = machine.on(Event::Loaded(Ok(Some(stored))), after(45)) else { panic!("no intent") };
        assert_eq!(intent.intent.unwrap().attempt, 3);
        match machine.on(Event::Saved(Ok(crate::store::Version::new(2))), written) {
            Step::Send(_) => assert!(is_sent, "the window has closed"),
            Step::Save(noted, _) => {
                assert!(!is_sent && noted.health.held && noted.intent.unwrap().attempt == 2);
            }
            step => panic!("{step:?}"),
        }
    }
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
        Keeper::new("default", Parts { owner: owner.into(), clock: clock.clone(), policy, ..it.parts.clone() })
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
        Err(err) => assert_eq!(class(&err), Some(Class::LostRace)),
    }
}

#[tokio::test(start_paused = true)]
async fn a4_a_waiter_whose_patience_ends_sends_nothing() {
    let it = Setting::new();
    it.expired().await;
    let until = it.now() + jiff::SignedDuration::from_hours(1);
    assert_ne!(it.store.acquire("default", "somebody", Duration::from_secs(3600), it.now()).await, Ok(Acquired::Busy));
    let started = (tokio::time::Instant::now(), it.now());
    let clock = Clock::new(move || started.1 + started.0.elapsed());
    let waiter = Keeper::new("default", Parts { owner: "waiter".into(), clock: clock.clone(), ..it.parts.clone() });
    let err = waiter.token().await.unwrap_err();
    assert_eq!(class(&err), Some(Class::LostRace));
    assert_eq!(it.sandbox.posts(), 0);
    assert!(clock.now() < until);
}

#[tokio::test]
async fn a11_old_refresh_token_used_is_a_lost_race_where_another_replica_has_renewed() {
    let it = Setting::new();
    let keeper = it.expired().await;
    let (store, sandbox, now) = (it.store.clone(), it.sandbox.clone(), it.now());
    let wire = Wire::new(move |request| {
        let (store, sandbox) = (store.clone(), sandbox.clone());
        async move {
            let there = store.load("default").await.unwrap().unwrap();
            let theirs = there.record.renewed(answer("theirs", "r9"), now, None);
            store.save("default", &theirs, Some(&there.version)).await.unwrap();
            let body = r#"{"error":"unauthorized_client","error_description":"Old refresh token used"}"#;
            sandbox.plan(&[Act::Say(400, body)]);
            sandbox.answer(request.body().to_owned()).await
        }
    });
    let keeper = Keeper::new("default", Parts { authority: over(wire), ..Parts::clone(&keeper.0.parts) });
    assert_eq!(shown(keeper.token().await), "theirs");
    assert_eq!(keeper.state(), State::Enabled);
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
async fn c2_a_request_that_was_never_sent_is_sent_again_however_often() {
    let it = Setting::new();
    let keeper = it.expired().await;
    for _ in 0..20 {
        it.sandbox.plan(&[Act::NotSent]);
        assert_eq!(class(&keeper.token().await.unwrap_err()), Some(Class::NetworkNotSent));
        it.pass(600);
    }
    assert_eq!(shown(keeper.token().await), "a1");
    assert_eq!(it.sandbox.posts(), 1);
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
async fn d2_the_end_of_the_refresh_token_is_stored_and_outlives_renewals_that_do_not_name_it() {
    let it = Setting::new();
    let keeper = it.replica("one");
    let body = r#"{"access_token":"a0","refresh_token":"r0","expires_in":3600,"refresh_token_expires_in":86400}"#;
    keeper.authorise(AnswerShape::default().read(body.as_bytes()).unwrap(), it.now()).await;
    let end = it.now() + jiff::SignedDuration::from_hours(24);
    it.pass(3600);
    assert_eq!(shown(keeper.token().await), "a1");
    assert_eq!(it.record().await.tokens.unwrap().refresh_expires_at, Some(end));
}

#[tokio::test]
async fn a_living_token_without_a_refresh_token_is_not_condemned_for_being_asked_to_renew() {
    let it = Setting::with(|policy| policy.renew = Renew::EachRun);
    let keeper = it.replica("one");
    let bare = AnswerShape::default().read(br#"{"access_token":"a0"}"#).unwrap();
    keeper.authorise(bare, it.now()).await;
    keeper.begin_run().await;
    assert_eq!(class(&keeper.refresh().await.unwrap_err()), Some(Class::Config));
    assert_eq!(shown(keeper.token().await), "a0");
    assert_eq!(it.record().await.state(), State::Enabled);
}

#[tokio::test]
async fn renewals_and_revocations_go_where_the_redirect_and_the_answer_have_said() {
    let text = "token_url = 'https://{region}.p.example/token'\nrevoke_url = '{home}/revoke'\nrefresh_url = '{home}/token'\n\
                [variables.region]\nfrom = 'redirect'\ndefault = 'us'\n\
                [variables.home]\nfrom = 'answer'\nkind = 'origin'\nhosts = ['*.p.example']";
    let definition = Definition::read("acme.toml", text).unwrap();
    let provider = Provider::new("acme", definition, Overrides::default()).unwrap();
    let kept = [("region".to_owned(), "eu".to_owned())].into();
    assert_eq!(provider.token_url.as_str(), "https://us.p.example/token");
    assert_eq!(provider.with(&kept).token_url.as_str(), "https://eu.p.example/token");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let wire = {
        let asked = Arc::clone(&asked);
        Wire::new(move |request| {
            asked.lock().unwrap().push(request.url().to_string());
            let body = r#"{"access_token":"a1","refresh_token":"r1","expires_in":3600,"home":"https://two.p.example"}"#;
            let (status, headers) = (StatusCode::OK, HeaderMap::new());
            async move { Ok(RawAnswer { status, headers, body: body.into(), at: Timestamp::now() }) }
        })
    };
    let it = Setting::new();
    let keeper = Keeper::new(
        "default",
        Parts { authority: Authority::new(provider, Credentials::fixed(client()), wire), ..it.parts.clone() },
    );
    let mut first = answer("a0", "r0");
    first.kept = [("home".to_owned(), "https://one.p.example".to_owned())].into();
    keeper.authorise(first, it.now()).await;
    it.pass(3600);
    assert_eq!(shown(keeper.token().await), "a1");
    assert_eq!(it.record().await.tokens.unwrap().kept["home"], "https://two.p.example");
    keeper.revoke().await;
    let asked = asked.lock().unwrap();
    let revoke = "https://two.p.example/revoke";
    assert_eq!(*asked, ["https://one.p.example/token", revoke, revoke]);
}

#[tokio::test]
async fn an_answer_that_names_a_foreign_host_brings_no_token() {
    let text = "token_url = 'https://p.example/token'\napi_url = '{home}'\n\
                [variables.home]\nfrom = 'answer'\nkind = 'origin'\nhosts = ['*.p.example']";
    let definition = Definition::read("acme.toml", text).unwrap();
    let provider = Provider::new("acme", definition, Overrides::default()).unwrap();
    let judge = |home: &str| {
        let body = format!(r#"{{"access_token":"a","home":"{home}"}}"#);
        let (status, headers) = (StatusCode::OK, HeaderMap::new());
        crate::grant::judge_token(&provider, &RawAnswer { status, headers, body: body.into(), at: Timestamp::now() })
    };
    assert_eq!(judge("https://eu.p.example").unwrap().kept["home"], "https://eu.p.example");
    for evil in ["https://p.example.evil.com", "http://eu.p.example", "https://eu.p.example@evil.com", "x"] {
        let failure = judge(evil).unwrap_err();
        assert_eq!(failure.class(), Class::MalformedAnswer, "{evil}");
        assert!(!failure.to_string().contains(evil) || evil == "x", "{failure}");
    }
}
