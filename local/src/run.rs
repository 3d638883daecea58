//! Everything together: provider, gateway and functions.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::Serialize;

use crate::console::Console;
use crate::default_secrets::{create_missing, operator};
use crate::functions::{Executable, Functions, Source, Spec};
use crate::gateway::Gateway;
use crate::provider::Provider;
use crate::secrets::{Dialect, Secrets};
use crate::server::{bind, url};
use crate::stack::Stack;

/// How to start a [`Local`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the gateway listens; port 0 picks one.
    pub gateway: SocketAddr,
    /// Where the sandbox provider listens; port 0 picks one.
    pub provider: SocketAddr,
    /// Where `.secrets/` and the state, `.local/`, are kept.
    pub dir: PathBuf,
    /// The folder that holds `template/`, and that paths of the stack file start from.
    pub project: PathBuf,
    /// The stack file; without it `stack.yaml` of the project.
    pub stack: Option<PathBuf>,
    /// The provider that the gateway behaves like.
    pub dialect: Dialect,
    /// Programs of functions by name, to be run in place of building the function.
    pub executables: BTreeMap<String, PathBuf>,
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
            executables: BTreeMap::new(),
            environment: BTreeMap::new(),
            console: Console::Silent,
        }
    }
}

/// What to open, and what a script wants to know.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Urls {
    /// The gateway, without a slash at the end.
    pub gateway: String,
    /// The sandbox provider, without a slash at the end.
    pub provider: String,
    /// Each function at the gateway.
    pub functions: BTreeMap<String, String>,
    /// The metrics of each function's first instance.
    pub metrics: BTreeMap<String, String>,
}

/// A running gateway with its functions, and the sandbox provider.
#[derive(Debug)]
pub struct Local {
    gateway: Gateway,
    provider: Provider,
    functions: Functions,
    secrets: Secrets,
    run: PathBuf,
    url: String,
    names: Vec<String>,
    operators: BTreeMap<String, String>,
}

impl Local {
    /// Starts all, and waits until every function of the stack file answers.
    ///
    /// # Errors
    ///
    /// An address is taken, the stack file is missing or wrong, a secret has no value that could be made up, a function
    /// does not compile or does not start. Nothing is left running then.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let listener = bind("gateway", "--gateway", options.gateway).await?;
        let for_provider = bind("sandbox provider", "--provider", options.provider).await?;
        let (gateway, provider) = (url(&listener)?, url(&for_provider)?);
        let stack = options.stack(gateway.clone(), provider);
        let read = stack()?;
        let specs = read.names().map(|name| options.spec(&read, name)).collect::<anyhow::Result<Vec<_>>>()?;
        let secrets = Secrets::open(&options.dir.join(".secrets"), options.dialect)?;
        let clients = create_missing(&secrets, specs.iter())?;
        let state = state_folder(&options.dir)?;
        let provider = Provider::serve(for_provider, clients, Some(state.clone()))?;
        let catalog = options.catalog(stack, &state);
        // One for each gateway, as several may share the state; what was left there nobody uses any more.
        let run = state.join(format!("run-{}", listener.local_addr()?.port()));
        remove(&run)?;
        let functions = Functions::new(Box::new(catalog), secrets.clone(), run.clone(), options.console);
        let gateway_server = Gateway::start(listener, functions.clone(), secrets.clone(), options.console)?;
        let names = specs.iter().map(|spec| spec.service.clone()).collect();
        let operators = specs.iter().filter_map(|spec| Some((spec.service.clone(), operator(spec)?))).collect();
        let local = Self { gateway: gateway_server, provider, functions, secrets, run, url: gateway, names, operators };
        for spec in specs {
            if let Err(error) = local.functions.start(spec).await {
                local.stop().await;
                return Err(error);
            }
        }
        Ok(local)
    }

    /// Where everything is.
    #[must_use]
    pub fn urls(&self) -> Urls {
        let function = |name: &String| (name.clone(), format!("{}/function/{name}", self.url));
        Urls {
            gateway: self.url.clone(),
            provider: self.provider.url().to_owned(),
            functions: self.names.iter().map(function).collect(),
            metrics: self.functions.metrics(),
        }
    }

    /// The sandbox provider, for its switches and its log.
    #[must_use]
    pub fn provider(&self) -> &Provider {
        &self.provider
    }

    /// The file of the operator's secret, for each function that has one.
    #[must_use]
    pub fn operators(&self) -> BTreeMap<String, PathBuf> {
        self.operators.iter().map(|(function, secret)| (function.clone(), self.secrets.path(secret))).collect()
    }

    /// Where the secret of this name is kept.
    #[must_use]
    pub fn secret(&self, name: &str) -> PathBuf {
        self.secrets.path(name)
    }

    /// Lets requests finish, stops the functions, and waits until the last has drained.
    pub async fn stop(self) {
        self.gateway.stop().await;
        self.functions.stop().await;
        self.provider.stop().await;
        // What stays behind is removed at the next start.
        let _ = remove(&self.run);
    }
}

