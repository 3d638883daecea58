use std::{
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use local::provider::{Client, Options, Provider};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::{Browser, Page};

/// Several processes of the function over one store, with the sandbox provider: no gateway between.
#[derive(Debug)]
pub struct Fleet {
    program: String,
    provider: Provider,
    folder: TempDir,
    environment: Vec<(String, String)>,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    port: u16,
    child: Child,
}

/// A lease of the tests: so long may a killed holder keep the others waiting.
pub const LEASE: Duration = Duration::from_secs(3);

#[allow(clippy::unwrap_used, clippy::expect_used, reason = "a fleet that cannot be set up fails its test")]
impl Fleet {
    /// What the records are sealed with: a line of a key ring.
    pub const KEY: &str = "1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    /// Starts `size` processes with `store` (variables, secrets), authorised once, on tokens that live two seconds.
    pub async fn start(program: &str, size: usize, store: &[(&str, &str)], secrets: &[(&str, &str)]) -> Self {
        let fleet = Self::unauthorised(program, size, store, secrets).await;
        let done = fleet.authorise().await;
        assert_eq!(done.status, 200, "{}", done.body);
        fleet
    }

    /// As [`Fleet::start`], and nobody has authorised it.
    pub async fn unauthorised(program: &str, size: usize, store: &[(&str, &str)], secrets: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mounted = folder.path().join("secrets");
        std::fs::create_dir(&mounted).unwrap();
        let client = [("oauth2-client-id", "fleet"), ("oauth2-client-secret", "the secret of the fleet")];
        let keys = [("etl-oauth-seal-keys", Self::KEY)];
        for (name, value) in client.iter().chain(&keys).chain(secrets) {
            std::fs::write(mounted.join(name), value).unwrap();
        }
        let provider = Provider::start(Options {
            address: "127.0.0.1:0".parse().unwrap(),
            clients: vec![Client::new("fleet", "the secret of the fleet")],
            state: None,
        })
        .await
        .unwrap();
        // An answer that dies with its process may be asked for again: the provider's rule that makes a kill survivable.
        let habits = json!({"token_lifetime": 2, "replay_window": 3600, "reuse_detection": true});
        provider.set_faults(&habits).unwrap();
        let ports: Vec<u16> = (0..size).map(|_| free_port()).collect();
        let mut environment: Vec<(String, String)> = [
            ("provider", "gumroad".to_owned()),
            ("authorize_url", format!("{}/oauth/authorize", provider.url())),
            ("token_url", format!("{}/oauth/token", provider.url())),
            ("api_url", provider.url().to_owned()),
            ("public_url", format!("http://127.0.0.1:{}", ports[0])),
            ("secret_mount_path", mounted.display().to_string()),
            ("metrics_port", "0".to_owned()),
            ("healthcheck_interval", "10ms".to_owned()),
            ("suppress_lock", "true".to_owned()),
            ("lease", format!("{}s", LEASE.as_secs())),
            ("token_timeout", "2s".to_owned()),
            ("replay_window", "1h".to_owned()),
            ("show_result", "true".to_owned()),
            ("min_run_interval", "0s".to_owned()),
            // These tests count what callers cost; the sweeper has tests of its own.
            ("sweep", "off".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        environment.extend(store.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let mut fleet = Self { program: program.to_owned(), provider, folder, environment, members: Vec::new() };
        for port in ports {
            let child = fleet.spawn(port);
            fleet.members.push(Member { port, child });
        }
        for index in 0..size {
            fleet.until_up(index).await;
        }
        fleet
    }

    /// Changes a mounted secret.
    pub fn mount(&self, name: &str, value: &str) {
        std::fs::write(self.folder.path().join("secrets").join(name), value).unwrap();
    }

    /// Walks a person through the authorisation. Gives the page at the end.
    pub async fn authorise(&self) -> Page {
        let browser = Browser::new();
        let page = browser.open(&self.url(0, "/enable")).await;
        let consent = browser.submit(&page, &[]).await;
        browser.submit(&consent, &[("decision", "allow")]).await
    }

    fn spawn(&self, port: u16) -> Child {
        let tmp = self.folder.path().join(format!("tmp-{port}"));
        std::fs::create_dir_all(&tmp).unwrap();
        let log = std::fs::File::options().create(true).append(true).open(tmp.join("log")).unwrap();
        Command::new(&self.program)
            .env_clear()
            .env("TMPDIR", &tmp)
            .env("port", port.to_string())
            // Whom to trust is the machine's affair.
            .envs(std::env::vars().filter(|(name, _)| name.starts_with("SSL_CERT_")))
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    /// Where a process answers.
    #[must_use]
    pub fn url(&self, index: usize, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.members[index].port)
    }

    /// How many there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// Kills a process as the kernel does when memory runs out, and starts another in its place.
    pub async fn kill(&mut self, index: usize) -> ExitStatus {
        let member = &mut self.members[index];
        member.child.start_kill().unwrap();
        let status = member.child.wait().await.unwrap();
        let port = member.port;
        self.members[index].child = self.spawn(port);
        status
    }

    /// Whether a process runs.
    pub fn is_alive(&mut self, index: usize) -> bool {
        self.members[index].child.try_wait().unwrap().is_none()
    }

    /// Waits until a process has ended by itself, and starts another in its place.
    pub async fn ended(&mut self, index: usize) -> ExitStatus {
        let member = &mut self.members[index];
        let ended = tokio::time::timeout(Duration::from_secs(30), member.child.wait()).await;
        let port = member.port;
        self.members[index].child = self.spawn(port);
        ended.expect("it ends").unwrap()
    }

    /// Sends a process a signal by name.
    pub async fn signal(&self, index: usize, signal: &str) {
        let pid = self.members[index].child.id().unwrap().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().await.unwrap().success());
    }

    /// Waits until a process answers again.
    pub async fn until_up(&self, index: usize) {
        let start = Instant::now();
        let http = reqwest::Client::new();
        while http.get(self.url(index, "/enable")).send().await.is_err() {
            assert!(start.elapsed() < Duration::from_secs(30), "process {index} does not start:\n{}", self.log(index));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The most memory that a process has had resident, in MiB, as the kernel counts it.
    #[must_use]
    pub fn memory(&self, index: usize) -> f64 {
        let pid = self.members[index].child.id().unwrap();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse::<f64>().unwrap() / 1024.0
    }

    /// What a process wrote.
    #[must_use]
    pub fn log(&self, index: usize) -> String {
        let tmp = self.folder.path().join(format!("tmp-{}", self.members[index].port));
        std::fs::read_to_string(tmp.join("log")).unwrap_or_default()
    }

    /// The provider's log.
    #[must_use]
    pub fn provider_log(&self) -> Value {
        self.provider.log()
    }

    /// The provider, for its switches.
    #[must_use]
    pub fn provider(&self) -> &Provider {
        &self.provider
    }

    /// Stops all.
    pub async fn stop(mut self) {
        for member in &mut self.members {
            member.child.start_kill().unwrap();
            member.child.wait().await.unwrap();
        }
        self.provider.stop().await;
    }
}

/// A port below those that the kernel hands out by itself, where nobody listens.
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "a machine without a free port fails the test")]
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(0);
    let base = 10_000 + u16::try_from(std::process::id() % 4_000).unwrap();
    (0..1000)
        .map(|_| base + NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}
