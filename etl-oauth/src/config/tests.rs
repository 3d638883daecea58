mod connections;

use std::collections::HashMap;

use super::*;
use token_keeper::renewal::Renew;

struct Setting {
    folder: tempfile::TempDir,
    variables: HashMap<&'static str, String>,
}

impl Setting {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let it = Self { folder, variables: HashMap::new() };
        for name in ["oauth2-client-id", "oauth2-client-secret", "basic-auth-password"] {
            it.mount(name, "value");
        }
        for name in ["oauth2-access-token", "oauth2-refresh-token"] {
            it.mount(name, "empty");
        }
        it.set("provider", "gumroad").set("public_url", "https://g.example/function/etl-oauth/")
    }

    fn set(mut self, name: &'static str, value: &str) -> Self {
        self.variables.insert(name, value.to_owned());
        self
    }

    fn mount(&self, name: &str, value: &str) {
        std::fs::write(self.folder.path().join(name), value).unwrap();
    }

    fn unmount(&self, name: &str) {
        std::fs::remove_file(self.folder.path().join(name)).unwrap();
    }

    fn read(&self) -> Result<Config, Mistakes> {
        Config::read(|name| match name {
            "secret_mount_path" => Some(self.folder.path().display().to_string()),
            name => self.variables.get(name).cloned(),
        })
    }

    fn mistakes(&self) -> Vec<String> {
        self.read().unwrap_err().lines().to_vec()
    }
}

#[test]
fn the_least_that_works_has_the_documented_defaults() {
    let config = Setting::new().read().unwrap();
    assert_eq!(config.connections[0].redirect_uri(), "https://g.example/function/etl-oauth/oauth2/callback");
    assert_eq!(config.store_options.gateway_url.unwrap().as_str(), "http://gateway.openfaas:8080/");
    assert_eq!(config.connections[0].policy.renew_before, Duration::from_secs(60));
    assert_eq!(config.connections[0].policy.lease, Duration::from_secs(30));
    assert_eq!(config.state_lifetime, Duration::from_secs(600));
    assert_eq!(config.enable_auth, EnableAuth::FirstVisit);
    assert!(!config.show_result);
}

#[test]
fn every_mistake_is_told_at_once_and_names_its_variable_or_secret() {
    let it = Setting::new()
        .set("provider", "nobody")
        .set("public_url", "http://g.example/f")
        .set("token_url", "gumroad.com")
        .set("lease", "5 parsecs")
        .set("renew", "sometimes")
        .set("show_result", "yes")
        .set("client_auth", "magic")
        .set("job", "nothing")
        .set("store", "paper");
    it.unmount("oauth2-client-id");
    it.mount("oauth2-client-secret", "");
    it.unmount("oauth2-refresh-token");
    let text = it.mistakes().join("\n");
    for wanted in [
        "provider=nobody is not known: `etl-oauth providers` lists",
        "public_url must begin with https://",
        "token_url is not an absolute URL",
        "lease is not a duration such as 10s, 1m30s or 90, but `5 parsecs`",
        "renew must be one of before_expiry, each_run, on_401, and is `sometimes`",
        "show_result must be one of true, 1, false, 0, and is `yes`",
        "client_auth is set to `magic`, expected one of `basic`",
        "job must be one of none, gumroad, strava, x, extract, and is `nothing`",
        "store must be one of gateway, kubernetes, nats, postgres, file, and is `paper`",
        "secret oauth2-client-id is missing",
        "secret oauth2-client-secret is empty",
        "secret oauth2-refresh-token is missing",
    ] {
        assert!(text.contains(wanted), "{wanted}\n--\n{text}");
    }
}

#[test]
fn an_unset_variable_and_an_empty_one_are_the_same() {
    assert!(Setting::new().set("token_url", "").set("scope", " ").read().is_ok());
    let mistakes = Setting::new().set("public_url", "").mistakes();
    assert_eq!(mistakes, ["public_url is not set: it is the function's URL as a browser sees it"]);
}

