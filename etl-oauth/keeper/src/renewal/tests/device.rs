//! The device grant: a person's consent outlives the replica that asked for it.

use super::*;
use crate::provider::Grant;

/// A provider that gives codes, and tokens once somebody has typed them.
#[derive(Clone, Default)]
struct Desk(Arc<Mutex<Typed>>);

#[derive(Default)]
struct Typed {
    codes: u32,
    questions: u32,
    answer: Option<(u16, &'static str)>,
    retry_after: Option<&'static str>,
    bell: Arc<tokio::sync::Notify>,
}

const TOKENS: (u16, &str) = (200, r#"{"access_token":"a1","refresh_token":"r1","expires_in":3600}"#);

impl Desk {
    fn wire(&self) -> HttpClient {
        let desk = self.clone();
        HttpClient::new(move |request| {
            let mut it = desk.0.lock().unwrap();
            let (status, body) = if request.url().path() == "/device" {
                it.codes += 1;
                let n = it.codes;
                let codes = format!(
                    r#"{{"device_code":"d{n}","user_code":"U{n}","verification_uri":"https://p.example/go",
                         "expires_in":900,"interval":5}}"#
                );
                (200, codes)
            } else if request.body().starts_with("grant_type=refresh_token") {
                (200, r#"{"access_token":"renewed","refresh_token":"r9","expires_in":3600}"#.to_owned())
            } else {
                assert!(request.body().contains(&format!("device_code=d{}", it.codes)), "{}", request.body());
                it.questions += 1;
                it.bell.notify_waiters();
                let (status, body) = it.answer.unwrap_or((400, r#"{"error":"authorization_pending"}"#));
                (status, body.to_owned())
            };
            let status = StatusCode::from_u16(status).unwrap();
            let later = it.retry_after.map(|wait| (http::header::RETRY_AFTER, http::HeaderValue::from_static(wait)));
            let headers = later.into_iter().collect();
            let answer = HttpResponse { status, headers, body: body.into(), at: Timestamp::now() };
            std::future::ready(Ok(answer))
        })
    }

    fn types(&self, answer: (u16, &'static str)) {
        self.0.lock().unwrap().answer = Some(answer);
    }

    fn questions(&self) -> u32 {
        self.0.lock().unwrap().questions
    }

    /// Until it has been asked so often, in all.
    async fn asked(&self, times: u32) {
        let bell = Arc::clone(&self.0.lock().unwrap().bell);
        loop {
            let rung = bell.notified();
            if self.questions() >= times {
                return;
            }
            rung.await;
        }
    }
}

fn setting() -> (Setting, Desk) {
    let desk = Desk::default();
    (Setting::of_grant(Grant::DeviceCode, desk.wire()), desk)
}

/// Begins an invitation in a replica that dies right after.
fn begun_by_a_replica_that_dies(it: &Setting) -> Invitation {
    let keeper = it.replica("one");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(keeper.invite()).unwrap()
    })
    .join()
    .unwrap()
}

async fn until(what: impl Fn() -> bool) {
    while !what() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_consent_is_not_lost_with_the_replica_that_asked_for_it() {
    let (it, desk) = setting();
    let invitation = begun_by_a_replica_that_dies(&it);
    desk.types(TOKENS);
    // Another replica shows the same code, and does not ask while the first one may be alive.
    let two = it.replica("two");
    assert_eq!(two.invite().await.unwrap(), invitation);
    assert_eq!(two.invitation(), Some(invitation));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(desk.questions(), 0);
    it.pass(70);
    // Whatever makes it look at the record makes it go on: a run, a visit.
    two.sync().await;
    until(|| two.state() == State::Enabled).await;
    assert_eq!(shown(two.token().await), "a1");
    let record = it.record().await;
    assert!(record.device.is_none() && two.invitation().is_none());
    assert_eq!((record.authorisations, desk.questions()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn of_all_replicas_one_asks_and_all_know_what_came_of_it() {
    let (it, desk) = setting();
    let [one, two] = ["one", "two"].map(|owner| it.replica(owner));
    let (first, second) = tokio::join!(one.invite(), two.invite());
    assert_eq!(first.unwrap(), second.unwrap());
    let codes = desk.0.lock().unwrap().codes;
    desk.asked(3).await;
    for replica in [&one, &two] {
        replica.sync().await;
    }
    let asker = it.record().await.device.unwrap().asker;
    desk.asked(6).await;
    assert_eq!(it.record().await.device.unwrap().asker, asker);
    desk.types((400, r#"{"error":"access_denied"}"#));
    until(|| {
        one.invitation().is_some_and(|it| it.failure.is_some()) || {
            two.invitation().is_some_and(|it| it.failure.is_some())
        }
    })
    .await;
    let asked = desk.questions();
    for replica in [&one, &two] {
        replica.sync().await;
        assert_eq!(replica.invitation().unwrap().failure.unwrap(), "it was not allowed (access_denied)");
    }
    assert_eq!(desk.questions(), asked, "it is over");
    // The next one begins anew.
    desk.types(TOKENS);
    assert_eq!(two.invite().await.unwrap().user_code, format!("U{}", codes + 1));
    until(|| two.state() == State::Enabled).await;
}

#[tokio::test(start_paused = true)]
async fn a_slower_pace_is_kept_by_whoever_goes_on() {
    let (it, desk) = setting();
    begun_by_a_replica_that_dies(&it);
    it.pass(70);
    desk.types((400, r#"{"error":"slow_down"}"#));
    let two = it.replica("two");
    two.sync().await;
    desk.asked(2).await;
    until(|| two.current().is_some_and(|stored| stored.record.device.as_ref().is_some_and(|it| it.interval >= 15)))
        .await;
    let device = it.record().await.device.unwrap();
    assert_eq!(device.asker, "two");
    assert!(device.asked_until > it.now() + jiff::SignedDuration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn who_is_told_to_come_back_late_is_not_taken_for_dead() {
    let (it, desk) = setting();
    let one = it.replica("one");
    one.invite().await.unwrap();
    desk.types((429, ""));
    desk.0.lock().unwrap().retry_after = Some("300");
    desk.asked(1).await;
    let until_then = it.now() + jiff::SignedDuration::from_secs(300);
    until(|| one.current().is_some_and(|it| it.record.device.as_ref().is_some_and(|it| it.interval > 5))).await;
    assert!(it.record().await.device.unwrap().asked_until > until_then);
    // Another one that looks meanwhile leaves the server alone.
    it.pass(200);
    it.replica("two").sync().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(desk.questions(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_a_write_has_overtaken_does_not_end_the_asking() {
    let (it, desk) = setting();
    let one = it.replica("one");
    one.invite().await.unwrap();
    desk.asked(1).await;
    desk.types(TOKENS);
    // What another task read before the invitation was written.
    one.publish(Stored { record: Record::default(), version: crate::store::Version::new("older") });
    assert_eq!(one.invitation(), None);
    let enabled = until(|| one.state() == State::Enabled);
    tokio::time::timeout(Duration::from_secs(60), enabled).await.expect("the consent is lost");
}

#[tokio::test(start_paused = true)]
async fn a_revocation_takes_the_invitation_back_and_a_lapsed_one_says_so() {
    let (it, desk) = setting();
    let one = it.replica("one");
    assert_eq!(one.invite().await.unwrap().user_code, "U1");
    desk.asked(1).await;
    assert!(one.revoke().await.store.is_ok());
    assert_eq!(one.invitation(), None);
    // The next one is asked for although the task of the first is still there.
    assert_eq!(one.invite().await.unwrap().user_code, "U2");
    desk.types(TOKENS);
    until(|| one.state() == State::Enabled).await;

    let (it, _desk) = setting();
    begun_by_a_replica_that_dies(&it);
    it.pass(901);
    let two = it.replica("two");
    two.sync().await;
    let lapsed = two.invitation().unwrap();
    assert_eq!(lapsed.failure.unwrap(), "the code was not typed in time (expired_token)");
    it.pass(3600);
    assert_eq!(two.invitation(), None, "and not for ever");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_leaves_the_invitation_alone() {
    let (it, desk) = setting();
    let one = it.expired().await;
    let invitation = one.invite().await.unwrap();
    assert_eq!(shown(one.token().await), "renewed");
    assert_eq!((one.invitation(), it.record().await.authorisations), (Some(invitation), 1));
    desk.types(TOKENS);
    until(|| one.invitation().is_none()).await;
    assert_eq!((shown(one.token().await), it.record().await.authorisations), ("a1".to_owned(), 2));
}

#[test]
fn the_record_keeps_what_is_asked_with_and_shows_it_to_nobody() {
    let json = r#"{"generation":1,"device":{"device_code":"marker","user_code":"U","verification_uri":"https://p.example/",
                   "ends_at":"2026-01-01T00:00:00Z","interval":5,"asker":"one","asked_until":"2026-01-01T00:00:00Z"}}"#;
    let record = Record::from_json(json.as_bytes()).unwrap();
    let written = Record::from_json(&record.to_json()).unwrap();
    assert!(written.device.as_ref().unwrap().is(record.device.as_ref().unwrap()));
    assert!(!format!("{record:?}").contains("marker"));
    assert!(!serde_json::to_string(&record.device).unwrap().contains("marker"));
}
