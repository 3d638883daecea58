//! How to start everything, and what follows from it.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::console::Console;
use crate::functions::{Executable, Source, Spec};
use crate::secrets::Dialect;
use crate::stack::Stack;

/// `upstream_timeout` of OpenFaaS's chart.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How to start a [`Local`](crate::Local).
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the gateway listens; port 0 picks one.
    pub gateway: SocketAddr,
    /// Where the sandbox provider listens; port 0 picks one.
    pub provider: SocketAddr,
    /// The folder of `.secrets/` and of the state, `.local/`.
    pub dir: PathBuf,
    /// The folder that holds `template/`, and that paths of the stack file start from.
    pub project: PathBuf,
    /// The stack file; without it `stack.yaml` of the project.
    pub stack: Option<PathBuf>,
    /// The provider that the gateway behaves like.
    pub dialect: Dialect,
    /// Programs of functions by name, to be run in place of building the function.
    pub executables: BTreeMap<String, PathBuf>,
    /// The functions to start; empty means all.
    pub only: Vec<String>,
    /// Whether a function is built again and replaced when its source changes.
    pub watch: bool,
    /// Whether functions use the providers' own addresses; the sandbox provider is not started then.
    pub real: bool,
    /// The longest a function may take to begin its answer; the gateway answers 502 then.
    pub timeout: Duration,
    /// Names besides `localhost` and loopback addresses that gateway and sandbox accept in `Host`.
    pub allowed_hosts: Vec<String>,
    /// Sets `show_result` where the stack file does not: anonymous callers see what a job made of the sandbox's data.
    pub show_result: bool,
    /// Added to the environment that the stack file gives a function, by the function's name.
    pub environment: BTreeMap<String, BTreeMap<String, String>>,
    /// Where log lines go.
    pub console: Console,
}

impl Default for Options {
    /// On ports of the system's choice, in the current folder, quiet.
    fn default() -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            gateway: any,
            provider: any,
            dir: PathBuf::from("."),
            project: PathBuf::from("."),
            stack: None,
            dialect: Dialect::default(),
            only: Vec::new(),
            watch: false,
            real: false,
            timeout: TIMEOUT,
            allowed_hosts: Vec::new(),
            executables: BTreeMap::new(),
            show_result: false,
            environment: BTreeMap::new(),
            console: Console::Silent,
        }
    }
}

impl Options {
    /// Reads the stack file; at every deployment, for it may have changed.
    pub(crate) fn stack(
        &self,
        gateway: String,
        provider: String,
    ) -> impl Fn() -> anyhow::Result<Stack> + Send + Sync + 'static {
        let (project, file, real) = (self.project.clone(), self.stack.clone(), self.real);
        move || {
            Stack::read(&project, file.as_deref(), &|name| match name {
                // The user's own variable names a gateway elsewhere.
                "OPENFAAS_URL" | "GATEWAY_URL" => Some(gateway.clone()),
                // Empty is the real provider.
                "SANDBOX_URL" if real => Some(String::new()),
                "SANDBOX_URL" => Some(std::env::var(name).unwrap_or_else(|_| provider.clone())),
                name => std::env::var(name).ok(),
            })
        }
    }

    /// The functions to start, and those of the stack file that cannot run here, each with the reason.
    pub(crate) fn select(&self, stack: &Stack) -> anyhow::Result<(Vec<String>, BTreeMap<String, String>)> {
        for name in &self.only {
            stack.check(name)?;
        }
        let wanted = stack.names().filter(|name| self.only.is_empty() || self.only.iter().any(|only| only == name));
        let (mut names, mut skipped) = (Vec::new(), BTreeMap::new());
        for name in wanted {
            match if self.executables.contains_key(name) { Ok(()) } else { stack.can_build(name) } {
                Ok(()) => names.push(name.to_owned()),
                Err(reason) => {
                    skipped.insert(name.to_owned(), reason);
                }
            }
        }
        if names.is_empty() {
            let reasons: Vec<_> = skipped.iter().map(|(name, reason)| format!("{name}: {reason}")).collect();
            bail!("no function of the stack file can run here: {}", reasons.join("; "));
        }
        Ok((names, skipped))
    }

    pub(crate) fn spec(&self, stack: &Stack, name: &str) -> anyhow::Result<Spec> {
        let mut spec = stack.spec(name)?;
        if self.show_result {
            spec.env_vars.entry("show_result".to_owned()).or_insert_with(|| "true".to_owned());
        }
        spec.env_vars.extend(self.environment.get(name).cloned().unwrap_or_default());
        Ok(spec)
    }

    pub(crate) fn catalog(
        &self,
        stack: impl Fn() -> anyhow::Result<Stack> + Send + Sync + 'static,
        state: &Path,
    ) -> impl Fn(&Spec) -> anyhow::Result<Executable> + Send + Sync + 'static {
        let (options, state) = (self.clone(), state.to_owned());
        move |spec| {
            let stack = stack()?;
            let Some(name) = stack.find(&spec.service, &spec.image) else {
                let image = &spec.image;
                bail!(
                    "the stack file has no function {} and none of image {image:?}; images are not pulled here",
                    spec.service
                );
            };
            match options.executables.get(name) {
                Some(program) => Ok(Executable::Prebuilt(program.clone())),
                None => options.source(&stack, name, &state, false),
            }
        }
    }

    pub(crate) fn source(&self, stack: &Stack, name: &str, state: &Path, release: bool) -> anyhow::Result<Executable> {
        let (context, build_args) = stack.context(name, state)?;
        let program = state.join(if release { "release" } else { "debug" }).join(name);
        // The workspace's own, so that what both depend on is compiled once.
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| self.project.join("target"), PathBuf::from);
        let target = std::path::absolute(target)?;
        Ok(Executable::Source(Box::new(Source { context, build_args, target, release, program })))
    }
}

/// The folder of the state, readable by this user only.
pub(crate) fn state_folder(dir: &Path) -> anyhow::Result<PathBuf> {
    let state = std::path::absolute(dir.join(".local"))?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&state)
        .with_context(|| format!("cannot create {}", state.display()))?;
    state.canonicalize().with_context(|| format!("cannot open {}", state.display()))
}
