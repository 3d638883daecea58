//! `/`: runs the job, for every authorised account.

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{StatusCode, header};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};

use super::{
    App, State as AppState,
    audit::{Action, CONNECTION, Event},
    authorize::{Admitted, By},
    enable::is_taken,
    respond::{self, Asked, problem},
    run_history::History,
};
use crate::{
    config::duration,
    format::whole,
    guard::{Endpoint, Landed, Place, Who},
    job::{Context, JobError, JobState, Outcome},
    pages::{JobResult, Page, Problem, Ran, RunRow},
};
use token_keeper::{api::Api, renewal::Keeper, store::DEFAULT_ACCOUNT, trace_context};

/// How many accounts are served at a time.
const AT_A_TIME: usize = 4;
/// For how long callers share the news that no account is authorised.
const UNAUTHORISED: Duration = Duration::from_secs(1);
/// After how many seconds a caller who may not wait asks again.
const WAIT_AGAIN: u64 = 5;

/// `GET` and `POST`: what a browser, cron-connector and a caller send alike.
pub(super) async fn run(State(app): AppState, asked: Asked, body: Body) -> Result<Response, Response> {
    let Admitted { who, by, once, body } = app.admit_caller(Endpoint::Job, &asked, body, true).await?;
    let proved = who != Who::Anyone;
    // Runs of anonymous callers share one outcome, which has to be the same for all of them.
    let input = if app.config.job.takes_input() { app.input(&asked, who, body).await? } else { Bytes::new() };
    if !(proved || input.is_empty() || app.config.min_run_interval.is_zero()) {
        return Err(app.no_input(&asked));
    }
    let see = proved || app.config.show_result;
    let started_at = app.clock.now();
    match app.floor.enter(proved, started_at) {
        Place::Run(landed) => {
            let runs = trace_context::acting(&by.actor, app.run_all(&input, &by, app.time_for(&asked)));
            let outcome = Arc::new(runs.await);
            // A run that failed only because no account is authorised made no API call: the next one may soon find better
            // news. Each of them reads the store, so that there is one a second, however many callers come.
            if outcome.iter().all(|(_, result)| result.as_ref().is_err_and(|err| err.status() == StatusCode::CONFLICT))
            {
                app.floor.share_for(UNAUTHORISED);
            }
            // A call that failed may be sent once more: webhooks are, until they succeed.
            match once {
                Some(once) if outcome.iter().any(|(_, result)| result.is_err()) => app.callers.release(&once),
                Some(once) => app.callers.done(&once),
                None => {}
            }
            let run = Landed { started_at, ended_at: app.clock.now(), outcome };
            let response = app.tell_runs(&asked, see, &run);
            landed.send_replace(Some(run));
            Ok(response)
        }
        Place::Share(landing) => match app.joined(&asked, landing).await? {
            Some(run) => {
                let mut response = app.tell_runs(&asked, see, &run);
                response.headers_mut().insert(header::AGE, run.age(app.clock.now()).into());
                Ok(response)
            }
            None => Err(app.no_outcome(&asked)),
        },
    }
}

/// `HEAD` runs nothing: it is a safe method, and link checkers use it.
pub(super) async fn head(State(app): AppState, asked: Asked) -> Result<StatusCode, Response> {
    app.admit_caller(Endpoint::Job, &asked, Body::empty(), true).await?;
    let first = app.keepers.get(DEFAULT_ACCOUNT);
    let ready = |keeper: &Keeper| is_taken(keeper) || keeper.begins_by_itself();
    Ok(if first.as_ref().is_ok_and(ready) { StatusCode::OK } else { StatusCode::CONFLICT })
}

/// What came of one account's run.
pub(super) type Run = (String, Result<Outcome, JobError>);
/// What came of a run of all accounts, for all who share it.
type Shared = Landed<Vec<Run>>;

impl App {
    /// Runs the job for every authorised account that the caller may use, a few at a time; one that fails stops no other. Where there is none, that
    /// is the failure of the account `default`. In the order of the accounts' names.
    async fn run_all(self: &Arc<Self>, input: &Bytes, by: &By, limit: Option<Duration>) -> Vec<Run> {
        let mut keepers = self.keepers.all().await;
        keepers.retain(|keeper| is_taken(keeper) && by.may_use(CONNECTION, keeper.account()));
        if keepers.is_empty() && by.may_use(CONNECTION, DEFAULT_ACCOUNT) {
            keepers.extend(self.keepers.get(DEFAULT_ACCOUNT));
        }
        let places = Arc::new(Semaphore::new(AT_A_TIME));
        let (mut tasks, mut accounts) = (JoinSet::new(), HashMap::new());
        for keeper in keepers {
            let (app, places, input) = (Arc::clone(self), Arc::clone(&places), input.clone());
            let account = keeper.account().to_owned();
            let task = tasks.spawn(trace_context::carry(async move {
                let (account, begun) = (keeper.account().to_owned(), app.clock.now());
                let run = async {
                    // The semaphore is never closed.
                    let _place = places.acquire_owned().await;
                    app.run_one(keeper, input).await
                };
                let Some(limit) = limit else { return run.await };
                // The watchdog would cut the whole call off, without an answer, an event or an entry.
                match tokio::time::timeout(limit, run).await {
                    Ok(result) => result,
                    Err(_) => {
                        let late = Err(JobError::TimedOut { limit });
                        app.tally(&account, begun, &late);
                        late
                    }
                }
            }));
            accounts.insert(task.id(), account);
        }
        let (mut runs, started) = (Vec::with_capacity(accounts.len()), self.clock.now());
        while let Some(ended) = tasks.join_next_with_id().await {
            let (id, result) = ended.map_or_else(|err| (err.id(), None), |(id, result)| (id, Some(result)));
            runs.extend(accounts.remove(&id).map(|account| {
                let result = result.unwrap_or_else(|| {
                    let panicked = Err(JobError::Panicked);
                    self.tally(&account, started, &panicked);
                    panicked
                });
                (account, result)
            }));
        }
        runs.sort_by(|one, other| one.0.cmp(&other.0));
        for (account, result) in &runs {
            if !result.as_ref().is_err_and(JobError::wants_an_account) {
                self.histories.save(account).await;
            }
        }
        runs
    }