#[test]
fn a_call_may_not_outlast_its_lease() {
    let it = Setting::new().set("token_timeout", "30").set("lease", "30s");
    assert!(it.mistakes()[0].contains("token_timeout must be shorter than lease"));
}

#[test]
fn the_record_layout_needs_its_one_secret_alone() {
    let it = Setting::new();
    it.unmount("oauth2-access-token");
    it.unmount("oauth2-refresh-token");
    assert_eq!(it.mistakes().len(), 2);
    it.mount("oauth2-token", "empty");
    assert!(it.read().is_ok());
}

#[test]
fn a_mounted_operator_closes_the_enable_page_to_others() {
    let it = Setting::new();
    it.mount("etl-oauth-operator", "s3");
    assert_eq!(it.read().unwrap().enable_auth, EnableAuth::Operator);
    let it = it.set("enable_auth", "first_visit");
    assert_eq!(it.read().unwrap().enable_auth, EnableAuth::FirstVisit);
    let it = Setting::new().set("enable_auth", "operator");
    assert!(it.mistakes()[0].contains("needs the secret etl-oauth-operator"));
}

#[test]
fn a_prefix_stands_before_every_secret() {
    let it = Setting::new().set("secret_prefix", "mine-");
    assert!(it.mistakes().iter().all(|line| line.contains("secret mine-")));
}

#[test]
fn no_mistake_shows_a_secret() {
    let it = Setting::new().set("store", "paper");
    it.mount("oauth2-client-secret", "marker");
    assert!(!format!("{:?} {}", it.read(), it.mistakes().join(" ")).contains("marker"));
}

#[test]
fn each_grant_names_the_secrets_that_it_lacks_and_wants_no_others() {
    for (grant, lacks) in [
        ("static", vec!["api-token"]),
        ("basic", vec!["api-user", "api-password"]),
        ("jwt_bearer", vec!["oauth2-private-key"]),
        ("token_exchange", vec![]),
        ("client_credentials", vec!["oauth2-client-id", "oauth2-client-secret"]),
    ] {
        let it = Setting::new().set("grant", grant).set("provider", "custom").set("token_url", "https://a.example/t");
        it.unmount("oauth2-client-id");
        it.unmount("oauth2-client-secret");
        let mistakes = it.read().map_or_else(|mistakes| mistakes.lines().to_vec(), |_| Vec::new());
        let named = |name: &&str| mistakes.iter().any(|line| line.contains(&format!("secret {name} is missing")));
        assert!(lacks.iter().all(named) && mistakes.len() == lacks.len(), "{grant}: {mistakes:?}");
    }
}

#[test]
fn a_certificate_is_asked_for_by_its_secret_and_must_be_one() {
    let it = Setting::new().set("client_auth", "tls_client_auth");
    let lacks = ["oauth2-client-certificate", "oauth2-private-key"];
    assert_eq!(it.mistakes().len(), lacks.len(), "{:?}", it.mistakes());
    for name in lacks {
        assert!(it.mistakes().iter().any(|line| line.contains(&format!("secret {name} is missing"))), "{name}");
        it.mount(name, "marker");
    }
    let mistakes = it.mistakes();
    assert!(
        mistakes.len() == 1 && mistakes[0].contains("secret oauth2-client-certificate is no certificate"),
        "{mistakes:?}"
    );
}

#[test]
fn a_definition_names_further_secrets_and_they_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("acme.toml");
    let text = "token_url = 'https://a.example/t'\ngrant = 'client_credentials'\nclient_auth = 'none'\n[token.params]\n\
                grant_type = 'password'\npassword = '{word}'\n[variables.word]\nfrom = 'secret'\nat = 'api-password'";
    std::fs::write(&file, text).unwrap();
    let it = Setting::new().set("provider", "").set("provider_file", file.to_str().unwrap());
    let mistakes = it.mistakes();
    assert!(mistakes.len() == 1 && mistakes[0].contains("secret api-password is missing"), "{mistakes:?}");
    it.mount("api-password", "w");
    assert!(it.read().is_ok(), "a client without a proof of its own shows a password");
}

