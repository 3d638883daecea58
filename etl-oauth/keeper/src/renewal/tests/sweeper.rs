//! The sweeper: replicas over one store, many accounts, hours of virtual time. No caller asks for any token.

use std::collections::HashMap;

use jiff::SignedDuration;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::*;
use crate::{
    renewal::sweeper::{SweepOptions, Without},
    store::{Claim, Kind, Meta, Scan},
};

const START: Timestamp = Timestamp::constant(1_800_000_000, 0);

/// A provider that rotates, with a grant for each account.
#[derive(Clone)]
struct Grants {
    given: Arc<Mutex<Given>>,
    start: Instant,
}

#[derive(Default)]
struct Given {
    /// The number of each account's living refresh token.
    living: HashMap<String, u32>,
    reuses: u32,
    /// When each call came, and whose it was.
    calls: Vec<(Duration, String)>,
    lifetime: u32,
    takes: Duration,
    down: bool,
    hangs: bool,
}

impl Grants {
    fn lock(&self) -> std::sync::MutexGuard<'_, Given> {
        self.given.lock().unwrap()
    }

    async fn answer(&self, body: String) -> Result<HttpResponse, SendError> {
        let token = url::form_urlencoded::parse(body.as_bytes()).find(|(name, _)| name == "refresh_token").unwrap().1;
        let (account, number) = token.rsplit_once('.').unwrap();
        let (takes, down, hangs) = {
            let mut it = self.lock();
            it.calls.push((self.start.elapsed(), account.to_owned()));
            (it.takes, it.down, it.hangs)
        };
        if hangs {
            sleep(Duration::from_secs(10)).await;
            return Err(SendError::NotSent);
        }
        sleep(takes).await;
        let say = |status: u16, body: String| {
            let status = StatusCode::from_u16(status).unwrap();
            Ok(HttpResponse { status, headers: HeaderMap::new(), body: body.into(), at: START })
        };
        if down {
            return Err(SendError::NotSent);
        }
        let mut it = self.lock();
        let lifetime = it.lifetime;
        let living = it.living.entry(account.to_owned()).or_default();
        if number.parse::<u32>().unwrap() != *living {
            it.reuses += 1;
            return say(400, r#"{"error":"invalid_grant"}"#.into());
        }
        *living += 1;
        let body = format!(
            r#"{{"access_token":"{account}-{living}","refresh_token":"{account}.{living}","expires_in":{lifetime}}}"#
        );
        say(200, body)
    }
}

struct Fleet {
    store: Memory,
    grants: Grants,
    connection: &'static str,
    spread: f64,
    options: SweepOptions,
    limits: Limits,
}

impl Fleet {
    fn new(connection: &'static str, store: &Memory, lifetime: u32) -> Self {
        let given = Given { lifetime, ..Given::default() };
        let grants = Grants { given: Arc::new(Mutex::new(given)), start: Instant::now() };
        let options = SweepOptions::default();
        Self { store: store.clone(), grants, connection, spread: 0.1, options, limits: Limits::default() }
    }

    fn now(&self) -> Timestamp {
        START + SignedDuration::try_from(self.grants.start.elapsed()).unwrap()
    }

    fn parts(&self, owner: &str) -> Parts {
        let (grants, start) = (self.grants.clone(), self.grants.start);
        let wire = HttpClient::new(move |request| {
            let grants = grants.clone();
            async move { grants.answer(request.body().to_owned()).await }
        });
        let clock = Clock::new(move || START + SignedDuration::try_from(start.elapsed()).unwrap());
        Parts {
            authority: over(wire),
            store: Arc::new(Store::Memory(self.store.clone())),
            policy: Policy { spread: self.spread, ..Policy::of(&provider()) },
            owner: owner.into(),
            clock,
            announcer: Announcer::default(),
        }
    }

    fn keepers(&self, owner: &str) -> Arc<Keepers> {
        Arc::new(Keepers::of_connection(self.connection, self.parts(owner)).within(self.limits))
    }

