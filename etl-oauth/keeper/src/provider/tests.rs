use super::*;

#[test]
fn an_override_wins_and_the_rest_stays() {
    let overrides = Overrides { token_url: Some("http://127.0.0.1:1/t".parse().unwrap()), ..Overrides::default() };
    let provider = Provider::new("gumroad", Definition::builtin("gumroad").unwrap(), overrides).unwrap();
    assert_eq!(provider.token_url.as_str(), "http://127.0.0.1:1/t");
    assert_eq!(provider.refresh_url, provider.token_url);
    assert_eq!(provider.authorize_url.as_ref().unwrap().as_str(), "https://gumroad.com/oauth/authorize");
    assert_eq!(provider.client_auth, ClientAuth::Post);
    assert_eq!(provider.definition().token_url.as_deref(), Some("http://127.0.0.1:1/t"));
}

#[test]
fn a_provider_without_a_token_endpoint_names_the_variable() {
    let wrong = Provider::new("custom", Definition::default(), Overrides::default()).unwrap_err();
    assert_eq!(wrong, ["provider custom has no token endpoint: set the variable token_url, or issuer"]);
    let made_by_hand = Overrides { grant: Some(Grant::Static), ..Overrides::default() };
    assert!(Provider::new("custom", Definition::default(), made_by_hand).is_ok(), "it needs no endpoint");
}

#[test]
fn what_a_server_tells_fills_the_gaps_and_overrides_nothing() {
    let definition = Definition { issuer: Some("https://a.example".into()), ..Definition::default() };
    let overrides = Overrides { token_url: checked_url("https://mine.example/t").ok(), ..Overrides::default() };
    let provider = Provider::new("custom", definition.clone(), overrides).unwrap();
    assert!(provider.discovers, "the authorization endpoint is missing");
    let document = br#"{"issuer":"https://a.example","token_endpoint":"https://a.example/t",
        "authorization_endpoint":"https://a.example/a","code_challenge_methods_supported":["plain"],
        "token_endpoint_auth_methods_supported":["client_secret_post","private_key_jwt","none"]}"#;
    let told = Metadata::read("https://a.example", document).unwrap();
    let learned = provider.learned(&told, |auth| auth != ClientAuth::PrivateKeyJwt).unwrap();
    assert_eq!((learned.token_url.as_str(), &learned.refresh_url), ("https://mine.example/t", &learned.token_url));
    assert_eq!(learned.authorize_url.as_ref().unwrap().as_str(), "https://a.example/a");
    assert_eq!((learned.client_auth, learned.pkce), (ClientAuth::Post, Pkce::Off));
    let said = Overrides { client_auth: Some(ClientAuth::Basic), pkce: Some(Pkce::S256), ..Overrides::default() };
    let learned = Provider::new("custom", definition.clone(), said).unwrap().learned(&told, |_| true).unwrap();
    assert_eq!((learned.client_auth, learned.pkce), (ClientAuth::Basic, Pkce::S256));
    assert_eq!(learned.token_url.as_str(), "https://a.example/t");

    let device = Overrides { grant: Some(Grant::DeviceCode), ..Overrides::default() };
    let device = Provider::new("custom", definition, device).unwrap();
    assert_eq!(device.learned(&told, |_| true).unwrap_err(), "device_authorization_endpoint");
}

fn acme() -> Definition {
    let text = "token_url = 'https://{subdomain}.acme.example/token'\napi_url = '{instance}/api'\n\
                [variables.subdomain]\nabout = 'the first part of your address'\n\
                [variables.instance]\nkind = 'origin'\nfrom = 'answer'\nhosts = ['*.acme.example']";
    Definition::read("acme.toml", text).unwrap()
}

fn variables(subdomain: &str) -> Overrides {
    Overrides { variables: [("subdomain".to_owned(), subdomain.to_owned())].into(), ..Overrides::default() }
}

#[test]
fn a_url_variable_is_set_checked_and_asked_for() {
    let provider = Provider::new("acme", acme(), variables("eu-1")).unwrap();
    assert_eq!(provider.token_url.as_str(), "https://eu-1.acme.example/token");
    let wrong = Provider::new("acme", acme(), variables("evil.example/#")).unwrap_err();
    assert_eq!(
        wrong[0],
        "provider_subdomain must be one part of a host name, such as acme: letters, digits and hyphens"
    );
    let wrong = Provider::new("acme", acme(), Overrides::default()).unwrap_err();
    assert_eq!(wrong, ["provider acme needs the variable provider_subdomain: the first part of your address"]);
    let overrides = Overrides { token_url: Some("https://o.example/t".parse().unwrap()), ..Overrides::default() };
    assert!(Provider::new("acme", acme(), overrides).is_ok(), "nothing uses the variable any more");
}

#[test]
fn a_value_kept_from_the_answer_moves_the_api_and_only_to_hosts_that_are_allowed() {
    let provider = Provider::new("acme", acme(), variables("a")).unwrap();
    assert_eq!(provider.api_url, None);
    let with = |instance: &str| {
        let kept = [("instance".to_owned(), instance.to_owned()), ("other".to_owned(), "x".to_owned())].into();
        provider.with(&kept).api_url.clone().map(String::from)
    };
    assert_eq!(with("https://na1.acme.example").as_deref(), Some("https://na1.acme.example/api"));
    assert_eq!(with("https://evil.example"), None);
    assert!(matches!(provider.with(&Values::new()), Cow::Borrowed(_)));
}

#[test]
fn a_statement_is_for_the_server_that_the_variables_name() {
    let salesforce = |login: Option<&str>, said: Option<&str>| {
        let variables = login.map(|login| ("login".to_owned(), login.to_owned())).into_iter().collect();
        let assertion = AssertionTerms { audience: said.map(str::to_owned), ..AssertionTerms::default() };
        let overrides = Overrides { variables, assertion, ..Overrides::default() };
        let provider = Provider::new("salesforce", Definition::builtin("salesforce").unwrap(), overrides).unwrap();
        provider.assertion_audience().into_owned()
    };
    assert_eq!(salesforce(None, None), "https://login.salesforce.com");
    assert_eq!(salesforce(Some("test.salesforce.com"), None), "https://test.salesforce.com");
    let own = salesforce(Some("acme--uat.sandbox.my.salesforce.com"), Some("https://test.salesforce.com"));
    assert_eq!(own, "https://test.salesforce.com");
}
