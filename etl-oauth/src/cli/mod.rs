//! The command line for people without a browser at hand: what the status page shows and does, over the same routes, and the
//! provider definitions. A program of its own, behind the feature `cli`; nothing of it is in the image.
//!
//! ```sh
//! etl-oauth status --url https://gateway.example/function/etl-oauth --operator-file operator
//! ```

mod arguments;
mod authorize;
mod definitions;
mod double;
mod extract;
mod link;
mod new;
mod qr;
mod remote;
mod revoke;
mod status;
mod walk;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;
use serde_json::{Value, json};

use arguments::{Arguments, Command, Target};
use remote::Remote;

/// What became of a command: its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Exit {
    /// It is done, and all is well.
    Done = 0,
    /// An account works, but not without trouble.
    Degraded = 6,
    /// An account needs a person.
    NeedsPerson = 3,
    /// The operator's secret is missing or wrong, or the function has none.
    NotOperator = 4,
    /// The wait was in vain.
    InVain = 5,
    /// A definition with mistakes, as the function itself ends on one.
    Mistaken = 64,
    /// Anything else: the function is not to be reached, or failed.
    Failed = 1,
}

/// A failure, in the shape that the function's own errors have.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    error: String,
    message: String,
    next: String,
}

impl Failure {
    fn new(exit: Exit, error: &str, message: impl Into<String>, next: &str) -> Self {
        Self { exit, error: error.into(), message: message.into(), next: next.into() }
    }
}

/// What a command gives: its exit code, when it did not fail.
type Outcome = Result<Exit, Failure>;

/// Runs the command line of this process. The parser reports wrong usage, with exit code 2.
#[must_use]
pub fn main() -> ExitCode {
    let command = Arguments::parse().command;
    let as_json = command.as_json();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(command)),
        Err(err) => Err(Failure::new(Exit::Failed, "runtime", err.to_string(), "Try again.")),
    };
    let exit = outcome.unwrap_or_else(|failure| {
        if as_json {
            print_json(&json!({ "error": failure.error, "message": failure.message, "next": failure.next }));
        } else {
            let words = [&failure.message, &failure.next].map(|words| crate::format::sentence(words));
            let _ = writeln!(io::stderr(), "etl-oauth: {}", words.join(" ").trim_end());
        }
        failure.exit
    });
    ExitCode::from(exit as u8)
}

async fn run(command: Command) -> Outcome {
    match command {
        Command::Status(target) => status::show(&target).await,
        Command::Authorize(wish) => authorize::authorize(&wish).await,
        Command::Link(wish) => link::make(&wish).await,
        Command::Refresh(target) => refresh(&target).await,
        Command::Revoke(wish) => revoke::revoke(&wish).await,
        Command::Providers(shape) => definitions::list(&shape),
        Command::Provider(which) => definitions::provider(&which).await,
        Command::Extract(wish) => extract::extract(&wish).await,
        Command::Completions { shell } => {
            arguments::complete(shell);
            Ok(Exit::Done)
        }
    }
}

async fn refresh(target: &Target) -> Outcome {
    let answer = Remote::new(target)?.post("/refresh", target).await?;
    if target.shape.json {
        print_json(&answer);
        return Ok(Exit::Done);
    }
    let end = status::end(answer["expires_at"].as_str());
    print(&format!("Renewed account {}: generation {}, {end}.", target.account(), answer["generation"]));
    Ok(Exit::Done)
}

fn print(text: &str) {
    // A reader that has gone away wants no more.
    let _ = writeln!(io::stdout(), "{text}");
}

/// One line.
fn print_json(value: &Value) {
    print(&value.to_string());
}
