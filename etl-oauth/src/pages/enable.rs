//! The page that leads to the provider.

use askama::Template;
use url::Url;

use super::{Base, Page, SCRIPT, STYLE, State};
use crate::format::filters;
use token_keeper::provider::Registered;

/// What is going to happen, and one button: a form that posts `csrf` and, for a named account or connection, its name to `/enable`.
#[derive(Debug, Template)]
#[template(path = "enable.html")]
pub struct Enable<'a> {
    /// The function's address.
    pub base: &'a Base,
    /// The provider's name for people ("Gumroad").
    pub provider: &'a str,
    /// The scopes that will be asked for.
    pub scopes: &'a [&'a str],
    /// What the provider wants registered: the redirect URI, or a part of it.
    pub registered: Registered,
    /// The value of that.
    pub register: &'a str,
    /// Where the provider's OAuth applications are looked after.
    pub console: Option<&'a Url>,
    /// Where the form's redirect leads; its origin goes into the page's policy.
    pub authorize_url: &'a Url,
    /// The connection's name, where it has one.
    pub connection: Option<&'a str>,
    /// The account's name, when there is more than the default one.
    pub account: Option<&'a str>,
    /// Where the account stands now.
    pub state: State,
    /// Anybody may connect, since no operator secret is mounted: the page warns.
    pub open: bool,
    /// The form's token against forged posts.
    pub csrf: &'a str,
}

impl From<&Enable<'_>> for Page {
    fn from(page: &Enable<'_>) -> Self {
        Self::new(page).leading_to(page.authorize_url)
    }
}
