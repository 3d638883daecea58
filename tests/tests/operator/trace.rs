//! The trace of a request, on its way through the function.

use std::sync::{Arc, Mutex};

use reqwest::Client;
use tests::Stage;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::PROGRAM;

/// A road to a server that hears what goes up it.
struct Road {
    url: String,
    heard: Arc<Mutex<String>>,
    target: Arc<Mutex<String>>,
}

impl Road {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (heard, target) = (Arc::<Mutex<String>>::default(), Arc::<Mutex<String>>::default());
        let road = Self { url, heard: Arc::clone(&heard), target: Arc::clone(&target) };
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (heard, target) = (Arc::clone(&heard), target.lock().unwrap().clone());
                tokio::spawn(async move {
                    let (mut up, mut down) = near.into_split();
                    let (mut back, mut forth) = TcpStream::connect(target).await.unwrap().into_split();
                    let replies = tokio::spawn(async move { tokio::io::copy(&mut back, &mut down).await });
                    let mut piece = [0; 4096];
                    while let Ok(length @ 1..) = up.read(&mut piece).await {
                        heard.lock().unwrap().push_str(&String::from_utf8_lossy(&piece[..length]));
                        if forth.write_all(&piece[..length]).await.is_err() {
                            break;
                        }
                    }
                    drop(forth);
                    let _ = replies.await;
                });
            }
        });
        road
    }

    /// What was heard since the last time.
    fn hear(&self) -> String {
        std::mem::take(&mut self.heard.lock().unwrap())
    }
}

#[tokio::test]
async fn a_trace_goes_on_to_the_provider_and_the_api_under_new_spans() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let (token, api) = (Road::new().await, Road::new().await);
    let token_url = format!("{}/oauth/token", token.url);
    let urls = [("token_url", &*token_url), ("api_url", &*api.url), ("min_run_interval", "0s")];
    let stage = Stage::with(PROGRAM, &urls, |_| {}).await;
    for road in [&token, &api] {
        *road.target.lock().unwrap() = stage.provider().url().trim_start_matches("http://").to_owned();
    }
    stage.authorise().await;
    assert_eq!(stage.run().await.0, 200);
    let (to_token, to_api) = (token.hear(), api.hear());
    assert!(to_token.contains("POST /oauth/token") && to_api.contains("GET /v2/"), "{to_token}{to_api}");
    assert!(!to_token.contains("traceparent") && !to_api.contains("traceparent"), "none came, none goes on");

    let traced = |request: reqwest::RequestBuilder| {
        let request = request.header("traceparent", PARENT).header("tracestate", "vendor=1");
        request.bearer_auth(stage.secret("etl-oauth-operator")).send()
    };
    assert!(traced(Client::new().post(stage.url("/refresh"))).await.unwrap().status().is_success());
    assert!(traced(Client::new().get(stage.url(""))).await.unwrap().status().is_success());
    for heard in [token.hear(), api.hear()] {
        let parent = heard.lines().find_map(|line| line.strip_prefix("traceparent: ")).expect(&heard);
        assert!(parent.starts_with(&format!("00-{TRACE}-")) && parent.ends_with("-01"), "{parent}");
        assert!(parent != PARENT, "a span of its own");
        assert!(heard.contains("tracestate: vendor=1"), "{heard}");
    }
    let log = stage.log().await;
    for event in ["renewed the token", "the job ran"] {
        assert!(log.lines().any(|line| line.contains(event) && line.contains(TRACE)), "{event} in\n{log}");
    }
    stage.stop().await;
}
