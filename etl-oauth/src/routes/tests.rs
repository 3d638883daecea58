//! Authorising again, at a provider that says whose a token is.

mod admission;
mod audit;
mod connections;
mod links;
mod operation;
mod revocation;
mod session;

use std::sync::{
    Arc, LazyLock, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use axum::{Json, Router, body::Body, routing};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Method, Request, StatusCode, header};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::{
    Config, Function,
    job::{Job, Own},
};
use token_keeper::api::{Api, ApiError};

/// A provider at which the code names the person, and the scopes that the person allows: `ada:read write`.
async fn provider() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let issuer = url.clone();
    // Rivals get their tokens at the same moment.
    let rivals = Arc::new(tokio::sync::Barrier::new(2));
    let token = |body: String| async move {
        let field = |name: &str| {
            let mut fields = url::form_urlencoded::parse(body.as_bytes());
            fields.find(|(field, _)| field == name).map(|(_, value)| value.into_owned())
        };
        // A machine shows its own credentials and no code.
        let code = field("code").unwrap_or_else(|| "machine:read write".to_owned());
        let (person, scope) = code.split_once(':').unwrap();
        if person.starts_with("rival") {
            rivals.wait().await;
        }
        let claims = json!({ "iss": issuer, "aud": "client", "sub": person, "exp": 4_000_000_000_u64 });
        let id_token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let mut answer = json!({ "access_token": person, "expires_in": 3600, "scope": scope, "id_token": id_token });
        if person != "guest" {
            answer["refresh_token"] = "r".into();
        }
        if person.starts_with("team") {
            answer["team"] = json!({ "access_token": format!("shared by {person}"), "expires_in": 3600 });
        }
        Json(answer)
    };
    let me = |headers: http::HeaderMap| async move {
        let person = headers[header::AUTHORIZATION].to_str().unwrap().replace("Bearer ", "");
        Json(json!({ "user": { "id": person.len(), "login": person } }))
    };
    let metadata = json!({ "issuer": url, "jwks_uri": format!("{url}/keys") });
    let keys = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "one", "x": public_key() }] });
    let revoked = Arc::<Mutex<Vec<String>>>::default();
    let shown = Arc::clone(&revoked);
    let revoke = |headers: http::HeaderMap, body: String| async move {
        let proof = headers.get(header::AUTHORIZATION).map_or("nobody", |value| value.to_str().unwrap());
        revoked.lock().unwrap().push(format!("{proof} {body}"));
    };
    let router = Router::new()
        .route("/token", routing::post(token))
        .route("/revoke", routing::post(revoke).get(|| async move { Json(shown.lock().unwrap().clone()) }))
        .route("/refuse", routing::post(|| async {
            let trace = "token 1//0gAbCdEfGhIjKlMnOpQr is dead";
            let body = json!({ "error": "invalid_grant", "error_subtype": "invalid_rapt", "trace": trace, "hint": "marker" });
            (StatusCode::BAD_REQUEST, Json(body))
        }))
        .route("/me", routing::get(me))
        .route("/.well-known/openid-configuration", routing::get(|| async { Json(metadata) }))
        .route("/keys", routing::get(|| async { Json(keys) }));
    tokio::spawn(async { axum::serve(listener, router).await });
    url
}

/// The key that the provider signs with.
static KEY: LazyLock<Vec<u8>> =
    LazyLock::new(|| Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap().as_ref().to_vec());

fn public_key() -> String {
    URL_SAFE_NO_PAD.encode(Ed25519KeyPair::from_pkcs8(&KEY).unwrap().public_key())
}

struct Scene {
    router: Router,
    provider: String,
    folder: tempfile::TempDir,
}

struct Seen {
    status: StatusCode,
    location: String,
    cookies: String,
    body: String,
}

impl Seen {
    async fn of(answer: axum::response::Response) -> Self {
        let (parts, body) = answer.into_parts();
        let set = parts.headers.get_all(header::SET_COOKIE).iter();
        let cookies: Vec<&str> = set.filter_map(|cookie| cookie.to_str().ok()?.split(';').next()).collect();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Self {
            status: parts.status,
            location: parts.headers.get(header::LOCATION).map_or("", |url| url.to_str().unwrap()).to_owned(),
            cookies: cookies.join("; "),
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }
}

const SECRET: &str = "operator's secret";

impl Scene {
    async fn new(definition: &str) -> Self {
        Self::with(definition, &[]).await
    }

    async fn with(definition: &str, variables: &[(&str, &str)]) -> Self {
        Self::running(Job::Gumroad, definition, variables).await
    }

