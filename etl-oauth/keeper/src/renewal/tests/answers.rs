//! Answers that are lost or say little: what may be sent again.

use super::*;

#[tokio::test]
async fn c1_a_lost_answer_without_a_replay_window_is_sent_once_more_and_then_a_person_is_asked() {
    let it = Setting::new();
    let keeper = it.expired().await;
    it.sandbox.plan(&[Act::LoseAnswer]);
    assert_eq!(class(&keeper.token().await.unwrap_err()), Some(FailureKind::NetworkAmbiguous));
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

#[test]
fn c1_a_replay_whose_intent_outlasts_the_window_in_the_writing_is_not_sent() {
    let it = Setting::with(|policy| policy.replay_window = Duration::from_secs(60));
    let (begin, after) = (it.now(), |seconds| it.now() + jiff::SignedDuration::from_secs(seconds));
    let mut record = Record::default().authorised(answer("a0", "r0"), begin, None);
    let digest = record.tokens.as_ref().unwrap().refresh_token.as_ref().unwrap().digest();
    record.intent = Some(crate::token::Intent { digest, owner: "one".into(), first_at: begin, at: begin, attempt: 2 });
    for (written, is_sent) in [(after(49), true), (after(55), false)] {
        let mut machine = Renewal::new(Reason::Run { generation: 1 }, it.parts.policy.clone(), "two", 0.0, after(45));
        machine.on(Event::Begin, after(45));
        machine.on(Event::Lease(Ok(Acquired::Until(after(75)))), after(45));
        let stored = crate::store::Stored { record: record.clone(), version: crate::store::Version::new(1) };
        let Action::Save(intent, _) = machine.on(Event::Loaded(Ok(Some(stored))), after(45)) else {
            panic!("no intent")
        };
        assert_eq!(intent.intent.unwrap().attempt, 3);
        match machine.on(Event::Saved(Ok(crate::store::Version::new(2))), written) {
            Action::Send(_) => assert!(is_sent, "the window has closed"),
            Action::Save(noted, _) => {
                assert!(!is_sent && noted.health.held && noted.intent.unwrap().attempt == 2);
            }
            step => panic!("{step:?}"),
        }
    }
}

#[tokio::test]
async fn c2_a_request_that_was_never_sent_is_sent_again_however_often() {
    let it = Setting::new();
    let keeper = it.expired().await;
    for _ in 0..20 {
        it.sandbox.plan(&[Act::NotSent]);
        assert_eq!(class(&keeper.token().await.unwrap_err()), Some(FailureKind::NetworkNotSent));
        it.pass(600);
    }
    assert_eq!(shown(keeper.token().await), "a1");
    assert_eq!(it.sandbox.posts(), 1);
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
