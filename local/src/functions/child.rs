//! A child process and its process group. The standard library's, as tokio's needs a feature that functions do not have:
//! all that depends on tokio would be compiled twice, for `local` and for them.

use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::{io, thread};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

/// A child process; it and all that it started are killed when this is dropped.
#[derive(Debug)]
pub(super) struct Child {
    group: Option<Pid>,
    stdin: Option<ChildStdin>,
    ended: oneshot::Receiver<io::Result<ExitStatus>>,
    status: Option<ExitStatus>,
}

impl Child {
    /// Starts it, with pipes for its output and in a process group of its own: ctrl-c at the terminal reaches this
    /// process only, which then stops the others in order.
    pub(super) fn spawn(mut command: Command) -> anyhow::Result<(Self, pipe::Receiver, pipe::Receiver)> {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn()?;
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let stdout = child.stdout.take().map(OwnedFd::from).context("a pipe to its output is missing")?;
        let stderr = child.stderr.take().map(OwnedFd::from).context("a pipe to its error output is missing")?;
        let stdin = child.stdin.take();
        let (sender, ended) = oneshot::channel();
        // A thread that waits costs little, and leaves no zombie whatever becomes of the receiver.
        thread::Builder::new().name("wait".to_owned()).spawn(move || sender.send(child.wait()))?;
        let child = Self { group, stdin, ended, status: None };
        Ok((child, pipe::Receiver::from_owned_fd(stdout)?, pipe::Receiver::from_owned_fd(stderr)?))
    }

    /// The pipe to its standard input, if it has one.
    pub(super) fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    /// Waits until it has ended; may be called again.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        let status = (&mut self.ended).await.unwrap_or_else(|lost| Err(io::Error::other(lost)))?;
        self.status = Some(status);
        Ok(status)
    }

    /// Kills it and all that it started.
    pub(super) fn kill(&self) {
        if let Some(group) = self.group {
            // An error means that they have ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}
