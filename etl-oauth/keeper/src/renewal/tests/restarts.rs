//! What outlives a process, and what ends a wait.

use super::*;
use crate::secrets::Secrets;

#[tokio::test]
async fn h1_that_a_renewed_token_has_worked_outlives_the_process() {
    let it = Setting::new();
    it.replica("first").authorise(answer("a0", "r0"), it.now()).await;
    // A provider that ends tokens early, on a platform that scales to zero in between.
    for life in 1..=5 {
        let keeper = it.replica(&format!("life {life}"));
        let ended = keeper.token().await.unwrap().generation();
        let token = keeper.token_instead_of(ended).await.unwrap();
        keeper.worked(token.generation());
        done(&keeper).await;
        assert_eq!(it.record().await.health.refused, None);
        it.pass(30);
    }
    assert_eq!(it.sandbox.posts(), 5);
}

#[tokio::test]
async fn h1_tokens_that_never_worked_are_no_storm_in_the_next_process_either() {
    let it = Setting::new();
    it.replica("first").authorise(answer("a0", "r0"), it.now()).await;
    for life in 1..=5 {
        let keeper = it.replica(&format!("life {life}"));
        let refused = keeper.token().await.unwrap().generation();
        let _ = keeper.token_instead_of(refused).await;
        // Of an older generation: that says nothing of the newest.
        keeper.worked(refused - 1);
        done(&keeper).await;
        it.pass(10);
    }
    assert_eq!(it.sandbox.posts(), 1);
}

#[tokio::test]
async fn h3_a_replaced_client_id_or_secret_ends_the_wait_of_invalid_client_at_once() {
    for replaced in ["oauth2-client-secret", "oauth2-client-id"] {
        let mut it = Setting::new();
        let folder = tempfile::tempdir().unwrap();
        let mount = |name: &str, value: &str| std::fs::write(folder.path().join(name), value).unwrap();
        mount("oauth2-client-id", "id");
        mount("oauth2-client-secret", "secret");
        let credentials = Credentials::mounted(Secrets::new(folder.path(), ""), None);
        it.parts.authority = Authority::new(provider(), credentials, it.sandbox.wire());
        let keeper = it.expired().await;
        let other = it.replica("two");
        it.sandbox.plan(&[Act::Say(401, r#"{"error":"invalid_client"}"#)]);
        for _ in 0..3 {
            assert_eq!(class(&keeper.token().await.unwrap_err()), Some(FailureKind::InvalidClient));
            assert_eq!(class(&other.token().await.unwrap_err()), Some(FailureKind::InvalidClient));
        }
        assert_eq!(it.sandbox.posts(), 1);
        mount(replaced, "replaced");
        assert_eq!(shown(other.token().await), "a1", "{replaced}");
    }
}

#[tokio::test]
async fn h4_a_refusal_while_the_old_token_lives_is_tried_again_before_that_one_ends() {
    let it = Setting::new();
    let keeper = it.replica("one");
    keeper.authorise(answer("a0", "r0"), it.now()).await;
    it.pass(3540);
    // A provider that renews at most 30 s early.
    it.sandbox.plan(&[Act::Say(400, r#"{"error":"invalid_request"}"#)]);
    assert_eq!(shown(keeper.token().await), "a0");
    it.pass(30);
    assert_eq!(shown(keeper.token().await), "a1");
    assert_eq!((it.sandbox.posts(), keeper.state()), (2, State::Enabled));
}

#[tokio::test]
async fn h11_an_idle_refresh_token_is_kept_alive_by_callers_who_only_want_a_token() {
    let it = Setting::with(|policy| policy.refresh_idle = Some(Duration::from_secs(2000)));
    let keeper = it.replica("one");
    keeper.authorise(answer("a0", "r0"), it.now()).await;
    it.pass(999);
    assert_eq!(shown(keeper.token().await), "a0");
    done(&keeper).await;
    assert_eq!(it.sandbox.posts(), 0);
    it.pass(1);
    assert_eq!(shown(keeper.token().await), "a0", "the caller does not wait");
    done(&keeper).await;
    assert_eq!((it.sandbox.posts(), shown(keeper.token().await)), (1, "a1".to_owned()));
}

#[tokio::test]
async fn h14_a_grant_that_is_refused_without_a_reason_for_a_day_leads_to_a_person() {
    let it = Setting::new();
    let keeper = it.expired().await;
    it.sandbox.plan(&[Act::Say(403, "<html>"); 300]);
    let mut hours = 0.0;
    let err = loop {
        match keeper.token().await.unwrap_err() {
            err @ KeeperError::NeedsAuthorisation { .. } => break err,
            err => assert_eq!(class(&err), Some(FailureKind::ProviderUnavailable)),
        }
        it.pass(300);
        hours += 300.0 / 3600.0;
        assert!(hours < 26.0, "a bounded time");
    };
    assert!(hours >= 24.0 && err.to_string().contains("403"), "{hours} {err}");
    let detail = it.record().await.health.detail.unwrap();
    assert!(detail.contains("refused without a reason") && detail.contains("POST /refresh"), "{detail}");
    let posts = it.sandbox.posts();
    it.pass(3600);
    assert!(keeper.token().await.is_err());
    assert_eq!(it.sandbox.posts(), posts, "a person is asked");
    // It was a firewall after all.
    it.sandbox.0.lock().unwrap().script.clear();
    assert_eq!(shown(keeper.refresh().await), "a1");
    assert_eq!(keeper.state(), State::Enabled);
}

#[tokio::test]
async fn h14_an_outage_among_the_refusals_begins_the_day_anew() {
    let it = Setting::new();
    let keeper = it.expired().await;
    for hour in 0..60 {
        it.sandbox.plan(&[if hour % 20 == 0 { Act::Say(500, "") } else { Act::Say(403, "") }]);
        assert!(matches!(keeper.token().await.unwrap_err(), KeeperError::Failed { .. }), "hour {hour}");
        it.pass(3600);
    }
    assert_eq!(it.sandbox.posts(), 60);
}