    /// Shows in the metrics when the job last succeeded, by what the replicas before this one wrote down.
    pub(super) async fn show_last_success(&self, account: &str) {
        let history = self.histories.of(account).await;
        if let Some(run) = history.runs.iter().find(|run| run.ok()) {
            self.show_success(account, run.at);
        }
    }

    fn show_success(&self, account: &str, at: Timestamp) {
        let (job, account) = (self.config.job.name(), account.to_owned());
        #[expect(clippy::cast_precision_loss, reason = "seconds of the calendar are exact in a double")]
        let at = at.as_second() as f64;
        metrics::gauge!("etl_oauth_job_last_success_timestamp_seconds", "job" => job, "account" => account).set(at);
    }

    async fn run_one(&self, keeper: Keeper, input: Bytes) -> Result<Outcome, JobError> {
        let started = self.clock.now();
        keeper.begin_run().await;
        let account = keeper.account().to_owned();
        let result = match self.api(keeper) {
            Ok(api) => self.config.job.run(self.context(api, started, input)).await,
            Err(err) => Err(err.into()),
        };
        self.tally(&account, started, &result);
        result
    }

    /// How long the runs of a call have: a little less than the watchdog lets the call last, for their outcome has to be
    /// written and answered. A caller's `X-Timeout` shortens the watchdog's limit.
    fn time_for(&self, asked: &Asked) -> Option<Duration> {
        let limit = self.config.exec_timeout?;
        let asked = asked.headers.get("x-timeout").and_then(|value| value.to_str().ok());
        // A bare number is no Go duration, and the watchdog passes it over.
        let asked = asked.filter(|text| !text.ends_with(|c: char| c.is_ascii_digit())).and_then(duration::parse);
        let limit = asked.filter(|asked| !asked.is_zero() && *asked <= limit).unwrap_or(limit);
        let rest = (limit / 20).clamp(Duration::from_millis(100), Duration::from_secs(1)).min(limit / 2);
        Some(limit - rest)
    }

    /// Puts what came of a run into the picture of runs, the metrics and the log.
    fn tally(&self, account: &str, started: Timestamp, result: &Result<Outcome, JobError>) {
        let (now, job) = (self.clock.now(), self.config.job.name());
        if let Err(err) = result
            && err.wants_an_account()
        {
            tracing::info!(job, account, error = %err, "the job did not run");
            return;
        }
        let outcome = result.as_ref().map_or_else(JobError::code, |_| "ok");
        let duration_ms = u64::try_from(now.duration_since(started).as_millis()).unwrap_or(0);
        // The whole second that JSON has: what is read back is what was written.
        let run = RunRow { at: whole(started), outcome: outcome.to_owned(), duration_ms };
        self.histories.add(account, History { runs: vec![run], ..History::default() });
        let actor = trace_context::actor();
        let event = Event::new(actor.as_deref().unwrap_or("job"), Action::Run, started);
        self.audit.note(event.about(CONNECTION, account).with_outcome(outcome).took(duration_ms));
        if result.is_ok() {
            self.show_success(account, now);
        }
        metrics::counter!("etl_oauth_job_runs_total", "job" => job, "outcome" => outcome).increment(1);
        metrics::histogram!("etl_oauth_job_duration_seconds", "job" => job)
            .record(now.duration_since(started).as_secs_f64());
        match result {
            Ok(_) => tracing::info!(job, account, duration_ms, "the job ran"),
            Err(err) => tracing::warn!(job, account, duration_ms, error = %err, "the job failed"),
        }
    }

    fn tell_runs(&self, asked: &Asked, see: bool, run: &Landed<Vec<Run>>) -> Response {
        match &run.outcome[..] {
            [] => self.not_permitted(asked),
            // One account is the rule, and its result is the answer.
            [(_, Ok(outcome))] => self.ran(asked, see, run.started_at, &outcome.json, &outcome.html),
            [(_, Err(err))] => self.job_failed(asked, see, err),
            runs => self.all_ran(asked, see, run.started_at, runs),
        }
    }

