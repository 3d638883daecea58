//! `/`: runs the job.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;

use super::{
    App, State as AppState,
    reply::{self, Asked, problem},
};
use crate::{
    api::ApiError,
    job::{JobError, Outcome},
    keeper::KeeperError,
    pages::{JobResult, Page, Problem, Ran},
    token::Class,
};

/// `GET` and `POST`: what a browser, cron-connector and a caller send alike.
pub(super) async fn run(State(app): State<std::sync::Arc<App>>, asked: Asked) -> Response {
    let started = app.clock.now();
    let result = app.run().await;
    let now = app.clock.now();
    let name = app.config.job.name();
    let outcome = result.as_ref().map_or_else(code, |_| "ok");
    app.runs.add(started, now, outcome);
    metrics::counter!("etl_oauth_job_runs_total", "job" => name, "outcome" => outcome).increment(1);
    metrics::histogram!("etl_oauth_job_duration_seconds", "job" => name)
        .record(now.duration_since(started).as_secs_f64());
    match result {
        Ok(outcome) => {
            tracing::info!(job = name, "the job ran");
            match (app.config.show_result, asked.is_browser()) {
                (true, true) => {
                    let (base, provider) = (&app.base, app.config.provider.title.as_str());
                    Page::from(&JobResult { base, provider, html: &outcome.html, at: started, now }).into_response()
                }
                (true, false) => reply::json(StatusCode::OK, &outcome.json),
                (false, true) => Page::from(&Ran { base: &app.base, at: started, now }).into_response(),
                (false, false) => StatusCode::NO_CONTENT.into_response(),
            }
        }
        Err(err) => {
            tracing::warn!(job = name, error = %err, "the job failed");
            app.job_failed(&asked, &err)
        }
    }
}

/// `HEAD` runs nothing: it is a safe method, and link checkers use it.
pub(super) async fn head(State(app): AppState) -> Response {
    let authorised = app.keeper.current().is_some_and(|stored| stored.record.tokens.is_some());
    if authorised { StatusCode::OK.into_response() } else { StatusCode::CONFLICT.into_response() }
}

impl App {
    async fn run(&self) -> Result<Outcome, JobError> {
        self.keeper.begin_run().await;
        self.config.job.run(self.api()?, self.clock.now()).await
    }

    fn job_failed(&self, asked: &Asked, err: &JobError) -> Response {
        let enable = self.config.page("/enable");
        if status(err) == StatusCode::CONFLICT {
            if asked.is_browser() {
                return reply::redirect(StatusCode::TEMPORARY_REDIRECT, &enable, []);
            }
            let body = serde_json::json!({
                "error": "needs_authorisation",
                "message": err.to_string(),
                "next": "Open enable_url in a browser and allow access.",
                "enable_url": enable,
            });
            return reply::json(StatusCode::CONFLICT, &body);
        }
        asked.problem(self, &describe(err))
    }
}

fn status(err: &JobError) -> StatusCode {
    match err {
        JobError::Api(err) => err.status(),
        _ => StatusCode::BAD_GATEWAY,
    }
}

fn code(err: &JobError) -> &'static str {
    match err {
        JobError::Api(err) => err.code(),
        JobError::Refused(_) => "api_refused",
        JobError::Paging { .. } => "paging",
        JobError::Show(_) => "not_shown",
    }
}

fn describe(err: &JobError) -> Problem {
    let next = match err {
        // The provider never says more than its error code; a person finds the rest in its own log.
        JobError::Api(ApiError::Token(KeeperError::Failed { failure, .. }))
            if failure.class() == Class::StoreUnavailable =>
        {
            "Nothing, unless it lasts: the function tries again by itself."
        }
        JobError::Api(err) => err.next_step(),
        _ => "Look at the provider's status page, and run the job again.",
    };
    problem(code(err), status(err), ("The job failed", &err.to_string(), next)).with_link("/", "Run it again")
}
