//! Signing in on a form, and what a browser without a session gets.

use super::*;

/// A browser's request; gives the answer's status, `Location`, `WWW-Authenticate` and body.
pub(super) async fn browse(
    scene: &Scene,
    method: Method,
    uri: &str,
    headers: &[(&str, &str)],
    form: &[(&str, &str)],
) -> (Seen, Option<String>) {
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let mut request = Request::builder().method(method).uri(uri).header(header::ACCEPT, "text/html");
    request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = scene.router.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
    let challenge = answer.headers().get(header::WWW_AUTHENTICATE).map(|value| value.to_str().unwrap().to_owned());
    (Seen::of(answer).await, challenge)
}

async fn sign_in(scene: &Scene, next: &str) -> Seen {
    let (seen, _) = browse(scene, Method::POST, "/login", &[], &[("password", SECRET), ("next", next)]).await;
    assert_eq!(seen.status, StatusCode::SEE_OTHER, "{}", seen.body);
    seen
}

pub(super) fn csrf(page: &Seen) -> String {
    page.body.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

#[tokio::test]
async fn s6_a_browser_is_led_to_the_form_and_a_machine_is_asked_for_a_bearer() {
    let scene = Scene::new(BY_USERINFO).await;
    for (uri, next) in [("/status", "%2Fstatus"), ("/enable?account=bob", "%2Fenable%3Faccount%3Dbob")] {
        let (seen, challenge) = browse(&scene, Method::GET, uri, &[], &[]).await;
        assert_eq!((seen.status, challenge), (StatusCode::SEE_OTHER, None));
        assert_eq!(seen.location, format!("http://127.0.0.1/function/f/login?next={next}"));
        // A browser that was once given the secret as Basic is asked for nothing, either.
        let wrong = [("authorization", "Basic b3BlcmF0b3I6d3Jvbmc=")];
        assert_eq!(browse(&scene, Method::GET, uri, &wrong, &[]).await.1, None);
    }
    for path in ["/enable", "/refresh", "/revoke", "/reseal", "/logout"] {
        let (seen, challenge) = browse(&scene, Method::POST, path, &[], &[]).await;
        assert_eq!((seen.status, challenge), (StatusCode::FORBIDDEN, None), "{path}");
        assert!(seen.body.contains("/function/f/login\""), "{}", seen.body);
    }
    for (method, uri) in [(Method::GET, "/status"), (Method::GET, "/enable"), (Method::POST, "/refresh")] {
        let request = Request::builder().method(method).uri(uri).body(Body::empty()).unwrap();
        let answer = scene.router.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(answer.headers()[header::WWW_AUTHENTICATE], "Bearer");
    }
    // Basic and bearer serve a browser as well as a machine.
    let basic = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("me:{SECRET}")));
    for value in [basic, format!("Bearer {SECRET}")] {
        let (seen, _) = browse(&scene, Method::GET, "/status", &[("authorization", &value)], &[]).await;
        assert_eq!(seen.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn s6_the_form_takes_the_secret_for_a_session_and_leads_only_to_pages_of_ours() {
    let scene = Scene::new(BY_USERINFO).await;
    let (page, _) = browse(&scene, Method::GET, "/login?next=/enable", &[], &[]).await;
    assert!(page.status == StatusCode::OK && page.body.contains("name=\"next\" value=\"/enable\""), "{}", page.body);
    assert!(!page.body.contains(SECRET));
    let (wrong, challenge) = browse(&scene, Method::POST, "/login", &[], &[("password", "wrong")]).await;
    assert_eq!((wrong.status, challenge.as_deref()), (StatusCode::UNAUTHORIZED, Some("Bearer")));
    assert!(wrong.cookies.is_empty() && wrong.body.contains("name=\"password\""), "{}", wrong.body);
    for (next, leads_to) in [
        ("/enable?account=bob", "/enable?account=bob"),
        ("", "/status"),
        ("status", "/status"),
        ("//evil.example", "/status"),
        ("/\\evil.example", "/status"),
        ("https://evil.example/", "/status"),
        ("/../other", "/status"),
        ("/%2e%2e/other", "/status"),
        ("/a\nb", "/status"),
        ("/status#x", "/status"),
    ] {
        assert_eq!(sign_in(&scene, next).await.location, format!("http://127.0.0.1/function/f{leads_to}"), "{next:?}");
    }
    for header in [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")] {
        let (seen, _) = browse(&scene, Method::POST, "/login", &[header], &[("password", SECRET)]).await;
        assert_eq!(seen.status, StatusCode::FORBIDDEN);
    }
    let callback = [("x-callback-url", "http://127.0.0.1:1")];
    let (seen, _) = browse(&scene, Method::POST, "/login", &callback, &[("password", SECRET)]).await;
    assert_eq!(seen.status, StatusCode::BAD_REQUEST);
    std::fs::remove_file(scene.folder.path().join("etl-oauth-operator")).unwrap();
    assert_eq!(browse(&scene, Method::GET, "/login", &[], &[]).await.0.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn s6_a_session_is_the_operator_until_it_is_ended_and_a_post_needs_its_form() {
    let scene = Scene::new(BY_USERINFO).await;
    let session = sign_in(&scene, "").await.cookies;
    assert!(session.starts_with("etl-oauth-session="), "{session}");
    let (page, _) = browse(&scene, Method::GET, "/status", &[("cookie", &session)], &[]).await;
    assert_eq!(page.status, StatusCode::OK);
    // The script of a sibling function.
    let script = [("cookie", &*session), ("sec-fetch-mode", "cors"), ("sec-fetch-site", "same-origin")];
    assert_eq!(browse(&scene, Method::GET, "/status", &script, &[]).await.0.status, StatusCode::SEE_OTHER);
    let cookies = format!("{session}; {}", page.cookies);
    let post = async |cookies: &str, path: &str, form: &[(&str, &str)]| {
        browse(&scene, Method::POST, path, &[("cookie", cookies)], form).await.0
    };
    assert_eq!(post(&session, "/revoke", &[]).await.status, StatusCode::BAD_REQUEST, "no form");
    let token = csrf(&page);
    assert_eq!(post(&cookies, "/revoke", &[("csrf", &token)]).await.status, StatusCode::SEE_OTHER);
    assert_eq!(post(&cookies, "/logout", &[]).await.status, StatusCode::BAD_REQUEST);
    let left = post(&cookies, "/logout", &[("csrf", &token)]).await;
    assert_eq!((left.status, &*left.location), (StatusCode::SEE_OTHER, "http://127.0.0.1/function/f/login"));
    assert_eq!(left.cookies, "etl-oauth-session=");
    let copied = [("cookie", &*session)];
    assert_eq!(
        browse(&scene, Method::GET, "/status", &copied, &[]).await.0.status,
        StatusCode::SEE_OTHER,
        "it is over"
    );

    let other = sign_in(&scene, "").await.cookies;
    let other = [("cookie", &*other)];
    assert_eq!(browse(&scene, Method::GET, "/status", &other, &[]).await.0.status, StatusCode::OK);
    std::fs::write(scene.folder.path().join("etl-oauth-operator"), "another secret, as long").unwrap();
    assert_eq!(browse(&scene, Method::GET, "/status", &other, &[]).await.0.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn s6_the_end_of_a_session_holds_after_a_restart_and_in_other_replicas() {
    let scene = Scene::new(BY_USERINFO).await;
    let (kept, ended) = (sign_in(&scene, "").await.cookies, sign_in(&scene, "").await.cookies);
    let (page, _) = browse(&scene, Method::GET, "/status", &[("cookie", &ended)], &[]).await;
    let cookies = format!("{ended}; {}", page.cookies);
    browse(&scene, Method::POST, "/logout", &[("cookie", &cookies)], &[("csrf", &csrf(&page))]).await;
    let other = scene.restarted().await;
    for (cookies, status) in [(&kept, StatusCode::OK), (&ended, StatusCode::SEE_OTHER)] {
        let seen = browse(&other, Method::GET, "/status", &[("cookie", cookies)], &[]).await.0;
        assert_eq!(seen.status, status);
    }
}
