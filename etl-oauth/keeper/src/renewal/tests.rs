//! The protocol against a provider in memory: single replicas and several, over one store.

mod addresses;
mod answers;
mod asking;
mod authorize;
mod device;
mod failures;
mod idle;
mod news;
mod races;
mod restarts;
mod storing;
mod sweeper;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{HeaderMap, StatusCode};
use jiff::Timestamp;

use super::*;
use crate::{
    grant::{Client, Credentials, HttpClient, HttpResponse, SendError},
    provider::{Definition, Grant, Overrides, Provider},
    store::{Acquired, ByteStore, Memory},
    token::{AnswerShape, FailureKind, Record, Secret},
};

/// A provider that rotates and revokes the family on reuse.
#[derive(Clone, Default)]
struct Sandbox(Arc<Mutex<Provided>>);

#[derive(Default)]
struct Provided {
    issued: u32,
    revoked: bool,
    posts: u32,
    reuses: u32,
    script: VecDeque<Act>,
    lifetime: u32,
}

#[derive(Clone, Copy, Debug)]
enum Act {
    /// Rotates, and the answer is lost.
    LoseAnswer,
    /// Nothing arrives.
    NotSent,
    /// An answer of this status and body.
    Say(u16, &'static str),
    /// Asks to be left alone for so many seconds.
    Later(&'static str),
    /// Rotates after this long.
    Slow(Duration),
    /// Rotates without sending the new refresh token.
    Silent,
}

impl Sandbox {
    fn wire(&self) -> HttpClient {
        let sandbox = self.clone();
        HttpClient::new(move |request| {
            let sandbox = sandbox.clone();
            async move { sandbox.answer(request.body().to_owned()).await }
        })
    }

    async fn answer(&self, body: String) -> Result<HttpResponse, SendError> {
        let act = self.0.lock().unwrap().script.pop_front();
        if let Some(Act::NotSent) = act {
            return Err(SendError::NotSent);
        }
        let token = url::form_urlencoded::parse(body.as_bytes()).find(|(name, _)| name == "refresh_token").unwrap().1;
        if let Some(Act::Slow(time)) = act {
            tokio::time::sleep(time).await;
        }
        let mut it = self.0.lock().unwrap();
        it.posts += 1;
        let say = |status: u16, body: String| {
            let status = StatusCode::from_u16(status).unwrap();
            Ok(HttpResponse { status, headers: HeaderMap::new(), body: body.into(), at: Timestamp::now() })
        };
        if let Some(Act::Say(status, body)) = act {
            return say(status, body.to_owned());
        }
        if let Some(Act::Later(seconds)) = act {
            let headers = [(http::header::RETRY_AFTER, http::HeaderValue::from_static(seconds))].into_iter().collect();
            let status = StatusCode::TOO_MANY_REQUESTS;
            return Ok(HttpResponse { status, headers, body: Vec::new(), at: Timestamp::now() });
        }
        if it.revoked || token != format!("r{}", it.issued) {
            it.revoked = true;
            it.reuses += 1;
            return say(400, r#"{"error":"invalid_grant"}"#.to_owned());
        }
        if let Some(Act::Silent) = act {
            return say(200, r#"{"access_token":"again","expires_in":3600}"#.to_owned());
        }
        it.issued += 1;
        let (n, life) = (it.issued, it.lifetime);
        match act {
            Some(Act::LoseAnswer) => Err(SendError::Ambiguous),
            _ => say(200, format!(r#"{{"access_token":"a{n}","refresh_token":"r{n}","expires_in":{life}}}"#)),
        }
    }

    fn posts(&self) -> u32 {
        self.0.lock().unwrap().posts
    }

    fn plan(&self, acts: &[Act]) {
        self.0.lock().unwrap().script.extend(acts);
    }
}

struct Setting {
    sandbox: Sandbox,
    store: Memory,
    time: Arc<Mutex<Timestamp>>,
    parts: Parts,
}

/// Waits for what a keeper does after its answers.
async fn done(keeper: &Keeper) {
    while !keeper.0.work.is_empty() {
        tokio::task::yield_now().await;
    }
}

impl Setting {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Policy)) -> Self {
        let sandbox = Sandbox::default();
        sandbox.0.lock().unwrap().lifetime = 3600;
        let store = Memory::default();
        let time = Arc::new(Mutex::new(Timestamp::from_second(1_000_000).unwrap()));
        let mut policy = Policy::of(&provider());
        change(&mut policy);
        let clock = {
            let time = Arc::clone(&time);
            Clock::new(move || *time.lock().unwrap())
        };
        let parts = Parts {
            authority: over(sandbox.wire()),
            store: Arc::new(Store::Memory(store.clone())),
            policy,
            owner: "one".into(),
            clock,
            announcer: Announcer::default(),
        };
        Self { sandbox, store, time, parts }
    }

    fn replica(&self, owner: &str) -> Keeper {
        Keeper::new(Key::default(), Parts { owner: owner.into(), ..self.parts.clone() })
    }

    /// A replica of an account that was authorised an hour ago, so that its token has just ended.
    /// With an account of another grant, at the provider behind `wire`.
    fn of_grant(grant: Grant, wire: HttpClient) -> Self {
        let mut it = Self::new();
        let definition = Definition {
            token_url: Some("https://p.example/token".into()),
            device_url: (grant == Grant::DeviceCode).then(|| "https://p.example/device".into()),
            grant,
            ..Definition::default()
        };
        let provider = Provider::new("custom", definition, Overrides::default()).unwrap();
        it.parts.policy = Policy::of(&provider);
        it.parts.authority = Authority::new(provider, Credentials::fixed(client()), wire);
        it
    }

    async fn expired(&self) -> Keeper {
        let keeper = self.replica("one");
        assert_eq!(keeper.authorise(answer("a0", "r0"), self.now()).await, Kept::Stored);
        self.pass(3600);
        keeper
    }

    fn pass(&self, seconds: i64) {
        let mut time = self.time.lock().unwrap();
        *time += jiff::SignedDuration::from_secs(seconds);
    }

    fn now(&self) -> Timestamp {
        *self.time.lock().unwrap()
    }

    async fn record(&self) -> Record {
        self.store.load(&Key::default()).await.unwrap().unwrap().record
    }
}

fn provider() -> Provider {
    let definition = Definition { token_url: Some("https://p.example/token".into()), ..Definition::default() };
    Provider::new("custom", definition, Overrides::default()).unwrap()
}

fn over(wire: HttpClient) -> Authority {
    Authority::new(provider(), Credentials::fixed(client()), wire)
}

fn client() -> Client {
    Client { id: "id".into(), secret: Some(Secret::new("secret")), ..Client::default() }
}

fn answer(access: &str, refresh: &str) -> crate::token::TokenResponse {
    let body = format!(r#"{{"access_token":"{access}","refresh_token":"{refresh}","expires_in":3600}}"#);
    AnswerShape::default().read(body.as_bytes()).unwrap()
}

fn shown(token: Result<Token, KeeperError>) -> String {
    token.unwrap().tokens().access_token.expose().to_owned()
}

fn class(error: &KeeperError) -> Option<FailureKind> {
    match error {
        KeeperError::Disabled { .. } | KeeperError::NoRefreshToken { .. } => None,
        KeeperError::NeedsAuthorisation { failure, .. } | KeeperError::Failed { failure, .. } => Some(failure.class()),
    }
}
