//! What strangers and callers can make, read and hold before they are let in.

use std::{
    pin::Pin,
    sync::atomic::AtomicUsize,
    task::{Context as TaskContext, Poll},
};

use bytes::Bytes;
use futures_core::Stream;

use super::{
    super::sealing,
    session::{browse, csrf},
    *,
};
use token_keeper::secrets::Secrets;

const FORM: &str = "application/x-www-form-urlencoded";

async fn status_of(scene: &Scene, request: Request<Body>) -> StatusCode {
    scene.router.clone().oneshot(request).await.unwrap().status()
}

/// The names of all accounts that the function knows.
async fn accounts(scene: &Scene) -> Vec<String> {
    let request = Request::builder().uri("/status").header(header::AUTHORIZATION, format!("Bearer {SECRET}"));
    let answer = scene.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    let status: Value = serde_json::from_slice(&body).unwrap();
    status["accounts"].as_array().unwrap().iter().map(|it| it["account"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn s2_a_stranger_who_names_accounts_makes_none_of_them() {
    for definition in [format!("{BY_USERINFO}grant = 'client_credentials'"), BY_USERINFO.to_owned()] {
        let scene = Scene::with(&definition, &[]).await;
        for index in 0..50 {
            for uri in [
                format!("/enable?account=a{index}"),
                format!("/enable?account=b{index}&wait=1"),
                format!("/token?account=c{index}"),
                format!("/status?account=d{index}"),
            ] {
                let answer = status_of(&scene, Request::get(&uri).body(Body::empty()).unwrap()).await;
                assert!(matches!(answer.as_u16(), 401 | 404), "{uri}: {answer}");
            }
            for path in ["/enable", "/refresh", "/revoke"] {
                let body = Body::from(format!("account=e{index}"));
                let request = Request::post(path).header(header::CONTENT_TYPE, FORM).body(body).unwrap();
                assert_eq!(status_of(&scene, request).await, StatusCode::UNAUTHORIZED);
            }
        }
        assert_eq!(accounts(&scene).await, ["default"]);
    }
}

#[tokio::test]
async fn s3_callers_begin_no_account_and_a_revoked_one_stays_revoked() {
    let scene = Scene::prepared(
        Job::Gumroad,
        &format!("{BY_USERINFO}grant = 'client_credentials'"),
        &[("invoke_auth", "secret"), ("proxy_allow", "token")],
        &[("etl-oauth-invoke", "a word that is long enough")],
    )
    .await;
    let token = async |account: &str| {
        let request =
            Request::get(format!("/token?account={account}")).header("x-api-key", "a word that is long enough");
        status_of(&scene, request.body(Body::empty()).unwrap()).await
    };
    for index in 0..20 {
        assert_eq!(token(&format!("x{index}")).await, StatusCode::CONFLICT);
    }
    assert_eq!(accounts(&scene).await, ["default"]);
    assert_eq!(scene.send(Method::POST, "/enable", "", &[("account", "x1")]).await.status, StatusCode::SEE_OTHER);
    assert_eq!(token("x1").await, StatusCode::OK, "the operator began it");
    assert_eq!(token("default").await, StatusCode::OK, "which begins with its first use");
    for account in ["x1", "default"] {
        let revoked = scene.send(Method::POST, "/revoke", "", &[("account", account)]).await;
        assert_eq!(revoked.status, StatusCode::SEE_OTHER, "{}", revoked.body);
        assert_eq!(token(account).await, StatusCode::CONFLICT, "{account} stays revoked");
    }
}

/// A body that tells how much of it was read.
struct Counted(Arc<AtomicUsize>, usize);

impl Stream for Counted {
    type Item = Result<Bytes, std::io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        if self.1 == 0 {
            return Poll::Ready(None);
        }
        self.1 -= 1;
        self.0.fetch_add(1024, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Bytes::from_static(&[b'a'; 1024]))))
    }
}

