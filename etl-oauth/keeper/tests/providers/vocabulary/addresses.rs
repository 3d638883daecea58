//! Where requests go: variables, kept values, places of their own.

use super::*;

#[test]
fn url_variables() {
    let variables = [("subdomain", "acme"), ("tenant", "t-1"), ("server", "eu.a.example")];
    let it = with("URL variables", &variables);
    assert!(authorize(&it).starts_with("https://acme.a.example/t-1/authorize?"));
    assert_eq!(it.token_url.as_str(), "https://eu.a.example/token");
    assert_eq!(it.api_url.unwrap().as_str(), "https://api-eu.a.example/");
    // Whatever could lead elsewhere: another host, a port, a user, an encoded slash, a way up, another alphabet.
    for (name, evil) in [
        ("subdomain", "evil.com/"),
        ("subdomain", "a@evil"),
        ("subdomain", "evil#"),
        ("subdomain", "a%2f"),
        ("subdomain", "a:1"),
        ("subdomain", "еxample"),
        ("subdomain", "a.b"),
        ("tenant", ".."),
        ("tenant", "a/b"),
        ("tenant", "a%2Fb"),
        ("tenant", "a?b"),
        ("server", "evil.com"),
        ("server", "a.test:1"),
        ("server", "a.test/x"),
        ("server", "u@a.test"),
        ("server", "evil.com#.a.example"),
        ("server", "xn--80ak6aa92e.com"),
    ] {
        let given = variables.map(|(known, value)| (known, if known == name { evil } else { value }));
        let variables = given.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let overrides = Overrides { variables, ..Overrides::default() };
        let wrong = Provider::new("example", example("URL variables", 0), overrides).unwrap_err();
        assert!(wrong.len() == 1 && wrong[0].starts_with(&format!("provider_{name} must be ")), "{evil}: {wrong:?}");
    }
}

#[test]
fn h7_a_tenant_of_the_redirect() {
    let it = provider("A tenant of the redirect");
    assert_eq!(it.redirect_must_bring(), ["prefix"]);
    let back = it.with(&[("prefix".to_owned(), "acme".to_owned())].into());
    assert_eq!(code(&back).url().as_str(), "https://acme.a.example/token");
    assert_eq!(renewal(&back).url().as_str(), "https://acme.a.example/token");
}

#[test]
fn another_address_for_renewals() {
    let it = provider("Another address for renewals");
    assert_eq!((code(&it).url().path(), renewal(&it).url().path()), ("/token", "/refresh"));
}

#[test]
fn kept_values() {
    let it = provider("Kept values");
    assert_eq!((it.token_url.as_str(), &it.api_url), ("https://accounts.a.example/token", &None));
    let redirect: Values =
        [("accounts", "https://accounts.a.test"), ("realm", "42")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let back = it.with(&redirect);
    assert_eq!(code(&back).url().as_str(), "https://accounts.a.test/token");
    let answer = r#"{"access_token":"a","org":{"api":{"url":"https://eu.a.example"}}}"#;
    let answer = grant::consented(&back, grant::judge_token(&back, &raw(answer)).unwrap(), &redirect);
    let account = it.with(&answer.kept);
    assert_eq!(account.api_url.as_ref().unwrap().as_str(), "https://eu.a.example/42");
    assert_eq!(renewal(&account).url().as_str(), "https://accounts.a.test/token");
    let evil = r#"{"access_token":"a","org":{"api":{"url":"https://evil.test"}}}"#;
    let evil = grant::judge_token(&it, &raw(evil)).unwrap();
    assert_eq!(evil.unfinished.as_ref().unwrap().class(), FailureKind::MalformedAnswer);
    assert!(evil.kept.is_empty());
}

#[test]
fn odd_authorization_urls() {
    assert_eq!(
        authorize(&provider("Odd authorization URLs")),
        "https://a.example/app#/oauth?response_type=code&client_id=id&redirect_uri=https://f.example/cb&state=st"
    );
}

#[test]
fn o7_h15_what_is_registered() {
    let it = provider("What is registered");
    let redirect = "https://f.example/function/x/oauth2/callback".parse().unwrap();
    assert_eq!(it.callback.to_register(&redirect), "f.example");
    assert_eq!(it.rsa_algorithm.name(), "PS256");
}

#[test]
fn regions_and_top_level_domains() {
    let it = with("Regions and top-level domains", &[("tenant", "acme")]);
    assert!(authorize(&it).starts_with("https://acme.login.a.com/authorize?"), "{}", authorize(&it));
    let it = with("Regions and top-level domains", &[("tenant", "acme"), ("tld", "com.au"), ("region", "-eu")]);
    assert_eq!(it.token_url.as_str(), "https://acme.login.a.com.au/token");
    assert_eq!(it.api_url.as_ref().unwrap().as_str(), "https://api-eu.a.com.au/v1/acme");
    for (name, evil) in [("tld", "net"), ("tld", "com/"), ("region", "-us.evil.com/"), ("tld", "COM")] {
        let variables = [("tenant".to_owned(), "acme".to_owned()), (name.to_owned(), evil.to_owned())].into();
        let overrides = Overrides { variables, ..Overrides::default() };
        let wrong =
            Provider::new("example", example("Regions and top-level domains", 0), overrides).unwrap_err().join("\n");
        assert!(wrong.starts_with(&format!("provider_{name} must be one of ")), "{wrong}");
    }
    let two = |variables: &[(&str, &str)]| {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let overrides = Overrides { variables, ..Overrides::default() };
        Provider::new("example", example("Regions and top-level domains", 1), overrides)
    };
    let it = two(&[("stage", "auth.staging"), ("cell", "eu-1"), ("tenant", "t1")]).unwrap();
    assert_eq!(it.token_url.as_str(), "https://t1.eu-1.a.example/token");
    assert_eq!(it.api_url.as_ref().unwrap().as_str(), "https://auth.staging.a.example/");
    assert!(two(&[("stage", "a..b"), ("cell", "eu-1"), ("tenant", "t1")]).is_err());
    assert!(two(&[("stage", "a"), ("cell", "eu.evil"), ("tenant", "t1")]).is_err());
}

#[test]
fn the_clients_id_in_an_address() {
    let it = provider("The client's id in an address");
    assert!(authorize(&it).starts_with("https://a.example/authorize/id?response_type=code&"));
    assert_eq!(code(&it).url().as_str(), "https://a.example/token?app=id");
    let odd = Client { id: "a/b?c#".into(), ..client() };
    let request = grant::authorization_code(&it, &odd, "c", "r", None);
    assert_eq!(request.url().as_str(), "https://a.example/token?app=a%2Fb%3Fc%23");
}

#[test]
fn a_server_with_a_path() {
    let it = with("A server with a path", &[("server", "https://host.example:8443/jira/")]);
    assert!(authorize(&it).starts_with("https://host.example:8443/jira/rest/oauth2/latest/authorize?"));
    assert_eq!(it.token_url.as_str(), "https://host.example:8443/jira/rest/oauth2/latest/token");
    assert_eq!(it.api_url.as_ref().unwrap().as_str(), "https://host.example:8443/jira");
}
