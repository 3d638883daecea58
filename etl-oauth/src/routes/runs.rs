//! Runs of the job for accounts.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::{sync::Semaphore, task::JoinSet};

use super::{
    App,
    audit::{Action, Event},
    connection::Connection,
    enable::is_taken,
    respond::Asked,
};
use crate::{
    config::duration,
    guard::Identity,
    job::{Apis, Context, JobError, JobState, Outcome},
};
use token_keeper::{api::Api, renewal::Keeper, store::DEFAULT_ACCOUNT, trace_context};

/// How many accounts are served at a time.
const AT_A_TIME: usize = 4;

/// What came of one account's run.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) connection: String,
    pub(super) account: String,
    pub(super) result: Result<Outcome, JobError>,
}

impl App {
    /// The connections whose accounts the job runs for.
    pub(super) fn job_connections(&self) -> Vec<Arc<Connection>> {
        let wanted = self.config.job_connections();
        wanted.iter().filter_map(|connection| self.connections.get(&connection.name).cloned()).collect()
    }

    /// Runs the job for every authorised account that the caller may use. Where there is none, the result is the failure of the
    /// account `default`.
    pub(super) async fn run_all(
        self: &Arc<Self>,
        caller: &Identity,
        input: &Bytes,
        limit: Option<Duration>,
    ) -> Vec<Run> {
        let connections = self.job_connections();
        let mut keepers = Vec::new();
        for connection in &connections {
            let rights = caller.rights();
            let allowed = |keeper: &Keeper| is_taken(keeper) && rights.allow(connection.name(), keeper.account());
            let authorised = connection.keepers.all().await.into_iter().filter(allowed);
            keepers.extend(authorised.map(|keeper| (Arc::clone(connection), keeper)));
        }
        if keepers.is_empty() {
            let first = connections.first().unwrap_or(self.home());
            let allowed = caller.rights().allow(first.name(), DEFAULT_ACCOUNT);
            keepers.extend(
                first.keepers.get(DEFAULT_ACCOUNT).ok().filter(|_| allowed).map(|keeper| (Arc::clone(first), keeper)),
            );
        }
        self.run_these(keepers, input, limit).await
    }

    /// Runs the job for these accounts, a few at a time; a failure stops no other run. The results are in the order of the
    /// accounts' names.
    pub(super) async fn run_these(
        self: &Arc<Self>,
        keepers: Vec<(Arc<Connection>, Keeper)>,
        input: &Bytes,
        limit: Option<Duration>,
    ) -> Vec<Run> {
        let places = Arc::new(Semaphore::new(AT_A_TIME));
        let (mut tasks, mut accounts) = (JoinSet::new(), HashMap::new());
        for (connection, keeper) in keepers {
            let (app, places, input) = (Arc::clone(self), Arc::clone(&places), input.clone());
            let of = (Arc::clone(&connection), keeper.account().to_owned());
            let task = tasks.spawn(trace_context::carry(async move {
                let (account, begun) = (keeper.account().to_owned(), app.clock.now());
                let run = async {
                    // The semaphore is never closed.
                    let _place = places.acquire_owned().await;
                    app.run_one(&connection, keeper, input).await
                };
                let Some(limit) = limit else { return run.await };
                // The watchdog would cut the whole call off, without an answer, an event or an entry.
                match tokio::time::timeout(limit, run).await {
                    Ok(result) => result,
                    Err(_) => {
                        let late = Err(JobError::TimedOut { limit });
                        app.tally(&connection, &account, begun, &late);
                        late
                    }
                }
            }));
            accounts.insert(task.id(), of);
        }
        let (mut runs, started) = (Vec::with_capacity(accounts.len()), self.clock.now());
        while let Some(ended) = tasks.join_next_with_id().await {
            let (id, result) = ended.map_or_else(|err| (err.id(), None), |(id, result)| (id, Some(result)));
            let Some((connection, account)) = accounts.remove(&id) else { continue };
            let result = result.unwrap_or_else(|| {
                let panicked = Err(JobError::Panicked);
                self.tally(&connection, &account, started, &panicked);
                panicked
            });
            runs.push(Run { connection: connection.name().to_owned(), account, result });
        }
        runs.sort_by(|one, other| (&one.connection, &one.account).cmp(&(&other.connection, &other.account)));
        runs
    }

    /// Shows in the metrics when the job last succeeded, by what the replicas before this one wrote down.
    pub(super) async fn show_last_success(&self, connection: &Connection, account: &str) {
        let events = self.audit.history(connection.name(), account).await;
        let is_success = |event: &&Event| event.action == Action::Run && event.outcome == "ok";
        if let Some(run) = events.iter().find(is_success) {
            self.show_success(connection, account, run.at);
        }
    }

