//! How many renewals a second one process keeps up: keepers of many accounts against the sandbox provider, over real
//! stores. Provider, keepers and, where it runs here, the store's server share this machine.
//!
//! ```console
//! $ cargo bench -p tests --bench renewals                                                # file
//! $ tests/servers.sh cargo bench -p tests --features components --bench renewals         # and nats, postgres
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "prints its figures, and ends when it cannot"
)]

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use local::provider as sandbox;
use tests::Browser;
use token_keeper::{
    grant::{self, Authority, Client, Credentials, HttpClient},
    provider::{Definition, Overrides, Provider},
    renewal::{Announcer, Clock, Keeper, Parts, Policy},
    secrets::Secrets,
    store::{Key, Store, StoreOptions},
    token::{Secret, TokenResponse},
};

const ACCOUNTS: usize = 32;
const TIME: Duration = Duration::from_secs(5);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = folder.path().join("secrets");
    std::fs::create_dir(&secrets).unwrap();
    std::fs::write(secrets.join("etl-oauth-seal-keys"), "1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
    let mut options = StoreOptions::new("bench", Secrets::new(&secrets, ""));
    options.path = Some(folder.path().join("tokens"));
    options.allow_ephemeral = true;
    let mut kinds = vec!["file"];
    if let Ok(url) = std::env::var("NATS_URL") {
        options.nats_url = url;
        kinds.push("nats");
    }
    if let Ok(url) = std::env::var("POSTGRES_URL") {
        std::fs::write(secrets.join("etl-oauth-postgres-url"), url).unwrap();
        kinds.push("postgres");
    }
    for kind in kinds {
        let store = Arc::new(Store::open(kind, &options).await.expect("a store that is built in"));
        for accounts in [1, ACCOUNTS] {
            let (renewals, failures) = measure(&store, accounts, folder.path()).await;
            println!("{kind}: {accounts} accounts: {renewals:.0} renewals a second, {failures} failed");
        }
    }
}

/// Renewals a second, each account's one after another.
async fn measure(store: &Arc<Store>, accounts: usize, folder: &Path) -> (f64, u64) {
    let bench = sandbox::Client::new("bench", "the secret of the bench");
    let address = "127.0.0.1:0".parse().unwrap();
    let server =
        sandbox::Provider::start(sandbox::Options { address, clients: vec![bench], state: None }).await.unwrap();
    let definition = Definition {
        authorize_url: Some(format!("{}/oauth/authorize", server.url())),
        token_url: Some(format!("{}/oauth/token", server.url())),
        ..Definition::default()
    };
    let provider = Provider::new("custom", definition, Overrides::default()).unwrap();
    let client =
        Client { id: "bench".into(), secret: Some(Secret::new("the secret of the bench")), ..Client::default() };
    let parts = Arc::new(Parts {
        policy: Policy::of(&provider),
        authority: Authority::new(
            provider.clone(),
            Credentials::fixed(client.clone()),
            HttpClient::http(Duration::from_secs(10)).unwrap(),
        ),
        store: Arc::clone(store),
        owner: format!("bench in {}", folder.display()),
        clock: Clock::system(),
        announcer: Announcer::default(),
    });
    let (stop, renewals, failures) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut keepers = Vec::new();
    for account in 0..accounts {
        let keeper = Keeper::new(Key::account(&format!("account-{account}")).unwrap(), Arc::clone(&parts));
        keeper.authorise(tokens(&provider, &client).await, Timestamp::now()).await;
        keepers.push(keeper);
    }
    let start = Instant::now();
    let renewing: Vec<_> = keepers
        .into_iter()
        .map(|keeper| {
            let (stop, renewals, failures) = (Arc::clone(&stop), Arc::clone(&renewals), Arc::clone(&failures));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let count = if keeper.refresh().await.is_ok() { &renewals } else { &failures };
                    count.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    tokio::time::sleep(TIME).await;
    stop.store(true, Ordering::Relaxed);
    for task in renewing {
        task.await.unwrap();
    }
    let took = start.elapsed();
    server.stop().await;
    #[allow(clippy::cast_precision_loss, reason = "a figure to look at")]
    let rate = renewals.load(Ordering::Relaxed) as f64 / took.as_secs_f64();
    (rate, failures.load(Ordering::Relaxed))
}

/// A person allows, and the code buys tokens.
async fn tokens(provider: &Provider, client: &Client) -> TokenResponse {
    let (redirect_uri, verifier) = (provider.token_url.join("/callback").unwrap(), Secret::new("v".repeat(43)));
    let url = grant::authorize_url(provider, &client.id, redirect_uri.as_str(), "state", &verifier).unwrap();
    let browser = Browser::new();
    let consent = browser.open(url.as_str()).await;
    let page = browser.submit(&consent, &[("decision", "allow")]).await;
    let code = page.url.query_pairs().find(|(name, _)| name == "code").expect("a code").1.into_owned();
    let request = grant::authorization_code(provider, client, code.as_str(), redirect_uri.as_str(), Some(&verifier));
    let answer = HttpClient::http(Duration::from_secs(10)).unwrap().send(request).await.unwrap();
    grant::judge_token(provider, &answer).unwrap()
}
