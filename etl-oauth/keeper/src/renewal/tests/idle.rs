//! Renewals that no expiry asks for: runs, and refresh tokens that lapse when idle.

use super::*;

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
async fn a_living_token_without_a_refresh_token_is_not_condemned_for_being_asked_to_renew() {
    let it = Setting::with(|policy| policy.renew = Renew::EachRun);
    let keeper = it.replica("one");
    let bare = AnswerShape::default().read(br#"{"access_token":"a0"}"#).unwrap();
    keeper.authorise(bare, it.now()).await;
    keeper.begin_run().await;
    // H10: and the operator who asks is told that there is none.
    let err = keeper.refresh().await.unwrap_err();
    assert_eq!(err, KeeperError::NoRefreshToken { account: "default".into() });
    assert!(keeper.is_store_ok());
    assert_eq!(shown(keeper.token().await), "a0");
    assert_eq!(it.record().await.state(), State::Enabled);
}
