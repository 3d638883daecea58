//! The short pages: where the function stands, that the job ran, and what came of it.

use askama::Template;
use jiff::Timestamp;

use super::{Base, Page, STYLE, State, Words};
use crate::format::filters;

/// Where the function stands, in words, and what to do about it.
#[derive(Debug, Template)]
#[template(path = "start.html")]
pub struct Start<'a> {
    /// The function's address.
    pub base: &'a Base,
    /// The provider's name for people ("Gumroad").
    pub provider: &'a str,
    /// Where the account stands.
    pub state: State,
    /// There is an operator, and so a status page to link to.
    pub operated: bool,
}

/// That the job ran, for those who may not see its result.
#[derive(Debug, Template)]
#[template(path = "ran.html")]
pub struct Ran<'a> {
    /// The function's address.
    pub base: &'a Base,
    /// When the run started.
    pub at: Timestamp,
    /// The time.
    pub now: Timestamp,
}

/// What came of the job.
#[derive(Debug, Template)]
#[template(path = "result.html")]
pub struct JobResult<'a> {
    /// The function's address.
    pub base: &'a Base,
    /// The provider's name for people.
    pub provider: &'a str,
    /// [`Outcome::html`](crate::job::Outcome::html): written out as it is.
    pub html: &'a str,
    /// When the run started.
    pub at: Timestamp,
    /// The time.
    pub now: Timestamp,
}

impl From<&Start<'_>> for Page {
    fn from(page: &Start<'_>) -> Self {
        Self::new(page)
    }
}

impl From<&Ran<'_>> for Page {
    fn from(page: &Ran<'_>) -> Self {
        Self::new(page)
    }
}

impl From<&JobResult<'_>> for Page {
    fn from(page: &JobResult<'_>) -> Self {
        Self::new(page)
    }
}
