//! The command line of `local`.

mod arguments;
mod invoke;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use local::{Console, Local, Options};
use tokio::signal::unix::{SignalKind, signal};

use self::arguments::{Arguments, Build, Command, Up};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Runtime::new().context("the runtime does not start");
    let outcome = runtime.and_then(|runtime| {
        runtime.block_on(async {
            match arguments.command.unwrap_or(Command::Up(arguments.up)) {
                Command::Up(options) => up(options).await.map(|()| ExitCode::SUCCESS),
                Command::Build(options) => build(options).await.map(|()| ExitCode::SUCCESS),
                Command::Invoke(options) => invoke::invoke(options).await,
            }
        })
    });
    outcome.unwrap_or_else(|error| {
        eprintln!("local: {error:#}");
        ExitCode::FAILURE
    })
}

async fn up(arguments: Up) -> anyhow::Result<()> {
    let json = arguments.json;
    let options = arguments.options()?;
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let stop = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    tokio::pin!(stop);
    let (dir, watch) = (options.dir.clone(), options.watch);
    let local = tokio::select! {
        local = Local::start(options) => local?,
        // What was started ends with this process.
        () = &mut stop => return Ok(()),
    };
    let urls = local.urls();
    print(&if json { serde_json::to_string(&urls)? } else { welcome(&local, &dir, watch) });
    stop.await;
    eprintln!("local: stopping; press ctrl-c again to stop at once");
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

fn welcome(local: &Local, dir: &std::path::Path, watch: bool) -> String {
    let urls = local.urls();
    let secret = dir.join(".secrets/basic-auth-password");
    let mut text = String::from("\nReady. Open in a browser:\n\n");
    for (name, url) in &urls.functions {
        text += &format!("  {url}    the function {name}\n");
    }
    if let Some(provider) = &urls.provider {
        text += &format!("  {provider}    the sandbox provider\n");
    }
    for (function, file) in local.operators() {
        // A sandbox's: it opens nothing elsewhere.
        let password = std::fs::read_to_string(&file).unwrap_or_default();
        let file = dir.join(".secrets").join(file.file_name().unwrap_or_default());
        let url = &urls.functions[&function];
        text += &format!(
            "\nOnly the operator may connect {function} and see its status, at {url}/enable and {url}/status:\n\n"
        );
        text += &format!("  the password is {} (from {})\n", password.trim(), file.display());
    }
    text += &format!("\nThe gateway is {}, its user admin, its password in {}.\n", urls.gateway, secret.display());
    text += "To use faas-cli with it, in a terminal of its own:\n\n";
    let gateway = &urls.gateway;
    // The variables of the stack file: with them `faas-cli deploy` keeps this gateway and this sandbox.
    text += &format!("  export OPENFAAS_URL={gateway} GATEWAY_URL={gateway} SANDBOX_URL={}\n", sandbox(&urls));
    text += &format!("  faas-cli login --password-stdin < {}\n", secret.display());
    if watch {
        text += "\nA function is built again when a file of its folder changes.\n";
    }
    text + "\nctrl-c stops everything.\n"
}

fn sandbox(urls: &local::Urls) -> &str {
    urls.provider.as_deref().unwrap_or_default()
}

#[allow(clippy::print_stdout, reason = "it is what the command is asked for")]
fn print(text: &str) {
    println!("{text}");
}
