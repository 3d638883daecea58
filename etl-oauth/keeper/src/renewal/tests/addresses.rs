//! Addresses that come with the answers.

use super::*;

#[tokio::test]
async fn renewals_and_revocations_go_where_the_redirect_and_the_answer_have_said() {
    let text = "token_url = 'https://{region}.p.example/token'\nrevoke_url = '{home}/revoke'\nrefresh_url = '{home}/token'\n\
                [variables.region]\nfrom = 'redirect'\ndefault = 'us'\n\
                [variables.home]\nfrom = 'answer'\nkind = 'origin'\nhosts = ['*.p.example']";
    let definition = Definition::read("acme.toml", text).unwrap();
    let provider = Provider::new("acme", definition, Overrides::default()).unwrap();
    let kept = [("region".to_owned(), "eu".to_owned())].into();
    assert_eq!(provider.token_url.as_str(), "https://us.p.example/token");
    assert_eq!(provider.with(&kept).token_url.as_str(), "https://eu.p.example/token");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let wire = {
        let asked = Arc::clone(&asked);
        HttpClient::new(move |request| {
            asked.lock().unwrap().push(request.url().to_string());
            let body = r#"{"access_token":"a1","refresh_token":"r1","expires_in":3600,"home":"https://two.p.example"}"#;
            let (status, headers) = (StatusCode::OK, HeaderMap::new());
            async move { Ok(HttpResponse { status, headers, body: body.into(), at: Timestamp::now() }) }
        })
    };
    let it = Setting::new();
    let keeper = Keeper::new(
        Key::default(),
        Parts { authority: Authority::new(provider, Credentials::fixed(client()), wire), ..it.parts.clone() },
    );
    let mut first = answer("a0", "r0");
    first.kept = [("home".to_owned(), "https://one.p.example".to_owned())].into();
    keeper.authorise(first, it.now()).await;
    it.pass(3600);
    assert_eq!(shown(keeper.token().await), "a1");
    assert_eq!(it.record().await.tokens.unwrap().kept["home"], "https://two.p.example");
    keeper.revoke().await;
    let asked = asked.lock().unwrap();
    let revoke = "https://two.p.example/revoke";
    assert_eq!(*asked, ["https://one.p.example/token", revoke, revoke]);
}

#[tokio::test]
async fn an_answer_that_names_a_foreign_host_brings_no_token() {
    let text = "token_url = 'https://p.example/token'\napi_url = '{home}'\n\
                [variables.home]\nfrom = 'answer'\nkind = 'origin'\nhosts = ['*.p.example']";
    let definition = Definition::read("acme.toml", text).unwrap();
    let provider = Provider::new("acme", definition, Overrides::default()).unwrap();
    let judge = |home: &str| {
        let body = format!(r#"{{"access_token":"a","home":"{home}"}}"#);
        let (status, headers) = (StatusCode::OK, HeaderMap::new());
        crate::grant::judge_token(&provider, &HttpResponse { status, headers, body: body.into(), at: Timestamp::now() })
    };
    assert_eq!(judge("https://eu.p.example").unwrap().kept["home"], "https://eu.p.example");
    for evil in ["https://p.example.evil.com", "http://eu.p.example", "https://eu.p.example@evil.com", "x"] {
        // h6: the grant is kept, its token is not used.
        let answer = judge(evil).unwrap();
        assert!(!answer.kept.contains_key("home"));
        let failure = answer.unfinished.clone().unwrap();
        let tokens = crate::token::Record::default().authorised(answer, Timestamp::now(), None).tokens.unwrap();
        assert!(!tokens.is_alive(Timestamp::UNIX_EPOCH), "{evil}");
        assert_eq!(failure.class(), FailureKind::MalformedAnswer, "{evil}");
        assert!(!failure.to_string().contains(evil) || evil == "x", "{failure}");
    }
}
