//! Everything together: provider, gateway and functions.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;

use crate::default_secrets::{create_missing, operator};
use crate::functions::{Functions, Log};
use crate::gateway::{Gateway, Settings};
use crate::options::{Options, state_folder};
use crate::provider::Provider;
use crate::secrets::Secrets;
use crate::server::{bind, url};
use crate::watch::{Watch, stamp};

/// What to open, and what a script wants to know.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Urls {
    /// The gateway, without a slash at the end.
    pub gateway: String,
    /// The sandbox provider, without a slash at the end; none with [`Options::real`].
    pub provider: Option<String>,
    /// Each function at the gateway.
    pub functions: BTreeMap<String, String>,
    /// The metrics of each function's first instance.
    pub metrics: BTreeMap<String, String>,
}

/// A running gateway with its functions, and the sandbox provider.
#[derive(Debug)]
pub struct Local {
    gateway: Gateway,
    provider: Option<Provider>,
    functions: Functions,
    secrets: Secrets,
    run: PathBuf,
    url: String,
    names: Vec<String>,
    operators: BTreeMap<String, String>,
    watch: Watch,
}

impl Local {
    /// Starts all, and waits until every function of the stack file answers. Functions whose language is not built here
    /// are left out, with a line.
    ///
    /// # Errors
    ///
    /// An address is taken, the stack file is missing or wrong, a secret has no value that could be made up, a function
    /// does not compile or does not start. Nothing is left running then. With [`Options::watch`] a function that does
    /// not compile or start is no error: it is built again when its source changes.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let listener = bind("gateway", "--gateway", options.gateway).await?;
        let gateway = url(&listener)?;
        let for_provider = match options.real {
            true => None,
            false => Some(bind("sandbox provider", "--provider", options.provider).await?),
        };
        let provider = for_provider.as_ref().map(url).transpose()?;
        let stack = options.stack(gateway.clone(), provider.unwrap_or_default());
        let read = stack()?;
        let (names, skipped) = options.select(&read)?;
        for (name, reason) in skipped {
            options.console.say("local", &format!("{name} is left out: {reason}"));
        }
        let specs = names.iter().map(|name| options.spec(&read, name)).collect::<anyhow::Result<Vec<_>>>()?;
        let secrets = Secrets::open(&options.dir.join(".secrets"), options.dialect)?;
        let clients = create_missing(&secrets, specs.iter(), options.real)?;
        let state = state_folder(&options.dir)?;
        let provider = for_provider
            .map(|listener| Provider::serve(listener, clients, Some(state.clone()), &options.allowed_hosts))
            .transpose()?;
        // One for each gateway, as several may share the state; nothing uses what an earlier one left there.
        let run = state.join(format!("run-{}", listener.local_addr()?.port()));
        remove(&run)?;
        let catalog = options.catalog(stack, &state);
        let functions =
            Functions::new(Box::new(catalog), secrets.clone(), run.clone(), options.console, gateway.clone());
        let settings = Settings {
            functions: functions.clone(),
            secrets: secrets.clone(),
            console: options.console,
            timeout: options.timeout,
            allowed_hosts: options.allowed_hosts.clone(),
        };
        let gateway_server = Gateway::start(listener, settings)?;
        let operators = specs.iter().filter_map(|spec| Some((spec.service.clone(), operator(spec)?))).collect();
        let watch = Watch::default();
        let local =
            Self { gateway: gateway_server, provider, functions, secrets, run, url: gateway, names, operators, watch };
        for spec in specs {
            let name = spec.service.clone();
            let context = if options.watch { read.context(&name, &state).ok() } else { None };
            // Before the build: what changes while it goes on is seen.
            let seen = context.as_ref().and_then(|(context, _)| stamp(context));
            match local.functions.start(spec).await {
                Err(error) if !options.watch => {
                    local.stop().await;
                    return Err(error);
                }
                Err(error) => options.console.say("local", &format!("{error:#}; it is built again after a change")),
                Ok(()) => {}
            }
            if let (Some((context, _)), false) = (context, options.executables.contains_key(&name)) {
                local.watch.follow(context, seen, local.functions.clone());
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
            provider: self.provider.as_ref().map(|provider| provider.url().to_owned()),
            functions: self.names.iter().map(function).collect(),
            metrics: self.functions.metrics(),
        }
    }

    /// The sandbox provider, for its switches and its log; none with [`Options::real`].
    #[must_use]
    pub fn provider(&self) -> Option<&Provider> {
        self.provider.as_ref()
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
        self.watch.stop().await;
        self.gateway.stop().await;
        self.functions.stop().await;
        if let Some(provider) = self.provider {
            provider.stop().await;
        }
        // What stays behind is removed at the next start.
        let _ = remove(&self.run);
    }
}

/// Removes a folder with all that is in it.
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
        let executable = options.source(&stack, name, &state, true)?;
        let built = executable.build(&Log::new(name, options.console)).await;
        programs.push(built.with_context(|| format!("function {name} cannot be built"))?);
    }
    Ok(programs)
}
