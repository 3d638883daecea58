//! The deployed functions, each a number of processes behind a name.

mod build_times;
mod child;
mod deployment;
mod executable;
mod log;
mod process;
mod replica;
mod spec;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, anyhow, bail};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use self::deployment::Deployment;
pub(crate) use self::deployment::{Broken, Status};
pub(crate) use self::executable::{BUILD_SCRIPT, Executable, Source};
pub(crate) use self::log::{Line, Log};
use self::replica::{Launch, Replica, State};
pub(crate) use self::spec::{Resources, Spec};
use crate::console::Console;
use crate::secrets::Secrets;

/// The one namespace of the community edition.
pub(crate) const NAMESPACE: &str = "openfaas-fn";

/// Where the gateway shows the compiler's output of a function, by its name.
pub(crate) const BUILD_PAGES: &str = "/local/build/";

/// Finds the program for a deployment; the sources may have changed since the last one.
pub(crate) type Catalog = dyn Fn(&Spec) -> anyhow::Result<Executable> + Send + Sync;

/// Every deployed function.
#[derive(Clone)]
pub(crate) struct Functions {
    shared: Arc<Shared>,
}

struct Shared {
    deployments: Mutex<BTreeMap<String, Arc<Deployment>>>,
    catalog: Box<Catalog>,
    secrets: Secrets,
    folder: PathBuf,
    console: Console,
    gateway: String,
    /// Every process and roll-out.
    tasks: TaskTracker,
    rollouts: AtomicU64,
}

/// Why a deployment is refused.
#[derive(Debug)]
pub(crate) enum Refused {
    Exists,
    Missing,
    Invalid(String),
}

