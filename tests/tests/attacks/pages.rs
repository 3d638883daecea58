//! Attacks by way of a browser: on pages, headers and cookies.

use super::*;

#[tokio::test]
async fn reflected_xss() {
    let stage = open().await;
    let browser = Browser::new();
    // The one script that there is, by its hash in the policy: whatever was asked for, it is the same.
    let own = script(&browser.open(&stage.url("/enable")).await).to_owned();
    let harmless = |page: &Page| {
        let low = page.body.replacen(&own, "", 1).to_lowercase();
        assert!(!low.contains("<script") && !low.contains("<img") && !low.contains("javascript:"), "{}", page.body);
        let kind = page.headers.get("content-type").map(|kind| kind.to_str().unwrap()).unwrap_or_default();
        assert!(page.status.is_redirection() || kind.starts_with("text/html"), "{} {kind}", page.url);
    };
    let at = |path: &str, parameters: &[(&str, &str)]| {
        Url::parse_with_params(&stage.url(path), parameters).unwrap().to_string()
    };
    for name in ["state", "code", "error", "error_description", "error_uri", "iss", "scope", "account", "csrf"] {
        for path in ["", "/enable", "/oauth2/callback", "/done", "/status", "/nowhere"] {
            harmless(&browser.open(&at(path, &[(name, SCRIPT)])).await);
        }
        // Past the door that the state keeps.
        let callback = callback_of(&stage, &browser).await;
        let state = query(&callback, "state");
        let error = if name == "error" { SCRIPT } else { "server_error" };
        if name != "state" {
            let mut parameters = vec![("state", &*state), ("error", error)];
            parameters.extend((name != "error").then_some((name, SCRIPT)));
            harmless(&browser.open(&with(&callback, &parameters)).await);
        }
    }
    harmless(
        &browser
            .open(
                &stage
                    .url(&format!("/{}", url::form_urlencoded::byte_serialize(SCRIPT.as_bytes()).collect::<String>())),
            )
            .await,
    );
    let page = browser.open(&stage.url("/enable")).await;
    for name in ["csrf", "account"] {
        harmless(&browser.submit(&page, &[(name, SCRIPT)]).await);
    }
    // The provider's own words.
    for (status, error) in [(400, SCRIPT), (401, "<script>alert(1)</script>"), (500, "\u{202e}<script>")] {
        stage.provider().set_faults(&json!({"status": {"status": status, "error": error, "times": 1}})).unwrap();
        let page = stage.authorise().await;
        assert_eq!(page.status, 502);
        harmless(&page);
    }
    stage.stop().await;
}

#[tokio::test]
async fn reflected_xss_of_what_the_api_says() {
    let body = json!({"success": true, "sales": [{
        "id": SCRIPT, "email": SCRIPT, "created_at": "2026-11-20T09:00:00Z", "product_name": SCRIPT, "price": 100,
        "currency_symbol": SCRIPT, "formatted_total_price": SCRIPT, "country": SCRIPT, "order_id": 1, "amount_refundable_in_currency": SCRIPT,
    }], "message": SCRIPT});
    let api = Rogue::start(move |_| rogue::json(&body.to_string())).await;
    let stage = Stage::with(PROGRAM, &[("enable_auth", "first_visit"), ("api_url", &api.url())], |_| {}).await;
    assert_eq!(stage.authorise().await.status, 200);
    let page = Browser::new().open(&stage.url("")).await;
    assert!(!api.seen().is_empty());
    let low = page.body.to_lowercase();
    assert!(!low.contains("<script") && !low.contains("<img"), "{}", page.body);
    stage.stop().await;
}

#[tokio::test]
async fn header_injection() {
    let stage = open().await;
    let line = "x\r\nX-Injected: yes\r\nSet-Cookie: injected=1\r\n\r\n<b>";
    let checked = |page: &Page| {
        assert!(!page.headers.contains_key("x-injected"), "{}", page.url);
        let cookies = format!("{:?}", page.headers.get_all("set-cookie").iter().collect::<Vec<_>>());
        assert!(!cookies.contains("injected"), "{cookies}");
    };
    let browser = Browser::new();
    for name in ["state", "code", "error", "iss", "account", "csrf", "next"] {
        for path in ["", "/enable", "/oauth2/callback", "/done"] {
            checked(&browser.once(Url::parse_with_params(&stage.url(path), [(name, line)]).unwrap().as_str()).await);
        }
        let callback = callback_of(&stage, &browser).await;
        if !matches!(name, "state" | "code" | "error") {
            let own = [("state", &*query(&callback, "state")), ("code", &query(&callback, "code")), (name, line)];
            checked(&browser.once(&with(&callback, &own)).await);
            break;
        }
        let state = if name == "state" { line.to_owned() } else { query(&callback, "state") };
        let other = if name == "error" { ("error", line) } else { ("code", line) };
        checked(&browser.once(&with(&callback, &[("state", &state), other])).await);
    }
    let page = browser.open(&stage.url("/enable")).await;
    if page.status == 200 {
        checked(&browser.submit_once(&page, &[("account", line)]).await);
    }
    stage.stop().await;
}