    async fn running(job: Job, definition: &str, variables: &[(&str, &str)]) -> Self {
        Self::prepared(job, definition, variables, &[]).await
    }

    /// With further secrets.
    async fn prepared(job: Job, definition: &str, variables: &[(&str, &str)], secrets: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, value) in secrets {
            std::fs::write(folder.path().join(name), value).unwrap();
        }
        let url = provider().await;
        Self::start(job, definition, variables, folder, url).await
    }

    /// The function in that folder, where another one may have been before.
    async fn start(
        job: Job,
        definition: &str,
        variables: &[(&str, &str)],
        folder: tempfile::TempDir,
        url: String,
    ) -> Self {
        for (name, value) in [
            ("oauth2-client-id", "client"),
            ("oauth2-client-secret", "value"),
            ("etl-oauth-operator", SECRET),
            ("etl-oauth-seal-keys", "1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="),
            ("here.toml", &definition.replace("URL", &url)),
        ] {
            std::fs::write(folder.path().join(name), value).unwrap();
        }
        let router = Self::router(folder.path(), &url, job, variables).await;
        Self { router, provider: url, folder }
    }

    /// Another process of the same function, over the same store.
    async fn restarted(self) -> Self {
        let router = Self::router(self.folder.path(), &self.provider, Job::Gumroad, &[]).await;
        Self { router, ..self }
    }

    async fn router(folder: &std::path::Path, url: &str, job: Job, variables: &[(&str, &str)]) -> Router {
        let path = |name: &str| Some(folder.join(name).display().to_string());
        let config = Config::read(|name| match name {
            "provider_file" => path("here.toml"),
            "public_url" => Some("http://127.0.0.1/function/f".into()),
            "store" => Some("file".into()),
            "store_path" => path("store"),
            "allow_ephemeral_store" => Some("true".into()),
            // What callers cost is counted here; the sweeper has tests of its own.
            "sweep" if !variables.iter().any(|(n, _)| *n == "sweep") => Some("off".into()),
            "secret_mount_path" => Some(folder.display().to_string()),
            name => variables.iter().find(|(n, _)| *n == name).map(|(_, value)| value.replace("URL", url)),
        });
        let config = Config { job, ..config.unwrap() };
        Function::new(config).await.unwrap().router()
    }

    async fn send(&self, method: Method, uri: &str, cookies: &str, form: &[(&str, &str)]) -> Seen {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(header::AUTHORIZATION, format!("Bearer {SECRET}"))
            .header(header::ACCEPT, "text/html")
            .header(header::COOKIE, cookies)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(body))
            .unwrap();
        let answer = self.router.clone().oneshot(request).await.unwrap();
        Seen::of(answer).await
    }

    /// Authorises as the person of `code`: the callback's answer.
    async fn authorise(&self, code: &str) -> Seen {
        self.come_back("default", code, str::to_owned).await
    }

    /// The same of an account, with what the provider does to the query.
    async fn come_back(&self, account: &str, code: &str, change: impl Fn(&str) -> String) -> Seen {
        let begun = self.send(Method::POST, "/enable", "", &[("account", account)]).await;
        let url: url::Url = begun.location.parse().unwrap();
        let state = url.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
        let query: String = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("code", code)
            .append_pair("state", &state)
            .finish();
        let query = change(&query);
        self.send(Method::GET, &format!("/oauth2/callback?{query}"), &begun.cookies, &[]).await
    }

    async fn who(&self) -> String {
        let request = Request::builder().uri("/status").header(header::AUTHORIZATION, format!("Bearer {SECRET}"));
        let answer = self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        let status: Value = serde_json::from_slice(&body).unwrap();
        status["accounts"][0]["who"].as_str().unwrap_or("nobody").to_owned()
    }

    async fn confirm(&self, page: &Seen) -> Seen {
        let grant = page.body.split("name=\"grant\" value=\"").nth(1).unwrap().split('"').next().unwrap();
        self.send(Method::POST, "/oauth2/confirm", &page.cookies, &[("grant", grant)]).await
    }
}

const BY_USERINFO: &str = "
authorize_url = 'URL/authorize'
token_url = 'URL/token'
api_url = 'URL'
userinfo_url = 'URL/me'
userinfo_id = '/user/id'
userinfo_name = '/user/login'
scope = ['read', 'write']
";
const BY_ID_TOKEN: &str = "
issuer = 'URL'
authorize_url = 'URL/authorize'
token_url = 'URL/token'
api_url = 'URL'
scope = ['openid', 'read', 'write']
";

