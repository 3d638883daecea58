//! Attacks on the way to a grant: who authorises, and whose account it becomes.

use super::*;

#[tokio::test]
async fn enable_takeover() {
    let stage = shipped().await;
    // The attacker has an account at the provider, and the client's public id and redirect URI; all but the operator's word.
    let stranger = Browser::new();
    for path in ["/enable", "/enable?account=default"] {
        let form = stranger.open(&stage.url(path)).await;
        assert!(form.url.path().ends_with("/login") && form.body.contains("name=\"password\""), "{}", form.body);
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
    browser.sign_in(&fleet.url(0, "")).await;
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
