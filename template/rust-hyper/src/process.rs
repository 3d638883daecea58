//! A process that is nothing but one function.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    collections::BTreeSet,
    error::Error,
    fs,
    future::Future,
    io,
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
    time::Duration,
};

use rustix::process::{Pid, WaitOptions, waitpid};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{Dispatch, dispatcher, error, warn};
#[cfg(feature = "otel")]
use tracing_subscriber::filter::LevelFilter;

#[cfg(feature = "otel")]
use crate::otel::{self, Otel};
use crate::{
    BoxError, Config, IntoFunction, Watchdog,
    invocation::with_causes,
    lock,
    server::Context,
    tracing::{LogWriter, log_writer, subscriber},
};

/// Wrong configuration, `EX_USAGE`.
const MISCONFIGURED: u8 = 64;

/// Runs the function that `handler` makes until the process is told to stop, and returns the process's exit code: 0 when
/// it was asked to stop, 1 when the handler or a port failed, 64 when the configuration is wrong.
///
/// `handler` is called once, before any port is bound. It reports a wrong configuration of its own by a
/// [`std::io::Error`] of the kind `InvalidInput`. SIGTERM and SIGINT begin the drain, a second one ends it.
///
/// A handler that sets a global `tracing` subscriber keeps it. Otherwise the watchdog sets its own when the handler has
/// returned; until then it is that of the handler's thread.
///
/// With the argument `--run-healthcheck` the process only looks for the lock file and exits with 0 if it is there, as
/// exec probes do with of-watchdog.
pub fn main<H, R, F, M>(handler: H) -> ExitCode
where
    H: FnOnce() -> R,
    R: Future<Output = Result<F, BoxError>>,
    F: IntoFunction<M>,
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
    let (out, guard) = log_writer(io::stderr());
    // Fails only where the process has one already, and then that one was the author's wish.
    let _ = tracing_log::LogTracer::init();
    #[cfg(not(feature = "otel"))]
    let (filter, spans) = (config.filter.clone(), tracing_subscriber::layer::Identity::new());
    #[cfg(feature = "otel")]
    let filter = config.filter.clone().with_target(otel::TARGET, LevelFilter::OFF);
    #[cfg(feature = "otel")]
    let (spans, otel) = match otel::start(&config, runtime.handle()) {
        Ok(started) => started,
        Err(error) => return fail(&*error, MISCONFIGURED),
    };
    let log = subscriber(out.clone(), config.log_format, filter, spans);
    log_panics(log.clone());
    let scope = dispatcher::set_default(&log);
    // A panic of the constructor was logged by the hook. It ends the process like an error.
    let start = AssertUnwindSafe(|| runtime.block_on(start(handler, config, out, log)));
    let result = panic::catch_unwind(start).unwrap_or_else(|_| Err("the handler's constructor panicked".into()));
    #[cfg(feature = "otel")]
    otel.inspect(Otel::shutdown);
    drop(scope);
    // What was logged before comes before the message of the end.
    drop(guard);
    let code = match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_misconfiguration(&*error) => fail(&*error, MISCONFIGURED),
        Err(error) => fail(&*error, 1),
    };
    // What still runs was given its time to end.
    runtime.shutdown_background();
    code
}

async fn start<H, R, F, M>(handler: H, config: Config, out: LogWriter, log: Dispatch) -> Result<(), BoxError>
where
    H: FnOnce() -> R,
    R: Future<Output = Result<F, BoxError>>,
    F: IntoFunction<M>,
{
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut stop = async move || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    // of-watchdog is not ended by this one; nor should a stray one end a function.
    let _ignored = signal(SignalKind::user_defined1())?;
    if std::process::id() == 1 {
        tokio::spawn(reap_orphans());
    }
    let metrics = crate::metrics::Metrics::new(out.clone());
    // Fails only where the process has one already, and then that one was the author's wish.
    let _ = metrics::set_global_recorder(metrics.recorder());

    let function = tokio::select! {
        function = handler() => function?,
        () = stop() => return Ok(()),
    };
    if dispatcher::set_global_default(log).is_err() {
        warn!(
            target: "watchdog",
            "the function has a tracing subscriber of its own; RUST_LOG, log_level and log_format apply to the access log alone"
        );
    }
    let auth = tokio::select! {
        auth = Watchdog::auth(&config) => auth,
        () = stop() => return Ok(()),
    };
    let watchdog = Watchdog::bind_with(config, |config| Context::new(config, out, metrics, auth)).await?;
    let (draining, drain) = tokio::sync::oneshot::channel();
    let signals = async {
        stop().await;
        // The receiver lives as long as the watchdog runs.
        let _ = draining.send(());
        stop().await;
    };
    let run = watchdog.run(function, async {
        let _ = drain.await;
    });
    tokio::select! {
        () = run => {}
        () = signals => warn!(target: "watchdog", "a second signal, exiting at once"),
    }
    Ok(())
}

/// How long a child may be a zombie before it counts as an orphan.
const ORPHANED: Duration = Duration::from_secs(30);

/// Collects children that nothing waits for. Those of a process that has ended become children of PID 1, which a function
/// is in its container. One that the function has started itself and waits for is gone long before.
async fn reap_orphans() {
    let mut known = BTreeSet::new();
    loop {
        tokio::time::sleep(ORPHANED).await;
        known = reap(&known, &zombies());
    }
}

/// Collects those of `zombies` that were known before; the others are to be known next time.
fn reap(known: &BTreeSet<i32>, zombies: &BTreeSet<i32>) -> BTreeSet<i32> {
    for pid in zombies.intersection(known).filter_map(|&pid| Pid::from_raw(pid)) {
        // One that was waited for meanwhile is gone.
        let _ = waitpid(Some(pid), WaitOptions::NOHANG);
    }
    zombies - known
}

/// The children of this process that have ended.
fn zombies() -> BTreeSet<i32> {
    let own = std::process::id().to_string();
    let is_zombie = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // After the command, which may hold anything: state and parent.
        let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().take(2).collect();
        fields == ["Z", own.as_str()]
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|process| process.file_name().to_str()?.parse().ok()).filter(is_zombie).collect()
}

/// One line for a panic, with its place, in the form of the others.
fn log_panics(log: Dispatch) {
    panic::set_hook(Box::new(move |panic| {
        let message = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map(|place| format!(" at {}:{}", place.file(), place.line())).unwrap_or_default();
        let backtrace = Backtrace::capture();
        // A thread that the function has started has no subscriber before the global one is set.
        dispatcher::with_default(&log, || match backtrace.status() {
            BacktraceStatus::Captured => error!(target: "watchdog", %backtrace, "panic{place}: {message}"),
            _ => error!(target: "watchdog", "panic{place}: {message}"),
        });
    }));
}

fn is_misconfiguration(error: &(dyn Error + Send + Sync + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::InvalidInput)
}

fn fail(error: &(dyn Error + 'static), code: u8) -> ExitCode {
    eprintln!("{}", with_causes(error));
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn an_orphan_is_collected_when_it_is_seen_a_second_time() {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let is_zombie = || zombies().contains(&pid);
        while !is_zombie() {
            std::thread::yield_now();
        }
        let own = || BTreeSet::from([pid]);
        let known = reap(&BTreeSet::new(), &own());
        assert!(is_zombie() && known.contains(&pid), "it may still be waited for");
        assert!(reap(&known, &own()).is_empty());
        assert!(!is_zombie());
        assert!(child.wait().is_err());
    }
}
