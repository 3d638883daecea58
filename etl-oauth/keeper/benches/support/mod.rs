//! A keeper over memory, and a provider that answers when it is told to.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use token_keeper::{
    grant::{Authority, Client, Credentials, HttpClient, HttpResponse},
    provider::{Definition, Overrides, Provider},
    renewal::{Announcer, Clock, Keeper, Parts, Policy},
    store::{Key, Memory, Store},
    token::{AnswerShape, Secret, TokenResponse},
};
use tokio::sync::Semaphore;

/// What keepers share.
#[derive(Clone)]
pub(crate) struct World {
    parts: Arc<Parts>,
    pub(crate) calls: Arc<AtomicU32>,
    /// The provider answers as many calls as there are permits.
    pub(crate) answers: Arc<Semaphore>,
}

impl Default for World {
    fn default() -> Self {
        let definition = Definition { token_url: Some("https://p.example/token".into()), ..Definition::default() };
        let provider = Provider::new("custom", definition, Overrides::default()).expect("an absolute https URL");
        let (calls, answers) = (Arc::new(AtomicU32::new(0)), Arc::new(Semaphore::new(0)));
        let wire = {
            let (calls, answers) = (Arc::clone(&calls), Arc::clone(&answers));
            HttpClient::new(move |_| {
                let call = calls.fetch_add(1, Ordering::Relaxed) + 1;
                let answers = Arc::clone(&answers);
                async move {
                    answers.acquire().await.expect("never closed").forget();
                    let (status, headers) = (http::StatusCode::OK, http::HeaderMap::new());
                    Ok(HttpResponse { status, headers, body: body(call, 3600), at: jiff::Timestamp::now() })
                }
            })
        };
        let policy = Policy::of(&provider);
        let client = Client { id: "id".into(), secret: Some(Secret::new("secret")), ..Client::default() };
        let parts = Parts {
            authority: Authority::new(provider, Credentials::fixed(client), wire),
            store: Arc::new(Store::Memory(Memory::default())),
            policy,
            owner: "bench".into(),
            clock: Clock::system(),
            announcer: Announcer::default(),
        };
        Self { parts: Arc::new(parts), calls, answers }
    }
}

impl World {
    pub(crate) fn keeper(&self, account: &str) -> Keeper {
        Keeper::new(Key::account(account).expect("a name"), Arc::clone(&self.parts))
    }
}

fn body(serial: u32, seconds: u32) -> Vec<u8> {
    // As long as real tokens are.
    let (access, refresh) = ("a".repeat(43), "r".repeat(43));
    format!(r#"{{"access_token":"{access}{serial}","refresh_token":"{refresh}{serial}","expires_in":{seconds},"scope":"view_sales"}}"#).into_bytes()
}

pub(crate) fn answer(serial: u32, seconds: u32) -> TokenResponse {
    AnswerShape::default().read(&body(serial, seconds)).expect("a token answer")
}
