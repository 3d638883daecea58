//! Small definitions as a user writes them: each means what a reader takes it for.

use token_keeper::grant::Credentials;

use super::*;

fn read(text: &str) -> Definition {
    Definition::read("small.toml", text).unwrap_or_else(|wrong| panic!("{}", wrong.join("\n")))
}

fn ready(text: &str, variables: &[(&str, &str)]) -> Result<Provider, String> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let overrides = Overrides { variables, redirect_uri: Some(REDIRECT.into()), ..Overrides::default() };
    Provider::new("small", read(text), overrides).map_err(|wrong| wrong.join("\n"))
}

fn token_url(text: &str, variables: &[(&str, &str)]) -> Result<String, String> {
    ready(text, variables).map(|provider| provider.token_url.to_string())
}

#[test]
fn a_region_is_one_of_a_list() {
    let hosts = "authorize_url = 'https://{host}/oauth/authorize'\ntoken_url = 'https://{host}/oauth/token'\n\
                 variables.host = { kind = 'host', default = 'app.clio.com', hosts = ['app.clio.com', 'eu.app.clio.com'] }";
    assert_eq!(token_url(hosts, &[]).unwrap(), "https://app.clio.com/oauth/token");
    assert_eq!(token_url(hosts, &[("host", "eu.app.clio.com")]).unwrap(), "https://eu.app.clio.com/oauth/token");
    assert!(token_url(hosts, &[("host", "evil.app.clio.com")]).is_err());

    let open = "authorize_url = 'https://auth.pingone.{tld}/as/authorize'\ntoken_url = 'https://auth.pingone.{tld}/as/token'\n\
                variables.tld = { default = 'com' }";
    let wrong = Definition::read("small.toml", open).unwrap_err().join("\n");
    assert!(
        wrong.contains("small.toml:1: authorize_url: ") && wrong.contains("variables.tld.values = [\"com\", \"eu\"]")
    );
    let closed = open.replace("default", "values = ['com', 'eu', 'asia', 'com.au'], default");
    assert_eq!(token_url(&closed, &[]).unwrap(), "https://auth.pingone.com/as/token");
    assert_eq!(token_url(&closed, &[("tld", "com.au")]).unwrap(), "https://auth.pingone.com.au/as/token");
    assert!(token_url(&closed, &[("tld", "evil")]).is_err());
}

#[test]
fn labels_stand_beside_one_another_have_dots_and_are_segments_too() {
    let two =
        "token_url = 'https://{tenant}.{region}.authz.cloudentity.io/token'\n[variables.tenant]\n[variables.region]";
    let known = [("tenant", "acme"), ("region", "eu")];
    assert_eq!(token_url(two, &known).unwrap(), "https://acme.eu.authz.cloudentity.io/token");
    assert!(token_url(two, &[("tenant", "acme"), ("region", "eu.evil.com/")]).is_err());

    let dot = "token_url = 'https://{env}.pleo.io/token'\nvariables.env = { kind = 'labels' }";
    assert_eq!(token_url(dot, &[("env", "auth.staging")]).unwrap(), "https://auth.staging.pleo.io/token");
    assert_eq!(
        token_url(&dot.replace("kind = 'labels'", ""), &[("env", "auth")]).unwrap(),
        "https://auth.pleo.io/token"
    );

    let path = "token_url = 'https://{subdomain}.bamboohr.com/token.php'\n\
                api_url = 'https://api.bamboohr.com/api/gateway.php/{subdomain}'\n[variables.subdomain]";
    let it = ready(path, &[("subdomain", "acme")]).unwrap();
    assert_eq!(it.api_url.as_ref().unwrap().as_str(), "https://api.bamboohr.com/api/gateway.php/acme");
    let client = "authorize_url = 'https://partners.checkr.com/authorize/{client_id}'\n\
                  token_url = 'https://api.checkr.com/oauth/tokens'";
    assert!(authorize(&ready(client, &[]).unwrap()).starts_with("https://partners.checkr.com/authorize/id?"));
}

