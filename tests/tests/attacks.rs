//! What somebody who means ill would try, over real sockets: one test an attack. Those against the doors of the job, and the
//! floods of runs and of wrong passwords, are in `doors.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what cannot be set up fails its test")]

use std::collections::BTreeSet;
use std::path::Path;

use reqwest::{Client, Method, StatusCode, redirect::Policy};
use serde_json::{Value, json};
use tests::{Browser, Fleet, Page, Rogue, Stage, rogue};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use url::Url;

const PROGRAM: &str = env!("CARGO_BIN_EXE_etl-oauth-function");

/// Markup that a browser would run, in a tag and out of an attribute.
const SCRIPT: &str = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>";

/// Anybody may authorise until somebody has.
async fn open() -> Stage {
    Stage::with(PROGRAM, &[("enable_auth", "first_visit")], |_| {}).await
}

/// As shipped.
async fn shipped() -> Stage {
    Stage::start(PROGRAM).await
}

/// The function over a file store, without a gateway between.
async fn alone(size: usize, folder: &Path, variables: &[(&str, &str)]) -> Fleet {
    let path = folder.join("tokens").display().to_string();
    let store = [("store", "file"), ("store_path", &*path), ("allow_ephemeral_store", "true")];
    Fleet::start(PROGRAM, size, &[&store, variables].concat(), &[]).await
}

/// Client without cookies that follows nothing.
fn raw() -> Client {
    Client::builder().redirect(Policy::none()).build().unwrap()
}

/// The address that the provider sends this browser back to, not yet visited.
async fn callback_of(stage: &Stage, browser: &Browser) -> Url {
    let consent = browser.enable(stage).await;
    browser.submit_once(&consent, &[("decision", "allow")]).await.location().unwrap()
}

fn query(url: &Url, name: &str) -> String {
    url.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned()
}

/// That address with other parameters.
fn with(callback: &Url, parameters: &[(&str, &str)]) -> String {
    let mut url = callback.clone();
    url.query_pairs_mut().clear().extend_pairs(parameters);
    url.into()
}

/// No token request has been made.
fn nothing_asked(stage: &Stage) {
    assert_eq!(stage.provider().log()["outcomes"], json!({}), "a token request was made");
}

fn error_of(page: &Page) -> (u16, bool) {
    (page.status.as_u16(), page.body.contains("<h1"))
}

#[tokio::test]
async fn enable_takeover() {
    let stage = shipped().await;
    // The attacker has an account at the provider, and the client's public id and redirect URI; all but the operator's word.
    let stranger = Browser::new();
    for path in ["/enable", "/enable?account=default"] {
        assert_eq!(stranger.open(&stage.url(path)).await.status, 401);
    }
    let mut authorize: Url = format!("{}/oauth/authorize", stage.provider().url()).parse().unwrap();
    authorize.query_pairs_mut().extend_pairs([
        ("response_type", "code"),
        ("client_id", &stage.secret("oauth2-client-id")),
        ("redirect_uri", &stage.url("/oauth2/callback")),
        ("scope", "view_sales"),
        ("state", "mine"),
    ]);
    let consent = stranger.open(authorize.as_str()).await;
    let callback = stranger.submit_once(&consent, &[("decision", "allow")]).await.location().unwrap();
    assert!(!query(&callback, "code").is_empty());
    assert_eq!(error_of(&stranger.open(callback.as_str()).await), (400, true));
    // Nor in the operator's own browser, where he was lured to it.
    assert_eq!(error_of(&stage.browser().open(callback.as_str()).await), (400, true));
    nothing_asked(&stage);
    assert_eq!(stage.secret("oauth2-access-token"), "empty");
    stage.stop().await;
}

