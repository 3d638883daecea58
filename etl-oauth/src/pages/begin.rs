//! The pages of grants without a redirect: one button, and for a device the code to type.

use askama::Template;
use jiff::Timestamp;
use url::Url;

use super::{Base, Page, SCRIPT, STYLE, State, Words as _, qr::Qr};
use crate::format::filters;

/// What is going to happen, and one button: a form that posts `csrf` and, for a named account, `account` to `/enable`.
#[derive(Debug, Template)]
#[template(path = "begin.html")]
pub struct Begin<'a> {
    /// The function's address.
    pub base: &'a Base,
    /// The provider's name for people ("Gumroad").
    pub provider: &'a str,
    /// The scopes that will be asked for.
    pub scopes: &'a [&'a str],
    /// The connection's name, where it has one.
    pub connection: Option<&'a str>,
    /// The account's name, when there is more than the default one.
    pub account: Option<&'a str>,
    /// Whether a person is needed, on any device; else the function connects by itself.
    pub device: bool,
    /// Where the account stands now.
    pub state: State,
    /// Anybody may connect, since no operator secret is mounted: the page warns.
    pub open: bool,
    /// The form's token against forged posts.
    pub csrf: &'a str,
}

impl From<&Begin<'_>> for Page {
    fn from(page: &Begin<'_>) -> Self {
        Self::new(page)
    }
}

/// The code that a person types on any device. The page looks again by itself.
#[derive(Debug, Template)]
#[template(path = "device.html")]
pub struct Device<'a> {
    /// The function's address.
    pub base: &'a Base,
    /// The provider's name for people ("Gumroad").
    pub provider: &'a str,
    /// The account's name, when there is more than the default one.
    pub account: Option<&'a str>,
    /// What is typed.
    pub user_code: &'a str,
    /// Where.
    pub verification_uri: &'a Url,
    /// The same with the code in it.
    pub verification_uri_complete: Option<&'a Url>,
    /// When the code lapses.
    pub ends_at: Timestamp,
    /// Why it brought nothing, once that is known.
    pub failure: Option<&'a str>,
    /// The time.
    pub now: Timestamp,
}

impl Device<'_> {
    /// The address, with the code in it where the provider gives such a one, for a telephone's camera.
    fn qr(&self) -> Option<Qr> {
        Qr::of(self.verification_uri_complete.unwrap_or(self.verification_uri).as_str())
    }
}

impl From<&Device<'_>> for Page {
    fn from(page: &Device<'_>) -> Self {
        Self::new(page)
    }
}