#[tokio::test]
async fn header_injection_by_the_provider() {
    // A token that would end the line that it is put on.
    let provider = Rogue::start(|_| {
        rogue::json(
            &json!({"access_token": "t\r\nX-Injected: yes", "token_type": "bearer", "expires_in": 3600}).to_string(),
        )
    })
    .await;
    let api = Rogue::thief().await;
    let token_url = format!("{}/oauth/token", provider.url());
    let variables = [("enable_auth", "first_visit"), ("token_url", &*token_url), ("api_url", &api.url())];
    let stage = Stage::with(PROGRAM, &variables, |_| {}).await;
    stage.authorise().await;
    assert_eq!(provider.seen().len(), 1);
    let (status, _) = stage.run().await;
    assert!(status >= 400, "{status}");
    assert!(api.seen().iter().all(|request| !request.to_lowercase().contains("x-injected: yes")), "{:?}", api.seen());
    stage.stop().await;
}

#[tokio::test]
async fn cookie_tossing_by_a_sibling_function() {
    let stage = open().await;
    let browser = Browser::new();
    // The cookie of the request that was begun, and one of the same name that a sibling set for the whole origin.
    let page = browser.open(&stage.url("/enable")).await;
    let form = cookies(&page);
    let led = browser.submit_once(&page, &[]).await;
    let state_cookie = cookies(&led);
    let (name, _) = state_cookie.split_once('=').unwrap();
    let consent = browser.open(led.location().unwrap().as_str()).await;
    let callback = browser.submit_once(&consent, &[("decision", "allow")]).await.location().unwrap();
    for tossed in [
        format!("{name}=forged; {state_cookie}"),
        format!("{state_cookie}; {name}=forged"),
        format!("{name}=forged"),
        format!("{name}="),
        format!("{name}=\"; {state_cookie}\""),
    ] {
        let answer = raw().get(callback.as_str()).header("cookie", &tossed).send().await.unwrap();
        assert_eq!(answer.status(), 400, "{tossed}");
    }
    nothing_asked(&stage);
    // The form's, too.
    let (name, _) = form.split_once('=').unwrap();
    let token = page.body.split_once("name=\"csrf\" value=\"").unwrap().1.split('"').next().unwrap().to_owned();
    for tossed in [format!("{name}=forged; {form}"), format!("{form}; {name}=forged"), format!("{name}=")] {
        let post = raw().post(stage.url("/enable")).header("cookie", &tossed).form(&[("csrf", &token)]);
        assert_eq!(post.send().await.unwrap().status(), 400, "{tossed}");
    }
    // And neither reaches a sibling.
    for page in [&page, &led] {
        for cookie in page.headers.get_all("set-cookie") {
            let cookie = cookie.to_str().unwrap();
            assert!(cookie.contains("Path=/function/etl-oauth") && cookie.contains("HttpOnly"), "{cookie}");
            assert!(cookie.contains("SameSite=Lax") && !cookie.contains("Domain"), "{cookie}");
        }
    }
    assert_eq!(browser.open(callback.as_str()).await.status, 200, "without the forged ones it is taken");
    stage.stop().await;
}

/// The first cookie that a page sets, as a browser sends it back.
fn cookies(page: &Page) -> String {
    page.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn clickjacking() {
    let stage = shipped().await;
    stage.authorise().await;
    let secret = stage.secret("etl-oauth-operator");
    let paths =
        ["", "/enable", "/oauth2/callback", "/done", "/status", "/nowhere", "/openapi.json", "/enable?account=-"];
    for path in paths {
        for (method, accept) in [
            (Method::GET, "text/html"),
            (Method::GET, "application/json"),
            (Method::POST, "text/html"),
            (Method::PUT, "*/*"),
        ] {
            for operator in [false, true] {
                let request = raw().request(method.clone(), stage.url(path)).header("accept", accept);
                let request = if operator { request.bearer_auth(&secret) } else { request };
                let answer = request.send().await.unwrap();
                let header = |name: &str| answer.headers().get(name).map(|it| it.to_str().unwrap()).unwrap_or_default();
                let what = format!("{method} {path} {accept}: {} {:?}", answer.status(), answer.headers());
                assert!(header("content-security-policy").contains("frame-ancestors 'none'"), "{what}");
                assert!(!header("content-security-policy").contains("unsafe"), "{what}");
                assert_eq!(header("x-content-type-options"), "nosniff", "{what}");
                assert_eq!(header("referrer-policy"), "no-referrer", "{what}");
                assert!(header("cache-control").contains("no-store"), "{what}");
            }
        }
    }
    stage.stop().await;
}

/// The first script of a page, with its tags.
fn script(page: &Page) -> &str {
    let start = page.body.find("<script>").expect("the page has a script");
    let end = page.body[start..].find("</script>").expect("which ends");
    &page.body[start..start + end + "</script>".len()]
}
