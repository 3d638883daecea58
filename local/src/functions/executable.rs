//! Where a function's program comes from.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, LazyLock};

use anyhow::{Context as _, bail};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::log::Log;
use super::process::Group;
use crate::build_context::Context;

/// A function's program, or how to make it.
#[derive(Clone, Debug)]
pub(crate) enum Executable {
    /// It is there already.
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

/// Functions share one target folder, and two builds of one function the context: each ends before the next begins.
static ONE_AT_A_TIME: LazyLock<Arc<Mutex<()>>> = LazyLock::new(Arc::default);

impl Executable {
    /// Makes the program if that is needed, and says where it is. A build that nobody waits for any more is ended.
    pub(crate) async fn build(&self, log: &Log) -> anyhow::Result<PathBuf> {
        match self {
            Self::Prebuilt(program) if program.is_file() => Ok(program.clone()),
            Self::Prebuilt(program) => bail!("there is no program {}", program.display()),
            Self::Source(source) => {
                let (source, log, stop) = (source.clone(), log.clone(), CancellationToken::new());
                let _stop = stop.clone().drop_guard();
                // In a task of its own, which goes on until the last process of an abandoned build is gone: the next one
                // would meet it in the same folder.
                tokio::spawn(async move { source.build(&log, stop).await }).await?
            }
        }
    }
}

impl Source {
    async fn build(&self, log: &Log, stop: CancellationToken) -> anyhow::Result<PathBuf> {
        let _one = Arc::clone(&ONE_AT_A_TIME).lock_owned().await;
        if stop.is_cancelled() {
            bail!("it is not wanted any more");
        }
        let context = self.context.clone();
        let folder = tokio::task::spawn_blocking(move || context.lay_out()).await??;
        if !folder.join("build.sh").is_file() {
            bail!("{} has no build.sh, so that only templates like rust-hyper can be run here", folder.display());
        }
        log.say("", if self.release { "building it" } else { "building it without optimisation" });
        let mut child = self.command(&folder).spawn().context("cannot run sh")?;
        let group = Group::of(&child);
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let output = async {
            let printed = async {
                let mut printed = String::new();
                if let Some(mut stdout) = stdout {
                    stdout.read_to_string(&mut printed).await?;
                }
                std::io::Result::Ok(printed)
            };
            let said = async {
                if let Some(stderr) = stderr {
                    log.pipe("", stderr).await
                }
            };
            tokio::join!(printed, said).0
        };
        tokio::pin!(output);
        // The pipes end when the last process that could write to them has ended.
        let printed = tokio::select! {
            printed = &mut output => printed,
            () = stop.cancelled() => {
                group.kill();
                output.await
            }
        };
        let status = child.wait().await?;
        if !status.success() {
            bail!("it does not compile ({status}); the compiler's words are above");
        }
        let printed = printed.context("build.sh printed something that is not text")?;
        let built =
            printed.lines().next_back().map(|line| folder.join(line.trim())).context("build.sh printed no path")?;
        put(&built, &self.program)?;
        Ok(self.program.clone())
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
            .arg("build.sh")
            .current_dir(folder)
            .envs(self.build_args.iter().map(|(name, value)| (name, value)))
            .env("CARGO_TARGET_DIR", &self.target)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        if !self.release {
            command.env("PROFILE", "dev");
        }
        command
    }
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