    /// Accounts that were all authorised now.
    async fn authorise(&self, count: usize) {
        let keepers = self.keepers("person");
        for n in 0..count {
            let name = format!("a{n:04}");
            let body = format!(
                r#"{{"access_token":"{name}-0","refresh_token":"{name}.0","expires_in":{}}}"#,
                self.grants.lock().lifetime
            );
            let answer = AnswerShape::default().read(body.as_bytes()).unwrap();
            assert_eq!(keepers.get(&name).unwrap().authorise(answer, self.now()).await, Kept::Stored);
        }
    }

    fn start(&self, owner: &str) -> JoinHandle<()> {
        let (keepers, options) = (self.keepers(owner), self.options);
        tokio::spawn(async move { match keepers.sweep(options).await {} })
    }

    /// The names of the accounts whose access token has ended.
    async fn ended(&self) -> Vec<String> {
        let mut ended = Vec::new();
        let scan = Scan { connection: Some(self.connection.into()), ..Scan::of(Kind::TOKEN, usize::MAX - 1) };
        for key in self.store.list(&scan).await.unwrap().keys {
            let record = self.store.load(&key).await.unwrap().unwrap().record;
            if record.tokens.unwrap().expires_at.unwrap() <= self.now() {
                ended.push(key.path());
            }
        }
        ended
    }

    /// How many calls came in each period of so many seconds.
    fn calls_by(&self, seconds: u64) -> Vec<usize> {
        let mut periods = Vec::new();
        for (at, _) in &self.grants.lock().calls {
            let period = usize::try_from(at.as_secs() / seconds).unwrap();
            periods.resize(periods.len().max(period + 1), 0);
            periods[period] += 1;
        }
        periods
    }