#[tokio::test]
async fn enable_takeover_of_a_function_that_is_connected() {
    let stage = open().await;
    // Begun while it was free, ended when it was taken.
    let late = Browser::new();
    let callback = callback_of(&stage, &late).await;
    assert_eq!(stage.authorise().await.status, 200);
    let (token, issued) = (stage.secret("oauth2-access-token"), stage.outcomes("authorization_code issued"));
    assert_eq!(error_of(&late.open(callback.as_str()).await), (403, true));
    assert_eq!(late.open(&stage.url("/enable")).await.status, 403);
    assert_eq!((stage.secret("oauth2-access-token"), stage.outcomes("authorization_code issued")), (token, issued));
    stage.stop().await;
}

#[tokio::test]
async fn login_csrf() {
    let stage = open().await;
    let callback = callback_of(&stage, &Browser::new()).await;
    // The victim is lured to where the attacker should have come back to.
    let page = Browser::new().open(callback.as_str()).await;
    assert_eq!(error_of(&page), (400, true));
    assert!(page.body.contains("another browser"), "{}", page.body);
    nothing_asked(&stage);
    stage.stop().await;
}

#[tokio::test]
async fn state_from_another_browser() {
    let stage = open().await;
    let (victim, attacker) = (Browser::new(), Browser::new());
    let own = callback_of(&stage, &victim).await;
    let foreign = callback_of(&stage, &attacker).await;
    // The victim has begun, too, and has a cookie; the code and the state are the attacker's, or one of them is.
    let mixed = with(&own, &[("code", &query(&own, "code")), ("state", &query(&foreign, "state"))]);
    for url in [foreign.as_str(), &mixed] {
        assert_eq!(error_of(&victim.open(url).await), (400, true));
    }
    nothing_asked(&stage);
    assert_eq!(victim.open(own.as_str()).await.status, 200, "and the victim's own is still good");
    stage.stop().await;
}

#[tokio::test]
async fn code_injection() {
    let stage = open().await;
    let (victim, attacker) = (Browser::new(), Browser::new());
    let own = callback_of(&stage, &victim).await;
    let foreign = callback_of(&stage, &attacker).await;
    // A stolen code under a state of one's own: the verifier does not fit (RFC 7636).
    let injected = with(&foreign, &[("code", &query(&own, "code")), ("state", &query(&foreign, "state"))]);
    assert_eq!(error_of(&attacker.open(&injected).await), (502, true));
    assert_eq!(stage.outcomes("authorization_code issued"), 0);
    assert_eq!(stage.secret("oauth2-access-token"), "empty");
    stage.stop().await;
}

#[tokio::test]
async fn callback_replay_by_one_browser() {
    let stage = open().await;
    let browser = Browser::new();
    let callback = callback_of(&stage, &browser).await;
    let tries: Vec<_> = (0..20)
        .map(|_| {
            let (browser, url) = (browser.clone(), callback.to_string());
            tokio::spawn(async move { browser.once(&url).await.status.as_u16() })
        })
        .collect();
    let mut answers = Vec::new();
    for one in tries {
        answers.push(one.await.unwrap());
    }
    assert_eq!(answers.iter().filter(|status| **status == 303).count(), 1, "{answers:?}");
    assert!(answers.iter().all(|status| matches!(status, 303 | 400 | 403)), "{answers:?}");
    assert!(browser.open(callback.as_str()).await.status.is_client_error());
    assert_eq!(stage.provider().log()["outcomes"], json!({"authorization_code issued": 1}));
    assert_eq!(stage.run().await.0, 200, "the token of the one that was taken lives");
    stage.stop().await;
}

