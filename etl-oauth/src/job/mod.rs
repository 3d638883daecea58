//! What the function does with the API: one async function a job, and the file that a user edits.
//!
//! A job gets the [`Api`] of an account, which puts the token on, renews it and keeps within the provider's limits, and
//! the time, so that a test can choose it. It gives an [`Outcome`]: the same result for a machine, a browser and a mail.
//! A new job is a file in this folder, a variant of [`Job`] and an arm in [`Job::run`].

pub mod gumroad;
mod money;

pub use money::{Currency, Money, Sums};

use jiff::Timestamp;

use crate::api::{Api, ApiError};

/// The built-in jobs; the variable `job` picks one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Job {
    /// Runs nothing: the function only keeps the token alive.
    None,
    /// Reports the sales of the last seven days on Gumroad ([`gumroad`]).
    Gumroad,
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
}

impl Job {
    /// The jobs by name.
    pub const NAMES: [(&'static str, Self); 2] = [("none", Self::None), ("gumroad", Self::Gumroad)];

    /// The name in [`Job::NAMES`]: the label of metrics and the word on pages.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gumroad => "gumroad",
        }
    }

    /// Runs the job as of `now`.
    ///
    /// # Errors
    /// What the API says, and what the job can't make sense of.
    pub async fn run(self, api: &Api, now: Timestamp) -> Result<Outcome, JobError> {
        match self {
            Self::None => Ok(Outcome {
                json: serde_json::json!({ "job": "none" }),
                html: "<h1>Nothing to run</h1><p>This function keeps its token alive and runs no job.</p>".into(),
                text: "This function keeps its token alive and runs no job.\n".into(),
            }),
            Self::Gumroad => gumroad::run(api, now).await?.outcome(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_has_the_name_that_it_is_listed_by() {
        assert!(Job::NAMES.into_iter().all(|(name, job)| job.name() == name));
    }
}
