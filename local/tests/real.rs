//! `--real`: the providers' own addresses, and secrets that only they can give.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use local::{Local, Options};
use support::{Place, Seen};

const FUNCTION: &str = "  echo:\n    lang: none\n    image: sample\n    environment:\n      \
                        token_url: ${SANDBOX_URL:-https://api.example.com}/oauth/token\n    secrets: \
                        [oauth2-client-id, oauth2-client-secret, oauth2-token]\n";

fn real(place: &Place) -> Options {
    Options { real: true, ..place.options(&["echo"]) }
}

async fn message(options: Options) -> String {
    format!("{:#}", Local::start(options).await.unwrap_err())
}

#[tokio::test]
async fn the_functions_get_the_providers_own_addresses_and_no_sandbox_runs() {
    let place = Place::new(FUNCTION);
    std::fs::create_dir(place.path().join(".secrets")).unwrap();
    for name in ["oauth2-client-id", "oauth2-client-secret"] {
        std::fs::write(place.path().join(".secrets").join(name), "given").unwrap();
    }
    let local = Local::start(real(&place)).await.unwrap();
    assert!(local.urls().provider.is_none() && local.provider().is_none());
    let answer = support::get(&local.urls().functions["echo"]).await.unwrap();
    assert_eq!(Seen::of(answer).await.environment()["token_url"], "https://api.example.com/oauth/token");
    local.stop().await;
}

#[tokio::test]
async fn credentials_of_a_real_provider_are_not_made_up() {
    let place = Place::new(FUNCTION);
    let missing = message(real(&place)).await;
    assert!(missing.contains("oauth2-client-id") && missing.contains(".secrets"), "{missing}");
    let local = Local::start(place.options(&["echo"])).await.unwrap();
    local.stop().await;
    let sandbox = message(real(&place)).await;
    assert!(sandbox.contains("the client id of the sandbox") && sandbox.contains("oauth2-client-id"), "{sandbox}");
}
