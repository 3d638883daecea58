//! A gateway with the sample function, for the tests that need one.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file needs a part of it, and fails by panics"
)]

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};

use local::{Dialect, Local, Options};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;

/// The head of every stack file; functions follow, indented by two.
pub const HEAD: &str = "version: 1.0\nprovider:\n  name: openfaas\n  gateway: http://127.0.0.1:8080\nfunctions:\n";

pub struct Place {
    pub folder: tempfile::TempDir,
}

impl Place {
    /// A project with this stack file; functions of image `sample` are the sample function.
    pub fn new(functions: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("stack.yaml"), format!("{HEAD}{functions}")).unwrap();
        Self { folder }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn options(&self, names: &[&str]) -> Options {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_sample-function"));
        Options {
            dir: self.path().to_owned(),
            project: self.path().to_owned(),
            executables: names.iter().map(|name| ((*name).to_owned(), program.clone())).collect(),
            ..Options::default()
        }
    }

    pub async fn start(self, names: &[&str]) -> Running {
        self.start_as(names, Dialect::FaasNetes).await
    }

    pub async fn start_as(self, names: &[&str], dialect: Dialect) -> Running {
        let local = Local::start(Options { dialect, ..self.options(names) }).await.unwrap();
        let password = std::fs::read_to_string(self.path().join(".secrets/basic-auth-password")).unwrap();
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Running { local, place: self, password, http }
    }
}

pub struct Running {
    pub local: Local,
    /// Goes away with this.
    pub place: Place,
    pub password: String,
    pub http: reqwest::Client,
}

impl Running {
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.local.urls().gateway)
    }

    /// A request of the operator.
    pub fn system(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.at(path)).basic_auth("admin", Some(&self.password))
    }

    /// The status of an operator's request with a JSON body.
    pub async fn write(&self, method: Method, path: &str, body: &Value) -> u16 {
        self.system(method, path).json(body).send().await.unwrap().status().as_u16()
    }

    pub async fn read(&self, path: &str) -> Value {
        self.system(Method::GET, path).send().await.unwrap().json().await.unwrap()
    }

    pub async fn get(&self, path: &str) -> Response {
        self.http.get(self.at(path)).send().await.unwrap()
    }

    /// What the sample function saw of a request.
    pub async fn seen(&self, path: &str) -> Seen {
        Seen::of(self.get(path).await).await
    }
}

/// A request as it reached the sample function.
#[derive(Debug)]
pub struct Seen(pub Value);

impl Seen {
    pub async fn of(answer: Response) -> Self {
        Self(answer.json().await.unwrap())
    }

    pub fn headers(&self, name: &str) -> Vec<&str> {
        let pairs = self.0["headers"].as_array().unwrap().iter();
        pairs.filter(|pair| pair[0] == name).map(|pair| pair[1].as_str().unwrap()).collect()
    }

    pub fn environment(&self) -> BTreeMap<&str, &str> {
        let all = self.0["environment"].as_object().unwrap();
        all.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap())).collect()
    }
}

/// Repeats a check until it holds. Only the test runner's limit ends it, so that a slow machine does not.
pub async fn until<F: Future<Output = bool>>(so: impl Fn() -> F) {
    while !so().await {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// A request of a client that follows no redirects.
pub async fn get(url: impl reqwest::IntoUrl) -> reqwest::Result<Response> {
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?.get(url).send().await
}
