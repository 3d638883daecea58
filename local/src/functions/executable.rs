//! The program of a function: one that exists, or one that is built from source.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, LazyLock};

use anyhow::{Context as _, bail};
use tokio::io::AsyncReadExt as _;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::build_times::{Times, seconds};
use super::child::Child;
use super::log::Log;
use crate::build_context::Context;

/// The template's script that builds the function, and prints the path of the program.
pub(crate) const BUILD_SCRIPT: &str = "build.sh";

/// The workspace's own settings, for every build context: dependencies that are compiled with the same settings into the
/// same target folder are compiled once.
const CARGO_CONFIG: &str = "\
# Written by `local`: the settings of the workspace, so that cargo compiles the dependencies of both once.
[profile.dev]
debug = \"line-tables-only\"
[profile.dev.package.\"*\"]
debug = false
";

/// A function's program, or how to make it.
#[derive(Clone, Debug)]
pub(crate) enum Executable {
    /// An existing program.
    Prebuilt(PathBuf),
    /// From source, as `faas-cli build` and the template's Dockerfile would.
    Source(Box<Source>),
}

/// A build context, and how to build it.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) context: Context,
    /// `build_args` of the stack file; a Dockerfile's `ARG`s are variables of its commands.
    pub(crate) build_args: Vec<(String, String)>,
    pub(crate) target: PathBuf,
    pub(crate) release: bool,
    /// Where the program is put.
    pub(crate) program: PathBuf,
}

/// A build that ended with an error.
#[derive(Debug)]
pub(crate) struct BuildFailure {
    status: ExitStatus,
    /// What the compiler printed.
    pub(super) output: String,
}

impl std::fmt::Display for BuildFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "it does not compile ({}); the compiler's output is above", self.status)
    }
}

impl std::error::Error for BuildFailure {}

/// Functions share a target folder, and two builds of one function share the context: builds run one after the other.
static ONE_AT_A_TIME: LazyLock<Arc<Mutex<()>>> = LazyLock::new(Arc::default);

impl Executable {
    /// Builds the program if needed, and returns its path. The build is killed when the caller no longer waits for it.
    pub(crate) async fn build(&self, log: &Log) -> anyhow::Result<PathBuf> {
        match self {
            Self::Prebuilt(program) if program.is_file() => Ok(program.clone()),
            Self::Prebuilt(program) => bail!("there is no program {}", program.display()),
            Self::Source(source) => {
                let (source, log, stop) = (source.clone(), log.clone(), CancellationToken::new());
                let _stop = stop.clone().drop_guard();
                // In a task of its own, which ends with the last process of an abandoned build: until then the folder is
                // not free for the next one.
                tokio::spawn(async move { source.build(&log, stop).await }).await?
            }
        }
    }
}

impl Source {
    async fn build(&self, log: &Log, stop: CancellationToken) -> anyhow::Result<PathBuf> {
        let _one = Arc::clone(&ONE_AT_A_TIME).lock_owned().await;
        if stop.is_cancelled() {
            bail!("the build is no longer wanted");
        }
        let context = self.context.clone();
        let laid_out = tokio::task::spawn_blocking(move || context.lay_out()).await??;
        let folder = laid_out.folder;
        if !folder.join(BUILD_SCRIPT).is_file() {
            bail!("{} has no {BUILD_SCRIPT}: only templates like rust-hyper can be run here", folder.display());
        }
        if !self.release {
            share_dependencies(&folder)?;
        }
        let first = !self.program.is_file();
        let times = Times::open(&folder);
        if first || laid_out.changed {
            log.say("", &times.announce(first, self.release));
        }
        let started = Instant::now();
        let built = self.run_script(&folder, log, &stop).await?;
        put(&built, &self.program)?;
        if first || laid_out.changed {
            log.say("", &format!("built in {}", seconds(started.elapsed())));
            times.record(first, started.elapsed());
        }
        Ok(self.program.clone())
    }

    /// Runs the template's build script, and returns the path that it prints last.
    async fn run_script(&self, folder: &Path, log: &Log, stop: &CancellationToken) -> anyhow::Result<PathBuf> {
        let (mut child, mut stdout, stderr) = Child::spawn(self.command(folder)).context("cannot run sh")?;
        let output = async {
            let printed = async {
                let mut printed = String::new();
                stdout.read_to_string(&mut printed).await.map(|_| printed)
            };
            tokio::join!(printed, log.pipe_and_keep("", stderr))
        };
        tokio::pin!(output);
        // The pipes end when the last process that could write to them has ended.
        let (printed, said) = tokio::select! {
            output = &mut output => output,
            () = stop.cancelled() => {
                child.kill();
                output.await
            }
        };
        let status = child.wait().await?;
        if !status.success() {
            return Err(BuildFailure { status, output: said }.into());
        }
        let printed = printed.with_context(|| format!("{BUILD_SCRIPT} printed something that is not text"))?;
        let path = printed.lines().next_back().with_context(|| format!("{BUILD_SCRIPT} printed no path"))?;
        Ok(folder.join(path.trim()))
    }

    fn command(&self, folder: &Path) -> Command {
        let mut command = Command::new("sh");
        // Cargo tells its children which package it runs, and the script has settings of its own: a build must depend on
        // neither.
        for (name, _) in std::env::vars_os() {
            let foreign = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
            if name.to_str().is_some_and(|name| foreign(name) || ["PROFILE", "TARGET", "FEATURES"].contains(&name)) {
                command.env_remove(&name);
            }
        }
        command
            .arg(BUILD_SCRIPT)
            .current_dir(folder)
            .envs(self.build_args.iter().map(|(name, value)| (name, value)))
            .env("CARGO_TARGET_DIR", &self.target)
            .stdin(Stdio::null());
        if !self.release {
            command.env("PROFILE", "dev");
        }
        command
    }
}

/// Settings that cargo finds in a folder above each context.
fn share_dependencies(context: &Path) -> anyhow::Result<()> {
    let folder = context.parent().context("a build context lies in a folder")?.join(".cargo");
    let file = folder.join("config.toml");
    if std::fs::read_to_string(&file).is_ok_and(|text| text == CARGO_CONFIG) {
        return Ok(());
    }
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&file, CARGO_CONFIG))
        .with_context(|| format!("cannot write {}", file.display()))
}

/// Copies beside, then renames: a program that runs cannot be written to.
fn put(built: &Path, program: &Path) -> anyhow::Result<()> {
    let folder = program.parent().context("a program lies in a folder")?;
    let new = program.with_extension("new");
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::copy(built, &new))
        .and_then(|_| std::fs::rename(&new, program))
        .with_context(|| format!("cannot copy {} to {}", built.display(), program.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_built_with_the_profile_of_the_workspace() {
        let workspace = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml")).unwrap();
        let section = |text: &str, name: &str| -> Vec<String> {
            let lines = text.lines().skip_while(|line| *line != name).skip(1).take_while(|line| !line.starts_with('['));
            lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
        };
        for name in ["[profile.dev]", "[profile.dev.package.\"*\"]"] {
            assert!(!section(CARGO_CONFIG, name).is_empty(), "{name}");
            assert_eq!(section(CARGO_CONFIG, name), section(&workspace, name), "{name}");
        }
    }
}
