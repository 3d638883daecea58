//! The command line of `local`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use local::{Console, Dialect, Local, Options};
use tokio::signal::unix::{SignalKind, signal};

/// OpenFaaS on a laptop, without Docker: the gateway, the functions of stack.yaml, and a sandbox OAuth provider.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    up: Up,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Builds and starts everything (what happens without a command, too)
    Up(Up),
    /// Builds functions in release mode, laid out as faas-cli does, and prints the paths of the programs
    Build(Build),
}

#[derive(Debug, Args)]
struct Up {
    /// Where the gateway listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    gateway: SocketAddr,
    /// Where the sandbox provider listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9000")]
    provider: SocketAddr,
    /// The provider that the gateway behaves like
    #[arg(long, value_enum, default_value_t)]
    dialect: Dialect,
    /// Prints one line of JSON when all is ready; logs go to standard error
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct Build {
    /// The functions; all when none is named
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct Place {
    /// The folder of .secrets/ and of the state
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// The stack file [default: stack.yaml]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Runtime::new().context("the runtime does not start");
    let outcome = runtime.and_then(|runtime| {
        runtime.block_on(async {
            match arguments.command.unwrap_or(Command::Up(arguments.up)) {
                Command::Up(options) => up(options).await,
                Command::Build(options) => build(options).await,
            }
        })
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("local: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn up(arguments: Up) -> anyhow::Result<()> {
    let json = arguments.json;
    let options = Options {
        gateway: arguments.gateway,
        provider: arguments.provider,
        dialect: arguments.dialect,
        console: if json { Console::Stderr } else { Console::Stdout },
        ..arguments.place.options()
    };
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let told = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    tokio::pin!(told);
    let dir = options.dir.clone();
    let local = tokio::select! {
        local = Local::start(options) => local?,
        // What was started ends with this process.
        () = &mut told => return Ok(()),
    };
    let urls = local.urls();
    print(&if json { serde_json::to_string(&urls)? } else { welcome(&local, &dir) });
    told.await;
    eprintln!("local: stopping; once more stops at once");
    let mut again = signal(SignalKind::interrupt())?;
    tokio::select! {
        () = local.stop() => {}
        _ = again.recv() => {}
    }
    Ok(())
}

async fn build(arguments: Build) -> anyhow::Result<()> {
    let options = Options { console: Console::Stderr, ..arguments.place.options() };
    for program in local::build(&options, &arguments.names).await? {
        print(&program.display().to_string());
    }
    Ok(())
}

impl Place {
    fn options(self) -> Options {
        Options { dir: self.dir, stack: self.file, ..Options::default() }
    }
}

fn welcome(local: &Local, dir: &std::path::Path) -> String {
    let urls = local.urls();
    let secret = dir.join(".secrets/basic-auth-password");
    let mut text = String::from("\nReady. Open in a browser:\n\n");
    for (name, url) in &urls.functions {
        text += &format!("  {url}    the function {name}\n");
    }
    text += &format!("  {}    the sandbox provider\n", urls.provider);
    for (function, file) in local.operators() {
        // A sandbox's: it opens nothing elsewhere.
        let password = std::fs::read_to_string(&file).unwrap_or_default();
        let file = dir.join(".secrets").join(file.file_name().unwrap_or_default());
        let url = &urls.functions[&function];
        text += &format!(
            "\nOnly the operator may connect {function} and see its status, at {url}/enable and {url}/status:\n\n"
        );
        text += &format!("  any user name, and the password {} (from {})\n", password.trim(), file.display());
    }
    text += &format!("\nThe gateway is {}, its user admin, its password in {}:\n\n", urls.gateway, secret.display());
    text += &format!("  faas-cli login -g {} --password-stdin < {}\n", urls.gateway, secret.display());
    text + "\nctrl-c stops everything.\n"
}

#[allow(clippy::print_stdout, reason = "it is what the command is asked for")]
fn print(text: &str) {
    println!("{text}");
}
