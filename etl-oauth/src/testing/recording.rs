//! Answers of a real API, written down once and replayed from then on.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::{MockApi, Recorded, Reply};

/// What stands in the place of a secret.
const CUT: &str = "…";

/// Names of fields, parameters and headers that hold secrets, or parts of such names.
const SECRET: [&str; 9] =
    ["token", "secret", "password", "authorization", "api_key", "apikey", "cookie", "signature", "private_key"];

/// The headers of an answer that the client reads; no other one is written down.
const KEPT: [&str; 3] = ["content-type", "link", "retry-after"];

/// Requests and answers: of a file, or on their way into one.
#[derive(Clone, Debug)]
pub(super) struct Recording {
    source: Source,
    exchanges: Arc<Mutex<Vec<Exchange>>>,
}

#[derive(Clone, Debug)]
enum Source {
    File,
    Api { base: Url, token: String, file: PathBuf, http: reqwest::Client },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Exchange {
    request: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    query: Vec<(String, String)>,
    status: u16,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Value,
}

impl MockApi {
    /// Answers with what a real API answered once, as `file` has it: each request gets the next answer that was given to one
    /// of its method, path and query. A request that was not recorded is a 501.
    ///
    /// With the variable `RECORD` set to the API's base URL, and `RECORD_TOKEN` to an access token, requests go there, and the
    /// file is written: without tokens, cookies and fields whose names tell a secret. Look at it before you commit it: what else
    /// the account holds is in it.
    ///
    /// # Panics
    /// When the file cannot be read, or `RECORD` is no URL.
    pub async fn recorded(file: impl AsRef<Path>) -> Self {
        match std::env::var("RECORD") {
            Ok(base) => {
                let base = base.parse().expect("RECORD is the API's base URL");
                Self::recording(file, base, &std::env::var("RECORD_TOKEN").unwrap_or_default()).await
            }
            Err(_) => Self::replaying(file).await,
        }
    }

    /// Replays a file.
    ///
    /// # Panics
    /// When it cannot be read.
    pub async fn replaying(file: impl AsRef<Path>) -> Self {
        let (mock, file) = (Self::start().await, file.as_ref());
        let text = fs::read_to_string(file);
        let text =
            text.unwrap_or_else(|err| panic!("{}: {err}: record it by RECORD=URL RECORD_TOKEN=…", file.display()));
        let exchanges: Vec<Exchange> = serde_json::from_str(&text).expect("a file that RECORD wrote");
        mock.set_recording(Recording { source: Source::File, exchanges: Arc::new(Mutex::new(exchanges)) });
        mock
    }

    /// Asks the API at `base` with that token, and writes `file`.
    pub async fn recording(file: impl AsRef<Path>, base: Url, token: &str) -> Self {
        let (file, http, token) = (file.as_ref().to_owned(), reqwest::Client::new(), token.to_owned());
        let mock = Self::start().await;
        mock.set_recording(Recording { source: Source::Api { base, token, file, http }, exchanges: Arc::default() });
        mock
    }
}

impl Recording {
    pub(super) async fn answer(&self, request: &Recorded) -> Reply {
        match &self.source {
            Source::File => self.replay(request),
            Source::Api { base, token, file, http } => {
                let exchange = ask(base, token, http, request).await;
                let reply = exchange.reply();
                let mut all = self.exchanges.lock().unwrap();
                all.push(exchange.without_secrets(token));
                let text = serde_json::to_string_pretty(&*all).expect("JSON");
                fs::write(file, text + "\n").expect("the recording's file can be written");
                reply
            }
        }
    }

    /// The first answer to such a request that was not given yet.
    fn replay(&self, request: &Recorded) -> Reply {
        let wanted = Exchange::of(request).without_secrets("");
        let mut all = self.exchanges.lock().unwrap();
        match all.iter().position(|it| it.request == wanted.request && it.query == wanted.query) {
            Some(at) => all.remove(at).reply(),
            None => Reply::text(format!("{} {:?} was not recorded", wanted.request, wanted.query)).with_status(501),
        }
    }
}

async fn ask(base: &Url, token: &str, http: &reqwest::Client, request: &Recorded) -> Exchange {
    let mut url = base.clone();
    url.set_path(&format!("{}{}", base.path().trim_end_matches('/'), request.path));
    if !request.queries.is_empty() {
        url.query_pairs_mut().extend_pairs(&request.queries);
    }
    let mut asked = http.request(request.method.clone(), url).bearer_auth(token).body(request.body.clone());
    for name in [header::ACCEPT, header::CONTENT_TYPE] {
        if let Some(value) = request.headers.get(&name) {
            asked = asked.header(name, value);
        }
    }
    let answer = asked.send().await.expect("the API answers");
    let mut exchange = Exchange::of(request);
    exchange.status = answer.status().as_u16();
    let kept = |name: &str| KEPT.contains(&name) || name.contains("ratelimit") || name.contains("rate-limit");
    exchange.headers = answer
        .headers()
        .iter()
        .filter(|(name, _)| kept(name.as_str()))
        .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
        .collect();
    let text = answer.text().await.expect("a whole answer");
    exchange.body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    exchange
}

impl Exchange {
    fn of(request: &Recorded) -> Self {
        Self {
            request: request.route(),
            query: request.queries.clone(),
            status: 200,
            headers: BTreeMap::new(),
            body: Value::Null,
        }
    }

    fn reply(&self) -> Reply {
        let body = match &self.body {
            Value::String(text) => text.clone(),
            json => json.to_string(),
        };
        let status = StatusCode::from_u16(self.status).expect("a status").as_u16();
        let reply = Reply::status(status).body(body);
        self.headers.iter().fold(reply, |reply, (name, value)| reply.header(name, value))
    }

    fn without_secrets(mut self, token: &str) -> Self {
        for (name, value) in &mut self.query {
            if is_secret(name) {
                CUT.clone_into(value);
            }
        }
        cut(&mut self.body, token);
        for value in self.headers.values_mut().filter(|value| !token.is_empty() && value.contains(token)) {
            *value = value.replace(token, CUT);
        }
        self
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    // A mark of the next page is none, and the replay needs it.
    !name.contains("page") && !name.contains("sync") && SECRET.iter().any(|part| name.contains(part))
}

fn cut(value: &mut Value, token: &str) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if is_secret(name) && !value.is_null() {
                    *value = CUT.into();
                }
                cut(value, token);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| cut(item, token)),
        Value::String(text) if !token.is_empty() && text.contains(token) => *text = text.replace(token, CUT),
        _ => {}
    }
}