#[test]
fn a_login_without_a_client_needs_no_client() {
    let login = "token_url = 'https://api.agencyzoom.com/v1/api/auth/login'\napi_url = 'https://api.agencyzoom.com'\n\
                 grant = 'client_credentials'\nclient_auth = 'none'\ntoken.format = 'json'\n\
                 token.params = { grant_type = '', client_id = '', username = '{user}', password = '{word}' }\n\
                 answer = { access_token = ['jwt'], token_type = [] }\n\
                 variables.user = { from = 'secret', at = 'api-user' }\n\
                 variables.word = { from = 'secret', at = 'api-password' }";
    let it = ready(login, &[]).unwrap();
    assert!(Credentials::needed_by(&it, it.said_client_auth()).is_empty());
    assert_eq!(Credentials::named(&it).collect::<Vec<_>>(), ["api-user", "api-password"]);
    let answer = grant::judge_token(&it, &raw(r#"{"jwt":"t","token_type":"odd"}"#)).unwrap();
    assert_eq!((answer.access_token.expose(), answer.unfinished.is_none()), ("t", true));
}

#[test]
fn a_base_keeps_its_path_and_loses_its_last_slash() {
    let origin = "token_url = 'https://api.example.com/token'\ngrant = 'client_credentials'\napi_url = '{server}'\n\
                  variables.server = { kind = 'origin' }";
    let it = ready(origin, &[("server", "https://api.example.com/v1/")]).unwrap();
    assert_eq!(it.api_url.as_ref().unwrap().as_str(), "https://api.example.com/v1");
    let told = origin.replace("kind = 'origin'", "kind = 'origin', from = 'answer', hosts = ['*.example.com']");
    let it = ready(&told, &[]).unwrap();
    let answer =
        grant::judge_token(&it, &raw(r#"{"access_token":"a","server":"https://eu.example.com/v1/"}"#)).unwrap();
    assert_eq!(it.with(&answer.kept).api_url.as_ref().unwrap().as_str(), "https://eu.example.com/v1");
    let evil =
        grant::judge_token(&it, &raw(r#"{"access_token":"a","server":"https://example.com.evil.test/v1/"}"#)).unwrap();
    assert!(evil.unfinished.is_some());
}

#[test]
fn a_tenant_comes_with_the_redirect_and_nothing_is_sent_without_it() {
    let text = "authorize_url = 'https://secure.retail.lightspeed.app/connect'\n\
                token_url = 'https://{domain_prefix}.retail.lightspeed.app/api/1.0/token'\n\
                api_url = 'https://{domain_prefix}.retail.lightspeed.app'\n";
    for variable in ["from = 'redirect'", "from = 'redirect', default = 'other'"] {
        let it = ready(&format!("{text}variables.domain_prefix = {{ {variable} }}"), &[]).unwrap();
        assert_eq!(it.redirect_must_bring(), ["domain_prefix"], "{variable}");
        let back = it.with(&[("domain_prefix".to_owned(), "acme".to_owned())].into());
        assert_eq!(code(&back).url().as_str(), "https://acme.retail.lightspeed.app/api/1.0/token");
    }
}

#[test]
fn a_statement_is_a_bearer_or_the_token_itself() {
    let app = "token_url = 'https://api.github.com/app/installations/{installation}/access_tokens'\n\
               api_url = 'https://api.github.com'\ngrant = 'client_credentials'\nclient_auth = 'private_key_jwt'\n\
               token.headers = { Authorization = 'Bearer {client_assertion}' }\n\
               token.params = { grant_type = '', client_id = '', client_assertion = '', client_assertion_type = '' }\n\
               answer = { access_token = ['token'] }\nvariables.installation = { kind = 'segment' }";
    let it = ready(app, &[("installation", "42")]).unwrap();
    let client = Client { id: "id".into(), assertion: Some(Secret::new("e.y.J")), ..Client::default() };
    let request = grant::client_credentials(&it, &client);
    assert_eq!((request.authorization().unwrap().to_str().unwrap(), request.body()), ("Bearer e.y.J", ""));
    let needed = Credentials::needed_by(&it, it.said_client_auth());
    assert_eq!(needed, ["oauth2-client-id", "oauth2-private-key"]);

    let own = "api_url = 'https://api.appstoreconnect.apple.com'\ngrant = 'jwt_bearer'\n\
               assertion = { audience = 'appstoreconnect-v1' }";
    let it = ready(own, &[]).unwrap();
    assert!(it.is_self_signed() && it.assertion_audience() == "appstoreconnect-v1");
    assert_eq!(Credentials::needed_by(&it, it.said_client_auth()), ["oauth2-client-id", "oauth2-private-key"]);

    let key = "token_url = 'https://api.example.com/token'\ngrant = 'client_credentials'\napi_url = 'https://api.example.com'\n\
               api.headers = { X-Api-Key = '{key}' }\nvariables.key = { from = 'secret', at = 'api-key' }";
    let facts = token_keeper::api::Facts::of(&ready(key, &[]).unwrap(), "id").unwrap();
    assert_eq!((facts.later, facts.headers.len()), (token_keeper::api::Later::Secrets, 0));
}
