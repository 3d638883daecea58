//! What the function does with the API: one async function a job.
//!
//! A job gets a [`Context`]: the [`Api`] of an account, which puts the token on, renews it and keeps within the provider's
//! limits; the time, so that a test can choose it; what it remembers from run to run. It gives an [`Outcome`]: the same
//! result for a machine, a browser and a mail. A job of one's own is a function that is handed to [`crate::with`]; a
//! built-in one is a file in this folder, a variant of [`Job`] and an arm in [`Job::run`].

mod apis;
mod delivery;
pub mod extract;
pub mod gumroad;
mod job_lease;
mod job_state;
mod mail;
mod money;
mod none;
mod progress;
pub mod strava;
mod user_job;
pub mod x;

pub use apis::Apis;
pub use delivery::{Delivery, Message};
pub use job_lease::Turn;
pub use job_state::{Entry, JobState, check as check_ledgers, open as open_ledgers};
pub use money::{Currency, Money, Sums};
pub use progress::Progress;
pub use user_job::Own;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use jiff::Timestamp;

use token_keeper::{
    api::{Api, ApiError},
    renewal::KeeperError,
    store::StoreError,
};

/// What runs; the variable `job` picks one of the built-in ones.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Job {
    /// Runs nothing: each call keeps the token alive, and says whether it is.
    None,
    /// Reports the sales of the last seven days on Gumroad ([`gumroad`]).
    Gumroad,
    /// Reads an athlete's activities and totals, for a public page ([`strava`]).
    Strava,
    /// Reads the current user's posts, within a tight budget ([`x`]).
    X,
    /// Copies lists of any API to files, a bucket or a webhook ([`extract`]).
    Extract(Arc<extract::Plan>),
    /// A function of the user's own.
    Own(Own),
}

/// What a run has at hand.
#[derive(Debug, Clone)]
pub struct Context {
    /// The API of the account that the run is for.
    pub api: Api,
    /// When the run began.
    pub now: Timestamp,
    /// The body of the request that it was called with.
    pub input: Bytes,
    /// What the job remembers of the account.
    pub ledger: JobState,
    /// The receivers of its results.
    pub outlets: Delivery,
    /// What it shows while it runs.
    pub progress: Progress,
    /// The function's other connections.
    pub apis: Apis,
}

impl Context {
    /// The API of the same account at another connection of the function; of another account as well, by `slack/team`.
    ///
    /// # Errors
    /// When there is no such connection or account. That the account is not authorised is the error of its first call.
    pub async fn api_of(&self, connection: &str) -> Result<Api, JobError> {
        let (connection, account) = connection.split_once('/').unwrap_or((connection, self.api.keeper().account()));
        self.apis.get(connection, account).await
    }
}

/// A job that remembers nothing needs no more.
impl From<Context> for Api {
    fn from(context: Context) -> Self {
        context.api
    }
}

/// A result in the shapes that readers ask for.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// For a machine.
    pub json: serde_json::Value,
    /// For a browser: the inside of a page's `<main>`, already escaped, made by the job's own template.
    pub html: String,
    /// For a mail or a chat message: plain text, lines ended by `\n`.
    pub text: String,
}

impl Outcome {
    /// A title for people, and what there is to tell, a line each.
    fn list(title: &str, lines: &[String], json: serde_json::Value) -> Result<Self, JobError> {
        #[derive(askama::Template)]
        #[template(
            source = "<h1>{{ title }}</h1>\n<ul>{% for line in lines %}<li>{{ line }}</li>{% endfor %}</ul>\n",
            ext = "html"
        )]
        struct Fragment<'a> {
            title: &'a str,
            lines: &'a [String],
        }
        let html = askama::Template::render(&Fragment { title, lines })?;
        Ok(Self { json, html, text: lines.join("\n") + "\n" })
    }
}

