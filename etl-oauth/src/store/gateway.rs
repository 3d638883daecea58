use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

use super::{
    Acquired, Capabilities, Codec, DEFAULT_ACCOUNT, GatewayApi, StoreError, StoreOptions, Stored, TokenStore, Version,
    mounted::{Mounted, Sight},
};
use crate::{
    secrets::Secrets,
    token::{Record, Secret, Tokens},
};

const ACCESS: &str = "oauth2-access-token";
const REFRESH: &str = "oauth2-refresh-token";
const RECORD: &str = "oauth2-token";
/// What a token secret holds while there is no token: OpenFaaS has no empty secrets.
const EMPTY: &str = "empty";
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const LOOKS: u32 = 50;

/// Which secrets hold the tokens: those that the function lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `oauth2-access-token` and `oauth2-refresh-token`, each the bare token: other functions read them as they are. Two
    /// writes, the refresh token's first: it is the one that cannot be had again.
    Pair,
    /// `oauth2-token`, the whole record as JSON: one write, so that no crash parts the two, and lifetimes, scope and
    /// failures survive a restart. Sealed where the secret `etl-oauth-seal-keys` is mounted.
    Record,
}

/// The one-replica store: writes through the gateway's REST API, reads the mounted secrets.
///
/// The API never shows a value, knows no versions and has no leases. So this process's memory is the record, the mounted
/// files are read when it starts and when somebody else has changed them, and a second replica would not be noticed.
#[derive(Debug)]
pub struct Gateway {
    api: GatewayApi,
    secrets: Secrets,
    codec: Codec,
    layout: Layout,
    held: Mutex<Held>,
    writing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Held {
    record: Record,
    version: u64,
    mounted: Vec<Mounted>,
}

impl Gateway {
    /// The store over `api`; the layout is the one whose secrets are mounted, [`Layout::Record`] where both are.
    #[must_use]
    pub fn new(api: GatewayApi, secrets: Secrets, codec: Codec) -> Self {
        let layout = if secrets.is_mounted(RECORD) { Layout::Record } else { Layout::Pair };
        Self { api, secrets, codec, layout, held: Mutex::default(), writing: tokio::sync::Mutex::default() }
    }

    /// The store of this configuration.
    ///
    /// # Errors
    /// [`StoreError::Config`] without the gateway's address, or when the seal keys are damaged.
    pub fn open(options: &StoreOptions) -> Result<Self, StoreError> {
        let Some(url) = &options.gateway_url else {
            return Err(StoreError::Config("store=gateway needs gateway_url: the gateway's address".into()));
        };
        let api = GatewayApi::new(url, options.secrets.clone())
            .map_err(|_| StoreError::Config("the TLS library does not start".into()))?;
        let codec = Codec::optional(&options.function, options.secrets.clone())?;
        Ok(Self::new(api, options.secrets.clone(), codec))
    }

