//! What a definition adds to requests of an account: its own values, and secrets that are read each time.

use super::*;
use crate::{
    grant::{Authority, Credentials, HttpClient},
    renewal::Parts,
    store::TokenStore as _,
    token::{Secret, TokenResponse},
};

#[tokio::test]
async fn two_accounts_bear_values_of_their_own_and_the_secret_that_is_mounted_now() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::<std::sync::Mutex<Vec<String>>>::default();
    let log = Arc::clone(&seen);
    let router = axum::Router::new().fallback(move |request: http::Request<axum::body::Body>| async move {
        let header =
            |name: &str| request.headers().get(name).map_or("none", |value| value.to_str().unwrap()).to_owned();
        let line = format!("{} {} {} {}", request.uri(), header("x-key"), header("x-tenant"), header("cookie"));
        log.lock().unwrap().push(line);
        "{}"
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    let text = format!(
        "token_url = 'https://p.example/token'\napi_url = 'http://{address}/v1'\n\
         [variables.tenant]\nkind = 'text'\nfrom = 'answer'\n[variables.key]\nfrom = 'secret'\nat = 'api-key'\n\
         [api]\nheader = 'Cookie'\ntoken = 'sid={{access_token}}'\nheaders = {{ X-Key = '{{key}}', X-Tenant = '{{tenant}}' }}\n\
         params = {{ v = '3', k = '{{key}}' }}\nsecrets_in_query = true"
    );
    let provider = Provider::new("acme", Definition::read("acme.toml", &text).unwrap(), Overrides::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mount = |name: &str, value: &str| std::fs::write(folder.path().join(name), value).unwrap();
    mount("oauth2-client-id", "id");
    mount("oauth2-client-secret", "s");
    mount("api-key", "k1");
    let credentials = Credentials::mounted(crate::secrets::Secrets::new(folder.path(), ""), None);
    let wire = HttpClient::new(|_| std::future::ready(Err(crate::grant::SendError::NotSent)));
    let memory = crate::store::Memory::default();
    let store = Arc::new(crate::store::Store::Memory(memory.clone()));
    let keeper = async |account: &str, kept: &[(&str, &str)]| {
        let kept = kept.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let answer = TokenResponse { kept, ..TokenResponse::made(Secret::new("t"), "Bearer") };
        let record = crate::token::Record::default().authorised(answer, jiff::Timestamp::now(), None);
        memory.save(account, &record, None).await.unwrap();
        let keeper = Keeper::new(
            account,
            Parts {
                policy: crate::renewal::Policy::of(&provider),
                authority: Authority::new(provider.clone(), credentials.clone(), wire.clone()),
                store: Arc::clone(&store),
                owner: "one".into(),
                clock: crate::renewal::Clock::system(),
                announcer: crate::renewal::Announcer::default(),
            },
        );
        keeper.sync().await;
        keeper
    };
    let one = Api::of(Arc::new(provider.clone()), "id", keeper("one", &[("tenant", "t 1")]).await).unwrap();
    one.get("/x").query("v", "mine").send().await.unwrap();
    mount("api-key", "k2");
    let two = one.with(keeper("two", &[]).await);
    two.get("/x?a=b").send().await.unwrap();
    let (key, tenant) = (HeaderName::from_static("x-tenant"), HeaderValue::from_static("other"));
    one.get("/x").header(key, tenant).send().await.unwrap();
    let forward = Forward {
        method: http::Method::GET,
        path: vec!["p".into()],
        query: Some("q=1".into()),
        headers: HeaderMap::new(),
        body: Payload::Whole(bytes::Bytes::new()),
    };
    one.forward(forward).await.unwrap();
    assert_eq!(
        *seen.lock().unwrap(),
        [
            "/v1/x?v=mine&k=k1 k1 t 1 sid=t",
            "/v1/x?a=b&k=k2&v=3 k2 none sid=t",
            "/v1/x?k=k2&v=3 k2 other sid=t",
            "/v1/p?q=1&k=k2&v=3 k2 t 1 sid=t",
        ]
    );
    std::fs::remove_file(folder.path().join("api-key")).unwrap();
    let err = one.get("/x").send().await.unwrap_err();
    assert!(err.to_string().contains("api-key"), "{err}");
}
