//! What went wrong, for a person and for a machine.

use askama::Template;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::Serialize;

use super::{Base, Page, STYLE};
use crate::format::filters;

/// An error, in the three words that every error has: what it is called, what happened, and what to do next.
///
/// As JSON: `{"error":"needs_authorisation","message":"…","next":"…"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Its name for machines, in snake case.
    pub error: String,
    /// What happened. Never a secret, never a URL with a query.
    pub message: String,
    /// What to do next.
    pub next: String,
    /// The provider's own reason, from the fields that its definition lets through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The status it is answered with.
    #[serde(skip)]
    pub status: StatusCode,
    /// The page's heading.
    #[serde(skip)]
    pub title: String,
    /// A button: a path of this function ("/enable"), and its words.
    #[serde(skip)]
    pub link: Option<(&'static str, String)>,
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemHtml<'a> {
    base: &'a Base,
    problem: &'a Problem,
}

impl Problem {
    /// The answer for a browser.
    pub fn page(&self, base: &Base) -> Page {
        Page::new(&ProblemHtml { base, problem: self }).with_status(self.status)
    }

    /// The answer for a machine.
    pub fn json(&self) -> Response {
        let fixed = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
        (self.status, fixed, serde_json::json!(self).to_string()).into_response()
    }
}
