//! `local invoke`: sends an event, prints the answer.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use local::Event;

use crate::arguments::Invoke;

/// Status and header go to standard error, the body to standard output; a status that is not 2xx is exit code 1.
pub(crate) async fn invoke(arguments: Invoke) -> anyhow::Result<ExitCode> {
    let event = Event::read(&arguments.event)?;
    let answer = event.send(arguments.gateway, &arguments.name).await?;
    eprintln!("{}", answer.status);
    for (name, value) in &answer.headers {
        eprintln!("{name}: {value}");
    }
    eprintln!();
    std::io::stdout().write_all(&answer.body).context("cannot write the answer")?;
    Ok(if answer.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
