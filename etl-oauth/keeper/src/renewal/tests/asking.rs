//! Grants that need nobody: renewed by asking again.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::provider::Grant;

/// A server that gives a token to whoever asks, unless it is told to say something else.
#[derive(Clone, Default)]
struct Desk {
    asked: Arc<AtomicU32>,
    script: Arc<Mutex<VecDeque<Act>>>,
}

impl Desk {
    fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }

    fn plan(&self, act: Act) {
        self.script.lock().unwrap().push_back(act);
    }

    fn wire(&self) -> HttpClient {
        let desk = self.clone();
        HttpClient::new(move |request| {
            let desk = desk.clone();
            async move { desk.answer(request.body()).await }
        })
    }

    async fn answer(&self, body: &str) -> Result<HttpResponse, SendError> {
        assert!(body.starts_with("grant_type=client_credentials"), "{body}");
        let act = self.script.lock().unwrap().pop_front();
        let n = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        let (status, body) = match act {
            Some(Act::NotSent) => return Err(SendError::NotSent),
            Some(Act::LoseAnswer) => return Err(SendError::Ambiguous),
            Some(Act::Say(status, body)) => (status, body.to_owned()),
            act => {
                if let Some(Act::Slow(time)) = act {
                    tokio::time::sleep(time).await;
                }
                // A refresh token that nobody asked for, as some servers give.
                (200, format!(r#"{{"access_token":"a{n}","refresh_token":"r{n}","expires_in":3600}}"#))
            }
        };
        let status = StatusCode::from_u16(status).unwrap();
        Ok(HttpResponse { status, headers: HeaderMap::new(), body: body.into(), at: Timestamp::now() })
    }
}

fn setting() -> (Setting, Desk) {
    let desk = Desk::default();
    (Setting::of_grant(Grant::ClientCredentials, desk.wire()), desk)
}

#[tokio::test]
async fn a12_a_stampede_for_the_first_token_is_one_call_however_many_callers_and_replicas() {
    let (it, desk) = setting();
    desk.plan(Act::Slow(Duration::from_millis(50)));
    let replicas: Vec<_> = (0..4).map(|n| it.replica(&format!("replica-{n}"))).collect();
    let mut callers = tokio::task::JoinSet::new();
    for keeper in replicas.iter().cycle().take(100) {
        let keeper = keeper.clone();
        callers.spawn(async move { shown(keeper.token().await) });
    }
    assert!(callers.join_all().await.iter().all(|token| token == "a1"));
    assert_eq!(desk.asked(), 1);
    // And so is the next one, when that ends.
    it.pass(3600);
    let mut callers = tokio::task::JoinSet::new();
    for keeper in replicas.iter().cycle().take(100) {
        let keeper = keeper.clone();
        callers.spawn(async move { shown(keeper.token().await) });
    }
    assert!(callers.join_all().await.iter().all(|token| token == "a2"));
    assert_eq!(desk.asked(), 2);
}

#[tokio::test]
async fn an_account_that_nobody_authorised_is_enabled_by_its_first_use_and_keeps_no_refresh_token() {
    let (it, _desk) = setting();
    let keeper = it.replica("one");
    assert_eq!(keeper.state(), State::Disabled);
    assert_eq!(shown(keeper.token().await), "a1");
    let record = it.record().await;
    assert_eq!((record.state(), record.generation), (State::Enabled, 1));
    assert!(record.intent.is_none() && record.tokens.unwrap().refresh_token.is_none());
}

#[tokio::test]
async fn a_lost_answer_costs_nothing_but_another_call() {
    let (it, desk) = setting();
    let keeper = it.replica("one");
    for act in [Act::LoseAnswer, Act::Say(200, "<html>"), Act::Say(503, ""), Act::LoseAnswer, Act::LoseAnswer] {
        desk.plan(act);
        assert!(keeper.token().await.is_err());
        let asked = desk.asked();
        assert!(keeper.token().await.is_err(), "under a backoff");
        assert_eq!(desk.asked(), asked);
        it.pass(1000);
    }
    assert_eq!(shown(keeper.token().await), "a6");
    assert_eq!((desk.asked(), it.record().await.health.failures), (6, 0));
}

#[tokio::test]
async fn a_living_token_is_served_while_the_server_is_away() {
    let (it, desk) = setting();
    let keeper = it.replica("one");
    assert_eq!(shown(keeper.token().await), "a1");
    it.pass(3590);
    desk.plan(Act::NotSent);
    assert_eq!(shown(keeper.token().await), "a1");
    assert_eq!(keeper.state(), State::Degraded);
}

#[tokio::test]
async fn a_refused_client_is_named_as_configuration_and_never_asks_for_a_person() {
    let (it, desk) = setting();
    let keeper = it.replica("one");
    for (body, expected) in [
        (r#"{"error":"invalid_grant"}"#, FailureKind::Config),
        (r#"{"error":"invalid_client"}"#, FailureKind::InvalidClient),
    ] {
        desk.plan(Act::Say(400, body));
        assert_eq!(class(&keeper.token().await.unwrap_err()), Some(expected));
        assert_ne!(keeper.state(), State::NeedsAuthorisation);
        it.pass(10_000);
    }
    assert_eq!(shown(keeper.token().await), "a3");
}

#[tokio::test]
async fn a_refused_token_is_replaced_once_for_all_who_were_refused() {
    let (it, desk) = setting();
    let keeper = it.replica("one");
    let token = keeper.token().await.unwrap();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..19 {
        let (keeper, generation) = (keeper.clone(), token.generation());
        callers.spawn(async move { shown(keeper.token_instead_of(generation).await) });
    }
    assert!(callers.join_all().await.iter().all(|token| token == "a2"));
    assert_eq!(desk.asked(), 2);
    // A server whose tokens the API never takes is not asked without end.
    assert!(keeper.token_instead_of(2).await.is_err());
    assert_eq!(desk.asked(), 2);
}

#[tokio::test]
async fn what_an_operator_revoked_stays_revoked_until_an_operator_begins_again() {
    let (it, desk) = setting();
    let keeper = it.replica("one");
    assert_eq!(shown(keeper.token().await), "a1");
    assert!(keeper.revoke().await.store.is_ok());
    assert_eq!(class(&keeper.token().await.unwrap_err()), None, "disabled");
    assert_eq!(desk.asked(), 1);
    assert_eq!(shown(keeper.refresh().await), "a2");
    assert_eq!(shown(keeper.token().await), "a2");
}

#[tokio::test]
async fn a_token_that_was_made_by_hand_is_kept_as_any_other_and_a_rotated_secret_is_taken_at_the_next_run() {
    let folder = tempfile::tempdir().unwrap();
    let secret = |value: &str| std::fs::write(folder.path().join("api-token"), value).unwrap();
    let overrides = Overrides { grant: Some(Grant::Static), ..Overrides::default() };
    let provider = Provider::new("custom", Definition::default(), overrides).unwrap();
    let mut it = Setting::new();
    it.parts.policy = Policy::of(&provider);
    let credentials = Credentials::mounted(crate::secrets::Secrets::new(folder.path(), ""), None);
    it.parts.authority = Authority::new(provider, credentials, HttpClient::new(|_| async { Err(SendError::NotSent) }));
    let keeper = it.replica("one");
    let failure = keeper.token().await.unwrap_err();
    assert!(failure.to_string().contains("secret api-token is missing"), "{failure}");
    secret("one");
    it.pass(100);
    assert_eq!(shown(keeper.token().await), "one");
    secret("two");
    assert_eq!(shown(keeper.token().await), "one");
    keeper.begin_run().await;
    assert_eq!((shown(keeper.token().await), it.record().await.state()), ("two".into(), State::Enabled));
    assert!(keeper.revoke().await.provider.is_none(), "nobody else knows of it");
}

#[tokio::test]
async fn a_user_and_a_password_are_a_token_of_their_own_kind() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("api-user"), "company:1").unwrap();
    std::fs::write(folder.path().join("api-password"), "s3cret").unwrap();
    let overrides = Overrides { grant: Some(Grant::Basic), ..Overrides::default() };
    let provider = Provider::new("custom", Definition::default(), overrides).unwrap();
    let mut it = Setting::new();
    it.parts.policy = Policy::of(&provider);
    let credentials = Credentials::mounted(crate::secrets::Secrets::new(folder.path(), ""), None);
    it.parts.authority = Authority::new(provider, credentials, HttpClient::new(|_| async { Err(SendError::NotSent) }));
    let token = it.replica("one").token().await.unwrap();
    assert_eq!(
        (token.tokens().token_type.as_str(), shown(Ok(token.clone())).as_str()),
        ("Basic", "Y29tcGFueToxOnMzY3JldA==")
    );
}