#[tokio::test]
async fn callback_replay_against_many_replicas() {
    let folder = tempfile::tempdir().unwrap();
    // Whoever comes first has taken the account `default` when the fleet is set up; the operator takes it again.
    let path = folder.path().join("tokens").display().to_string();
    let store =
        [("store", "file"), ("store_path", &*path), ("allow_ephemeral_store", "true"), ("enable_auth", "first_visit")];
    let fleet = Fleet::start(PROGRAM, 4, &store, &[("etl-oauth-operator", "password")]).await;
    let browser = Browser::of_operator("password");
    let page = browser.open(&fleet.url(0, "/enable")).await;
    let consent = browser.submit(&page, &[]).await;
    let callback = browser.submit_once(&consent, &[("decision", "allow")]).await.location().unwrap();
    let before = codes(&fleet);
    let tries: Vec<_> = (0..4 * fleet.size())
        .map(|index| {
            let mut url = callback.clone();
            let there: Url = fleet.url(index % fleet.size(), "/").parse().unwrap();
            url.set_port(there.port()).unwrap();
            let browser = browser.clone();
            tokio::spawn(async move { browser.once(url.as_str()).await.status.as_u16() })
        })
        .collect();
    let (mut taken, mut refused) = (0, 0);
    for one in tries {
        let status = one.await.unwrap();
        taken += usize::from(status == 303);
        refused += usize::from(status == 400);
    }
    assert_eq!(
        (taken, refused, codes(&fleet) - before),
        (1, 4 * fleet.size() - 1, 1),
        "one is taken, and the code is sent once: {}",
        fleet.provider_log()
    );
    fleet.stop().await;
}

/// How many codes the provider was sent, whatever came of them.
fn codes(fleet: &Fleet) -> u64 {
    let log = fleet.provider_log();
    let outcomes = log["outcomes"].as_object().unwrap();
    outcomes.iter().filter(|(name, _)| name.starts_with("authorization_code")).filter_map(|(_, n)| n.as_u64()).sum()
}

#[tokio::test]
async fn mix_up() {
    // With an issuer configured, here the provider's own.
    let stack = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../stack.yaml")).unwrap();
    let named = stack.replace(
        "      provider: gumroad\n",
        "      provider: gumroad\n      issuer: ${SANDBOX_URL:-https://gumroad.com}\n      enable_auth: first_visit\n",
    );
    assert_ne!(stack, named);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stack.yaml");
    std::fs::write(&file, named).unwrap();
    let stage = Stage::of(PROGRAM, &file).await;
    let browser = Browser::new();
    for evil in
        ["https://evil.example", &format!("{}/", stage.provider().url()), &stage.provider().url().to_uppercase()]
    {
        let callback = callback_of(&stage, &browser).await;
        let (code, state) = (query(&callback, "code"), query(&callback, "state"));
        let page = browser.open(&with(&callback, &[("code", &code), ("state", &state), ("iss", evil)])).await;
        assert_eq!(error_of(&page), (400, true), "{evil}");
        // An error of another issuer is believed as little.
        let callback = callback_of(&stage, &browser).await;
        let state = query(&callback, "state");
        let page =
            browser.open(&with(&callback, &[("error", "access_denied"), ("state", &state), ("iss", evil)])).await;
        assert_eq!(error_of(&page), (400, true), "{evil}");
    }
    nothing_asked(&stage);
    let callback = callback_of(&stage, &browser).await;
    let (code, state) = (query(&callback, "code"), query(&callback, "state"));
    let page =
        browser.open(&with(&callback, &[("code", &code), ("state", &state), ("iss", stage.provider().url())])).await;
    assert_eq!(page.status, 200, "{}", page.body);
    stage.stop().await;
}

