//! The page that asks before a grant takes the place of another.

use askama::Template;

use super::{Base, Page, STYLE};
use crate::format::filters;
use crate::guard::Concern;

/// What would be lost, and two ways on: a form that posts `csrf` and `grant` to `/oauth2/confirm`, and a link away.
#[derive(Debug, Template)]
#[template(path = "confirm.html")]
pub struct Confirm<'a> {
    /// The function's address.
    pub base: &'a Base,
    /// The provider's name for people.
    pub provider: &'a str,
    /// What would be lost.
    pub concerns: &'a [Concern],
    /// The new grant, sealed: it is stored nowhere until a person wants it.
    pub grant: &'a str,
    /// The form's token against forged posts.
    pub csrf: &'a str,
}

impl From<&Confirm<'_>> for Page {
    fn from(page: &Confirm<'_>) -> Self {
        Self::new(page)
    }
}
