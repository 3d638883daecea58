//! The pages of connect links: the operator's list, and those of the owner of an account.

use askama::Template;
use jiff::Timestamp;
use url::Url;

use super::{Base, Page, STYLE, State};
use crate::format::filters;

/// The operator's page: a form for a new link, the open ones, and the grants that wait.
#[derive(Debug, Template)]
#[template(path = "links.html")]
pub struct LinksPage<'a> {
    /// The function's address.
    pub base: &'a Base,
    /// The names of the connections.
    pub connections: &'a [&'a str],
    /// The open links.
    pub links: &'a [LinkRow<'a>],
    /// Grants of other persons than expected.
    pub held: &'a [HeldRow<'a>],
    /// The URL of the link that was just made.
    pub made: Option<&'a str>,
    /// The forms' token against forged posts.
    pub csrf: &'a str,
    /// The time.
    pub now: Timestamp,
}

/// An open link.
#[derive(Debug, Clone, Copy)]
pub struct LinkRow<'a> {
    /// The connection.
    pub connection: &'a str,
    /// The account.
    pub account: &'a str,
    /// Who made it.
    pub by: &'a str,
    /// The person who is expected.
    pub expect: Option<&'a str>,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// A grant that waits for the operator.
#[derive(Debug, Clone, Copy)]
pub struct HeldRow<'a> {
    /// The connection.
    pub connection: &'a str,
    /// The account.
    pub account: &'a str,
    /// The person who came, where the provider said who it was.
    pub who: Option<&'a str>,
    /// When.
    pub at: Timestamp,
}

/// The page of a connect link: what is requested, who requests it, and a form that posts `csrf` to the link.
#[derive(Debug, Template)]
#[template(path = "connect.html")]
pub struct ConnectPage<'a> {
    /// The function's address.
    pub base: &'a Base,
    /// The function's name.
    pub function: &'a str,
    /// The provider's name for people ("Gumroad").
    pub provider: &'a str,
    /// The scopes that will be asked for.
    pub scopes: &'a [&'a str],
    /// The account's name, when it is not the default one.
    pub account: Option<&'a str>,
    /// The program that asks; none where the operator does.
    pub by: Option<&'a str>,
    /// The person who is expected.
    pub expect: Option<&'a str>,
    /// Where the form's redirect leads; its origin goes into the page's policy.
    pub authorize_url: &'a Url,
    /// The link's token.
    pub token: &'a str,
    /// When the link ends.
    pub ends_at: Timestamp,
    /// The form's token against forged posts.
    pub csrf: &'a str,
}

/// What the owner sees afterwards, with a form that posts `csrf` to `/mine/disconnect`.
#[derive(Debug, Template)]
#[template(path = "mine.html")]
pub struct MinePage<'a> {
    /// The function's address.
    pub base: &'a Base,
    /// The function's name.
    pub function: &'a str,
    /// The provider's name for people ("Gumroad").
    pub provider: &'a str,
    /// The account that granted the tokens, as the provider identifies it.
    pub who: Option<&'a str>,
    /// Where the account stands.
    pub state: State,
    /// Where the button leads.
    pub return_url: Option<&'a str>,
    /// The form's token against forged posts.
    pub csrf: &'a str,
}

impl From<&LinksPage<'_>> for Page {
    fn from(page: &LinksPage<'_>) -> Self {
        Self::new(page)
    }
}

impl From<&ConnectPage<'_>> for Page {
    fn from(page: &ConnectPage<'_>) -> Self {
        Self::new(page).leading_to(page.authorize_url)
    }
}

impl From<&MinePage<'_>> for Page {
    fn from(page: &MinePage<'_>) -> Self {
        Self::new(page)
    }
}
