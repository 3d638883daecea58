use std::{collections::HashMap, time::Duration};

use etl_oauth::{
    Config,
    guard::{CookieJar, Key, Pending, Wish},
};
use jiff::Timestamp;
use token_keeper::{provider::is_loopback, renewal::Policy, token::Secret};
use url::Url;

/// An environment, `name=value` a line. Whatever is taken for right can be worked with; whatever is not is told in lines
/// that hold no secret.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if text.contains("marker-of-the") {
        return;
    }
    let variables: HashMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
    let get = |name: &str| match name {
        "secret_mount_path" => Some(crate::SECRETS.to_owned()),
        // No file of this machine's is read for it.
        "provider_file" => None,
        name => variables.get(name).map(|value| (*value).to_owned()),
    };
    if let Err(err) = watchdog::Config::from_strings(get) {
        assert!(!err.to_string().is_empty(), "a mistake without a word");
    }
    match Config::read(get) {
        Ok(config) => works(&config),
        Err(mistakes) => {
            assert!(!mistakes.lines().is_empty(), "a mistake without a word");
            crate::shows_no_secret(&mistakes.to_string());
        }
    }
}

fn works(config: &Config) {
    crate::shows_no_secret(&format!("{config:?}"));
    let now: Timestamp = "2026-11-21T09:00:00Z".parse().unwrap();
    let key = Key::derive(&Secret::new("secret"), config.public_url.as_str()).unwrap();
    let jar = CookieJar::new(&config.public_url);
    for connection in &config.connections {
        let provider = &connection.provider;
        let optional = [&provider.authorize_url, &provider.revoke_url, &provider.api_url].into_iter().flatten();
        for url in [&provider.token_url, &provider.refresh_url, &config.public_url].into_iter().chain(optional) {
            assert!(url.scheme() == "https" || is_loopback(url), "{url} is neither https nor loopback");
        }
        let redirect: Url = connection.redirect_uri().parse().expect("a redirect URI");
        assert_eq!(redirect.origin(), config.public_url.origin());
        assert!(connection.policy.token_timeout < connection.policy.lease);
        let wish = Wish { connection: &connection.name, account: "default", link: None };
        let (pending, _, cookie) = Pending::begin(&key, &jar, wish, config.state_lifetime, now).unwrap();
        assert!(cookie.is_some(), "a cookie that is no header");
        assert!(
            config.state_lifetime < Duration::from_secs(1) || pending.ends_at() > now,
            "a state that ends before it begins"
        );
        crate::definition::asks(provider);
        let _ = Policy::of(provider);
    }
}
