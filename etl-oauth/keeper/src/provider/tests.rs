//! Tests of definitions with overrides and metadata.

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

#[test]
fn h15_an_rsa_key_signs_as_the_definition_says_else_as_the_metadata_lists() {
    let told = |list: &str| {
        let document = format!(
            r#"{{"issuer":"https://a.example","token_endpoint":"https://a.example/t",
                "token_endpoint_auth_signing_alg_values_supported":[{list}]}}"#
        );
        Metadata::read("https://a.example", document.as_bytes()).unwrap()
    };
    let provider = |algorithm: &str| {
        let text = format!("issuer = 'https://a.example'\ngrant = 'client_credentials'\n{algorithm}");
        Provider::new("acme", Definition::read("acme.toml", &text).unwrap(), Overrides::default()).unwrap()
    };
    let learned =
        |algorithm: &str, list: &str| provider(algorithm).learned(&told(list), |_| true).unwrap().rsa_algorithm;
    assert_eq!(learned("", r#""ES256","RS512","PS256""#), RsaAlgorithm::Ps256);
    assert_eq!(learned("", r#""RS384""#), RsaAlgorithm::Rs384);
    assert_eq!(learned("", r#""RS256","RS384""#), RsaAlgorithm::Rs256);
    assert_eq!(learned("", r#""ES256""#), RsaAlgorithm::Rs256);
    assert_eq!(learned("assertion.algorithm = 'RS512'", r#""RS256""#), RsaAlgorithm::Rs512);
}

#[test]
fn h7_a_token_url_waits_for_the_redirect_where_there_is_one_and_is_refused_where_there_is_none() {
    let text = "authorize_url = 'https://a.example/a'\ntoken_url = 'https://{prefix}.a.example/t'\n\
                variables.prefix = { from = 'redirect' }\n";
    let read = |more: &str| Definition::read("acme.toml", &format!("{text}{more}"));
    let provider = Provider::new("acme", read("").unwrap(), Overrides::default()).unwrap();
    assert_eq!(provider.redirect_must_bring(), ["prefix"]);
    let wrong = read("grant = 'device_code'\ndevice_url = 'https://a.example/d'").unwrap_err().join("\n");
    assert!(wrong.contains("{prefix} comes with a redirect, and grant = \"device_code\" has none"), "{wrong}");
    let answer = text.replace("'redirect'", "'answer'");
    let wrong = Definition::read("acme.toml", &answer).unwrap_err().join("\n");
    assert!(wrong.contains("is not known before the answer that it is asked for"), "{wrong}");
    // A data centre among known hosts may have a default; and a URL of the configuration needs no redirect.
    let zoho = Provider::new("zoho", Definition::builtin("zoho").unwrap(), Overrides::default()).unwrap();
    assert!(zoho.redirect_must_bring().is_empty());
    let given = Overrides { token_url: checked_url("https://mine.a.example/t").ok(), ..Overrides::default() };
    assert!(Provider::new("acme", read("").unwrap(), given).unwrap().redirect_must_bring().is_empty());
}

#[test]
fn h8_a_variable_in_a_url_of_the_environment_is_filled_in_or_refused() {
    let given = |url: &str| Overrides { api_url: checked_url(url).ok(), ..variables("eu") };
    let base = |url: &str| {
        let provider = Provider::new("acme", acme(), given(url)).map_err(|wrong| wrong.join("\n"))?;
        Ok::<_, String>(provider.api_url.clone().map(String::from).unwrap_or_default())
    };
    assert_eq!(base("https://{subdomain}.acme.example/api").unwrap(), "https://eu.acme.example/api");
    let wrong = base("https://acme.example/{tenant}/api").unwrap_err();
    assert!(wrong.contains("api_url: {tenant} is no variable"), "{wrong}");
    let wrong = base("https://acme.{subdomain}/api").unwrap_err();
    assert!(wrong.contains("must stand before a fixed domain"), "{wrong}");
    assert_eq!(base("https://acme.example/{subdomain}/api").unwrap(), "https://acme.example/eu/api");
    for url in ["https://acme.example/{client_id}", "https://{other}/api"] {
        assert!(base(url).is_err(), "{url}");
    }
    // What an account brings is filled in for the account.
    let late = Provider::new("acme", acme(), given("https://api.acme.example/x")).unwrap();
    assert_eq!(late.api_url.as_ref().unwrap().as_str(), "https://api.acme.example/x");
}

#[test]
fn h4_a_definition_says_how_early_a_renewal_may_come() {
    let text = "token_url = 'https://a.example/t'\nrenew_before = 20";
    let provider = Provider::new("acme", Definition::read("acme.toml", text).unwrap(), Overrides::default()).unwrap();
    assert_eq!(provider.renew_before, Some(Duration::from_secs(20)));
    assert_eq!(crate::renewal::Policy::of(&provider).renew_before, Duration::from_secs(20));
    let wrong = Definition::read("acme.toml", &format!("{text}\nlifetime = 20")).unwrap_err().join("\n");
    assert!(wrong.contains("renew_before: must be less than lifetime"), "{wrong}");
}

#[test]
fn o7_what_is_to_be_registered_of_the_redirect_uri_is_what_the_provider_wants() {
    let redirect = "https://gw.example.com:8443/function/etl-oauth/oauth2/callback".parse().unwrap();
    let strava = Definition::builtin("strava").unwrap().callback;
    assert_eq!((strava.registered, strava.to_register(&redirect).as_str()), (Registered::Domain, "gw.example.com"));
    assert_eq!(Callback::default().to_register(&redirect), String::from(redirect.clone()));
    let origin = Callback { registered: Registered::Origin, ..Callback::default() };
    assert_eq!(origin.to_register(&redirect), "https://gw.example.com:8443");
}
