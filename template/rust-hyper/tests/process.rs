//! A function's process as its platform sees it: exit codes, log, environment. This binary is its own function: started
//! again with the variable `FUNCTION` it is the one of that name.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test, which is to fail of a surprise")]

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, Command, ExitCode, Stdio},
};

use axum::{Extension, Router, http::uri::PathAndQuery, routing::get};
use libtest_mimic::{Arguments, Trial};
use watchdog::BoxError;

async fn handler() -> Result<Router, BoxError> {
    let function = env::var("FUNCTION")?;
    match function.as_str() {
        "panics" => panic!("a \"quoted\"\nreason"),
        "fails" => return Err("no database".into()),
        "subscribes" => {
            tracing_subscriber::fmt().with_writer(std::io::stderr).without_time().with_ansi(false).init();
        }
        _ => {}
    }
    let events = async || {
        tracing::debug!(target: "mine", "a debug event");
        tracing::info!(target: "mine", "an event");
        log::warn!(target: "library", "a record of log");
        "logged\n"
    };
    let hidden = async || (Extension(PathAndQuery::from_static("/links/-")), "hidden\n");
    Ok(Router::new()
        .route("/", get(async || "hello\n"))
        .route("/events", get(events))
        .route("/links/{token}", get(hidden)))
}

fn main() -> ExitCode {
    if env::var_os("FUNCTION").is_some() {
        return watchdog::main(handler);
    }
    let trials = [
        ("a_panic_of_the_constructor_ends_the_process", a_panic_of_the_constructor_ends_the_process as fn()),
        ("an_error_of_the_constructor_ends_the_process", an_error_of_the_constructor_ends_the_process),
        ("events_are_filtered_by_rust_log_or_log_level", events_are_filtered_by_rust_log_or_log_level),
        ("a_function_may_have_a_subscriber_of_its_own", a_function_may_have_a_subscriber_of_its_own),
        ("the_time_zone_is_that_of_tz", the_time_zone_is_that_of_tz),
        ("port_is_read_in_capitals_too", port_is_read_in_capitals_too),
        (
            "limits_that_contradict_each_other_are_reported_at_start",
            limits_that_contradict_each_other_are_reported_at_start,
        ),
        ("an_access_log_can_be_turned_off", an_access_log_can_be_turned_off),
        (
            "the_access_log_shows_the_path_that_the_function_names",
            the_access_log_shows_the_path_that_the_function_names,
        ),
    ];
    let trials = trials.map(|(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit_code()
}

struct Process {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
    folder: std::path::PathBuf,
    port: u16,
    log: String,
}

impl Process {
    fn start(function: &str, variables: &[(&str, &str)]) -> Self {
        let folder = env::temp_dir().join(format!("process-{}-{:?}", std::process::id(), std::thread::current().id()));
        fs::create_dir_all(&folder).unwrap();
        let mut command = Command::new(env::current_exe().unwrap());
        command.env_clear().env("FUNCTION", function).env("metrics_port", "0").env("TMPDIR", &folder);
        if !variables.iter().any(|variable| variable.0 == "PORT") {
            command.env("port", "0");
        }
        command.env("healthcheck_interval", "0s").envs(variables.iter().copied());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self { child, stderr, folder, port: 0, log: String::new() }
    }

    /// Reads the log until a line holds `text`, and returns that line.
    fn line(&mut self, text: &str) -> String {
        loop {
            let before = self.log.len();
            assert_ne!(self.stderr.read_line(&mut self.log).unwrap(), 0, "no {text:?} in {}", self.log);
            if self.log[before..].contains(text) {
                return self.log[before..].trim_end().to_owned();
            }
        }
    }

    fn get(&mut self, path: &str) -> String {
        if self.port == 0 {
            let line = self.line("Listening on port: ");
            self.port = line.split_once("port: ").unwrap().1.split('"').next().unwrap().parse().unwrap();
        }
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: fn\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Tells it to stop, if it has not, and returns its exit code and all of its log.
    fn end(mut self) -> (Option<i32>, String) {
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-s", "TERM", &pid]).stderr(Stdio::null()).status();
        self.stderr.read_to_string(&mut self.log).unwrap();
        let code = self.child.wait().unwrap().code();
        fs::remove_dir_all(&self.folder).unwrap();
        (code, self.log)
    }
}

/// The exit code and the log of a function that does not start.
fn ended(function: &str, variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut process = Process::start(function, variables);
    process.stderr.read_to_string(&mut process.log).unwrap();
    process.end()
}

fn a_panic_of_the_constructor_ends_the_process() {
    let (code, log) = ended("panics", &[]);
    assert_eq!(code, Some(1), "{log}");
    let place = "panic at template/rust-hyper/tests/process.rs:";
    assert!(log.contains(place) || log.contains(&place.replace("template/rust-hyper/", "")), "{log}");
    assert!(log.contains("a \"quoted\"\\nreason\n") && log.ends_with("the handler's constructor panicked\n"), "{log}");
    let (code, log) = ended("panics", &[("log_format", "json")]);
    let line: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).expect(&log);
    assert_eq!((code, &line["level"]), (Some(1), &"ERROR".into()));
    assert!(line["message"].as_str().unwrap().ends_with(": a \"quoted\"\nreason"), "{log}");
}

fn an_error_of_the_constructor_ends_the_process() {
    assert_eq!(ended("fails", &[]), (Some(1), "no database\n".to_owned()));
    let (code, log) = ended("any", &[("RUST_LOG", "mine=loud"), ("read_timeout", "soon")]);
    assert!(code == Some(64) && log.contains("RUST_LOG is not") && log.contains("read_timeout is not"), "{log}");
}

fn events_are_filtered_by_rust_log_or_log_level() {
    for (variable, level, is_debug, is_info) in [
        ("RUST_LOG", "debug", true, true),
        ("log_level", "warn,watchdog=info", false, false),
        ("unset", "", false, true),
    ] {
        let mut process = Process::start("any", &[(variable, level)]);
        assert!(process.get("/events").ends_with("logged\n"));
        let (code, log) = process.end();
        assert_eq!(code, Some(0), "{log}");
        assert_eq!(log.contains(" DEBUG mine: a debug event\n"), is_debug, "{log}");
        assert_eq!(log.contains(" INFO mine: an event\n"), is_info, "{log}");
        assert!(log.contains(" WARN library: a record of log\n"), "{log}");
    }
}

fn a_function_may_have_a_subscriber_of_its_own() {
    let mut process = Process::start("subscribes", &[]);
    let hint = process.line("the function has a tracing subscriber of its own");
    assert!(hint.contains("RUST_LOG"), "{hint}");
    assert!(process.get("/events").ends_with("logged\n"));
    let (code, log) = process.end();
    let is_written = match cfg!(feature = "otel") {
        // It sees the spans of calls, too.
        true => log
            .lines()
            .any(|line| line.starts_with(" INFO call{otel.name=\"GET\" ") && line.ends_with("}: mine: an event")),
        false => log.contains(" INFO mine: an event\n"),
    };
    assert!(code == Some(0) && is_written, "{log}");
    assert!(log.contains(" GET /events - 200 OK - ContentLength: 7B ("), "{log}");
}

fn the_time_zone_is_that_of_tz() {
    let hour = |zone: &str| {
        let mut process = Process::start("any", &[("TZ", zone)]);
        let line = process.line("Listening on port");
        process.end();
        line["2006/01/02 ".len()..][..2].parse::<u32>().unwrap()
    };
    let (utc, tokyo) = (hour("UTC"), hour("Asia/Tokyo"));
    // An hour may pass between the two.
    assert!([9, 10].contains(&((tokyo + 24 - utc) % 24)), "{utc} {tokyo}");
}

fn port_is_read_in_capitals_too() {
    let mut process = Process::start("any", &[("PORT", "0")]);
    assert!(process.get("/").ends_with("hello\n"));
    assert_eq!(process.end().0, Some(0));
    let (code, log) = ended("any", &[("PORT", "http")]);
    assert!(code == Some(64) && log.starts_with("PORT is not a port number"), "{log}");
}

fn limits_that_contradict_each_other_are_reported_at_start() {
    let mut process = Process::start("any", &[("exec_timeout", "1m")]);
    process.line("exec_timeout is longer than write_timeout");
    process.end();
}

fn the_access_log_shows_the_path_that_the_function_names() {
    let mut process = Process::start("any", &[]);
    assert!(process.get("/links/s3cret").ends_with("hidden\n"));
    let (_, log) = process.end();
    assert!(log.contains("GET /links/- - 200 OK") && !log.contains("s3cret"), "{log}");
}

fn an_access_log_can_be_turned_off() {
    let mut process = Process::start("any", &[("RUST_LOG", "info,access_log=warn")]);
    assert!(process.get("/").ends_with("hello\n"));
    let (_, log) = process.end();
    assert!(log.contains("Exiting") && !log.contains("GET / "), "{log}");
}
