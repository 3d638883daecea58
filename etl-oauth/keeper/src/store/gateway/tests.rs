use std::sync::Arc;

use axum::{Json, Router, extract::State, http::Method, response::IntoResponse, routing::any};
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use super::*;
use crate::{
    renewal::{RecordStore, Stored},
    token::AnswerShape,
};

/// A gateway that answers as scripted and keeps what it was sent.
#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<Vec<(Method, u16)>>>,
    seen: Arc<Mutex<Vec<String>>>,
    /// Where faasd would rewrite the files at once; Kubernetes shows them later.
    folder: Option<std::path::PathBuf>,
}

async fn answer(
    State(script): State<Script>,
    method: Method,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> impl IntoResponse {
    let auth = headers.get("authorization").map_or("none", |value| value.to_str().unwrap());
    assert_eq!(auth, "Basic YWRtaW46cGFzcw==");
    let (name, value) = (body["name"].as_str().unwrap(), body["value"].as_str().unwrap());
    script.seen.lock().unwrap().push(format!("{method} {name}={value}"));
    let mut answers = script.answers.lock().unwrap();
    let status = answers.iter().position(|(m, _)| *m == method).map_or(202, |at| answers.remove(at).1);
    if let (200..=299, Some(folder)) = (status, &script.folder) {
        std::fs::write(folder.join(name), value).unwrap();
    }
    StatusCode::from_u16(status).unwrap()
}

struct Setting {
    store: Gateway,
    script: Script,
    folder: tempfile::TempDir,
}

async fn setting(secrets: &[(&str, &str)], answers: &[(Method, u16)], immediate: bool) -> Setting {
    let folder = tempfile::tempdir().unwrap();
    for (name, value) in secrets.iter().chain(&[("basic-auth-password", "pass\n")]) {
        std::fs::write(folder.path().join(name), value).unwrap();
    }
    let script = Script {
        answers: Arc::new(Mutex::new(answers.to_vec())),
        folder: immediate.then(|| folder.path().to_owned()),
        ..Script::default()
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/prefix/", listener.local_addr().unwrap()).parse().unwrap();
    let app = Router::new().route("/prefix/system/secrets", any(answer)).with_state(script.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let secrets = Secrets::new(folder.path(), "");
    let codec = Codec::optional("etl", secrets.clone()).unwrap();
    let store = Gateway::new(GatewayApi::new(&url, secrets.clone()).unwrap(), secrets, codec);
    Setting { store, script, folder }
}

impl Setting {
    fn seen(&self) -> Vec<String> {
        self.script.seen.lock().unwrap().clone()
    }

    fn restarted(&self) -> Gateway {
        let secrets = self.store.secrets.clone();
        let codec = Codec::optional("etl", secrets.clone()).unwrap();
        Gateway::new(self.store.api.clone(), secrets, codec)
    }

    fn mount(&self, name: &str, value: &str) {
        std::fs::write(self.folder.path().join(name), value).unwrap();
    }

    async fn load(&self) -> Stored {
        self.store.load(&Key::default()).await.unwrap().unwrap()
    }

    async fn save(&self, access: &str, refresh: &str) -> Result<Version, StoreError> {
        let was = self.load().await;
        let body = format!(r#"{{"access_token":"{access}","refresh_token":"{refresh}"}}"#);
        let answer = AnswerShape::default().read(body.as_bytes()).unwrap();
        let record = was.record.authorised(answer, Timestamp::UNIX_EPOCH, None);
        self.store.save(&Key::default(), &record, None, Some(&was.version)).await
    }

    async fn access(&self) -> Option<String> {
        self.load().await.record.tokens.map(|tokens| tokens.access_token.expose().to_owned())
    }
}

const PAIR: [(&str, &str); 2] = [(ACCESS, "empty"), (REFRESH, "empty")];

#[tokio::test]
async fn the_refresh_token_is_written_before_the_access_token() {
    let it = setting(&PAIR, &[], false).await;
    assert!(it.load().await.record.tokens.is_none());
    it.save("a", "r").await.unwrap();
    assert_eq!(it.seen(), ["PUT oauth2-refresh-token=r", "PUT oauth2-access-token=a"]);
}

#[tokio::test]
async fn a_secret_that_is_not_there_is_created_and_a_race_is_written_again() {
    let answers = [(Method::PUT, 404), (Method::POST, 409), (Method::PUT, 409)];
    let it = setting(&PAIR, &answers, false).await;
    it.save("a", "r").await.unwrap();
    let methods: Vec<_> = it.seen().iter().map(|line| line.replace("oauth2-", "")).collect();
    let wanted = ["PUT refresh-token=r", "POST refresh-token=r", "PUT refresh-token=r", "PUT refresh-token=r"];
    assert_eq!(methods[..4], wanted);
    assert_eq!(methods[4..], ["PUT access-token=a"]);
}

#[tokio::test]
async fn a_refused_write_names_the_password_and_a_failing_one_can_be_tried_again() {
    let it = setting(&PAIR, &[(Method::PUT, 401)], false).await;
    let err = it.save("a", "r").await.unwrap_err();
    assert!(matches!(&err, StoreError::Refused(why) if why.contains("basic-auth-password")), "{err}");
    let it = setting(&PAIR, &[(Method::PUT, 202), (Method::PUT, 500)], false).await;
    assert!(matches!(it.save("a", "r").await, Err(StoreError::Unavailable(_))));
    assert_eq!(it.access().await, None);
    it.save("a", "r").await.unwrap();
    // What arrived at the first try is not written twice.
    assert_eq!(it.seen()[1..], ["PUT oauth2-access-token=a", "PUT oauth2-access-token=a"]);
}

#[tokio::test]
async fn a_mounted_file_that_lags_behind_does_not_undo_a_write() {
    let it = setting(&PAIR, &[], false).await;
    it.save("a1", "r1").await.unwrap();
    it.save("a2", "r2").await.unwrap();
    assert_eq!(it.access().await.as_deref(), Some("a2"));
    it.mount(REFRESH, "r1");
    it.mount(ACCESS, "a1");
    assert_eq!(it.access().await.as_deref(), Some("a2"));
}

#[tokio::test]
async fn an_edit_from_outside_is_adopted_under_a_new_generation() {
    for layout in ["pair", "record"] {
        let (name, value) = if layout == "pair" {
            (ACCESS, "theirs\n")
        } else {
            (RECORD, r#"{"generation":1,"tokens":{"access_token":"theirs"}}"#)
        };
        let secrets = if layout == "pair" { &PAIR[..] } else { &[(RECORD, "empty")] };
        let it = setting(secrets, &[], true).await;
        it.save("a1", "r1").await.unwrap();
        let before = it.load().await;
        it.mount(name, value);
        let after = it.load().await;
        assert_eq!(after.record.tokens.as_ref().unwrap().access_token.expose(), "theirs");
        assert!(after.record.generation > before.record.generation && after.version != before.version);
        assert!(it.save("x", "y").await.is_ok());
    }
}

#[tokio::test]
async fn b3_what_was_written_survives_a_restart() {
    for secrets in [&PAIR[..], &[(RECORD, "empty")]] {
        let it = setting(secrets, &[], true).await;
        it.save("a1", "r1").await.unwrap();
        let again = it.restarted();
        let record = again.load(&Key::default()).await.unwrap().unwrap().record;
        assert_eq!(record.generation, 1);
        assert_eq!(record.tokens.unwrap().refresh_token.unwrap().expose(), "r1");
    }
}

#[tokio::test]
async fn a_crash_between_the_two_writes_leaves_a_refresh_token_that_renews() {
    let it = setting(&[(ACCESS, "empty"), (REFRESH, "r1")], &[], false).await;
    let tokens = it.load().await.record.tokens.unwrap();
    assert!(!tokens.is_alive(Timestamp::now()));
    assert_eq!(tokens.refresh_token.unwrap().expose(), "r1");
}

#[tokio::test]
async fn a_record_is_sealed_from_the_first_key_on_and_one_of_before_is_read() {
    let key = "one:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let plain = r#"{"generation":4,"tokens":{"access_token":"before"}}"#;
    let it = setting(&[(RECORD, plain), ("etl-oauth-seal-keys", key)], &[], true).await;
    assert_eq!(it.access().await.as_deref(), Some("before"));
    it.save("marker", "r").await.unwrap();
    let written = std::fs::read_to_string(it.folder.path().join(RECORD)).unwrap();
    assert!(written.starts_with(r#"{"sealed":1,"key":"one","generation":5"#) && !written.contains("marker"));
    let stored = it.restarted().load(&Key::default()).await.unwrap().unwrap();
    assert_eq!(stored.record.tokens.unwrap().access_token.expose(), "marker");
}

#[tokio::test]
async fn b5_a_damaged_record_stays_an_error() {
    let it = setting(&[(RECORD, r#"{"generation":"#)], &[], false).await;
    for _ in 0..2 {
        let Err(StoreError::Damaged { why, .. }) = it.store.load(&Key::default()).await else { panic!("it is read") };
        assert!(matches!(*why, StoreError::Corrupt(_)), "{why}");
    }
}

#[tokio::test]
async fn o13_a_damaged_record_is_replaced_by_a_write_that_names_its_version() {
    let it = setting(&[(RECORD, r#"{"generation":"#)], &[], false).await;
    let Err(StoreError::Damaged { version, .. }) = it.store.load(&Key::default()).await else { panic!("it is read") };
    it.store
        .save(&Key::default(), &Record::default().revoked(jiff::Timestamp::UNIX_EPOCH), None, Some(&version))
        .await
        .unwrap();
    assert_eq!(it.load().await.record.generation, 1);
}

#[tokio::test]
async fn a_write_that_names_an_old_version_is_a_conflict() {
    let it = setting(&PAIR, &[], false).await;
    let old = it.load().await;
    it.save("a", "r").await.unwrap();
    let result = it.store.save(&Key::default(), &old.record, None, Some(&old.version)).await;
    assert_eq!(result.unwrap_err(), StoreError::Conflict);
    assert!(it.store.load(&Key::account("other").unwrap()).await.is_err());
}

#[tokio::test]
async fn a_gateway_that_is_away_fails_the_write_alone_and_names_its_variable() {
    let it = setting(&[(ACCESS, "a0"), (REFRESH, "r0")], &[], false).await;
    let (secrets, nowhere) = (it.store.secrets.clone(), "http://127.0.0.1:1".parse().unwrap());
    let codec = Codec::optional("etl", secrets.clone()).unwrap();
    let store = Gateway::new(GatewayApi::new(&nowhere, secrets.clone()).unwrap(), secrets, codec);
    let there = store.load(&Key::default()).await.unwrap().unwrap();
    assert_eq!(there.record.tokens.as_ref().unwrap().access_token.expose(), "a0");
    let answer = AnswerShape::default().read(br#"{"access_token":"a1","refresh_token":"r1"}"#).unwrap();
    let record = there.record.renewed(answer, Timestamp::UNIX_EPOCH, None);
    let failed = store.save(&Key::default(), &record, None, Some(&there.version)).await;
    assert!(matches!(&failed, Err(StoreError::Unavailable(why)) if why.contains("gateway_url")), "{failed:?}");
    // Nothing of it counts as written, and the next try names the same version.
    let after = store.load(&Key::default()).await.unwrap().unwrap();
    assert_eq!((after.version, after.record.generation), (there.version, there.record.generation));
}