    fn show_success(&self, connection: &Connection, account: &str, at: Timestamp) {
        let (job, connection, account) = (self.config.job.name(), connection.name().to_owned(), account.to_owned());
        #[expect(clippy::cast_precision_loss, reason = "seconds of the calendar are exact in a double")]
        let at = at.as_second() as f64;
        metrics::gauge!(
            "etl_oauth_job_last_success_timestamp_seconds",
            "job" => job, "connection" => connection, "account" => account
        )
        .set(at);
    }

    async fn run_one(
        self: &Arc<Self>,
        connection: &Connection,
        keeper: Keeper,
        input: Bytes,
    ) -> Result<Outcome, JobError> {
        let started = self.clock.now();
        keeper.begin_run().await;
        let account = keeper.account().to_owned();
        let result = self.config.job.run(self.context(connection, keeper, started, input)).await;
        self.tally(connection, &account, started, &result);
        result
    }

    /// How long the runs of a call have: a little less than the watchdog lets the call last, for their outcome has to be
    /// written and answered. A caller's `X-Timeout` shortens the watchdog's limit.
    pub(super) fn time_for(&self, asked: &Asked) -> Option<Duration> {
        let limit = self.config.exec_timeout?;
        let asked = asked.headers.get("x-timeout").and_then(|value| value.to_str().ok());
        // A bare number is no Go duration, and the watchdog passes it over.
        let asked = asked.filter(|text| !text.ends_with(|c: char| c.is_ascii_digit())).and_then(duration::parse);
        let limit = asked.filter(|asked| !asked.is_zero() && *asked <= limit).unwrap_or(limit);
        let rest = (limit / 20).clamp(Duration::from_millis(100), Duration::from_secs(1)).min(limit / 2);
        Some(limit - rest)
    }

    /// Puts what came of a run into the picture of runs, the metrics and the log.
    fn tally(&self, connection: &Connection, account: &str, started: Timestamp, result: &Result<Outcome, JobError>) {
        let (now, job) = (self.clock.now(), self.config.job.name());
        if let Err(err) = result
            && err.wants_an_account()
        {
            tracing::info!(job, connection = connection.name(), account, error = %err, "the job did not run");
            return;
        }
        let outcome = result.as_ref().map_or_else(JobError::code, |_| "ok");
        let duration_ms = u64::try_from(now.duration_since(started).as_millis()).unwrap_or(0);
        let actor = trace_context::actor();
        let event = Event::new(actor.as_deref().unwrap_or("job"), Action::Run, started);
        self.audit.note(event.about(connection.name(), account).with_outcome(outcome).took(duration_ms));
        if result.is_ok() {
            self.show_success(connection, account, now);
        }
        metrics::counter!("etl_oauth_job_runs_total", "job" => job, "connection" => connection.name().to_owned(), "outcome" => outcome)
            .increment(1);
        metrics::histogram!("etl_oauth_job_duration_seconds", "job" => job, "connection" => connection.name().to_owned())
            .record(now.duration_since(started).as_secs_f64());
        match result {
            Ok(_) => tracing::info!(job, connection = connection.name(), account, duration_ms, "the job ran"),
            Err(err) => {
                tracing::warn!(job, connection = connection.name(), account, duration_ms, error = %err, "the job failed")
            }
        }
    }

    fn context(self: &Arc<Self>, connection: &Connection, keeper: Keeper, now: Timestamp, input: Bytes) -> Context {
        let ledger = JobState::new(Arc::clone(&self.ledgers), keeper.key());
        let app = Arc::clone(self);
        Context {
            api: connection.api(keeper),
            now,
            input,
            ledger,
            outlets: self.config.outlets.clone(),
            progress: connection.progress.clone(),
            apis: Apis::new(move |connection, account| Arc::clone(&app).api_of(connection, account)),
        }
    }

    /// The API of an account at another connection, for a job.
    async fn api_of(self: Arc<Self>, name: String, account: String) -> Result<Api, JobError> {
        let names = || self.connections.keys().cloned().collect::<Vec<_>>().join(", ");
        let none = || JobError::Failed(format!("there is no connection {name}; there are {}", names()));
        let connection = self.connections.get(&name).ok_or_else(none)?;
        let keeper = connection.keepers.get(&account).map_err(|err| JobError::Failed(err.to_string()))?;
        keeper.begin_run().await;
        Ok(connection.api(keeper))
    }
}