    fn context(&self, api: Api, now: Timestamp, input: Bytes) -> Context {
        let ledger = JobState::new(Arc::clone(&self.ledgers), api.keeper().key());
        Context { api, now, input, ledger, outlets: self.config.outlets.clone(), progress: self.progress.clone() }
    }

    fn no_input(&self, asked: &Asked) -> Response {
        let words = (
            "Who gives an input has to say who it is",
            "anonymous runs share one outcome, so they cannot each have an input",
            "Set invoke_auth and prove who you are, or set min_run_interval=0s.",
        );
        asked.problem(self, &problem("input_refused", StatusCode::FORBIDDEN, words))
    }

    /// Waits for what comes of a run of others. Strangers who wait take no more than their part of `max_inflight`: the
    /// platform's probes and the operator need the rest.
    async fn joined(
        &self,
        asked: &Asked,
        landing: watch::Receiver<Option<Shared>>,
    ) -> Result<Option<Shared>, Response> {
        if let Some(run) = &*landing.borrow() {
            return Ok(Some(run.clone()));
        }
        let Ok(_place) = self.waiting.try_acquire() else {
            let words = (
                "The job is running",
                "as many callers wait for this run as may",
                "Nothing: the job runs already. Ask again later for what comes of it.",
            );
            let problem = problem("too_many_waiting", StatusCode::TOO_MANY_REQUESTS, words);
            let mut response = asked.problem(self, &problem);
            response.headers_mut().insert(header::RETRY_AFTER, WAIT_AGAIN.into());
            return Err(response);
        };
        Ok(Landed::wait(landing).await)
    }

    fn no_outcome(&self, asked: &Asked) -> Response {
        let words = (
            "The job did not end",
            "the run that this call shares was cut off",
            "Run it again in a moment; if it happens again, give it more time (exec_timeout), or look at the log.",
        );
        asked.problem(self, &problem("run_cut_off", StatusCode::SERVICE_UNAVAILABLE, words))
    }

    fn ran(&self, asked: &Asked, see: bool, at: Timestamp, json: &Value, html: &str) -> Response {
        let (base, now) = (&self.base, self.clock.now());
        match (see, asked.is_browser()) {
            (true, true) => {
                let provider = self.config.provider.title.as_str();
                Page::from(&JobResult { base, provider, html, at, now }).into_response()
            }
            (true, false) => respond::json(StatusCode::OK, json),
            (false, true) => Page::from(&Ran { base, at, now }).into_response(),
            (false, false) => StatusCode::NO_CONTENT.into_response(),
        }
    }

    /// Several accounts: each one's outcome. When one failed the whole is that failure, so that a queue tries again; a
    /// failure that may pass comes before one that only a person can mend.
    fn all_ran(&self, asked: &Asked, see: bool, at: Timestamp, runs: &[Run]) -> Response {
        let accounts: Vec<Value> = runs.iter().map(|(account, result)| tell(see, account, result)).collect();
        let worst = runs.iter().filter_map(|(_, result)| result.as_ref().err()).max_by_key(|err| err.status().as_u16());
        let json = json!({ "accounts": accounts });
        match worst {
            None => {
                let html = runs.iter().filter_map(|(account, result)| {
                    let html = &result.as_ref().ok()?.html;
                    // The name of an account has nothing in it that HTML would read.
                    Some(format!(
                        "<section aria-label=\"{account}\"><p class=\"muted\">Account {account}</p>{html}</section>"
                    ))
                });
                self.ran(asked, see, at, &json, &html.collect::<String>())
            }
            Some(err) if asked.is_browser() => self.job_failed(asked, see, err),
            Some(err) => respond::json(err.status(), &json),
        }
    }

    fn job_failed(&self, asked: &Asked, see: bool, err: &JobError) -> Response {
        let enable = self.config.page("/enable");
        if err.status() == StatusCode::CONFLICT {
            if asked.is_browser() {
                return respond::redirect(StatusCode::TEMPORARY_REDIRECT, &enable, []);
            }
            let mut body = json!({
                "error": "needs_authorisation",
                "message": err.to_string(),
                "next": "Open enable_url in a browser and allow access.",
                "enable_url": enable,
            });
            if let Some(reason) = err.reason() {
                body["reason"] = reason.into();
            }
            return respond::json(StatusCode::CONFLICT, &body);
        }
        asked.problem(self, &describe(see, err))
    }
}

fn tell(see: bool, account: &str, result: &Result<Outcome, JobError>) -> Value {
    match result {
        Ok(outcome) if see => json!({ "account": account, "outcome": "ok", "result": outcome.json }),
        Ok(_) => json!({ "account": account, "outcome": "ok" }),
        Err(err) => {
            let problem = describe(see, err);
            json!({ "account": account, "outcome": problem.error, "message": problem.message, "next": problem.next })
        }
    }
}

fn describe(see: bool, err: &JobError) -> Problem {
    let message = if see { err.to_string() } else { err.for_strangers() };
    let reason = if see { err.reason() } else { None };
    problem(err.code(), err.status(), ("The job failed", &message, err.next_step()))
        .with_reason(reason)
        .with_link("/", "Run it again")
}
