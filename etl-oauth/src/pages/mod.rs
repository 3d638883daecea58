//! What a person sees: one family of pages, plain, each a struct with plain fields that a route fills in.
//!
//! ```
//! use axum::response::IntoResponse;
//! use etl_oauth::pages::{Base, Page, Ran};
//!
//! let base = Base::new(&"https://gateway.example/function/etl-oauth".parse()?);
//! let at = "2026-11-21T09:00:00Z".parse()?;
//! let response = Page::from(&Ran { base: &base, at, now: at }).into_response();
//! assert_eq!(response.headers()["cache-control"], "no-store");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Templates escape every value. Words of others (a provider, a query, an error) are cut as well. Links and forms are
//! absolute, below [`Base`]: the gateway takes `/function/NAME` off the path, so that a relative link would lead to
//! another function.

mod accounts;
mod begin;
mod confirm;
mod done;
mod enable;
mod links;
mod login;
mod notice;
mod problem;
mod qr;
mod state;
mod status;
mod timeline;
mod verdict;

pub use accounts::{Counts, Search};
pub use begin::{Begin, Device};
pub use confirm::Confirm;
pub use done::Done;
pub use enable::Enable;
pub use links::{ConnectPage, HeldRow, LinkRow, LinksPage, MinePage};
pub use login::Login;
pub use notice::{JobResult, Ran, Start};
pub use problem::Problem;
use state::Words;
pub use status::{Account, Invitation, RenewalRow, RunRow, Status, StatusPage, Store};
pub use token_keeper::{provider::Registered, token::State};
pub use verdict::{Level, Verdict};

use std::fmt;
use std::sync::LazyLock;

use askama::Template;
use aws_lc_rs::digest::{SHA256, digest};
use axum::response::{IntoResponse, Response};
use base64::prelude::{BASE64_STANDARD, Engine};
use http::{HeaderName, HeaderValue, StatusCode, header};
use url::Url;

/// The one stylesheet, in every page, so that a page is one request and the policy can name it by its hash.
const STYLE: &str = include_str!("../../templates/style.css");

static STYLE_HASH: LazyLock<String> = LazyLock::new(|| source(STYLE));

/// The one script: puts a button beside what is to be copied. Without it the text is selected by a click.
const SCRIPT: &str = include_str!("../../templates/copy.js");

static SCRIPT_HASH: LazyLock<String> = LazyLock::new(|| source(SCRIPT));

/// What a policy calls a style or a script by.
fn source(text: &str) -> String {
    format!("'sha256-{}'", BASE64_STANDARD.encode(digest(&SHA256, text.as_bytes())))
}

/// What stands above every page: the function's address as a browser sees it, without a slash at its end, its name for
/// people, and whether it has a status page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    url: String,
    title: String,
    operated: bool,
}

impl Base {
    /// From the variable `public_url`.
    pub fn new(public_url: &Url) -> Self {
        let url = public_url.as_str().trim_end_matches('/').to_owned();
        Self { url, title: TITLE.to_owned(), operated: false }
    }

    /// With the function's name for people, from the variable `title`.
    #[must_use]
    pub fn titled(self, title: Option<&str>) -> Self {
        Self { title: title.unwrap_or(TITLE).to_owned(), ..self }
    }

    /// With a link to the status page where there is an operator.
    #[must_use]
    pub fn operated(self, operated: bool) -> Self {
        Self { operated, ..self }
    }
}

/// The name of a function that is given none.
const TITLE: &str = "etl-oauth";

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

/// A finished page: HTML, its status, and what its policy lets a form lead to.
#[derive(Debug, Clone)]
pub struct Page {
    status: StatusCode,
    html: String,
    /// Where, besides our own origin, a form's redirects may lead: browsers hold every redirect after a form to it.
    form_action: Option<String>,
}

impl Page {
    fn new(template: &impl Template) -> Self {
        match template.render() {
            Ok(html) => Self { status: StatusCode::OK, html, form_action: None },
            // Nothing that a page shows fails to be written into a string; if it ever does, half a page is worse.
            Err(error) => {
                tracing::error!(%error, "a page could not be made");
                let html = "<!doctype html><title>Error</title><h1>This page could not be made</h1>".into();
                Self { status: StatusCode::INTERNAL_SERVER_ERROR, html, form_action: None }
            }
        }
    }

    /// A provider sends people on from its authorization endpoint, to sign-in pages at origins that are not known
    /// beforehand. With the endpoint's own origin alone Chrome would stop there, silently: the
    /// button would seem to do nothing. So any https origin goes, or for a provider on this machine any port of its host.
    fn leading_to(mut self, url: &Url) -> Self {
        let onward = match (url.scheme(), url.host_str()) {
            ("http", Some(host)) => format!("http://{host}:*"),
            _ => "https:".to_owned(),
        };
        self.form_action = Some(format!("{} {onward}", url.origin().ascii_serialization()));
        self
    }

    /// The page with another status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The page's HTML.
    pub fn html(&self) -> &str {
        &self.html
    }

    fn policy(&self) -> String {
        let style = &*STYLE_HASH;
        let form = self.form_action.as_ref().map(|sources| format!(" {sources}")).unwrap_or_default();
        let script =
            if self.html.contains("<script>") { format!("script-src {}; ", &*SCRIPT_HASH) } else { String::new() };
        format!(
            "default-src 'none'; {script}style-src {style}; img-src 'self' data:; form-action 'self'{form}; base-uri 'none'; \
             frame-ancestors 'none'"
        )
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        // An origin is ASCII, as the `url` crate writes it; were it not, the page would come without it.
        let policy = HeaderValue::try_from(self.policy()).unwrap_or_else(|_| {
            HeaderValue::from_static("default-src 'none'; base-uri 'none'; frame-ancestors 'none'")
        });
        let fixed: [(HeaderName, &str); 5] = [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CACHE_CONTROL, "no-store"),
            (header::PRAGMA, "no-cache"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ];
        (self.status, fixed, [(header::CONTENT_SECURITY_POLICY, policy)], self.html).into_response()
    }
}

#[cfg(test)]
mod tests;