fn remove(folder: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Builds functions of a stack file in release mode, exactly as `faas-cli build` lays them out; all when none is named.
///
/// # Errors
///
/// The stack file is missing or wrong, has no such function, or a function does not compile.
pub async fn build(options: &Options, names: &[String]) -> anyhow::Result<Vec<PathBuf>> {
    let stack = options.stack("http://127.0.0.1:8080".to_owned(), "http://127.0.0.1:9000".to_owned())()?;
    let state = state_folder(&options.dir)?;
    let names: Vec<String> = if names.is_empty() { stack.names().map(str::to_owned).collect() } else { names.to_vec() };
    let mut programs = Vec::new();
    for name in &names {
        let program = state.join("release").join(name);
        let executable = options.source(&stack, name, program, true)?;
        let built = executable.build(&crate::functions::Log::new(name, options.console)).await;
        programs.push(built.with_context(|| format!("function {name} cannot be built"))?);
    }
    Ok(programs)
}

impl Options {
    /// Reads the stack file; at every deployment, for it may have changed.
    fn stack(&self, gateway: String, provider: String) -> impl Fn() -> anyhow::Result<Stack> + Send + Sync + 'static {
        let (project, file) = (self.project.clone(), self.stack.clone());
        move || {
            Stack::read(&project, file.as_deref(), &|name| match name {
                // The user's own names a gateway elsewhere.
                "OPENFAAS_URL" | "GATEWAY_URL" => Some(gateway.clone()),
                // An empty one is how to say: the real provider.
                "SANDBOX_URL" => Some(std::env::var(name).unwrap_or_else(|_| provider.clone())),
                name => std::env::var(name).ok(),
            })
        }
    }

    fn spec(&self, stack: &Stack, name: &str) -> anyhow::Result<Spec> {
        let mut spec = stack.spec(name)?;
        spec.env_vars.extend(self.environment.get(name).cloned().unwrap_or_default());
        Ok(spec)
    }

    fn catalog(
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
                None => options.source(&stack, name, state.join("debug").join(&spec.service), false),
            }
        }
    }

    fn source(&self, stack: &Stack, name: &str, program: PathBuf, release: bool) -> anyhow::Result<Executable> {
        let (context, build_args) = stack.context(name)?;
        // Beside the workspace's own: both would wait for the lock of one folder, and overwrite each other's programs.
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| self.project.join("target"), PathBuf::from);
        let target = std::path::absolute(target)?.join("functions");
        Ok(Executable::Source(Box::new(Source { context, build_args, target, release, program })))
    }
}

/// The folder of what is kept, for this user alone.
fn state_folder(dir: &Path) -> anyhow::Result<PathBuf> {
    let state = std::path::absolute(dir.join(".local"))?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&state)
        .with_context(|| format!("cannot create {}", state.display()))?;
    Ok(state)
}
