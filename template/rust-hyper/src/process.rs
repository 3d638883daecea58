//! A process that is nothing but one function.

use std::{error::Error, fmt::Write as _, future::Future, io, panic, process::ExitCode};

use tokio::signal::unix::{SignalKind, signal};
use tracing::Level;
use tracing_subscriber::{layer::SubscriberExt as _, registry};

use crate::{BoxError, Config, Function, Watchdog, events::Events, lock, log::Log, metrics::Metrics};

/// Wrong configuration, `EX_USAGE`.
const MISCONFIGURED: u8 = 64;

/// Runs the function that `handler` makes until the process is told to stop, and gives the process's exit code: 0 when
/// it was asked to stop, 1 when the handler or a port failed, 64 when the configuration is wrong.
///
/// `handler` is called once, before any port is bound. It tells of a wrong configuration of its own by a
/// [`std::io::Error`] of the kind `InvalidInput`. SIGTERM and SIGINT start the drain, a second one ends it.
///
/// With the argument `--run-healthcheck` the process only looks for the lock file and exits with 0 if it is there, as
/// exec probes do with of-watchdog.
pub fn main<H, R, F>(handler: H) -> ExitCode
where
    H: FnOnce() -> R,
    R: Future<Output = Result<F, BoxError>>,
    F: Function,
{
    let config = match Config::from_env() {
        Ok(config) => config,
        Err(error) => return fail(&error, MISCONFIGURED),
    };
    if std::env::args().nth(1).as_deref() == Some("--run-healthcheck") {
        return match lock::is_absent(&config.lock_file) {
            true => fail(&io::Error::other("unable to find lock file."), 1),
            false => ExitCode::SUCCESS,
        };
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, 1),
    };
    let log = match Log::stderr(config.log_format) {
        Ok(log) => log,
        Err(error) => return fail(&error, 1),
    };
    let result = runtime.block_on(start(handler, config, log.clone()));
    // What was said before comes before the message of the end.
    log.flush();
    let code = match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_misconfiguration(&*error) => fail(&*error, MISCONFIGURED),
        Err(error) => fail(&*error, 1),
    };
    // What still runs was given its time to end.
    runtime.shutdown_background();
    code
}

async fn start<H, R, F>(handler: H, config: Config, log: Log) -> Result<(), BoxError>
where
    H: FnOnce() -> R,
    R: Future<Output = Result<F, BoxError>>,
    F: Function,
{
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut stop = async move || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let metrics = Metrics::new();
    // Both fail only if the process has one already, and then that one was the author's wish.
    let _ = metrics::set_global_recorder(metrics.recorder());
    let _ = tracing::subscriber::set_global_default(registry().with(Events::new(log.clone(), Level::INFO)));
    log_panics(log.clone());
    // of-watchdog is not ended by this one; nor should a stray one end a function.
    let _ignored = signal(SignalKind::user_defined1())?;

    let function = tokio::select! {
        function = handler() => function?,
        () = stop() => return Ok(()),
    };
    let watchdog = Watchdog::bind_with(config, log.clone(), metrics).await?;
    let (draining, told) = tokio::sync::oneshot::channel();
    let signals = async {
        stop().await;
        // The receiver lives as long as the watchdog runs.
        let _ = draining.send(());
        stop().await;
    };
    let run = watchdog.run(function, async {
        let _ = told.await;
    });
    tokio::select! {
        () = run => {}
        () = signals => log.say("told to stop a second time, leaving at once"),
    }
    Ok(())
}

/// One line for a panic, in the form of the others.
fn log_panics(log: Log) {
    panic::set_hook(Box::new(move |panic| {
        let message = panic.payload_as_str().unwrap_or("no message").replace('\n', "\\n");
        match panic.location() {
            Some(place) => log.error(format_args!("panic at {}:{}: {message}", place.file(), place.line())),
            None => log.error(format_args!("panic: {message}")),
        }
        // It may be the end of the process.
        log.flush();
    }));
}

fn is_misconfiguration(error: &(dyn Error + Send + Sync + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::InvalidInput)
}

fn fail(error: &(dyn Error + 'static), code: u8) -> ExitCode {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        // Writing to a String cannot fail.
        let _ = write!(message, ": {error}");
        source = error.source();
    }
    eprintln!("{message}");
    ExitCode::from(code)
}