#[tokio::test]
async fn authorising_again_as_somebody_else_asks_first() {
    for definition in [BY_USERINFO, BY_ID_TOKEN] {
        let scene = Scene::new(definition).await;
        assert_eq!(scene.authorise("ada:openid read write").await.status, StatusCode::SEE_OTHER);
        assert_eq!(scene.who().await, "ada");
        assert_eq!(scene.authorise("ada:openid read write").await.status, StatusCode::SEE_OTHER, "the same person");

        let asked = scene.authorise("babbage:openid read write").await;
        assert_eq!(asked.status, StatusCode::OK, "{}", asked.body);
        assert!(asked.body.contains("ada") && asked.body.contains("babbage"), "{}", asked.body);
        assert_eq!(scene.who().await, "ada", "nothing was changed");
        let stored = std::fs::read_dir(scene.folder.path().join("store")).unwrap().count();
        assert_eq!(scene.confirm(&asked).await.status, StatusCode::SEE_OTHER);
        assert_eq!(scene.who().await, "babbage");
        assert_eq!(std::fs::read_dir(scene.folder.path().join("store")).unwrap().count(), stored);
        assert_eq!(scene.confirm(&asked).await.status, StatusCode::BAD_REQUEST, "good once");
    }
}

#[tokio::test]
async fn a_poorer_grant_replaces_a_better_one_when_it_is_wanted_and_a_dead_one_at_once() {
    let scene = Scene::new(BY_USERINFO).await;
    assert_eq!(scene.authorise("ada:read").await.status, StatusCode::SEE_OTHER, "the first may be poor");
    assert_eq!(scene.authorise("ada:read write").await.status, StatusCode::SEE_OTHER, "a better one");
    let asked = scene.authorise("ada:read").await;
    assert!(asked.status == StatusCode::OK && asked.body.contains("<code>write</code>"), "{}", asked.body);
    assert_eq!(scene.confirm(&asked).await.status, StatusCode::SEE_OTHER);
    // A revoked grant is no better one, and binds no person.
    let revoked = scene.send(Method::POST, "/revoke", "", &[]).await;
    assert_eq!(revoked.status, StatusCode::SEE_OTHER, "{}", revoked.body);
    assert_eq!(scene.authorise("babbage:read").await.status, StatusCode::SEE_OTHER);
    assert_eq!(scene.who().await, "babbage");
}

#[tokio::test]
async fn a_token_of_the_issuer_or_of_the_gateway_opens_the_job() {
    let jwt = [("invoke_auth", "jwt"), ("invoke_issuer", "URL"), ("invoke_audience", "job")];
    let iam = [("invoke_auth", "openfaas"), ("gateway_url", "URL"), ("OPENFAAS_NAMESPACE", "fn")];
    for (variables, audience) in [(&jwt[..], Some("job")), (&iam[..], None)] {
        let scene = Scene::with(BY_USERINFO, variables).await;
        let run = async |audience: &str, function: &str| {
            let claims = json!({
                "iss": scene.provider, "aud": audience, "exp": 4_000_000_000_u64, "function": { "permissions": [function] },
            });
            let header = Header { kid: Some("one".into()), ..Header::new(Algorithm::EdDSA) };
            let token = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_ed_der(&KEY)).unwrap();
            let request = Request::post("/").header(header::AUTHORIZATION, format!("Bearer {token}"));
            let answer = scene.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            answer.status().as_u16()
        };
        let right = audience.unwrap_or(&scene.provider);
        // Behind the door: the function is not authorised yet.
        assert_eq!(run(right, "fn:f").await, 409, "{variables:?}");
        assert_eq!(run("other", "fn:f").await, 401);
        assert_eq!(run(right, "fn:g").await, if audience.is_some() { 409 } else { 403 });
        let bare = scene.router.clone().oneshot(Request::post("/").body(Body::empty()).unwrap()).await.unwrap();
        assert!(bare.status() == 401 && bare.headers()[header::WWW_AUTHENTICATE] == "Bearer");
    }
}

#[tokio::test]
async fn a_redirect_without_the_providers_signature_is_refused_before_its_code_is_used() {
    let definition = format!("{BY_USERINFO}callback.sign = {{ parameter = 'hmac', pair = '=', join = '&' }}");
    let scene = Scene::new(&definition).await;
    let unsigned = scene.authorise("ada:read write").await;
    assert_eq!(unsigned.status, StatusCode::BAD_REQUEST);
    assert!(unsigned.body.contains("signature"), "{}", unsigned.body);
    assert_eq!(scene.who().await, "nobody");
    let signed = |key: &str, query: &str| {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key.as_bytes());
        let tag = aws_lc_rs::hmac::sign(&key, query.as_bytes());
        let hex: Vec<_> = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{query}&hmac={}", hex.concat())
    };
    for (key, status) in [("another", StatusCode::BAD_REQUEST), ("value", StatusCode::SEE_OTHER)] {
        let answer = scene.come_back("default", "ada:read write", |query| signed(key, query)).await;
        assert_eq!(answer.status, status, "{}", answer.body);
    }
    assert_eq!(scene.who().await, "ada");
}

