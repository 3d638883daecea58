//! The form on which the operator signs in.

use askama::Template;

use super::{Base, Page, STYLE};
use crate::format::filters;

/// The form: posts `password` and `next` to `/login`.
#[derive(Debug, Template)]
#[template(path = "login.html")]
pub struct Login<'a> {
    /// The function's address.
    pub base: &'a Base,
    /// The path below the function that the browser was going to.
    pub next: &'a str,
    /// Why the last try failed.
    pub problem: Option<&'a str>,
}

impl From<&Login<'_>> for Page {
    fn from(page: &Login<'_>) -> Self {
        Self::new(page)
    }
}
