//! The arguments of the command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use jiff::SignedDuration;
use local::{Console, Dialect, Options};

/// OpenFaaS on a laptop, without Docker: the gateway, the functions of stack.yaml, and a sandbox OAuth provider.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) up: Up,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Builds and starts everything (what happens without a command, too)
    Up(Up),
    /// Builds functions in release mode, laid out as faas-cli does, and prints the paths of the programs
    Build(Build),
    /// Sends a recorded event to a function, and prints the answer
    Invoke(Invoke),
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Where the gateway listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    gateway: SocketAddr,
    /// Where the sandbox provider listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9000")]
    provider: SocketAddr,
    /// The provider that the gateway behaves like
    #[arg(long, value_enum, default_value_t)]
    dialect: Dialect,
    /// The functions to start; all of the stack file when none is named
    #[arg(long, value_name = "NAME", num_args = 1..)]
    only: Vec<String>,
    /// Builds a function again, and replaces it, when a file of its folder changes
    #[arg(long)]
    watch: bool,
    /// Uses the providers' own addresses and no sandbox; put what they gave you into .secrets/
    #[arg(long)]
    real: bool,
    /// The longest a function may take to begin its answer, as 90s or 5m
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    timeout: String,
    /// A name besides localhost that gateway and sandbox answer to, such as a tunnel's
    #[arg(long, value_name = "NAME")]
    allowed_host: Vec<String>,
    /// Prints one line of JSON when all is ready; logs go to standard error
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct Build {
    /// The functions; all when none is named
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct Invoke {
    /// The function
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// A file with the event as JSON, or one of the recorded ones: cron, callback, webhook
    #[arg(long, value_name = "FILE")]
    pub(crate) event: PathBuf,
    /// Where the gateway listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(crate) gateway: SocketAddr,
}

#[derive(Debug, Args)]
pub(crate) struct Place {
    /// The folder of .secrets/ and of the state
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// The stack file [default: stack.yaml]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Up {
    pub(crate) fn options(self) -> anyhow::Result<Options> {
        Ok(Options {
            gateway: self.gateway,
            provider: self.provider,
            dialect: self.dialect,
            only: self.only,
            watch: self.watch,
            real: self.real,
            // A real account's data are nobody's to see.
            show_result: !self.real,
            timeout: timeout(&self.timeout)?,
            allowed_hosts: self.allowed_host,
            console: if self.json { Console::Stderr } else { Console::Stdout },
            ..self.place.options()
        })
    }
}

impl Place {
    pub(crate) fn options(self) -> Options {
        Options { dir: self.dir, stack: self.file, ..Options::default() }
    }
}

/// A duration as OpenFaaS's variables have it: `90s`, `5m`, or a number of seconds.
fn timeout(text: &str) -> anyhow::Result<Duration> {
    let duration = match text.parse() {
        Ok(seconds) => SignedDuration::from_secs(seconds),
        Err(_) => text.parse().with_context(|| format!("--timeout: {text:?} is not a duration such as 90s or 5m"))?,
    };
    let duration = Duration::try_from(duration).ok().filter(|duration| !duration.is_zero());
    duration.with_context(|| format!("--timeout: {text} must be longer than nothing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_a_duration_or_a_number_of_seconds() {
        for (text, seconds) in [("90s", 90), ("5m", 300), ("1h30m", 5400), ("120", 120)] {
            assert_eq!(timeout(text).unwrap(), Duration::from_secs(seconds), "{text}");
        }
        for text in ["", "0", "-5s", "soon"] {
            assert!(format!("{:#}", timeout(text).unwrap_err()).contains("--timeout"), "{text}");
        }
    }
}
