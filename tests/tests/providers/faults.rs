//! Two real providers with opposite rules behind a road on which things go wrong. `oidc-provider` ends the whole grant when
//! a spent refresh token comes again; `django-oauth-toolkit` takes it again for a while, and gives the same answer.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tests::{Browser, Fault, FaultProxy};
use token_keeper::{
    grant::{self, Authority, Client, Credentials, HttpClient},
    provider::{Definition, Overrides, Provider},
    renewal::{Announcer, Clock, Keeper, KeeperError, Parts, Policy},
    store::{Key, Memory, Store},
    token::{FailureKind, Secret, State, TokenResponse},
};

use crate::server::{Form, Server};

/// Of a call; a provider that runs beside other tests may take a while.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long the lenient one takes a spent refresh token again.
const GRACE: Duration = Duration::from_secs(600);

/// A provider behind its road, and a client of it.
struct Scene {
    server: Server,
    road: FaultProxy,
    provider: Arc<Provider>,
    client: Client,
    sign_in: &'static [Form],
}

/// A replica with a record and a clock of its own.
struct Replica<'a> {
    scene: &'a Scene,
    keeper: Keeper,
    ahead: Arc<Mutex<SignedDuration>>,
}

impl Scene {
    async fn new(server: Server, [authorize, token, register]: [&str; 3], more: Definition) -> Self {
        let road = FaultProxy::to(&server.url).await;
        let (id, secret) = server.register(register, &format!("{}/callback", road.url())).await;
        let definition = Definition {
            authorize_url: Some(format!("{}{authorize}", server.url)),
            token_url: Some(format!("{}{token}", road.url())),
            ..more
        };
        let provider = Arc::new(Provider::new("custom", definition, Overrides::default()).unwrap());
        let client = Client { id, secret: Some(Secret::new(secret)), ..Client::default() };
        Self { server, road, provider, client, sign_in: &[] }
    }

    async fn strict() -> Self {
        let scope = ["openid", "offline_access", "view_sales"].map(str::to_owned).into();
        let more = Definition { scope, ..Definition::default() };
        let server = Server::oidc(Duration::from_secs(3600)).await;
        let scene = Self::new(server, ["/auth?prompt=consent", "/token", "/reg"], more).await;
        Self { sign_in: &[&[("login", "person"), ("password", "word")], &[]], ..scene }
    }

    async fn lenient() -> Self {
        let scope = vec!["view_sales".to_owned()];
        let more = Definition { scope, replay_window: Some(GRACE.as_secs()), ..Definition::default() };
        let scene = Self::new(Server::django(GRACE).await, ["/authorize/", "/token/", "/register/"], more).await;
        Self { sign_in: &[&[]], ..scene }
    }

    /// A person signs in and consents; the code buys tokens.
    async fn tokens(&self) -> TokenResponse {
        let redirect_uri = format!("{}/callback", self.road.url());
        let verifier = Secret::new("a verifier has between 43 and 128 letters".replace(' ', "-") + "-and-this-one-too");
        let url = grant::authorize_url(&self.provider, &self.client.id, &redirect_uri, "state", &verifier).unwrap();
        let browser = Browser::new();
        let mut page = browser.open(url.as_str()).await;
        for form in self.sign_in {
            page = browser.submit(&page, form).await;
        }
        let code = page.url.query_pairs().find(|(name, _)| name == "code").expect("a code").1.into_owned();
        let request =
            grant::authorization_code(&self.provider, &self.client, code.as_str(), &redirect_uri, Some(&verifier));
        let answer = HttpClient::http(PATIENCE).unwrap().send(request).await.unwrap();
        grant::judge_token(&self.provider, &answer).unwrap()
    }

    /// With a token that has 30 seconds left: it is due, and it lives.
    async fn due(&self) -> Replica<'_> {
        let ahead = Arc::new(Mutex::new(SignedDuration::ZERO));
        let clock = {
            let ahead = Arc::clone(&ahead);
            Clock::new(move || Timestamp::now() + *ahead.lock().unwrap())
        };
        let mut policy = Policy::of(&self.provider);
        policy.token_timeout = PATIENCE;
        let credentials = Credentials::fixed(self.client.clone());
        let wire = HttpClient::http(PATIENCE).unwrap();
        let parts = Parts {
            authority: Authority::new(Provider::clone(&self.provider), credentials, wire),
            store: Arc::new(Store::Memory(Memory::default())),
            policy,
            owner: "one".into(),
            clock,
            announcer: Announcer::default(),
        };
        let replica = Replica { scene: self, keeper: Keeper::new(Key::default(), parts), ahead };
        replica.keeper.authorise(self.tokens().await, Timestamp::now()).await;
        let end = replica.keeper.current().unwrap().record.tokens.as_ref().unwrap().expires_at.unwrap();
        replica.pass(end.duration_since(Timestamp::now()) - SignedDuration::from_secs(30));
        replica
    }
}