/// Why a job gave no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// The API could not be reached, or refused.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The API answered, and said in the answer's body that it failed. The words are the provider's, cut.
    #[error("the API refused: {0}")]
    Refused(String),
    /// The API's paging does not come to an end, or cannot be followed.
    #[error("the pages of {resource} can't be followed: {why}")]
    Paging {
        /// What was being read.
        resource: &'static str,
        /// What stopped the walk.
        why: &'static str,
    },
    /// The result could not be put into a page.
    #[error("the result could not be shown")]
    Show(#[from] askama::Error),
    /// The request's body is not what the job takes.
    #[error("the job can't read its input: {0}")]
    Input(String),
    /// What the job remembers could not be read or written.
    #[error("what the job remembers can't be used: {0}")]
    Ledger(#[from] StoreError),
    /// Another run of the same job for the same account went on in the meantime.
    #[error("another run of this job went on in the meantime")]
    Overtaken,
    /// Another run of the same job for the same account is under way.
    #[error("another run of this job is under way")]
    Busy,
    /// What was read could not be brought to where it belongs.
    #[error("{0}")]
    Sink(String),
    /// The job's own words.
    #[error("{0}")]
    Failed(String),
    /// A mistake in the job.
    #[error("the job panicked")]
    Panicked,
    /// The job ran for longer than a call may last.
    #[error("the job did not end within {:.1} s", limit.as_secs_f64())]
    TimedOut {
        /// How long it had.
        limit: Duration,
    },
}

impl From<Box<dyn std::error::Error + Send + Sync>> for JobError {
    fn from(err: Box<dyn std::error::Error + Send + Sync>) -> Self {
        // What a job passes on with `?` keeps its meaning, a missing authorisation above all.
        let other = match err.downcast::<ApiError>() {
            Ok(api) => return Self::Api(*api),
            Err(other) => other,
        };
        let other = match other.downcast::<KeeperError>() {
            Ok(token) => return Self::Api(ApiError::Token(*token)),
            Err(other) => other,
        };
        match other.downcast::<Self>() {
            Ok(own) => *own,
            Err(other) => Self::Failed(other.to_string()),
        }
    }
}

impl From<serde_json::Error> for JobError {
    fn from(err: serde_json::Error) -> Self {
        Self::Failed(err.to_string())
    }
}

impl JobError {
    /// The status of the answer to the caller of the job: never a success, so that a scheduler that retries sees it (case E7).
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Api(err) => err.status(),
            Self::Input(_) => StatusCode::BAD_REQUEST,
            Self::Ledger(_) | Self::Overtaken | Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Panicked => StatusCode::INTERNAL_SERVER_ERROR,
            Self::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::BAD_GATEWAY,
        }
    }

    /// The name in JSON and metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Api(err) => err.code(),
            Self::Refused(_) => "api_refused",
            Self::Paging { .. } => "paging",
            Self::Show(_) => "not_shown",
            Self::Input(_) => "bad_input",
            Self::Ledger(_) => "ledger",
            Self::Overtaken => "overtaken",
            Self::Busy => "busy",
            Self::Sink(_) => "sink",
            Self::Failed(_) => "job_failed",
            Self::Panicked => "job_panicked",
            Self::TimedOut { .. } => "job_timed_out",
        }
    }

    /// The codes of failures that are the job's own; those of the API and of tokens come on top.
    pub(crate) const CODES: [&str; 11] = [
        "api_refused",
        "bad_input",
        "busy",
        "job_failed",
        "job_panicked",
        "job_timed_out",
        "ledger",
        "not_shown",
        "overtaken",
        "paging",
        "sink",
    ];

    /// What may be shown to a caller who proved nothing: without the API's own words, which may hold what the account holds.
    #[must_use]
    pub(crate) fn for_strangers(&self) -> String {
        match self {
            Self::Api(err) => err.clone().without_message().to_string(),
            other => other.to_string(),
        }
    }

    /// Whether the job did not run because there is no account to run it for: nothing was asked of any provider or API,
    /// and nothing failed.
    #[must_use]
    pub fn wants_an_account(&self) -> bool {
        matches!(self, Self::Api(ApiError::Token(KeeperError::Disabled { .. })))
    }

    /// The provider's own reason, where its definition lets one through.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Api(err) => err.reason(),
            _ => None,
        }
    }

    /// What a person should do about it.
    #[must_use]
    pub fn next_step(&self) -> &'static str {
        match self {
            Self::Api(err) => err.next_step(),
            Self::Input(_) => "Send what the job takes as JSON, or an empty body.",
            Self::Ledger(_) => "Look at the store; the next run goes on where this one got to.",
            Self::Overtaken | Self::Busy => "Nothing: that run does the work.",
            Self::Panicked => "Look at the log, which has the place and the words.",
            Self::TimedOut { .. } => {
                "Give the function more time (exec_timeout, and write_timeout with it), or the job less to do."
            }
            Self::Sink(_) => "Look at where the data goes; the next run goes on where this one got to.",
            Self::Failed(_) => "Look at the log, and run the job again.",
            _ => "Look at the provider's status page, and run the job again.",
        }
    }
}

impl Job {
    /// The names of the built-in jobs.
    pub const NAMES: [&str; 5] = ["none", "gumroad", "strava", "x", "extract"];

    /// The name in [`Job::NAMES`], `own` for one's own: the label of metrics and the word on pages.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gumroad => "gumroad",
            Self::Strava => "strava",
            Self::X => "x",
            Self::Extract(_) => "extract",
            Self::Own(_) => "own",
        }
    }

    /// Whether the job is of no use without a memory that outlives the process.
    #[must_use]
    pub fn needs_ledger(&self) -> bool {
        matches!(self, Self::Strava | Self::X | Self::Extract(_))
    }

    /// Whether it reads the request's body.
    #[must_use]
    pub fn takes_input(&self) -> bool {
        matches!(self, Self::Own(_))
    }

    /// Runs the job.
    ///
    /// # Errors
    /// What the API says, and what the job can't make sense of.
    pub async fn run(&self, context: Context) -> Result<Outcome, JobError> {
        match self {
            Self::None => none::run(&context).await,
            Self::Gumroad => gumroad::weekly(&context).await,
            Self::Strava => strava::run(&context).await,
            Self::X => x::run(&context).await,
            Self::Extract(plan) => extract::run(plan, &context).await,
            Self::Own(own) => own.run(context).await,
        }
    }
}

#[cfg(test)]
mod tests;
