use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{Router, body::Body, extract::State, response::Response};
use bytes::Bytes;
use http::Request;
use jiff::Timestamp;
use serde_json::json;
use token_keeper::{
    Definition, Secrets, Store, TokenKeeper,
    api::{Api, ApiOptions, Facts},
    store::Memory,
};
use tokio::task::AbortHandle;
use url::Url;

use super::{
    clock::TestClock,
    folder::Folder,
    recording::Recording,
    reply::{Answering, Recorded, Reply},
};
use crate::job::{Apis, Context, Delivery, JobState, Progress};

/// When the clock of a test begins.
const START: Timestamp = Timestamp::constant(1_795_262_400, 0);

/// An API on loopback that answers as a test says, and records what it is asked. Clones are one.
///
/// It gives out its own tokens: `token-1`, and after a 401 or the token's end `token-2`, and so on. A request that no script
/// answers is a 501 that names its route.
#[derive(Clone, Debug)]
pub struct MockApi {
    shared: Arc<Shared>,
    url: Url,
    api: Api,
    clock: TestClock,
    ledgers: Arc<Store>,
    // Its tasks end with it.
    _keeper: TokenKeeper,
    _server: Arc<Server>,
}

#[derive(Debug, Default)]
pub(super) struct Shared {
    routes: Mutex<BTreeMap<String, VecDeque<Line>>>,
    requests: Mutex<Vec<Recorded>>,
    tokens: AtomicU64,
    recording: Mutex<Option<Recording>>,
}

/// A line of a route's script.
#[derive(Debug)]
struct Line {
    answer: Answering,
    used: bool,
}

#[derive(Debug)]
struct Server {
    task: AbortHandle,
    secrets: Folder,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl MockApi {
    /// An API as RFC 6750 has it: `Authorization: Bearer`, 401 for a token that has ended.
    pub async fn start() -> Self {
        Self::of(Definition::default()).await
    }

    /// The API of a built-in provider definition: its headers, limits, paging.
    ///
    /// # Panics
    /// When there is none of that name.
    pub async fn of_provider(name: &str) -> Self {
        Self::of(Definition::builtin(name).expect("a built-in definition of that name")).await
    }

    async fn of(definition: Definition) -> Self {
        let shared = Arc::<Shared>::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let url: Url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let router = Router::new().fallback(handle).with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move { axum::serve(listener, router).await }).abort_handle();
        let clock = TestClock::at(START);
        // The mock's own tokens, by the grant that needs no person.
        let tokens = Definition::read(
            "mock.toml",
            &format!("token_url = '{url}oauth/token'\napi_url = '{url}'\ngrant = 'client_credentials'"),
        );
        let tokens = Definition { api: definition.api, ..tokens.expect("a definition") };
        let keeper = TokenKeeper::builder("mock", Store::Memory(Memory::default()))
            .definition(tokens)
            .client("mock-client", token_keeper::Secret::new("mock-secret"))
            .clock(clock.clock())
            .build()
            .expect("the mock's own tokens");
        let account = keeper.account("default").expect("the account default");
        let facts = Facts::of(&keeper.provider(), "mock-client").expect("headers that HTTP can carry");
        let options =
            ApiOptions { facts, timing: clock.timing(), provider: Some(keeper.provider()), ..ApiOptions::default() };
        let api = Api::open(Some(url.clone()), account.keeper().clone(), options).expect("TLS starts");
        let server = Arc::new(Server { task, secrets: Folder::new() });
        let ledgers = Arc::new(Store::Memory(Memory::default()));
        Self { shared, url, api, clock, ledgers, _keeper: keeper, _server: server }
    }

    /// Answers the next request of a route (`GET /v2/sales`) that no earlier reply is for, and all further ones until there is
    /// another reply.
    pub fn reply(&self, route: &str, reply: Reply) -> &Self {
        self.script(route, Answering::Fixed(reply))
    }

    /// The same by a function of the request.
    pub fn on(&self, route: &str, answer: impl Fn(&Recorded) -> Reply + Send + Sync + 'static) -> &Self {
        self.script(route, Answering::By(Arc::new(answer)))
    }

    fn script(&self, route: &str, answer: Answering) -> &Self {
        let line = Line { answer, used: false };
        self.shared.routes.lock().unwrap().entry(route.to_owned()).or_default().push_back(line);
        self
    }

    /// The client for it, as a job gets it.
    #[must_use]
    pub fn api(&self) -> Api {
        self.api.clone()
    }

    /// What a run of a job has at hand, with an empty input. Runs share one ledger, as those of one account do.
    #[must_use]
    pub fn context(&self) -> Context {
        self.context_with("")
    }

    /// The same with a request's body as input.
    ///
    /// # Panics
    /// When the TLS library does not start.
    #[must_use]
    pub fn context_with(&self, input: impl Into<Bytes>) -> Context {
        let outlets = Delivery::new(Secrets::new(self._server.secrets.path(), ""), None, None);
        Context {
            api: self.api(),
            now: self.clock.now(),
            input: input.into(),
            ledger: JobState::new(Arc::clone(&self.ledgers), self.api.keeper().key()),
            outlets: outlets.expect("the TLS library starts"),
            progress: Progress::default(),
            apis: Apis::default(),
        }
    }

    /// The clock of the client, the tokens and [`Context::now`]. It begins at 2026-11-21T12:00:00Z.
    #[must_use]
    pub fn clock(&self) -> &TestClock {
        &self.clock
    }

    /// Sets a secret that the context's outlets read, such as `etl-oauth-notify-url`.
    pub fn secret(&self, name: &str, value: &str) -> &Self {
        self._server.secrets.write(name, value);
        self
    }

    /// The URL of a path of it.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url.as_str().trim_end_matches('/'))
    }

    /// The requests so far, in order, without those for tokens.
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The routes of the requests so far.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        self.requests().iter().map(Recorded::route).collect()
    }

    pub(super) fn set_recording(&self, recording: Recording) {
        *self.shared.recording.lock().unwrap() = Some(recording);
    }
}

async fn handle(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let query = head.uri.query().unwrap_or_default();
    let queries = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let path = head.uri.path().to_owned();
    let request = Recorded { method: head.method, path, queries, headers: head.headers, body };
    let reply = if request.path == "/oauth/token" { token(&shared) } else { answer(&shared, request).await };
    let mut response = Response::new(Body::from(reply.body));
    (*response.status_mut(), *response.headers_mut()) = (reply.status, reply.headers);
    response
}

/// A new token, whatever it is asked for with.
fn token(shared: &Shared) -> Reply {
    let count = shared.tokens.fetch_add(1, Ordering::SeqCst) + 1;
    Reply::json(json!({
        "access_token": format!("token-{count}"),
        "refresh_token": format!("refresh-{count}"),
        "token_type": "Bearer",
        "expires_in": 3600,
    }))
}

async fn answer(shared: &Shared, request: Recorded) -> Reply {
    shared.requests.lock().unwrap().push(request.clone());
    let recording = shared.recording.lock().unwrap().clone();
    if let Some(recording) = recording {
        return recording.answer(&request).await;
    }
    let script = {
        let mut routes = shared.routes.lock().unwrap();
        routes.get_mut(&request.route()).and_then(|lines| {
            while lines.len() > 1 && lines.front().is_some_and(|line| line.used) {
                lines.pop_front();
            }
            let line = lines.front_mut()?;
            line.used = true;
            Some(line.answer.clone())
        })
    };
    match script {
        Some(Answering::Fixed(reply)) => reply,
        Some(Answering::By(answer)) => answer(&request),
        None => Reply::text(format!("the test has no answer to {}", request.route())).with_status(501),
    }
}