    /// The layout in use.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The names of the secrets that the function must list, besides `basic-auth-password`.
    #[must_use]
    pub fn secret_names(&self) -> &'static [&'static str] {
        match self.layout {
            Layout::Pair => &[ACCESS, REFRESH],
            Layout::Record => &[RECORD],
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the files of this layout show now: one value a secret, `None` for one that is missing, or empty because
    /// faasd is rewriting it.
    fn look(&self) -> Result<Vec<Option<Secret>>, StoreError> {
        let read = |name: &&str| self.secrets.read(name).map_err(|err| StoreError::Unavailable(err.to_string()));
        let values = self.secret_names().iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(values.into_iter().map(|value| value.filter(|value| !value.expose().is_empty())).collect())
    }

    /// Follows the mounted files. faasd truncates a file and writes it anew in place, so a value that we do not know
    /// counts only when a second look, a moment later, shows the same.
    async fn follow(&self) -> Result<(), StoreError> {
        let mut seen = self.look()?;
        for _ in 0..LOOKS {
            if self.held().knows(&seen) {
                return self.held().see(&seen, &self.codec);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            let again = self.look()?;
            let digests = |values: &[Option<Secret>]| -> Vec<_> {
                values.iter().map(|value| value.as_ref().map(Secret::digest)).collect()
            };
            if digests(&seen) == digests(&again) {
                return self.held().see(&again, &self.codec);
            }
            seen = again;
        }
        Err(StoreError::Unavailable("the mounted token secrets keep changing".into()))
    }

    async fn write(&self, name: &'static str, value: &Secret) -> Result<(), StoreError> {
        self.api.put(&self.secrets.name(name), value).await
    }
}

impl Held {
    fn knows(&self, seen: &[Option<Secret>]) -> bool {
        let known =
            |(mounted, value): (&Mounted, &Option<Secret>)| value.as_ref().is_some_and(|value| mounted.knows(value));
        self.mounted.iter().zip(seen).all(known)
    }

    fn see(&mut self, seen: &[Option<Secret>], codec: &Codec) -> Result<(), StoreError> {
        self.mounted.resize_with(seen.len(), Mounted::default);
        let is_token = |value: &Secret| value.expose() != EMPTY;
        let mut whole = None;
        if let ([mounted], [Some(value)]) = (&self.mounted[..], seen)
            && !mounted.knows(value)
            && is_token(value)
        {
            // Before the value counts as seen: a damaged record must go on being an error, not become "no token".
            whole = Some(codec.decode(DEFAULT_ACCOUNT, value.expose().as_bytes())?);
        }
        let mut foreign = vec![None; seen.len()];
        for ((mounted, value), foreign) in self.mounted.iter_mut().zip(seen).zip(&mut foreign) {
            if let Some(value) = value
                && mounted.look(value) == Sight::Foreign
            {
                *foreign = Some(value);
            }
        }
        match foreign[..] {
            [Some(_)] => self.adopt(whole.unwrap_or_default()),
            [access, refresh] if access.is_some() || refresh.is_some() => {
                // A file that still shows an older value of ours is no part of the edit: our value stands for it.
                let ours = self.record.tokens.as_ref();
                let access =
                    access.cloned().or_else(|| ours.map(|tokens| tokens.access_token.clone())).filter(is_token);
                let refresh =
                    refresh.cloned().or_else(|| ours.and_then(|tokens| tokens.refresh_token.clone())).filter(is_token);
                let tokens = (access.is_some() || refresh.is_some()).then(|| Tokens::bare(access, refresh));
                self.adopt(Record { tokens, ..Record::default() });
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes what somebody else wrote. Its generation is new to whoever holds tokens of ours.
    fn adopt(&mut self, record: Record) {
        let newer = if self.version == 0 { u64::from(record.tokens.is_some()) } else { self.record.generation + 1 };
        self.record = Record { generation: record.generation.max(newer), ..record };
        self.version += 1;
    }
}

impl TokenStore for Gateway {
    fn capabilities(&self) -> Capabilities {
        Capabilities { read_back: false, compare_and_swap: false, lease: false, accounts: false }
    }

    async fn load(&self, account: &str) -> Result<Option<Stored>, StoreError> {
        only_default(account)?;
        self.follow().await?;
        let held = self.held();
        Ok(Some(Stored { record: held.record.clone(), version: Version::new(held.version) }))
    }

    async fn save(&self, account: &str, record: &Record, was: Option<&Version>) -> Result<Version, StoreError> {
        only_default(account)?;
        let _one_at_a_time = self.writing.lock().await;
        if was != Some(&Version::new(self.held().version)) {
            return Err(StoreError::Conflict);
        }
        let values: Vec<Secret> = match self.layout {
            Layout::Pair => {
                let tokens = record.tokens.as_ref();
                let or_empty = |value: Option<&Secret>| {
                    value.filter(|value| !value.expose().is_empty()).cloned().unwrap_or_else(|| Secret::new(EMPTY))
                };
                let access = or_empty(tokens.map(|tokens| &tokens.access_token));
                let refresh = or_empty(tokens.and_then(|tokens| tokens.refresh_token.as_ref()));
                vec![access, refresh]
            }
            Layout::Record => {
                let json = self.codec.encode(account, record)?;
                vec![Secret::new(std::str::from_utf8(&json).unwrap_or_default())]
            }
        };
        // From the last to the first: the refresh token before the access token.
        for (index, (name, value)) in self.secret_names().iter().zip(&values).enumerate().rev() {
            if self.held().mounted.get(index).is_some_and(|mounted| mounted.is_ours(value)) {
                continue;
            }
            self.write(name, value).await?;
            let mut held = self.held();
            if held.mounted.len() < values.len() {
                held.mounted.resize_with(values.len(), Mounted::default);
            }
            held.mounted[index].wrote(value);
        }
        let mut held = self.held();
        held.record = record.clone();
        held.version += 1;
        Ok(Version::new(held.version))
    }

    async fn accounts(&self) -> Result<Vec<String>, StoreError> {
        Ok(vec![DEFAULT_ACCOUNT.to_owned()])
    }

    async fn acquire(
        &self,
        _account: &str,
        _owner: &str,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Acquired, StoreError> {
        // There is one replica, and its keeper makes one renewal at a time.
        Ok(Acquired::Until(now.checked_add(ttl).unwrap_or(Timestamp::MAX)))
    }

    async fn release(&self, _account: &str, _owner: &str) -> Result<(), StoreError> {
        Ok(())
    }
}

fn only_default(account: &str) -> Result<(), StoreError> {
    if account == DEFAULT_ACCOUNT {
        return Ok(());
    }
    Err(StoreError::Refused("the gateway store holds one account only; choose another store for more".into()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::{Json, Router, extract::State, http::Method, response::IntoResponse, routing::any};
    use http::{HeaderMap, StatusCode};
    use serde_json::Value;

    use super::*;
    use crate::token::AnswerShape;

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
            self.store.load(DEFAULT_ACCOUNT).await.unwrap().unwrap()
        }

        async fn save(&self, access: &str, refresh: &str) -> Result<Version, StoreError> {
            let was = self.load().await;
            let body = format!(r#"{{"access_token":"{access}","refresh_token":"{refresh}"}}"#);
            let answer = AnswerShape::default().read(body.as_bytes()).unwrap();
            let record = was.record.authorised(answer, Timestamp::UNIX_EPOCH, None);
            self.store.save(DEFAULT_ACCOUNT, &record, Some(&was.version)).await
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
            let record = again.load(DEFAULT_ACCOUNT).await.unwrap().unwrap().record;
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
        let stored = it.restarted().load(DEFAULT_ACCOUNT).await.unwrap().unwrap();
        assert_eq!(stored.record.tokens.unwrap().access_token.expose(), "marker");
    }

    #[tokio::test]
    async fn b5_a_damaged_record_stays_an_error() {
        let it = setting(&[(RECORD, r#"{"generation":"#)], &[], false).await;
        for _ in 0..2 {
            assert!(matches!(it.store.load(DEFAULT_ACCOUNT).await, Err(StoreError::Corrupt(_))));
        }
    }

    #[tokio::test]
    async fn a_write_that_names_an_old_version_is_a_conflict() {
        let it = setting(&PAIR, &[], false).await;
        let old = it.load().await;
        it.save("a", "r").await.unwrap();
        let result = it.store.save(DEFAULT_ACCOUNT, &old.record, Some(&old.version)).await;
        assert_eq!(result.unwrap_err(), StoreError::Conflict);
        assert!(it.store.load("other").await.is_err());
    }
}
