//! The file of connections.

use super::*;

/// A file of connections beside the secrets, and no provider in the environment.
fn several(file: &str) -> Setting {
    let it = Setting::new().set("provider", "").set("connections_file", "connections.toml").set("store", "kubernetes");
    let it = it.set("job", "none");
    it.mount("connections.toml", file);
    for name in ["google", "slack"] {
        it.mount(&format!("{name}-oauth2-client-id"), name);
        it.mount(&format!("{name}-oauth2-client-secret"), "value");
    }
    it
}

const TWO: &str = "[connections.slack]\nprovider = 'slack'\n[connections.google]\nprovider = 'google'\n\
                   scope = 'https://www.googleapis.com/auth/calendar.readonly'\nrenew = 'each_run'\ntoken_timeout = 5\n";

#[test]
fn a_file_holds_named_connections_each_with_secrets_rules_and_a_redirect_uri_of_its_own() {
    let it = several(TWO);
    let config = it.read().unwrap();
    let names: Vec<_> = config.connections.iter().map(|connection| connection.name.as_str()).collect();
    assert_eq!(names, ["google", "slack"]);
    let google = config.connection("google").unwrap();
    assert_eq!(google.redirect_uri(), "https://g.example/function/etl-oauth/oauth2/callback/google");
    assert_eq!(google.provider.scope, ["https://www.googleapis.com/auth/calendar.readonly"]);
    assert_eq!((google.policy.renew, google.policy.token_timeout), (Renew::EachRun, Duration::from_secs(5)));
    assert_eq!(google.secrets.require("oauth2-client-id").unwrap().expose(), "google");
    assert_eq!(config.connection("slack").unwrap().policy.renew, Renew::BeforeExpiry);
    assert!(config.implied_connection().is_none() && config.connection("default").is_none());
    assert_eq!(config.job_connections().len(), 2, "without a job a call keeps all tokens alive");
}

#[test]
fn a_mistake_is_a_line_that_can_be_read_however_many_providers_there_are() {
    for it in [several("[connections.slack]\n"), several("[connections.slack]\nprovider = 'qqqqqqqq'\n")] {
        let mistakes = it.mistakes();
        assert!(mistakes.iter().all(|line| line.len() < 250), "{mistakes:?}");
        assert!(mistakes.iter().any(|line| line.contains("`etl-oauth providers` lists")), "{mistakes:?}");
    }
}

#[test]
fn a_table_called_default_uses_the_nameless_secrets_and_is_meant_where_none_is_named() {
    let config = several(&format!("{TWO}[connections.default]\nprovider = 'gumroad'\n")).read().unwrap();
    let default = config.implied_connection().unwrap();
    assert_eq!(default.redirect_uri(), "https://g.example/function/etl-oauth/oauth2/callback");
    assert_eq!(default.secrets.name("oauth2-client-id"), "oauth2-client-id");
    let only = several("[connections.slack]\nprovider = 'slack'").read().unwrap();
    assert_eq!(only.implied_connection().unwrap().name, "slack");
}

#[test]
fn mistakes_of_the_file_come_all_at_once_with_line_and_nearest_name() {
    let it = several(
        "[connections.slak]\nprovider = 'slak'\n[connections.google]\nprovder = 'google'\nprovider = 'google'\n\
         renew = 'sometimes'\nscope = ['a']\n[connection.x]\n[connections.No_Name]\nprovider = 'gumroad'\n",
    );
    it.mount("slak-oauth2-client-id", "value");
    let mistakes = it.mistakes();
    let wanted = [
        "connections.toml:1: connections.slak: secret slak-oauth2-client-secret is missing in ",
        "connections.toml:2: connections.slak.provider: provider=slak is not known: is it slack that is meant?",
        "connections.toml:4: connections.google.provder: is not known: is it provider that is meant?",
        "connections.toml:6: connections.google.renew: must be one of before_expiry, each_run, on_401",
        "connections.toml:7: connections.google.scope: must be a string",
        "connections.toml:8: connection: is not known: is it connections that is meant?",
        "connections.toml:9: connections.No_Name: a connection's name has lower-case letters",
    ];
    for wanted in wanted {
        assert!(mistakes.iter().any(|line| line.starts_with(wanted)), "{wanted}\n--\n{}", mistakes.join("\n"));
    }
    let lines: Vec<usize> = mistakes.iter().map(|line| line.split(':').nth(1).unwrap().parse().unwrap()).collect();
    assert!(lines.is_sorted(), "{mistakes:?}");
    assert!(several("[connections").mistakes()[0].starts_with("connections.toml:1: "));
    assert!(several("").mistakes()[0].starts_with("connections.toml:1: connections: is missing"));
    let gone = several(TWO).set("connections_file", "/no/such/file");
    assert!(
        gone.mistakes()[0].starts_with("connections_file=/no/such/file cannot be read at /no/such/file: "),
        "{:?}",
        gone.mistakes()
    );
}

#[test]
fn with_the_file_a_provider_in_the_environment_a_job_without_a_connection_and_a_second_one_in_the_gateway_are_mistakes()
{
    let told = |it: Setting, wanted: &str| {
        let text = it.mistakes().join("\n");
        assert_eq!(text.matches(wanted).count(), 1, "{wanted}\n--\n{text}");
    };
    told(several(TWO).set("provider", "gumroad"), "provider is set, and connections_file too");
    told(several(TWO).set("token_timeout", "5s"), "token_timeout is set, and connections_file too");
    told(
        several(TWO).set("job", "strava"),
        "job_connection is not set: job=strava runs for the accounts of one of google, slack",
    );
    told(
        several(TWO).set("job_connection", "slak"),
        "job_connection=slak is no connection: is it slack that is meant?",
    );
    told(several(TWO).set("store", "gateway"), "store=gateway holds one connection with one account");
    told(several(TWO).set("proxy_allow", "GET /x"), "proxy_allow has the entry \"GET /x\" without a connection");
    told(several(TWO).set("public_url", ""), "public_url is not set");
    let config = several(TWO).set("job", "strava").set("job_connection", "slack").read().unwrap();
    assert_eq!(config.job_connections()[0].name, "slack");
    assert!(several("[connections.slack]\nprovider = 'slack'").set("store", "gateway").read().is_ok());
}
