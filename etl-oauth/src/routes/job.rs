//! `/`: a call that runs the job, and its answer.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{StatusCode, header};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    App, State as AppState,
    authorize::Admitted,
    connection::{Connection, Named},
    enable::is_taken,
    respond::{self, Asked, Fields, problem},
    runs::Run,
};
use crate::{
    guard::{Endpoint, Landed, Place, Refusal, Who},
    job::JobError,
    pages::{JobResult, Page, Problem, Ran},
};
use token_keeper::{renewal::Keeper, store::DEFAULT_ACCOUNT, trace_context};

/// For how long callers share the news that no account is authorised.
const UNAUTHORISED: Duration = Duration::from_secs(1);
/// After how many seconds a caller who may not wait asks again.
const WAIT_AGAIN: u64 = 5;

/// `GET` and `POST`: what a browser, cron-connector and a caller send alike.
pub(super) async fn run(State(app): AppState, asked: Asked, body: Body) -> Result<Response, Response> {
    let admitted = app.admit_caller(Endpoint::Job, &asked, body, true).await?;
    let actor = admitted.actor();
    let Admitted { who, caller, once, body } = admitted;
    let proved = who != Who::Anyone;
    // Runs of anonymous callers share one outcome, which has to be the same for all of them.
    let input = if app.config.job.takes_input() { app.input(&asked, who, body).await? } else { Bytes::new() };
    if !(proved || input.is_empty() || app.config.min_run_interval.is_zero()) {
        return Err(app.no_input(&asked));
    }
    let see = proved || app.config.show_result;
    let started_at = app.clock.now();
    if let Some(named) = app.run_of(&asked)? {
        if !proved {
            return Err(app.refuse(
                Endpoint::Job,
                &asked,
                Refusal::Caller("one account is run for known callers alone"),
            ));
        }
        app.check_rights(&asked, &caller, &named)?;
        let keeper = app.existing(&asked, &named).await?;
        let runs = app.run_these(vec![(named.connection, keeper)], &input, app.time_for(&asked));
        let outcome = trace_context::acting(&actor, runs).await;
        app.settle_call(once.as_deref(), &outcome);
        let run = Landed { started_at, ended_at: app.clock.now(), outcome: Arc::new(outcome) };
        return Ok(app.tell_runs(&asked, see, &run));
    }
    match app.floor.enter(proved, started_at) {
        Place::Run(landed) => {
            let runs = trace_context::acting(&actor, app.run_all(&caller, &input, app.time_for(&asked)));
            let outcome = Arc::new(runs.await);
            // A run that failed only because no account is authorised made no API call: the next one may soon find better
            // news. Each of them reads the store, so that there is one a second, however many callers come.
            if outcome.iter().all(|run| run.result.as_ref().is_err_and(|err| err.status() == StatusCode::CONFLICT)) {
                app.floor.share_for(UNAUTHORISED);
            }
            app.settle_call(once.as_deref(), &outcome);
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
    let ready = |keeper: &Keeper| is_taken(keeper) || keeper.begins_by_itself();
    let first = |connection: &Arc<Connection>| connection.keepers.get(DEFAULT_ACCOUNT).is_ok_and(|it| ready(&it));
    Ok(if app.job_connections().iter().any(first) { StatusCode::OK } else { StatusCode::CONFLICT })
}

/// What came of a run of all accounts, for all who share it.
type Shared = Landed<Vec<Run>>;

impl App {
    /// A call that failed may be sent once more: webhooks are, until they succeed.
    fn settle_call(&self, once: Option<&str>, outcome: &[Run]) {
        match once {
            Some(once) if outcome.iter().any(|run| run.result.is_err()) => self.callers.release(once),
            Some(once) => self.callers.done(once),
            None => {}
        }
    }

    /// The one account that a call wants to run, where its query names one.
    fn run_of(&self, asked: &Asked) -> Result<Option<Named>, Response> {
        let query = asked.uri.query().unwrap_or_default();
        let names = |name: &str| matches!(name, "connection" | "account");
        if !url::form_urlencoded::parse(query.as_bytes()).any(|(name, _)| names(&name)) {
            return Ok(None);
        }
        let job = self.job_connections();
        let connection = match &job[..] {
            // The job's own is meant where the query names none.
            [only] => only.name().to_owned(),
            _ => String::new(),
        };
        let named = self.named_or(asked, &Fields::default(), &connection)?;
        if job.iter().any(|connection| connection.name() == named.connection.name()) {
            return Ok(Some(named));
        }
        let words = (
            "The job does not run for this connection",
            "its accounts are those of another connection",
            "Name that connection, or none: job_connection says which it is.",
        );
        Err(asked.problem(self, &problem("bad_connection", StatusCode::BAD_REQUEST, words)))
    }

    fn tell_runs(&self, asked: &Asked, see: bool, run: &Landed<Vec<Run>>) -> Response {
        match &run.outcome[..] {
            [] => self.not_permitted(asked),
            // One account is the rule, and its result is the answer.
            [Run { result: Ok(outcome), .. }] => self.ran(asked, see, run.started_at, &outcome.json, &outcome.html),
            [Run { result: Err(err), .. }] => self.job_failed(asked, see, err),
            runs => self.all_ran(asked, see, run.started_at, runs),
        }
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
                let job = self.job_connections();
                let provider = job.first().unwrap_or(self.home()).provider().title.as_str();
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
        let accounts: Vec<Value> = runs.iter().map(|run| tell(see, run)).collect();
        let worst = runs.iter().filter_map(|run| run.result.as_ref().err()).max_by_key(|err| err.status().as_u16());
        let json = json!({ "accounts": accounts });
        match worst {
            None => {
                let html = runs.iter().filter_map(|Run { account, result, .. }| {
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

fn tell(see: bool, run: &Run) -> Value {
    let mut told = json!({ "connection": run.connection, "account": run.account, "outcome": "ok" });
    match &run.result {
        Ok(outcome) if see => told["result"] = outcome.json.clone(),
        Ok(_) => {}
        Err(err) => {
            let problem = describe(see, err);
            told["outcome"] = problem.error.into();
            told["message"] = problem.message.into();
            told["next"] = problem.next.into();
        }
    }
    told
}

fn describe(see: bool, err: &JobError) -> Problem {
    let message = if see { err.to_string() } else { err.for_strangers() };
    let reason = if see { err.reason() } else { None };
    problem(err.code(), err.status(), ("The job failed", &message, err.next_step()))
        .with_reason(reason)
        .with_link("/", "Run it again")
}