#[tokio::test]
async fn s7_no_more_than_a_small_form_is_read_of_a_stranger() {
    let hmac = [("invoke_auth", "hmac")];
    let own = Job::Own(Own::new(|_: Api, (): ()| async { Ok::<_, ApiError>(()) }));
    let key = [("etl-oauth-invoke", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")];
    let scenes = [
        Scene::with(BY_USERINFO, &[("enable_auth", "first_visit")]).await,
        Scene::running(own, BY_USERINFO, &[("min_run_interval", "0s")]).await,
        Scene::prepared(Job::Gumroad, BY_USERINFO, &hmac, &key).await,
    ];
    for scene in &scenes {
        for path in ["/", "/enable", "/login", "/logout", "/oauth2/confirm", "/refresh", "/revoke", "/reseal"] {
            let read = Arc::<AtomicUsize>::default();
            let body = Body::from_stream(Counted(Arc::clone(&read), 4096));
            let request = Request::post(path).header(header::CONTENT_TYPE, FORM).body(body).unwrap();
            let answer = status_of(scene, request).await;
            assert!(!answer.is_success(), "{path}: {answer}");
            let read = read.load(Ordering::Relaxed);
            assert!(read <= 20 << 10, "{path}: {read} bytes were read");
        }
    }
}

#[tokio::test]
async fn s16_strangers_who_join_a_slow_run_leave_room_for_the_operator() {
    let (begun, begin) = tokio::sync::watch::channel(0);
    let (end, ended) = tokio::sync::watch::channel(false);
    let job = Own::new(move |_: Api, (): ()| {
        let (begun, mut ended) = (begun.clone(), ended.clone());
        async move {
            begun.send_modify(|runs| *runs += 1);
            let _ = ended.wait_for(|ended| *ended).await;
            Ok::<_, ApiError>(())
        }
    });
    let scene = Scene::running(Job::Own(job), BY_USERINFO, &[("max_inflight", "8")]).await;
    scene.authorise("ada:read write").await;
    let run = || {
        let router = scene.router.clone();
        async move {
            let answer = router.oneshot(Request::post("/").body(Body::empty()).unwrap()).await.unwrap();
            (answer.status().as_u16(), answer.headers().contains_key(header::RETRY_AFTER))
        }
    };
    let first = tokio::spawn(run());
    begin.clone().wait_for(|runs| *runs == 1).await.unwrap();
    // Four may wait: half of what the platform admits.
    let mut joined: tokio::task::JoinSet<_> = (0..20).map(|_| run()).collect();
    for _ in 0..16 {
        assert_eq!(joined.join_next().await.unwrap().unwrap(), (429, true));
    }
    assert_eq!(accounts(&scene).await, ["default"], "the operator is answered");
    assert_eq!(joined.len(), 4);
    end.send_replace(true);
    assert_eq!(first.await.unwrap().0, 204);
    while let Some(one) = joined.join_next().await {
        assert_eq!(one.unwrap().0, 204);
    }
}

#[test]
fn s12_seals_are_made_with_random_secrets_and_never_with_a_password() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = Secrets::new(folder.path(), "");
    let write = |name: &str, value: &str| std::fs::write(folder.path().join(name), value).unwrap();
    let sealed = || sealing(&secrets).unwrap().expose().to_owned();
    for name in ["basic-auth-password", "etl-oauth-operator", "api-token", "api-password"] {
        write(name, "a password, however long it is");
    }
    write("oauth2-client-secret", "guessable");
    assert_ne!(sealed(), sealed(), "from memory");
    assert_eq!(sealed().len(), 43, "256 random bits");
    write("oauth2-client-secret", "0123456789abcdef");
    assert_eq!(sealed(), "0123456789abcdef");
    write("etl-oauth-seal-keys", "1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");
    assert!(sealed().starts_with("1:"), "the dedicated one");
}

#[tokio::test]
async fn s8_of_two_strangers_who_come_back_at_once_the_first_one_is_kept_and_the_other_one_is_refused() {
    let scene = Scene::with(BY_USERINFO, &[("enable_auth", "first_visit")]).await;
    let mut callbacks = Vec::new();
    for person in ["rival-a", "rival-b"] {
        let (page, _) = browse(&scene, Method::GET, "/enable", &[], &[]).await;
        let cookies = [("cookie", &*page.cookies)];
        let (begun, _) = browse(&scene, Method::POST, "/enable", &cookies, &[("csrf", &csrf(&page))]).await;
        let url: url::Url = begun.location.parse().unwrap();
        let state = url.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
        callbacks.push((format!("/oauth2/callback?code={person}:read%20write&state={state}"), begun.cookies));
    }
    let come_back =
        async |(uri, cookies): &(String, String)| browse(&scene, Method::GET, uri, &[("cookie", cookies)], &[]).await.0;
    let (one, other) = tokio::join!(come_back(&callbacks[0]), come_back(&callbacks[1]));
    let (kept, refused) = if one.status == StatusCode::SEE_OTHER && one.location.ends_with("/done") {
        (0, other)
    } else {
        assert!(other.location.ends_with("/done"), "{} {}", one.body, other.body);
        (1, one)
    };
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(refused.body.contains("already connected"), "{}", refused.body);
    assert_eq!(scene.who().await, ["rival-a", "rival-b"][kept]);
}
