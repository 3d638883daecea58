//! The crate `token-keeper` as any program uses it: the README's example against the sandbox provider.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

use std::path::Path;

use local::provider::{Client, Options, Provider};
use serde_json::json;
use tests::Browser;
use token_keeper::{ExchangeError, Secret, Url};

#[path = "../../etl-oauth/keeper/examples/quickstart.rs"]
#[allow(unreachable_pub, clippy::print_stderr, reason = "an example is a program of its own")]
mod quickstart;

use quickstart::{connect, open, sales};

struct Sandbox {
    provider: Provider,
    folder: tempfile::TempDir,
}

impl Sandbox {
    async fn start() -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let secrets = folder.path().join("secrets");
        std::fs::create_dir(&secrets).unwrap();
        for (name, value) in [
            ("oauth2-client-id", "my-program"),
            ("oauth2-client-secret", "its secret"),
            ("etl-oauth-seal-keys", "1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
        ] {
            std::fs::write(secrets.join(name), value).unwrap();
        }
        let provider = Provider::start(Options {
            address: "127.0.0.1:0".parse().unwrap(),
            clients: vec![Client::new("my-program", "its secret")],
            state: None,
        });
        Self { provider: provider.await.unwrap(), folder }
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    async fn keeper(&self) -> token_keeper::TokenKeeper {
        open(self.folder(), self.provider.url()).await.unwrap()
    }
}

/// The person allows it; where the provider sends them back to.
async fn consent(url: Url) -> String {
    let browser = Browser::new();
    let page = browser.open(url.as_str()).await;
    assert_eq!(page.status, 200, "{}", page.body);
    browser.submit_once(&page, &[("decision", "allow")]).await.location().unwrap().into()
}

#[test]
fn the_readme_shows_the_example_that_is_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../etl-oauth/keeper");
    let [readme, example] =
        ["README.md", "examples/quickstart.rs"].map(|file| std::fs::read_to_string(root.join(file)).unwrap());
    let shown = example.split("// README: begin\n").nth(1).unwrap().split("// README: end").next().unwrap();
    assert!(readme.contains(shown), "README.md has another example than examples/quickstart.rs");
}

#[tokio::test]
async fn a_program_of_fifteen_lines_is_safe_over_expiry_and_in_several_processes() {
    let sandbox = Sandbox::start().await;
    let strict = json!({"token_lifetime": 1, "reuse_detection": true});
    sandbox.provider.set_faults(&strict).unwrap();
    let keeper = sandbox.keeper().await;
    connect(&keeper, consent).await.unwrap();
    assert!(sales(&keeper).await.unwrap()["sales"].is_array());
    // As many processes as stores: nothing is shared but the folder.
    let mut keepers = Vec::new();
    for _ in 0..4 {
        keepers.push(sandbox.keeper().await);
    }
    sandbox.provider.revoke_all(true, false);
    sandbox.provider.set_faults(&json!({"token_lifetime": 3600, "reuse_detection": true})).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for keeper in keepers {
        tasks.spawn(async move { sales(&keeper).await.map_err(|err| err.to_string()) });
    }
    for result in tasks.join_all().await {
        assert!(result.unwrap()["sales"].is_array());
    }
    let log = sandbox.provider.log();
    assert_eq!(log["outcomes"]["refresh_token reuse_detected"].as_u64().unwrap_or(0), 0, "{log}");
    assert_eq!(log["outcomes"]["refresh_token issued"], 1, "one renewal for all: {log}");
    sandbox.provider.stop().await;
}

#[tokio::test]
async fn a_redirect_is_taken_once_and_for_its_own_session_alone() {
    let sandbox = Sandbox::start().await;
    let keeper = sandbox.keeper().await;
    let [asked, other] = [keeper.authorize_url("a").await.unwrap(), keeper.authorize_url("a").await.unwrap()];
    let callback = consent(asked.url).await;
    let taken = keeper.exchange(&other.session, &callback).await;
    assert!(matches!(taken, Err(ExchangeError::Callback(_))), "{taken:?}");
    let taken = keeper.exchange(&Secret::new("made up"), &callback).await;
    assert!(matches!(taken, Err(ExchangeError::Session)), "{taken:?}");
    // Another process ends what this one began.
    let second = sandbox.keeper().await;
    let account = second.exchange(&asked.session, &callback).await.unwrap();
    assert_eq!(account.name(), "a");
    let again = keeper.exchange(&asked.session, &callback).await;
    assert!(matches!(again, Err(ExchangeError::Used)), "{again:?}");
    assert!(sales(&keeper).await.unwrap()["sales"].is_array());
    assert!(account.revoke().await.store.is_ok());
    assert!(second.finish(std::time::Duration::from_secs(5)).await);
    assert!(sales(&keeper).await.is_err());
    sandbox.provider.stop().await;
}