    fn calls(&self) -> usize {
        self.grants.lock().calls.len()
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_are_renewed_before_they_end_though_no_caller_asks() {
    let fleet = Fleet::new("default", &Memory::default(), 360);
    fleet.grants.lock().takes = Duration::from_millis(200);
    fleet.authorise(200).await;
    let _replicas = ["one", "two", "three"].map(|owner| fleet.start(owner));
    for _ in 0..180 {
        sleep(Duration::from_secs(10)).await;
        assert!(fleet.ended().await.is_empty(), "{:?} at {:?}", fleet.ended().await, fleet.grants.start.elapsed());
    }
    let given = fleet.grants.lock();
    assert_eq!(given.reuses, 0);
    // In half an hour: after 288 to 324 seconds each.
    for (account, renewals) in &given.living {
        assert!((5..=6).contains(renewals), "{account} was renewed {renewals} times");
    }
    assert_eq!(given.living.len(), 200);
}

#[tokio::test(start_paused = true)]
async fn accounts_of_one_age_are_not_renewed_at_once() {
    for (spread, is_bunched) in [(0.1, false), (0.0, true)] {
        let mut fleet = Fleet::new("default", &Memory::default(), 3600);
        (fleet.spread, fleet.options.concurrency) = (spread, 1000);
        fleet.authorise(600).await;
        let _replica = fleet.start("one");
        sleep(Duration::from_secs(3590)).await;
        assert_eq!(fleet.calls(), 600);
        // Over a tenth of the lifetime that is some 17 in ten seconds.
        let busiest = fleet.calls_by(10).into_iter().max().unwrap();
        assert_eq!(busiest > 60, is_bunched, "{busiest} calls in ten seconds with a spread of {spread}");
    }
}

#[tokio::test(start_paused = true)]
async fn replicas_share_the_work_by_claims() {
    for (without, is_shared) in [(Without::Nothing, true), (Without::Claim, false)] {
        let mut fleet = Fleet::new("default", &Memory::default(), 360);
        (fleet.spread, fleet.options.without) = (0.0, without);
        fleet.grants.lock().takes = Duration::from_secs(1);
        fleet.authorise(320).await;
        let _replicas = ["one", "two", "three", "four"].map(|owner| fleet.start(owner));
        // All are due at 324 s; 32 at a time are done in ten seconds.
        sleep(Duration::from_secs(324 + 13)).await;
        assert_eq!(fleet.calls() >= 320, is_shared, "{} of 320 calls, {without:?}", fleet.calls());
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_replica_claimed_is_taken_over_within_its_lease() {
    // The second one is a store whose leases do not end.
    for (ttl, is_taken_over) in [(30, true), (3000, false)] {
        let mut fleet = Fleet::new("default", &Memory::default(), 360);
        fleet.spread = 0.0;
        fleet.authorise(20).await;
        sleep(Duration::from_secs(324)).await;
        let claim = Claim {
            kind: Kind::TOKEN,
            connection: "default",
            before: fleet.now(),
            limit: 20,
            owner: "dead",
            except: &std::collections::HashSet::new(),
            ttl: Duration::from_secs(ttl),
            now: fleet.now(),
        };
        assert_eq!(fleet.store.claim(&claim).await.unwrap().len(), 20);
        let _replica = fleet.start("alive");
        sleep(Duration::from_secs(29)).await;
        assert_eq!(fleet.calls(), 0, "taken from a holder that may live");
        sleep(Duration::from_secs(4)).await;
        assert_eq!(fleet.calls() == 20 && fleet.ended().await.is_empty(), is_taken_over);
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_probed_and_what_became_due_meanwhile_is_ramped_up() {
    for (without, is_gentle) in [(Without::Nothing, true), (Without::Ramp, false)] {
        let mut fleet = Fleet::new("default", &Memory::default(), 360);
        fleet.options.without = without;
        fleet.grants.lock().takes = Duration::from_millis(500);
        fleet.authorise(300).await;
        fleet.grants.lock().down = true;
        let _replica = fleet.start("one");
        sleep(Duration::from_secs(900)).await;
        let during = fleet.calls();
        assert_eq!(during < 60, is_gentle, "{during} calls while the provider was away, {without:?}");
        fleet.grants.lock().down = false;
        if is_gentle {
            // One probe a minute at the least; then 300 accounts at 16 a second.
            sleep(Duration::from_secs(75 + 30)).await;
            assert!(fleet.ended().await.is_empty(), "{:?}", fleet.ended().await);
            let begin = usize::try_from(fleet.grants.start.elapsed().as_secs()).unwrap() - 105;
            let after: Vec<usize> =
                fleet.calls_by(1)[begin..].iter().copied().skip_while(|calls| *calls == 0).collect();
            assert!(after[0] <= 6 && after.iter().all(|calls| *calls <= 17), "{after:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_hangs_delays_no_other_connection() {
    let store = Memory::default();
    let (mut stuck, mut sound) = (Fleet::new("stuck", &store, 360), Fleet::new("sound", &store, 360));
    (stuck.spread, sound.spread) = (0.0, 0.0);
    stuck.authorise(500).await;
    sound.authorise(40).await;
    stuck.grants.lock().hangs = true;
    let _replicas = [stuck.start("one"), sound.start("one")];
    sleep(Duration::from_secs(326)).await;
    assert_eq!(sound.calls(), 40);
    assert!(stuck.calls() < 40, "{}", stuck.calls());
}

#[tokio::test(start_paused = true)]
async fn one_account_that_always_fails_delays_no_other() {
    let fleet = Fleet::new("default", &Memory::default(), 360);
    fleet.authorise(100).await;
    fleet.grants.lock().living.extend((0..10).map(|n| (format!("a{n:04}"), 7)));
    let _replica = fleet.start("one");
    sleep(Duration::from_secs(350)).await;
    let renewed = fleet.grants.lock().living.values().filter(|number| **number == 1).count();
    assert_eq!(renewed, 90);
}

#[tokio::test(start_paused = true)]
async fn records_of_version_0_1_are_found_and_get_their_index_entry() {
    let fleet = Fleet::new("default", &Memory::default(), 360);
    fleet.authorise(3).await;
    let keys: Vec<Key> = (0..3).map(|n| Key::account(&format!("a{n:04}")).unwrap()).collect();
    for key in &keys {
        let there = fleet.store.get(key).await.unwrap().unwrap();
        fleet.store.put(key, &there.bytes, &Meta::default(), Some(&there.version)).await.unwrap();
    }
    // One of them cannot be read.
    let there = fleet.store.get(&keys[2]).await.unwrap().unwrap();
    fleet.store.put(&keys[2], b"{", &Meta::default(), Some(&there.version)).await.unwrap();
    let _replica = fleet.start("one");
    sleep(Duration::from_secs(1)).await;
    for key in &keys[..2] {
        let meta = fleet.store.get(key).await.unwrap().unwrap().meta;
        assert!(meta.due_at.is_some_and(|at| at > fleet.now()) && meta.tag.as_deref() == Some("enabled"), "{meta:?}");
    }
    assert_eq!(fleet.calls(), 0, "their tokens are fresh");
    let before = fleet.store.writes();
    sleep(Duration::from_secs(120)).await;
    assert_eq!(*fleet.store.get(&keys[2]).await.unwrap().unwrap().bytes, b"{");
    assert_eq!(fleet.store.writes(), before, "what cannot be read is left alone, and looked at now and then");
}

#[tokio::test(start_paused = true)]
async fn no_more_accounts_stay_in_memory_than_configured() {
    let mut fleet = Fleet::new("default", &Memory::default(), 360);
    fleet.limits = Limits { cached: 20, series: 5 };
    fleet.authorise(300).await;
    let (keepers, options) = (fleet.keepers("one"), fleet.options);
    let sweeping = Arc::clone(&keepers);
    let _replica = tokio::spawn(async move { match sweeping.sweep(options).await {} });
    sleep(Duration::from_secs(350)).await;
    assert_eq!(fleet.calls(), 300);
    assert!(keepers.in_memory() <= 20, "{}", keepers.in_memory());
    assert_eq!(keepers.counts().await.unwrap(), [0, 300, 0, 0]);
    let wanted = AccountPage { prefix: "a00".into(), limit: 60, ..AccountPage::default() };
    let (page, next) = keepers.page(&wanted).await.unwrap();
    assert_eq!((page.len(), next.as_deref()), (60, Some("a0059")));
    let (page, next) = keepers.page(&AccountPage { after: next, ..wanted }).await.unwrap();
    assert_eq!((page.len(), next, page[0].account()), (40, None, "a0060"));
    assert!(page.iter().all(|keeper| keeper.state() == State::Enabled));
}

#[tokio::test(start_paused = true)]
async fn a_notification_that_a_dead_replica_left_behind_is_delivered_though_no_caller_asks() {
    let fleet = Fleet::new("default", &Memory::default(), 360);
    fleet.authorise(1).await;
    let key = Key::account("a0000").unwrap();
    let Stored { mut record, version } = fleet.store.load(&key).await.unwrap().unwrap();
    let at = fleet.now();
    record.untold = Some(crate::token::PendingNotification { from: State::Disabled, at, again_at: at, tries: 0 });
    fleet.store.save(&key, &record, Some(at), Some(&version)).await.unwrap();
    let told = Arc::new(Mutex::new(0));
    let heard = Arc::clone(&told);
    let announcer = Announcer::new(move |_| {
        *heard.lock().unwrap() += 1;
        std::future::ready(true)
    });
    let keepers = Arc::new(Keepers::of_connection("default", Parts { announcer, ..fleet.parts("one") }));
    let options = fleet.options;
    let _replica = tokio::spawn(async move { match keepers.sweep(options).await {} });
    sleep(Duration::from_secs(40)).await;
    assert_eq!(*told.lock().unwrap(), 1);
    assert!(fleet.store.load(&key).await.unwrap().unwrap().record.untold.is_none());
}