#[tokio::test]
async fn open_redirect() {
    let stage = open().await;
    let evil = "https://evil.example/";
    let names = ["next", "return_to", "redirect_uri", "redirect", "url", "continue", "rd", "public_url", "account"];
    let query = names.map(|name| format!("{name}=https%3A%2F%2Fevil.example%2F")).join("&");
    let forged = |request: reqwest::RequestBuilder| {
        request
            .header("x-forwarded-host", "evil.example")
            .header("x-forwarded-proto", "https")
            .header("forwarded", "host=evil.example;proto=https")
            .header("x-original-url", evil)
            .header("referer", evil)
            .header("accept", "text/html")
    };
    let mut redirected = 0;
    for path in ["", "/", "/enable", "/oauth2/callback", "/done", "/status", "//evil.example/", "/%2F%2Fevil.example/"]
    {
        for address in [stage.url(path), format!("{}?{query}", stage.url(path))] {
            let answer = forged(raw().get(&address)).send().await.unwrap();
            redirected += u32::from(answer.status().is_redirection());
            if let Some(to) = answer.headers().get("location") {
                let to = Url::parse(&address).unwrap().join(to.to_str().unwrap()).unwrap();
                assert_eq!(to.origin(), Url::parse(&stage.gateway()).unwrap().origin(), "{address}: {to}");
            }
            let told = format!("{:?}", answer.headers());
            let body = answer.text().await.unwrap();
            assert!(!told.contains("//evil.example") && !body.contains("//evil.example"), "{address}: {told}\n{body}");
        }
    }
    assert!(redirected > 0, "a browser without a token is led to the enable page");
    // From the form, and back from the provider.
    let browser = Browser::new();
    let page = browser.open(&stage.url("/enable")).await;
    let fields: Vec<_> = names.iter().filter(|name| **name != "account").map(|name| (*name, evil)).collect();
    let led = browser.submit_once(&page, &fields).await.location().unwrap();
    assert!(led.as_str().starts_with(stage.provider().url()) && !led.as_str().contains("evil"), "{led}");
    let consent = browser.open(led.as_str()).await;
    let callback = browser.submit_once(&consent, &[("decision", "allow")]).await.location().unwrap();
    let done = browser.once(&format!("{callback}&{}", query.replace("&account=", "&acc="))).await;
    assert_eq!(done.status, 303);
    assert_eq!(done.headers["location"], stage.url("/done"));
    stage.stop().await;
}

