//! The page after the provider's consent.

use askama::Template;
use jiff::Timestamp;

use super::{Base, Page, STYLE};
use crate::format::filters;

/// What was done: who, which permissions, how long the token lives, and whether it is safe.
#[derive(Debug, Clone)]
pub struct Done<'a> {
    /// The function's address.
    pub base: &'a Base,
    /// The provider's name for people ("Gumroad").
    pub provider: &'a str,
    /// The account that granted the token, as the provider identifies it.
    pub who: Option<&'a str>,
    /// The account's name here, when there is more than the default one.
    pub account: Option<&'a str>,
    /// The scopes that were granted.
    pub granted: &'a [&'a str],
    /// The scopes that were asked for; what of them was not granted is said loudly.
    pub wanted: &'a [&'a str],
    /// When the access token ends, where the provider says.
    pub expires_at: Option<Timestamp>,
    /// Whether a refresh token came; said loudly when not.
    pub refresh_token: bool,
    /// What helps, at this provider, to get a refresh token.
    pub remedy: Option<&'a str>,
    /// Nothing when the token is saved, else why it could not be yet.
    pub unsaved: Option<&'a str>,
    /// The time.
    pub now: Timestamp,
}

#[derive(Template)]
#[template(path = "done.html")]
struct DoneHtml<'a> {
    base: &'a Base,
    done: &'a Done<'a>,
    missing: Vec<&'a str>,
}

impl From<&Done<'_>> for Page {
    fn from(done: &Done<'_>) -> Self {
        let missing = done.wanted.iter().copied().filter(|scope| !done.granted.contains(scope)).collect();
        Self::new(&DoneHtml { base: done.base, done, missing })
    }
}