#[test]
fn a_grant_without_a_redirect_needs_no_address_of_its_own() {
    let it = Setting::new().set("grant", "client_credentials").set("public_url", "").set("provider", "custom");
    let config = it.set("token_url", "https://a.example/t").read().unwrap();
    assert_eq!(config.public_url.as_str(), "http://gateway.openfaas:8080/function/etl-oauth");
}

#[test]
fn an_issuer_alone_is_enough_and_is_kept_to_the_letter() {
    let it = Setting::new().set("provider", "custom").set("issuer", "https://a.example/t/");
    let provider = it.read().unwrap().connections.remove(0).provider;
    assert_eq!((provider.issuer.as_deref(), provider.discovers), (Some("https://a.example/t/"), true));
    let it = Setting::new().set("provider", "custom").set("issuer", "http://a.example").set("resource", "a b");
    let text = it.mistakes().join("\n");
    for wanted in ["issuer must begin with https://", "resource must hold absolute URIs"] {
        assert!(text.contains(wanted), "{wanted}\n--\n{text}");
    }
}

#[test]
fn what_cannot_go_together_is_told() {
    let base = || Setting::new().set("provider", "custom").set("token_url", "https://a.example/t");
    let told = |it: Setting, wanted: &str| {
        let text = it.mistakes().join("\n");
        assert!(text.contains(wanted), "{wanted}\n--\n{text}");
    };
    told(base().set("grant", "client_credentials").set("client_auth", "none"), "client_auth=none does not");
    told(
        base().set("grant", "device_code"),
        "no device authorization endpoint: set the variable device_url, or issuer",
    );
    told(base().set("grant", "client_credentials").set("dpop", "true"), "list the secret oauth2-token");
    told(base().set("grant", "password"), "grant must be one of authorization_code, device_code,");
    let it = base().set("grant", "client_credentials").set("client_auth", "private_key_jwt");
    it.mount("oauth2-private-key", "marker");
    told(it, "secret oauth2-private-key is no private key");
}

#[test]
fn a_duration_that_leaves_the_calendar_is_none() {
    for long in ["100000000h", "9999999999s"] {
        let mistakes = Setting::new().set("state_lifetime", long).mistakes();
        assert!(mistakes.iter().any(|line| line.starts_with("state_lifetime is not a duration")), "{mistakes:?}");
    }
    assert!(Setting::new().set("state_lifetime", "2562047h47m16s").read().is_ok(), "Go's longest");
}

#[test]
fn a_definition_of_ones_own_is_read_from_a_file_and_named_after_it() {
    let it = Setting::new();
    let file = it.folder.path().join("acme.toml");
    std::fs::write(
        &file,
        "authorize_url = 'https://{tenant}.acme.example/a'\ntoken_url = 'https://acme.example/t'\n[variables.tenant]",
    )
    .unwrap();
    let path = file.display().to_string();
    let it = it.set("provider", "").set("provider_file", &path).set("provider_tenant", "eu");
    let config = it.read().unwrap();
    assert_eq!(config.connections[0].provider.name, "acme");
    assert_eq!(config.connections[0].provider.authorize_url.as_ref().unwrap().as_str(), "https://eu.acme.example/a");
    let it = it.set("provider_tenant", "eu/").set("provider", "gumroad");
    let mistakes = it.mistakes();
    assert!(mistakes[0].starts_with("provider=gumroad is not what provider_file brings"), "{mistakes:?}");
    assert!(mistakes[1].starts_with("provider_tenant must be one part of a host name"), "{mistakes:?}");
    let it = it.set("provider", "acme");
    std::fs::write(&file, "tokenurl = ''").unwrap();
    assert!(it.mistakes()[0].starts_with(&format!("{path}:1: tokenurl: is no key")), "{:?}", it.mistakes());
    std::fs::remove_file(&file).unwrap();
    assert!(it.mistakes()[0].starts_with(&format!("provider_file={path}: cannot be read")), "{:?}", it.mistakes());
}

