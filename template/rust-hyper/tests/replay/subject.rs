//! The process under test: the mirror on the template's server, or of-watchdog in front of the bare mirror.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

pub(crate) struct Subject {
    child: Child,
    status: Option<(ExitStatus, Instant)>,
    pub(crate) tmp: PathBuf,
    lock: PathBuf,
    pub(crate) port: u16,
    pub(crate) metrics_port: u16,
    upstream_port: u16,
    spare_port: u16,
    lines: Arc<Mutex<Vec<(&'static str, String)>>>,
    readers: Vec<JoinHandle<()>>,
    pub(crate) started: Instant,
    _held: Option<TcpListener>,
}

/// A port below those that the system gives to outgoing connections, so that nothing else takes it meanwhile.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let offset = (std::process::id() as u16).wrapping_mul(7).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 20_000 + offset % 10_000;
        if TcpListener::bind(("::", port)).is_ok() {
            return port;
        }
    }
}

impl Subject {
    pub(crate) fn start(case: &Value, oidc: Option<u16>, of_watchdog: Option<&str>) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("replay-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let tmp = std::env::temp_dir().join(name);
        fs::create_dir_all(&tmp).expect("a folder for the lock file");
        let port = free_port();
        let metrics_port = if of_watchdog.is_some() { 8081 } else { free_port() };
        let (upstream_port, spare_port) = (free_port(), free_port());
        let mut subject = Self {
            // Replaced below; there is nothing else to put here before the command is known.
            child: Command::new("true").spawn().expect("true"),
            status: None,
            lock: tmp.join(".lock"),
            tmp,
            port,
            metrics_port,
            upstream_port,
            spare_port,
            lines: Arc::default(),
            readers: Vec::new(),
            started: Instant::now(),
            _held: None,
        };
        let _ = subject.child.wait();
        let own = std::env::current_exe().expect("this binary");
        let mut command = Command::new(of_watchdog.map_or(own.clone(), PathBuf::from));
        command.env("port", port.to_string()).env("TMPDIR", &subject.tmp).env("REPLAY_MIRROR", "1");
        // A backtrace takes seconds in a binary that is not optimised.
        command.env_remove("RUST_BACKTRACE");
        if of_watchdog.is_some() {
            command
                .env("mode", "http")
                .env("upstream_url", format!("http://127.0.0.1:{upstream_port}"))
                .env("upstream_port", upstream_port.to_string())
                .env("fprocess", format!("{} --bare", own.display()));
        } else {
            command.env("metrics_port", metrics_port.to_string());
            if let Some(oidc) = oidc {
                command.env("jwt_auth_url", format!("http://127.0.0.1:{oidc}"));
            }
        }
        for (name, value) in case["env"].as_object().into_iter().flatten() {
            match value.as_str() {
                None => command.env_remove(name),
                Some(value) => {
                    let value = subject.fill(value);
                    if name == "TMPDIR" {
                        subject.lock = PathBuf::from(&value).join(".lock");
                    }
                    // The record's fixed metrics port is a port like any other here.
                    let value = if value == "8081" { metrics_port.to_string() } else { value };
                    command.env(name, value)
                }
            };
        }
        for argument in case["args"].as_array().into_iter().flatten() {
            command.arg(argument.as_str().expect("an argument"));
        }
        subject._held = match &case["hold_port"] {
            Value::Null => None,
            Value::Number(_) => Some(TcpListener::bind(("::", metrics_port)).expect("the port is free")),
            _ => Some(TcpListener::bind(("::", port)).expect("the port is free")),
        };
        if case["lock_before"] == true {
            subject.put_lock();
        }
        // of-watchdog's function is to end with it.
        command.process_group(0);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let (out, err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        subject.collect("stdout", out);
        subject.collect("stderr", err);
        subject.child = child;
        subject.started = Instant::now();
        if of_watchdog.is_some() && case["no_upstream_wait"].is_null() && case["await"] != "none" {
            subject.await_upstream();
        }
        match case["await"].as_str() {
            Some("none") => {}
            Some("port") => subject.await_port(),
            _ => {
                subject.await_port();
                subject.await_health();
            }
        }
        subject
    }

    fn collect(&mut self, stream: &'static str, from: impl std::io::Read + Send + 'static) {
        let lines = Arc::clone(&self.lines);
        self.readers.push(thread::spawn(move || {
            for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
                lines.lock().unwrap().push((stream, String::from_utf8_lossy(&line).into_owned()));
            }
        }));
    }

