use std::{collections::BTreeMap, path::Path};

use local::{Local, Options, provider::Provider};
use serde_json::Value;
use tempfile::TempDir;

/// Gateway, sandbox provider and the function, running; `.secrets/` and the state are in a folder that goes away with it.
#[derive(Debug)]
pub struct Stage {
    local: Local,
    folder: TempDir,
    options: Options,
}

/// The function's name in `stack.yaml`.
const NAME: &str = "etl-oauth";

#[allow(clippy::unwrap_used, clippy::expect_used, reason = "a stage that cannot be set up fails its test")]
impl Stage {
    /// Starts the function of the project's own `stack.yaml`.
    pub async fn start(program: &str) -> Self {
        Self::with(program, &[], |_| {}).await
    }

    /// Starts the function of another stack file.
    pub async fn of(program: &str, stack: &Path) -> Self {
        Self::from(program, Some(stack), &[], |_| {}).await
    }

    /// The same, after `prepare` has had the folder of secrets.
    pub async fn prepared(program: &str, stack: &Path, prepare: impl FnOnce(&Path)) -> Self {
        Self::from(program, Some(stack), &[], prepare).await
    }

    /// Starts it with further environment variables, after `prepare` has had the folder of secrets.
    pub async fn with(program: &str, environment: &[(&str, &str)], prepare: impl FnOnce(&Path)) -> Self {
        Self::from(program, None, environment, prepare).await
    }

    /// Starts the function of another stack file, with further environment variables, after `prepare` has had the folder of
    /// secrets.
    pub async fn from(
        program: &str,
        stack: Option<&Path>,
        environment: &[(&str, &str)],
        prepare: impl FnOnce(&Path),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let secrets = folder.path().join(".secrets");
        std::fs::create_dir(&secrets).unwrap();
        prepare(&secrets);
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        // Tests run the job as often as they like; those of the floor say so.
        let environment = [&[("min_run_interval", "0s"), ("sweep", "off")], environment].concat();
        let options = Options {
            dir: folder.path().to_owned(),
            project: Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned(),
            stack: stack.map(Path::to_owned),
            show_result: true,
            executables: BTreeMap::from([(NAME.to_owned(), program.into())]),
            environment: BTreeMap::from([(NAME.to_owned(), environment.iter().map(own).collect())]),
            ..Options::default()
        };
        let local = Local::start(options.clone()).await.expect("local starts");
        Self { local, folder, options }
    }

    /// Stops everything and starts it again on the same ports, over the same folder.
    pub async fn restart(self) -> Self {
        let Self { local, folder, mut options } = self;
        let address = |url: &str| url.strip_prefix("http://").unwrap().parse().unwrap();
        let urls = local.urls();
        options.gateway = address(&urls.gateway);
        options.provider = address(urls.provider.as_ref().expect("the sandbox runs"));
        local.stop().await;
        let local = Local::start(options.clone()).await.expect("local starts again");
        Self { local, folder, options }
    }

    /// The function's URL, with `path` below it.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.local.urls().functions[NAME])
    }

    /// The gateway's URL.
    #[must_use]
    pub fn gateway(&self) -> String {
        self.local.urls().gateway
    }

    /// The sandbox provider.
    #[must_use]
    pub fn provider(&self) -> &Provider {
        self.local.provider().expect("the sandbox runs")
    }

    /// How often the provider's log counts `what`, such as `refresh_token issued`.
    #[must_use]
    pub fn outcomes(&self, what: &str) -> u64 {
        self.provider().log()["outcomes"][what].as_u64().unwrap_or(0)
    }

    /// How many requests the provider's API has had.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.provider().log()["api_requests"].as_object().expect("a map").values().filter_map(Value::as_u64).sum()
    }

    /// What a secret holds now.
    #[must_use]
    pub fn secret(&self, name: &str) -> String {
        std::fs::read_to_string(self.local.secret(name)).unwrap_or_default().trim().to_owned()
    }

    /// All that the function has written to its log.
    pub async fn log(&self) -> String {
        let password = self.secret("basic-auth-password");
        let url = format!("{}/system/logs?name={NAME}&follow=false", self.gateway());
        let answer = reqwest::Client::new().get(url).basic_auth("admin", Some(password)).send().await.unwrap();
        answer.text().await.unwrap()
    }

    /// The metrics of the function.
    pub async fn metrics(&self) -> String {
        let url = self.local.urls().metrics[NAME].clone();
        reqwest::Client::new().get(url).send().await.unwrap().text().await.unwrap()
    }

    /// The operator's browser.
    #[must_use]
    pub fn browser(&self) -> crate::Browser {
        crate::Browser::of_operator(&self.secret("etl-oauth-operator"))
    }

    /// Walks a person through the authorisation: page, button, consent, callback. Gives the page at the end.
    pub async fn authorise(&self) -> crate::Page {
        let browser = self.browser();
        let consent = browser.enable(self).await;
        browser.submit(&consent, &[("decision", "allow")]).await
    }

    /// Runs the job as a machine does.
    pub async fn run(&self) -> (u16, Value) {
        let answer =
            reqwest::Client::new().get(self.url("")).header("accept", "application/json").send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or(Value::Null))
    }

    /// Stops everything.
    pub async fn stop(self) {
        self.local.stop().await;
    }
}