impl Replica<'_> {
    fn pass(&self, time: SignedDuration) {
        *self.ahead.lock().unwrap() += time;
    }

    /// Twenty callers at once; how many requests they cost.
    async fn call(&self) -> (Result<String, KeeperError>, usize) {
        let before = self.scene.road.requests();
        let callers: Vec<_> = (0..20)
            .map(|_| {
                let keeper = self.keeper.clone();
                tokio::spawn(async move { keeper.token().await.map(|it| it.tokens().access_token.expose().to_owned()) })
            })
            .collect();
        let mut last = None;
        for caller in callers {
            last = Some(caller.await.unwrap());
        }
        (last.unwrap(), self.scene.road.requests() - before)
    }

    fn generation(&self) -> u64 {
        self.keeper.current().unwrap().record.generation
    }

    fn class(&self) -> Option<FailureKind> {
        self.keeper.current().unwrap().record.health.class
    }

    /// The renewal fails, for now: one request, the old token is handed out, nobody is called, and whoever comes within the
    /// wait costs nothing.
    async fn falls_back(&self, class: FailureKind) {
        let (token, requests) = self.call().await;
        assert!(token.is_ok() && requests == 1, "{token:?} after {requests} requests");
        assert_eq!((self.keeper.state(), self.class(), self.generation()), (State::Degraded, Some(class), 1));
        assert_eq!(self.call().await, (token, 0));
    }

    /// One request renews, and the API takes what it brought.
    async fn renews(&self) {
        let (token, requests) = self.call().await;
        assert_eq!((requests, self.keeper.state(), self.generation()), (1, State::Enabled, 2), "{token:?}");
        assert_eq!(self.scene.server.sales(&token.unwrap()).await, 200);
        // And its refresh token is the living one.
        self.pass(SignedDuration::from_hours(24));
        let (token, requests) = self.call().await;
        assert_eq!((requests, self.generation()), (1, 3), "{token:?}");
    }

    /// The grant is gone, and one request tells so; from then on no other is made, until a person has authorised again.
    async fn calls_a_person(&self) {
        let (_, requests) = self.call().await;
        assert_eq!((requests, self.keeper.state()), (1, State::NeedsAuthorisation));
        self.pass(SignedDuration::from_hours(24));
        let (token, requests) = self.call().await;
        assert!(matches!(token, Err(KeeperError::NeedsAuthorisation { .. })) && requests == 0, "{token:?} {requests}");
        self.keeper.authorise(self.scene.tokens().await, Timestamp::now()).await;
        assert_eq!(self.keeper.state(), State::Enabled);
    }
}

/// Faults after which nobody knows whether the provider has rotated the refresh token. It has.
const AMBIGUOUS: [(Fault, FailureKind); 4] = [
    (Fault::LoseAnswer, FailureKind::NetworkAmbiguous),
    (Fault::Break, FailureKind::NetworkAmbiguous),
    (Fault::Truncate, FailureKind::MalformedAnswer),
    (Fault::Delay(PATIENCE.saturating_mul(2)), FailureKind::NetworkAmbiguous),
];
const SOON: SignedDuration = SignedDuration::from_secs(5);
const LATER: SignedDuration = SignedDuration::from_secs(20);

#[tokio::test]
async fn c1_where_reuse_ends_the_grant_an_unanswered_renewal_is_sent_once_more_and_then_a_person_is_asked() {
    let scene = Scene::strict().await;
    for (fault, class) in AMBIGUOUS {
        let replica = scene.due().await;
        scene.road.plan(&[fault]);
        replica.falls_back(class).await;
        replica.pass(SOON);
        replica.calls_a_person().await;
    }
    // It never arrived: the second one is the first.
    let replica = scene.due().await;
    scene.road.plan(&[Fault::LoseRequest]);
    replica.falls_back(FailureKind::NetworkAmbiguous).await;
    replica.pass(SOON);
    replica.renews().await;
    // H16: after a second one without an answer nothing more can be lost. It is sent again at growing distance, and here the
    // provider's answer tells that neither of the two arrived.
    let replica = scene.due().await;
    scene.road.plan(&[Fault::LoseRequest, Fault::LoseRequest]);
    replica.falls_back(FailureKind::NetworkAmbiguous).await;
    replica.pass(SOON);
    assert_eq!(replica.call().await.1, 1);
    assert_eq!(replica.call().await.1, 0, "the third waits");
    replica.pass(SignedDuration::from_hours(24));
    replica.renews().await;
}

#[tokio::test]
async fn c3_where_reuse_ends_the_grant_a_5xx_is_tried_again_only_when_the_access_token_has_ended() {
    let scene = Scene::strict().await;
    for (fault, lives) in [(Fault::Refuse(503), true), (Fault::Replace(502), false)] {
        let replica = scene.due().await;
        scene.road.plan(&[fault]);
        replica.falls_back(FailureKind::ProviderUnavailable).await;
        replica.pass(LATER);
        assert_eq!(replica.call().await.1, 0, "its token lives, and is all there may be");
        replica.pass(LATER);
        if lives { replica.renews().await } else { replica.calls_a_person().await }
    }
}

#[tokio::test]
async fn c1_within_a_window_of_grace_every_lost_answer_is_fetched_again() {
    let scene = Scene::lenient().await;
    for (fault, class) in AMBIGUOUS {
        let replica = scene.due().await;
        scene.road.plan(&[fault]);
        replica.falls_back(class).await;
        replica.pass(SOON);
        replica.renews().await;
    }
    for fault in [Fault::Refuse(503), Fault::Replace(502)] {
        let replica = scene.due().await;
        scene.road.plan(&[fault]);
        replica.falls_back(FailureKind::ProviderUnavailable).await;
        replica.pass(LATER);
        replica.renews().await;
    }
    // Several in a row.
    let replica = scene.due().await;
    scene.road.plan(&[Fault::LoseAnswer, Fault::Break]);
    replica.falls_back(FailureKind::NetworkAmbiguous).await;
    replica.pass(SOON);
    assert_eq!(replica.call().await.1, 1);
    replica.pass(SOON);
    replica.renews().await;
}

#[tokio::test]
async fn a_request_that_a_gateway_sends_twice_costs_a_grant_only_where_reuse_ends_it() {
    let (strict, lenient) = tokio::join!(Scene::strict(), Scene::lenient());
    let replica = strict.due().await;
    strict.road.plan(&[Fault::Duplicate]);
    replica.calls_a_person().await;
    let replica = lenient.due().await;
    lenient.road.plan(&[Fault::Duplicate]);
    replica.renews().await;
}