    fn await_port(&mut self) {
        while self.started.elapsed() < Duration::from_secs(10) && !self.has_ended() {
            if TcpStream::connect(self.address(None)).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The function behind of-watchdog listens some time after it does.
    fn await_upstream(&mut self) {
        while self.started.elapsed() < Duration::from_secs(10) && !self.has_ended() {
            if TcpStream::connect(("127.0.0.1", self.upstream_port)).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn await_health(&mut self) {
        let accepted = Instant::now();
        while accepted.elapsed() < Duration::from_millis(1500) && !self.has_ended() {
            if let Ok(mut connection) = super::message::Connection::open(self.address(None), None) {
                connection
                    .send(&json!("GET /_/health HTTP/1.1\r\nHost: fn\r\nConnection: close\r\n\r\n"), &str::to_owned);
                if connection.response("GET", Duration::from_secs(1), None, false)["status"] == 200 {
                    return;
                }
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn address(&self, port: Option<u64>) -> SocketAddr {
        let port = if port.is_some() { self.metrics_port } else { self.port };
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// Puts this run's values where the record has names.
    pub(crate) fn fill(&self, text: &str) -> String {
        text.replace("${port}", &self.port.to_string())
            .replace("${upstream_port}", &self.upstream_port.to_string())
            .replace("${spare_port}", &self.spare_port.to_string())
            .replace("${tmp}", &self.tmp.display().to_string())
    }

    pub(crate) fn put_lock(&self) {
        fs::write(&self.lock, "").expect("the lock file can be put there");
    }

    pub(crate) fn remove_lock(&self) -> Value {
        json!({"lock_file": if fs::remove_file(&self.lock).is_ok() { "removed" } else { "absent" }})
    }

    pub(crate) fn lock(&self) -> Value {
        match fs::metadata(&self.lock) {
            Err(_) => json!({"lock_file": "absent"}),
            Ok(data) => {
                // As if the umask of this machine were the usual one.
                let mode = data.permissions().mode() & 0o777 & !0o022;
                json!({"lock_file": "present", "mode_with_umask_022": format!("0o{mode:o}"), "size": data.len()})
            }
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let done = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(done.is_ok_and(|status| status.success()), "kill -s {name}");
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("a child").map(|status| (status, Instant::now()));
        }
        self.status.is_some()
    }

    pub(crate) fn exit(&mut self, from: Instant, wait: Duration) -> Value {
        use std::os::unix::process::ExitStatusExt as _;
        let until = Instant::now() + wait;
        while !self.has_ended() && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
        match self.status {
            None => json!({"exit": "still running", "waited_s": wait.as_secs_f64()}),
            Some((status, at)) => {
                let exit = match status.signal() {
                    Some(signal) => json!(format!("signal {signal}")),
                    None => json!(status.code()),
                };
                json!({"exit": exit, "time_s": at.saturating_duration_since(from).as_secs_f64()})
            }
        }
    }

    /// The lines so far that match, with what differs from run to run taken out.
    pub(crate) fn log(&mut self, what: &str, sorted: bool) -> Value {
        if self.has_ended() {
            for reader in self.readers.drain(..) {
                reader.join().expect("a reader");
            }
        } else {
            // A line is written some milliseconds after what it tells of.
            thread::sleep(Duration::from_millis(50));
        }
        let what = regex_lite::Regex::new(what).expect("a regular expression");
        let (tmp, port) = (self.tmp.display().to_string(), self.port.to_string());
        let upstream = self.upstream_port.to_string();
        let mut lines: Vec<_> = self
            .lines
            .lock()
            .unwrap()
            .iter()
            .map(|(stream, line)| {
                let line = line.replace(&tmp, "${tmp}").replace(&upstream, "${upstream_port}");
                (*stream, line.replace(&port, "${port}"))
            })
            // Its own version is no part of a contract; one that was built by hand calls it unknown.
            .filter(|(_, line)| !line.contains("\tSHA: "))
            .filter(|(_, line)| what.is_match(line))
            .collect();
        if sorted {
            lines.sort();
        }
        json!({"lines": lines})
    }

    pub(crate) fn listening(&self) -> Value {
        let mut found = serde_json::Map::new();
        for (name, port) in [("${port}", self.port), ("8081", self.metrics_port)] {
            let mut addresses = Vec::new();
            for (file, any) in [("/proc/net/tcp", "0.0.0.0"), ("/proc/net/tcp6", "[::]")] {
                for line in fs::read_to_string(file).unwrap_or_default().lines().skip(1) {
                    let fields: Vec<_> = line.split_whitespace().collect();
                    let (address, at) = fields[1].split_once(':').expect("address:port");
                    if fields[3] == "0A" && at == format!("{port:04X}") {
                        addresses.push(if address.bytes().all(|b| b == b'0') {
                            any.to_owned()
                        } else {
                            address.to_owned()
                        });
                    }
                }
            }
            found.insert(name.to_owned(), json!(addresses));
        }
        json!({"listening": found})
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // Before its leader is waited for: the group's number is nobody else's until then.
        let group = format!("kill -s KILL -{}", self.child.id());
        let _ = Command::new("sh").args(["-c", &group]).stderr(Stdio::null()).status();
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.tmp);
    }
}