#[tokio::test]
async fn g1_a_revocation_ends_the_refresh_token_first_then_deletes_and_says_which_half_worked() {
    let scene = Scene::new(&format!("{BY_USERINFO}revoke_url = 'URL/revoke'")).await;
    scene.authorise("ada:read write").await;
    assert_eq!(scene.send(Method::POST, "/revoke", "", &[]).await.status, StatusCode::SEE_OTHER);
    let log = reqwest::Client::new().get(format!("{}/revoke", scene.provider)).send().await.unwrap();
    let log: Vec<String> = log.json().await.unwrap();
    // Basic of `client:value`: only the client itself may revoke.
    assert_eq!(
        log,
        [
            "Basic Y2xpZW50OnZhbHVl token=r&token_type_hint=refresh_token",
            "Basic Y2xpZW50OnZhbHVl token=ada&token_type_hint=access_token"
        ]
    );
    assert_eq!(scene.who().await, "nobody");

    // The provider knows of no such place: what is here goes all the same, and the page says so.
    let scene = Scene::new(&format!("{BY_USERINFO}revoke_url = 'URL/elsewhere'")).await;
    scene.authorise("ada:read write").await;
    let half = scene.send(Method::POST, "/revoke", "", &[]).await;
    assert_eq!(half.status, StatusCode::BAD_GATEWAY);
    assert!(
        half.body.contains("did not revoke the tokens") && half.body.contains("Here they are deleted"),
        "{}",
        half.body
    );
    assert_eq!(scene.who().await, "nobody");
}

#[tokio::test]
async fn a_job_that_panics_for_one_account_is_its_failure_and_the_others_run_on() {
    let ran = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ran);
    let job = Own::new(move |api: Api, (): ()| {
        let count = Arc::clone(&count);
        async move {
            assert_ne!(api.keeper().account(), "bad", "a mistake in the job");
            // The other one's end does not take this one along.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            count.fetch_add(1, Ordering::SeqCst);
            Ok::<_, ApiError>(())
        }
    });
    let scene = Scene::running(Job::Own(job), BY_USERINFO, &[("min_run_interval", "0s")]).await;
    scene.authorise("ada:read write").await;
    scene.come_back("bad", "ada:read write", str::to_owned).await;
    let request = Request::post("/").body(Body::empty()).unwrap();
    let answer = scene.router.clone().oneshot(request).await.unwrap();
    assert_eq!((answer.status(), ran.load(Ordering::SeqCst)), (StatusCode::INTERNAL_SERVER_ERROR, 1));
    let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    let told: Value = serde_json::from_slice(&body).unwrap();
    let outcomes = ["default", "bad"].map(|wanted| {
        let all = told["accounts"].as_array().unwrap();
        all.iter().find(|it| it["account"] == wanted).unwrap()["outcome"].clone()
    });
    assert_eq!(outcomes, ["ok", "job_panicked"]);
}

#[tokio::test]
async fn a_job_of_ones_own_names_the_field_that_is_wrong_and_takes_no_input_where_runs_share_an_outcome() {
    #[derive(Default, serde::Deserialize)]
    struct Since {
        after: Option<String>,
    }
    for (interval, input, status, error, word) in [
        ("0s", r#"{"after":"2026"}"#, StatusCode::NO_CONTENT, "", ""),
        ("0s", r#"{"after":7}"#, StatusCode::BAD_REQUEST, "bad_input", "after: "),
        ("10s", "", StatusCode::NO_CONTENT, "", ""),
        ("10s", r#"{"after":"2026"}"#, StatusCode::FORBIDDEN, "input_refused", "anonymous"),
    ] {
        let job = Own::new(|_: Api, since: Since| async move { Ok::<_, ApiError>(since.after) });
        let scene = Scene::running(Job::Own(job), BY_USERINFO, &[("min_run_interval", interval)]).await;
        scene.authorise("ada:read write").await;
        let answer = scene.router.clone().oneshot(Request::post("/").body(Body::from(input)).unwrap()).await.unwrap();
        assert_eq!(answer.status(), status, "{interval} {input}");
        let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        if !error.is_empty() {
            let told: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(told["error"], error);
            assert!(told["message"].as_str().unwrap().contains(word), "{told}");
        }
    }
}
