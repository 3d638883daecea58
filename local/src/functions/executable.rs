//! Where a function's program comes from.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, bail};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::sync::Mutex;

use super::log::Log;
use crate::context::Context;

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

/// Functions share one target folder and the template's program name: each program is put away before the next build.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

impl Executable {
    /// Makes the program if that is needed, and says where it is.
    pub(crate) async fn build(&self, log: &Log) -> anyhow::Result<PathBuf> {
        match self {
            Self::Prebuilt(program) if program.is_file() => Ok(program.clone()),
            Self::Prebuilt(program) => bail!("there is no program {}", program.display()),
            Self::Source(source) => source.build(log).await,
        }
    }
}

impl Source {
    async fn build(&self, log: &Log) -> anyhow::Result<PathBuf> {
        let _one = ONE_AT_A_TIME.lock().await;
        let context = self.context.clone();
        let folder = tokio::task::spawn_blocking(move || context.lay_out()).await??;
        if !folder.join("build.sh").is_file() {
            bail!("{} has no build.sh, so that only templates like rust-hyper can be run here", folder.display());
        }
        log.say("", if self.release { "building it" } else { "building it without optimisation" });
        let mut command = Command::new("sh");
        command
            .arg("build.sh")
            .current_dir(&folder)
            .envs(self.build_args.iter().map(|(name, value)| (name, value)))
            .env("CARGO_TARGET_DIR", &self.target)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        // Cargo tells its children which package it runs; the function's build is none of that.
        for (name, _) in std::env::vars_os() {
            let of_cargo = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
            if name.to_str().is_some_and(|name| of_cargo(name) || name == "PROFILE") {
                command.env_remove(&name);
            }
        }
        if !self.release {
            command.env("PROFILE", "dev");
        }
        let mut child = command.spawn().context("cannot run sh")?;
        let (mut stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let mut printed = String::new();
        let (read, ()) = tokio::join!(
            async { if let Some(stdout) = &mut stdout { stdout.read_to_string(&mut printed).await } else { Ok(0) } },
            async {
                if let Some(stderr) = stderr {
                    log.pipe("", stderr).await
                }
            }
        );
        let status = child.wait().await?;
        if !status.success() {
            bail!("it does not compile ({status}); the compiler's words are above");
        }
        read.context("build.sh printed something that is not text")?;
        let built =
            printed.lines().next_back().map(|line| folder.join(line.trim())).context("build.sh printed no path")?;
        put(&built, &self.program)?;
        Ok(self.program.clone())
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
