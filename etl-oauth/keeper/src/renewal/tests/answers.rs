//! Answers that are lost or say little: what may be sent again.

use super::*;

#[tokio::test]
async fn c1_a_lost_answer_without_a_replay_window_is_sent_once_more_and_the_answer_tells() {
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
async fn h16_two_unanswered_renewals_are_asked_about_at_growing_distance_until_an_answer_tells() {
    // Timeouts before the provider acted: the token lives.
    let it = Setting::new();
    let keeper = it.expired().await;
    it.sandbox.plan(&[Act::Say(200, ""); 8]);
    let mut sent_at = Vec::new();
    let token = loop {
        let before = it.sandbox.posts();
        let token = keeper.token().await;
        if it.sandbox.posts() > before {
            sent_at.push(it.now().as_second());
        }
        match token {
            Ok(token) => break token,
            Err(err) => assert_eq!(class(&err), Some(FailureKind::MalformedAnswer)),
        }
        assert_eq!(keeper.state(), State::Degraded);
        assert!(keeper.next_renewal_at().is_some(), "never without an end");
        it.pass(1);
    };
    assert_eq!((shown(Ok(token)), keeper.state()), ("a1".to_owned(), State::Enabled));
    let waits: Vec<_> = sent_at.windows(2).map(|pair| (pair[1] - pair[0]) / 60).collect();
    assert_eq!(waits.len(), 8);
    assert!(waits.is_sorted() && waits[0] == 0 && waits[1] >= 1 && waits[7] >= 60 && waits[7] <= 75, "{waits:?}");
}

#[tokio::test]
async fn h16_replicas_share_the_distance_and_a_spent_token_ends_in_one_call_for_a_person() {
    let it = Setting::new();
    it.expired().await;
    // The first send rotates; of the second nothing is heard.
    it.sandbox.plan(&[Act::LoseAnswer, Act::Say(200, "<html>")]);
    let replicas = ["one", "two", "three"].map(|owner| it.replica(owner));
    let mut posts = Vec::new();
    for _ in 0..200 {
        for replica in &replicas {
            let _ = replica.token().await;
        }
        posts.push(it.sandbox.posts());
        it.pass(1);
    }
    assert_eq!(
        posts.iter().filter(|posts| **posts == 2).count().clamp(60, 80),
        posts.iter().filter(|n| **n == 2).count()
    );
    assert_eq!(it.sandbox.posts(), 3, "the third answer tells");
    assert_eq!(it.record().await.state(), State::NeedsAuthorisation);
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
        let mut machine =
            RenewalMachine::new(Reason::Run { generation: 1 }, it.parts.policy.clone(), "two", 0.0, after(45));
        machine.on(Event::Begin, after(45));
        machine.on(Event::Lease(Ok(Acquired::Until(after(75)))), after(45));
        let stored = Stored { record: record.clone(), version: crate::store::Version::new(1) };
        let Action::Save(intent, _) = machine.on(Event::Loaded(Ok(Some(stored))), after(45)) else {
            panic!("no intent")
        };
        assert_eq!(intent.intent.unwrap().attempt, 3);
        match machine.on(Event::Saved(Ok(crate::store::Version::new(2))), written) {
            Action::Send(_) => assert!(is_sent, "the window has closed"),
            Action::Save(noted, _) => {
                let next = noted.health.next_try_at.unwrap();
                assert!(!is_sent && next > written && noted.intent.unwrap().attempt == 2, "{next}");
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
