//! The process of a function instance, which ends with this process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::unix::pipe;

use super::child::Child;

/// Kubernetes' `terminationGracePeriodSeconds`: after it a function is killed.
const GRACE: Duration = Duration::from_secs(30);

/// Runs the function and waits on its own standard input, a pipe that this process holds open and never writes to. The
/// pipe closes when this process drops it, or dies for any reason: then the function gets SIGTERM. A parent-death signal
/// would do the same on Linux only, and also when just a thread ends.
const WATCHED: &str = r#"
exec 3<&0
"$0" </dev/null 3<&- & function=$!
{ read -r _ <&3; kill -TERM "$function"; } 2>/dev/null & watch=$!
exec 3<&-
wait "$function"; status=$?
kill "$watch" 2>/dev/null
exit "$status"
"#;

/// The variables of this process that a function inherits; the others come from its deployment.
const INHERITED: [&str; 4] = ["PATH", "HOME", "SSL_CERT_FILE", "SSL_CERT_DIR"];

#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    /// Closing it stops the function.
    lifeline: Option<ChildStdin>,
}

impl Process {
    pub(super) fn start(
        program: &Path,
        folder: &Path,
        environment: &BTreeMap<String, String>,
    ) -> anyhow::Result<(Self, pipe::Receiver, pipe::Receiver)> {
        let inherited = INHERITED.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
        let mut command = Command::new("sh");
        command
            .args(["-c", WATCHED])
            .arg(program)
            .env_clear()
            .envs(inherited)
            .envs(environment)
            .current_dir(folder)
            .stdin(Stdio::piped());
        let started = Child::spawn(command).with_context(|| format!("cannot start {}", program.display()))?;
        let (mut child, stdout, stderr) = started;
        let lifeline = child.take_stdin();
        Ok((Self { child, lifeline }, stdout, stderr))
    }

    /// Waits until it ends by itself, and describes how.
    pub(super) async fn ended(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => describe(status),
            Err(error) => format!("was lost: {error}"),
        }
    }

    /// SIGTERM, a grace period to drain, SIGKILL for what is left.
    pub(super) async fn stop(mut self) -> String {
        self.lifeline = None;
        let ended = tokio::time::timeout(GRACE, self.ended()).await;
        // Processes that it started and left behind, too.
        self.child.kill();
        match ended {
            Ok(how) => how,
            Err(_) => format!("was killed: it did not end within {} s of SIGTERM", GRACE.as_secs()),
        }
    }
}

/// The shell's exit code is 128 + the signal that ended its child.
fn describe(status: ExitStatus) -> String {
    match status.code() {
        Some(0) => "ended".to_owned(),
        Some(64) => "ended with exit code 64: its configuration is wrong".to_owned(),
        Some(code @ 129..=192) => format!("was ended by signal {}", code - 128),
        Some(code) => format!("ended with exit code {code}"),
        None => "was killed".to_owned(),
    }
}

/// Creates the folder of one instance: its working folder, with a folder for temporary files.
pub(super) fn folder(parent: &Path, instance: &str) -> anyhow::Result<PathBuf> {
    let folder = parent.join(instance);
    std::fs::create_dir_all(folder.join("tmp")).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}