#[tokio::test]
async fn reflected_xss() {
    let stage = open().await;
    let browser = Browser::new();
    let harmless = |page: &Page| {
        let low = page.body.to_lowercase();
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

#[tokio::test]
async fn ssrf_by_pagination() {
    let thief = Rogue::thief().await;
    let away = thief.url();
    // The next page is elsewhere: absolute, without a scheme, with a user name that looks like a host, by another header.
    let links = [format!("{away}/v2/sales?page_key=1"), away.replacen("http:", "", 1), format!("@{}", &away[7..])];
    let turn = std::sync::atomic::AtomicUsize::new(0);
    let api = Rogue::start(move |_| {
        let link = &links[turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % links.len()];
        let sale =
            json!({"id": "1", "created_at": "2026-11-20T09:00:00Z", "price": 100, "formatted_total_price": "$1"});
        let body = json!({"success": true, "sales": [sale], "next_page_url": link}).to_string();
        rogue::json(&body).replacen("content-type", &format!("link: <{link}>; rel=\"next\"\r\ncontent-type"), 1)
    })
    .await;
    let stage = Stage::with(PROGRAM, &[("enable_auth", "first_visit"), ("api_url", &api.url())], |_| {}).await;
    stage.authorise().await;
    for _ in 0..4 {
        stage.run().await;
    }
    assert!(api.seen().iter().any(|request| request.to_lowercase().contains("authorization: bearer ")));
    assert_eq!(thief.seen(), Vec::<String>::new());
    stage.stop().await;
}

#[tokio::test]
async fn ssrf_by_redirect() {
    let thief = Rogue::thief().await;
    for status in [301, 302, 303, 307, 308] {
        let to = format!("{}/v2/sales", thief.url());
        let away = move |_: &str| {
            format!("HTTP/1.1 {status} Away\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        };
        // The API's redirect carries the token nowhere, the token endpoint's neither the code nor the client's secret.
        let (api, tokens) = (Rogue::start(away.clone()).await, Rogue::start(away).await);
        let token_url = format!("{}/oauth/token", tokens.url());
        let stage = Stage::with(PROGRAM, &[("enable_auth", "first_visit"), ("api_url", &api.url())], |_| {}).await;
        assert_eq!(stage.authorise().await.status, 200);
        let (answer, _) = stage.run().await;
        assert!((500..=504).contains(&answer), "{answer}");
        assert!(!api.seen().is_empty());
        stage.stop().await;
        let stage = Stage::with(PROGRAM, &[("enable_auth", "first_visit"), ("token_url", &token_url)], |_| {}).await;
        assert_eq!(stage.authorise().await.status, 502);
        assert_eq!(tokens.seen().len(), 1, "and the code is sent once");
        stage.stop().await;
        assert_eq!(thief.seen(), Vec::<String>::new(), "{status}");
    }
}

#[tokio::test]
async fn flood_of_bogus_callbacks() {
    let stage = open().await;
    let victim = Browser::new();
    let callback = callback_of(&stage, &victim).await;
    let genuine = query(&callback, "state");
    let before = resident(&stage).await;
    let http = raw();
    let long = "A".repeat(4000);
    for round in 0..40 {
        let tries: Vec<_> = (0..50)
            .map(|index| {
                // Random ones, long ones, and the genuine one without its cookie, or bent a little.
                let state = match index % 4 {
                    0 => format!("{round}-{index}"),
                    1 => format!("{long}{round}{index}"),
                    2 => genuine.clone(),
                    _ => format!("{}{index:02}", &genuine[..genuine.len() - 2]),
                };
                let request = http.get(with(&callback, &[("code", "x"), ("state", &state)]));
                tokio::spawn(async move { request.send().await.unwrap().status().as_u16() })
            })
            .collect();
        for one in tries {
            assert_eq!(one.await.unwrap(), 400);
        }
    }
    nothing_asked(&stage);
    let grown = resident(&stage).await.saturating_sub(before);
    assert!(grown < 16 << 20, "2000 strangers are remembered in {grown} bytes");
    assert_eq!(victim.open(callback.as_str()).await.status, 200, "and who had begun is not put out by it");
    stage.stop().await;
}

/// Resident memory of the function, in bytes.
async fn resident(stage: &Stage) -> u64 {
    let metrics = stage.metrics().await;
    let line = metrics.lines().find(|line| line.starts_with("process_resident_memory_bytes ")).unwrap();
    line.split(' ').nth(1).unwrap().parse::<f64>().unwrap() as u64
}

#[tokio::test]
async fn secrets_in_logs_and_pages() {
    const CLIENT: &str = "marker-of-the-client";
    const OPERATOR: &str = "marker-of-the-operator";
    let prepare = |secrets: &Path| {
        std::fs::write(secrets.join("oauth2-client-secret"), CLIENT).unwrap();
        std::fs::write(secrets.join("etl-oauth-operator"), OPERATOR).unwrap();
    };
    let stage =
        Stage::with(PROGRAM, &[("RUST_LOG", "trace"), ("debug", "true"), ("RUST_BACKTRACE", "full")], prepare).await;
    assert_eq!(stage.secret("oauth2-client-secret"), CLIENT);
    let mut secrets: BTreeSet<String> = BTreeSet::from([CLIENT.into(), OPERATOR.into()]);
    let mut shown = Vec::new();
    let operator = Browser::of_operator(OPERATOR);
    // All that a person and a machine do, and all that may go wrong on the way.
    for faults in [
        json!({"status": {"status": 400, "error": "invalid_grant", "times": 1}}),
        json!({"malformed": {"kind": "wrong_type", "times": 1}}),
        json!({"malformed": {"kind": "truncated", "times": 1}}),
        json!({"lose_answer": 1}),
        json!({"token_lifetime": 1}),
    ] {
        stage.provider().set_faults(&faults).unwrap();
        let callback = callback_of(&stage, &operator).await;
        secrets.extend(["code", "state"].map(|name| query(&callback, name)));
        let arrived = operator.once(callback.as_str()).await;
        shown.push((arrived.body, arrived.headers));
        secrets.extend(["oauth2-access-token", "oauth2-refresh-token"].map(|name| stage.secret(name)));
    }
    let http = raw();
    for path in ["", "/status", "/enable", "/done", "/oauth2/callback?code=x&state=y", "/nowhere", "/openapi.json"] {
        for accept in ["text/html", "application/json"] {
            let answer = http.get(stage.url(path)).header("accept", accept).bearer_auth(OPERATOR).send().await.unwrap();
            let headers = answer.headers().clone();
            shown.push((answer.text().await.unwrap(), headers));
        }
    }
    for api in [
        json!({"api_unauthorized": 1}),
        json!({"api_malformed": {"kind": "wrong_type", "times": 1}}),
        json!({"status": {"status": 503}}),
    ] {
        stage.provider().set_faults(&api).unwrap();
        shown.push((stage.run().await.1.to_string(), Default::default()));
        for path in ["/refresh", "/revoke"].iter().take(if api.get("status").is_some() { 2 } else { 1 }) {
            let answer = http.post(stage.url(path)).bearer_auth(OPERATOR).send().await.unwrap();
            shown.push((answer.text().await.unwrap(), Default::default()));
        }
        secrets.extend(["oauth2-access-token", "oauth2-refresh-token"].map(|name| stage.secret(name)));
    }
    secrets.remove("empty");
    secrets.retain(|secret| !secret.is_empty());
    assert!(secrets.len() > 10, "codes, states, tokens of several generations");
    let (log, metrics) = (stage.log().await, stage.metrics().await);
    assert!(log.contains("the code could not be exchanged"), "{log}");
    for secret in &secrets {
        assert!(!log.contains(secret.as_str()), "a secret is in the log:\n{log}");
        assert!(!metrics.contains(secret.as_str()), "a secret is in the metrics");
        for (body, headers) in &shown {
            assert!(!body.contains(secret.as_str()), "a secret is on a page:\n{body}");
            assert!(!format!("{headers:?}").contains(secret.as_str()), "a secret is in a header: {headers:?}");
        }
    }
    stage.stop().await;
}

#[test]
fn timing_of_secret_comparison() {
    // Time itself is too noisy to be tested. What is tested is that no secret is compared but by `Secret::same` and the
    // library's own functions: `Secret` has no `PartialEq`, and what it exposes meets no operator.
    let mut files = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../etl-oauth/src")];
    let mut read = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        if path.file_name().is_some_and(|name| name == "tests.rs") || path.extension().is_none_or(|end| end != "rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for line in code.lines().filter(|line| line.contains("expose")) {
            let compared = [" == ", " != ", ".eq(", ".ne(", "starts_with(", "ends_with(", ".contains(", "matches!("];
            // What stands for no token is no secret.
            let line = line.replace("!= EMPTY", "");
            assert!(compared.iter().all(|how| !line.contains(how)), "{}: {line}", path.display());
        }
        if path.ends_with("token/secret.rs") {
            assert!(code.contains("constant_time::verify_slices_are_equal") && !code.contains("impl PartialEq"));
            assert!(
                !code.contains("derive(Clone, PartialEq") && !code.contains("PartialOrd") && !code.contains("Hash)")
            );
        }
        read += 1;
    }
    assert!(read > 50, "the sources are where they were");
}

#[tokio::test]
async fn no_user_enumeration_by_account_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens").display().to_string();
    let store =
        [("store", "file"), ("store_path", &*path), ("allow_ephemeral_store", "true"), ("enable_auth", "first_visit")];
    let fleet = Fleet::start(PROGRAM, 1, &store, &[("etl-oauth-operator", "password")]).await;
    let operator = Browser::of_operator("password");
    let page = operator.open(&fleet.url(0, "/enable?account=known")).await;
    let consent = operator.submit(&page, &[]).await;
    assert_eq!(operator.submit(&consent, &[("decision", "allow")]).await.status, 200);
    let asked = async |path: &str| {
        let answer = raw().get(fleet.url(0, path)).header("accept", "application/json").send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    };
    assert_eq!(asked("/enable?account=known").await, asked("/enable?account=other").await);
    assert_eq!(asked("/status?account=known").await, asked("/status?account=other").await);
    fleet.stop().await;
}

/// Sends bytes as they are; the status that comes back, and the body.
async fn bytes(port: u16, request: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    // It may be refused before all of it is sent.
    let _ = stream.write_all(request).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, answer)
}

#[tokio::test]
async fn oversize_and_malformed_everything() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = alone(1, folder.path(), &[]).await;
    let port = Url::parse(&fleet.url(0, "/")).unwrap().port().unwrap();
    let (long, huge) = ("a".repeat(20_000), "b".repeat(3 << 20));
    let get = |target: &str, head: &str| format!("GET {target} HTTP/1.1\r\nhost: f\r\nconnection: close\r\n{head}\r\n");
    let post = |path: &str, kind: &str, body: &str| {
        let length = body.len();
        format!(
            "POST {path} HTTP/1.1\r\nhost: f\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    };
    let form = "application/x-www-form-urlencoded";
    let mut requests = vec![
        get(&format!("/oauth2/callback?state={long}&code={long}"), ""),
        get("/oauth2/callback?state=%&code=%zz&iss=%ff%fe", ""),
        get("/oauth2/callback?state=%00&error=%00", ""),
        get("/oauth2/callback?&&&==&=&state", ""),
        get("/oauth2/callback?state=a&state=b", ""),
        get("/enable?account=a&account=b", ""),
        get("/enable?account=%ff", ""),
        get(&format!("/enable?account={long}"), ""),
        get("/enable?account=..%2f..%2fetc%2fpasswd", ""),
        get("/enable?account=.lease", ""),
        get("/enable?account=default%00", ""),
        get("/status", "authorization: Basic ====\r\n"),
        get("/status", "authorization: Basic\r\n"),
        get("/status", &format!("authorization: Bearer {long}\r\n")),
        get("/status", "authorization: Bearer \u{e9}\r\n"),
        get("/status", &format!("authorization: Basic {}\r\n", "AAAA".repeat(5000))),
        get("/enable", &format!("cookie: etl-oauth-form={long}\r\n")),
        get("/enable", &format!("cookie: {}\r\n", "a=b; ".repeat(3000))),
        get("/enable", "cookie: \"=;;;=;%zz;\u{ff}\r\n"),
        get("/done", &format!("cookie: etl-oauth-done={long}\r\n")),
        get("/oauth2/callback?state=x&code=y", &format!("cookie: etl-oauth-x={long}\r\n")),
        get("/enable", &"x-many: y\r\n".repeat(500)),
        get("/../../etc/passwd", ""),
        get("/%2e%2e/%2e%2e/etc/passwd", ""),
        get(&format!("/{long}"), ""),
        get("/\u{e9}", ""),
        get("*", ""),
        post("/enable", form, &huge),
        post("/refresh", form, &huge),
        post("/enable", form, "csrf=a&csrf=b&account=a&account=b"),
        post("/enable", form, "%ff%fe=%00&csrf=%zz"),
        post("/enable", "application/json", "{\"csrf\":[[[["),
        post("/enable", "multipart/form-data; boundary=", "--"),
        post("/revoke", "text/plain", "account=default"),
        post("/nowhere", form, &huge),
        "TRACE / HTTP/1.1\r\nhost: f\r\nconnection: close\r\n\r\n".into(),
        "CONNECT f:1 HTTP/1.1\r\nhost: f\r\nconnection: close\r\n\r\n".into(),
        "get / HTTP/1.1\r\nhost: f\r\nconnection: close\r\n\r\n".into(),
        "GET / HTTP/9.9\r\n\r\n".into(),
        "POST /enable HTTP/1.1\r\nhost: f\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n".into(),
        "POST /enable HTTP/1.1\r\nhost: f\r\ncontent-length: 99999999999999999999\r\n\r\n".into(),
        "POST /enable HTTP/1.1\r\nhost: f\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".into(),
        format!("GET /enable HTTP/1.1\r\nhost: f\r\nx: {}\r\n\r\n", "y".repeat(2 << 20)),
        "\u{0}\u{1}\u{2}\r\n\r\n".into(),
    ];
    // All routes get a body, a query and a method that they do not know.
    for path in
        ["/", "/enable", "/oauth2/callback", "/done", "/status", "/refresh", "/revoke", "/reseal", "/openapi.json"]
    {
        requests.push(format!("BREW {path}?%zz HTTP/1.1\r\nhost: f\r\nconnection: close\r\n\r\n"));
    }
    for request in &requests {
        let (status, answer) = bytes(port, request.as_bytes()).await;
        let begin: String = request.chars().take(80).collect();
        // 501 and 505 are what a transfer coding and a version that nobody knows get; nothing else may be our own fault.
        assert!(status < 500 || matches!(status, 501 | 505), "{begin}: {answer}");
        if (400..500).contains(&status) && answer.contains("application/json") {
            let body = answer.split_once("\r\n\r\n").unwrap().1;
            assert!(body.contains("\"error\":") && body.contains("\"next\":"), "{begin}: {answer}");
        }
    }
    // Those that are read are answered as everything is: JSON for who does not ask for a page.
    for (request, wanted) in [
        (get("/enable?account=a&account=b", ""), 400),
        (get("/enable?account=%ff", ""), 400),
        (post("/enable", form, &huge), 403),
        (post("/revoke", "text/plain", "account=default"), 404),
    ] {
        let (status, answer) = bytes(port, request.as_bytes()).await;
        assert_eq!(status, wanted, "{answer}");
        assert!(answer.to_lowercase().contains("content-type: application/json"), "{answer}");
    }
    assert!(!fleet.log(0).contains("panicked"), "{}", fleet.log(0));
    let alive = raw().get(fleet.url(0, "/")).send().await.unwrap();
    assert_eq!(alive.status(), StatusCode::OK);
    let answer: Value = alive.json().await.unwrap();
    assert!(answer["week"].is_object());
    fleet.stop().await;
}

#[test]
fn what_the_fuzzer_began_with_holds() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    for (name, check) in fuzz::ALL {
        let mut read = 0;
        for entry in std::fs::read_dir(corpora.join(name)).unwrap() {
            check(&std::fs::read(entry.unwrap().path()).unwrap());
            read += 1;
        }
        assert!(read >= 3, "{name}");
    }
}

#[tokio::test]
async fn revoking_one_account_by_a_body_of_another_kind_does_not_revoke_another() {
    let stage = shipped().await;
    stage.authorise().await;
    let secret = stage.secret("etl-oauth-operator");
    let post = || raw().post(stage.url("/revoke")).bearer_auth(&secret);
    let answer = post().json(&json!({"account": "other"})).send().await.unwrap();
    assert_eq!(answer.status(), 415);
    let answer = post().form(&[("account", "x".repeat(3 << 20))]).send().await.unwrap();
    assert_eq!(answer.status(), 413);
    let answer = post().form(&[("account", "a"), ("account", "b")]).send().await.unwrap();
    assert_eq!(answer.status(), 400);
    assert_ne!(stage.secret("oauth2-access-token"), "empty");
    let answer = post().send().await.unwrap();
    assert_eq!(answer.status(), 200, "none at all means the only one");
    assert_eq!(stage.run().await.0, 409);
    stage.stop().await;
}