impl Functions {
    /// `gateway` is the gateway's URL, `folder` what instances write to.
    pub(crate) fn new(
        catalog: Box<Catalog>,
        secrets: Secrets,
        folder: PathBuf,
        console: Console,
        gateway: String,
    ) -> Self {
        let shared = Shared {
            deployments: Mutex::default(),
            catalog,
            secrets,
            folder,
            console,
            gateway,
            tasks: TaskTracker::new(),
            rollouts: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Deploys a function and waits until every instance is ready; an instance that ends is an error.
    pub(crate) async fn start(&self, spec: Spec) -> anyhow::Result<()> {
        let name = spec.service.clone();
        let (deployment, rollout) = self.accept(spec, false).map_err(|refused| match refused {
            Refused::Invalid(why) => anyhow!("function {name}: {why}"),
            Refused::Exists | Refused::Missing => anyhow!("function {name} is deployed already"),
        })?;
        self.roll_out(&deployment, &rollout, true).await.with_context(|| format!("function {name} does not start"))
    }

    /// Accepts a deployment; the roll-out runs in the background, and the old instances serve until it is done.
    pub(crate) fn deploy(&self, spec: Spec, update: bool) -> Result<(), Refused> {
        let (deployment, rollout) = self.accept(spec, update)?;
        self.spawn_roll_out(deployment, rollout);
        Ok(())
    }

    /// Builds a function again and replaces its instances; the old ones serve until that is done.
    pub(crate) fn rebuild(&self, name: &str) {
        let Some(deployment) = self.get(name) else { return };
        let rollout = deployment.begin_roll_out();
        self.spawn_roll_out(deployment, rollout);
    }

    fn spawn_roll_out(&self, deployment: Arc<Deployment>, rollout: CancellationToken) {
        let functions = self.clone();
        self.shared.tasks.spawn(async move {
            if let Err(error) = functions.roll_out(&deployment, &rollout, false).await {
                let old = if deployment.ready().is_empty() { "" } else { "; the version before it goes on serving" };
                deployment.log.say("", &format!("was not deployed: {error:#}{old}"));
            }
        });
    }

    fn accept(&self, spec: Spec, update: bool) -> Result<(Arc<Deployment>, CancellationToken), Refused> {
        spec.check().map_err(Refused::Invalid)?;
        let missing: Vec<_> = spec.secrets.iter().filter(|name| !self.shared.secrets.exists(name)).cloned().collect();
        if !missing.is_empty() {
            return Err(Refused::Invalid(format!("unable to fetch secrets: {}", missing.join(", "))));
        }
        // The roll-out looks again; here it is an answer for the caller.
        (self.shared.catalog)(&spec).map_err(|error| Refused::Invalid(format!("{error:#}")))?;
        let mut deployments = self.deployments();
        match deployments.get(&spec.service) {
            Some(_) if !update => Err(Refused::Exists),
            None if update => Err(Refused::Missing),
            Some(deployment) => {
                deployment.set_spec(spec);
                Ok((Arc::clone(deployment), deployment.begin_roll_out()))
            }
            None => {
                let rollout = CancellationToken::new();
                let log = Log::new(&spec.service, self.shared.console);
                let deployment = Arc::new(Deployment::new(spec.clone(), log, rollout.clone()));
                deployments.insert(spec.service, Arc::clone(&deployment));
                Ok((deployment, rollout))
            }
        }
    }

    /// Builds, starts the new instances, waits until they are ready, then stops the old ones.
    async fn roll_out(&self, deployment: &Deployment, rollout: &CancellationToken, strict: bool) -> anyhow::Result<()> {
        let shared = &self.shared;
        let spec = deployment.current().spec.clone();
        let executable = (shared.catalog)(&spec)?;
        let Some(program) = rollout.run_until_cancelled(executable.build(&deployment.log)).await else { return Ok(()) };
        if deployment.note_build(&program) {
            let page = format!("{}{BUILD_PAGES}{}", shared.gateway, spec.service);
            deployment.log.say("", &format!("the compiler's output is also at {page}"));
        }
        let number = shared.rollouts.fetch_add(1, Ordering::Relaxed);
        let folder = shared.folder.join(&spec.service).join(number.to_string());
        let launch = Launch {
            program: program?,
            environment: spec.environment(),
            secrets: folder.join("secrets"),
            folder: folder.clone(),
        };
        shared.secrets.mount(&spec.secrets, &launch.secrets)?;
        let launch = Arc::new(launch);
        let wanted = deployment.current().wanted;
        let new: Vec<_> = (0..wanted).map(|nth| self.replica(deployment, &launch, nth)).collect();
        let ready = async {
            for replica in &new {
                if strict {
                    if let State::Down(how) = replica.settled().await {
                        bail!("it {how}; its output is above");
                    }
                } else if !replica.ready().await {
                    bail!("it was stopped");
                }
            }
            Ok(())
        };
        // Dropping the new ones stops them.
        let Some(ready) = rollout.run_until_cancelled(ready).await else { return Ok(()) };
        ready?;
        let mut current = deployment.current();
        if rollout.is_cancelled() {
            return Ok(());
        }
        current.launch = Some(launch);
        current.replicas = new;
        drop(current);
        deployment.log.say("", if wanted == 1 { "is ready" } else { "is ready, every instance of it" });
        Ok(())
    }

    fn replica(&self, deployment: &Deployment, launch: &Arc<Launch>, nth: u32) -> Replica {
        Replica::start(nth.to_string(), Arc::clone(launch), deployment.log.clone(), &self.shared.tasks)
    }

    /// Starts or stops instances to reach the given number.
    pub(crate) fn scale(&self, name: &str, replicas: u32) -> Result<(), Refused> {
        let deployment = self.get(name).ok_or(Refused::Missing)?;
        let mut current = deployment.current();
        current.wanted = replicas.clamp(1, spec::MOST_REPLICAS);
        let (wanted, launch) = (current.wanted as usize, current.launch.clone());
        current.replicas.truncate(wanted);
        if let Some(launch) = launch {
            for nth in current.replicas.len()..wanted {
                let replica = self.replica(&deployment, &launch, nth as u32);
                current.replicas.push(replica);
            }
        }
        Ok(())
    }

    /// Removes a function; its instances drain.
    pub(crate) fn remove(&self, name: &str) -> Result<(), Refused> {
        let deployment = self.deployments().remove(name).ok_or(Refused::Missing)?;
        deployment.end();
        Ok(())
    }

    pub(crate) fn list(&self) -> Vec<Status> {
        self.deployments().values().map(|deployment| deployment.status()).collect()
    }

    pub(crate) fn status(&self, name: &str) -> Option<Status> {
        self.get(name).map(|deployment| deployment.status())
    }

    /// The compiler's output, if the last build of the function failed.
    pub(crate) fn broken(&self, name: &str) -> Option<Broken> {
        self.get(name)?.broken()
    }

    pub(crate) fn log(&self, name: &str) -> Option<Log> {
        self.get(name).map(|deployment| deployment.log.clone())
    }

    /// An instance for a request, in rotation; while the token is held, it is not terminated. The outer `None` means no
    /// such function, the inner none ready.
    pub(crate) fn pick(&self, name: &str) -> Option<Option<(std::net::SocketAddr, TaskTrackerToken)>> {
        let deployment = self.get(name)?;
        let mut ready: Vec<_> = deployment.current().replicas.iter().filter_map(Replica::enter).collect();
        // No remainder for an empty list.
        let turn = deployment.next.fetch_add(1, Ordering::Relaxed).checked_rem(ready.len());
        Some(turn.map(|turn| ready.swap_remove(turn)).map(|(ports, token)| (ports.http, token)))
    }

    /// Counts a request.
    pub(crate) fn invoked(&self, name: &str) {
        if let Some(deployment) = self.get(name) {
            deployment.invocations.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The URL of the metrics of each function's first instance.
    pub(crate) fn metrics(&self) -> BTreeMap<String, String> {
        let address = |(name, deployment): (&String, &Arc<Deployment>)| {
            Some((name.clone(), format!("http://{}/metrics", deployment.ready().first()?.metrics)))
        };
        self.deployments().iter().filter_map(address).collect()
    }

    /// Stops every instance and waits until the last has drained.
    pub(crate) async fn stop(&self) {
        let deployments = std::mem::take(&mut *self.deployments());
        deployments.values().for_each(|deployment| deployment.end());
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    fn deployments(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Deployment>>> {
        self.shared.deployments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, name: &str) -> Option<Arc<Deployment>> {
        self.deployments().get(name).cloned()
    }
}

impl std::fmt::Debug for Functions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Functions")
            .field("names", &self.deployments().keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
