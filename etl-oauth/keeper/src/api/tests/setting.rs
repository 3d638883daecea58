//! An API on loopback and the client for it, for unit tests of this crate and of the function.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::State, response::Response as Answer, routing::any};
use futures_core::future::BoxFuture;
use http::{HeaderMap, StatusCode};
use jiff::{SignedDuration, Timestamp};
use token_keeper::{
    api::{Api, ApiOptions, Facts, Timing},
    grant::{Authority, Client, Credentials, HttpClient, HttpResponse},
    provider::{Definition, Overrides, Provider},
    renewal::{Announcer, Clock, Keeper, Parts, Policy, RecordStore},
    store::{Key, Memory, Store},
    token::{AnswerShape, Record, Secret},
};
use url::Url;

const START: Timestamp = Timestamp::constant(1_800_000_000, 0);

type Answering = Arc<dyn Fn(usize, http::Request<axum::body::Body>) -> Answer + Send + Sync>;

/// An API on loopback whose tokens are `a1`, `a2`, … by renewal, and the client for it.
pub(crate) struct Setting {
    pub(crate) api: Api,
    pub(crate) renewals: Arc<AtomicUsize>,
    waits: Arc<Mutex<Vec<Duration>>>,
    calls: Arc<Mutex<Vec<String>>>,
}

#[derive(Clone)]
struct Server(Arc<Mutex<Vec<String>>>, Answering);

impl Setting {
    pub(crate) async fn new(
        facts: Facts,
        answer: impl Fn(usize, http::Request<axum::body::Body>) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let calls = Arc::<Mutex<Vec<String>>>::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/v1", listener.local_addr().unwrap()).parse().unwrap();
        let handle = |State(Server(calls, answer)): State<Server>, request: http::Request<axum::body::Body>| async move {
            let count = {
                let mut calls = calls.lock().unwrap();
                let token = request.headers().get("authorization").map_or("none", |value| value.to_str().unwrap());
                calls.push(format!("{} {} {token}", request.method(), request.uri()));
                calls.len()
            };
            answer(count, request)
        };
        let router = Router::new().fallback(any(handle)).with_state(Server(Arc::clone(&calls), Arc::new(answer)));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let (api, renewals, waits) = Self::client(base, facts).await;
        Self { api, renewals, waits, calls }
    }

    pub(crate) async fn client(base: Url, facts: Facts) -> (Api, Arc<AtomicUsize>, Arc<Mutex<Vec<Duration>>>) {
        let definition = Definition { token_url: Some("https://p.example/token".into()), ..Definition::default() };
        let provider = Provider::new("custom", definition, Overrides::default()).unwrap();
        let client = Client { id: "id".into(), secret: Some(Secret::new("secret")), ..Client::default() };
        let (memory, renewals) = (Memory::default(), Arc::<AtomicUsize>::default());
        let first = br#"{"access_token":"a0","refresh_token":"r","expires_in":86400}"#;
        let record = Record::default().authorised(AnswerShape::default().read(first).unwrap(), Timestamp::now(), None);
        memory.save(&Key::default(), &record, None, None).await.unwrap();
        let count = Arc::clone(&renewals);
        let wire = HttpClient::new(move |_| {
            let n = count.fetch_add(1, Ordering::SeqCst) + 1;
            let body = format!(r#"{{"access_token":"a{n}","expires_in":86400}}"#).into();
            std::future::ready(Ok(HttpResponse {
                status: StatusCode::OK,
                headers: HeaderMap::new(),
                body,
                at: Timestamp::now(),
            }))
        });
        let keeper = Keeper::new(
            Key::default(),
            Parts {
                policy: Policy::of(&provider),
                authority: Authority::new(provider, Credentials::fixed(client), wire),
                store: Arc::new(Store::Memory(memory)),
                owner: "one".into(),
                clock: Clock::system(),
                announcer: Announcer::default(),
            },
        );
        let (time, waits) = (Arc::new(Mutex::new(START)), Arc::<Mutex<Vec<Duration>>>::default());
        let clock = {
            let time = Arc::clone(&time);
            Clock::new(move || *time.lock().unwrap())
        };
        let slept = Arc::clone(&waits);
        let sleep = move |wait: Duration| -> BoxFuture<'static, ()> {
            *time.lock().unwrap() += SignedDuration::try_from(wait).unwrap();
            slept.lock().unwrap().push(wait);
            Box::pin(tokio::task::yield_now())
        };
        let options = ApiOptions { facts, timing: Timing::new(clock, sleep, || 1.0), ..ApiOptions::default() };
        (Api::open(Some(base), keeper, options).unwrap(), renewals, waits)
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    pub(crate) fn waits(&self) -> Vec<f64> {
        self.waits.lock().unwrap().iter().map(Duration::as_secs_f64).collect()
    }
}