#[test]
fn custom_needs_variables_alone() {
    let it = Setting::new()
        .set("provider", "custom")
        .set("authorize_url", "https://p.example/a")
        .set("token_url", "https://p.example/t")
        .set("client_auth", "post");
    let provider = it.read().unwrap().connections.remove(0).provider;
    assert_eq!((provider.name.as_str(), provider.token_url.as_str()), ("custom", "https://p.example/t"));
}

#[test]
fn the_platforms_own_exchange_is_a_route_of_its_gateway_within_the_cluster() {
    let at = |grant: &str, url: &str| {
        let it = Setting::new().set("provider", "custom").set("grant", grant).set("scope", "function");
        it.unmount("oauth2-client-secret");
        it.set("token_url", url).set("api_url", "http://gateway.openfaas:8080/function").set("client_auth", "none")
    };
    let config = at("token_exchange", "http://gateway.openfaas:8080/oauth/token").read().unwrap();
    assert_eq!(config.connections[0].provider.token_url.as_str(), "http://gateway.openfaas:8080/oauth/token");
    assert_eq!(
        config.connections[0].provider.api_url.as_ref().unwrap().as_str(),
        "http://gateway.openfaas:8080/function"
    );
    // The gateway that is configured, and no other.
    let moved =
        at("token_exchange", "http://gateway.openfaas:8080/oauth/token").set("gateway_url", "http://g.other:8080");
    assert!(moved.mistakes().iter().any(|line| line.starts_with("token_url must begin with https://")));
    let other = at("token_exchange", "http://as.openfaas/token").mistakes();
    assert!(other.iter().any(|line| line.starts_with("token_url must begin with https://")), "{other:?}");
    // A person's tokens, and a client's secret, never go without TLS.
    for grant in ["authorization_code", "client_credentials", "jwt_bearer"] {
        let wrong = at(grant, "http://gateway.openfaas:8080/oauth/token").mistakes();
        for name in ["token_url", "api_url"] {
            let told = format!("{name} must begin with https://");
            assert!(wrong.iter().any(|line| line.starts_with(&told)), "{grant}: {wrong:?}");
        }
    }
}

#[test]
fn o11_a_misspelt_variable_is_a_mistake_with_the_nearest_name() {
    let it = Setting::new();
    let folder = it.folder.path().display().to_string();
    let get =
        |name: &str| if name == "secret_mount_path" { Some(folder.clone()) } else { it.variables.get(name).cloned() };
    let read = |set: &[&str]| Config::of(&mut Strings::new(&get), set.iter().map(|name| (*name).to_owned()), None);
    let mistakes = read(&["min_run_intervall", "HOSTNAME", "fprocess", "database_url"]).unwrap_err();
    assert_eq!(mistakes.lines(), ["min_run_intervall is not known: is it min_run_interval that is meant?"]);
    assert!(read(&["min_run_interval", "exec_timeout", "record_of", "extract_file"]).is_ok());
}

#[test]
fn durations_are_those_of_go_and_of_the_template() {
    for (text, millis) in [(".5s", 500), ("1.s", 1000), ("1m30s", 90_000), ("90", 90_000)] {
        let config = Setting::new().set("state_lifetime", text).read().unwrap();
        assert_eq!(config.state_lifetime, Duration::from_millis(millis), "{text}");
    }
    let mistakes = Setting::new().set("state_lifetime", "1m 30s").mistakes();
    assert_eq!(mistakes, ["state_lifetime is not a duration such as 10s, 1m30s or 90, but `1m 30s`"]);
}
