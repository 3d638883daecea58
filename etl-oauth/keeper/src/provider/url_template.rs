//! The URLs of a definition, with the values of its variables in their places.

use url::Url;

use super::{Definition, Values, checked_beside, checked_url, fill};

/// Where nobody can ever be.
pub(super) fn nowhere() -> Url {
    #[expect(clippy::expect_used, reason = "a constant, and a URL")]
    "https://unknown.invalid/".parse().expect("a URL")
}

/// What stands in a URL where the client's id goes, until it is known. No URL holds a brace otherwise.
pub(crate) const CLIENT_ID: &str = "%7Bclient_id%7D";

/// A URL with its variables filled in; `None` while one of them is not known.
pub(super) fn resolve(
    definition: &Definition,
    text: &str,
    values: &Values,
    platform: Option<&Url>,
) -> Result<Option<Url>, String> {
    let below_api = format!("{}{text}", definition.api_url.as_deref().unwrap_or_default().trim_end_matches('/'));
    let text = if text.starts_with('/') { &below_api } else { text };
    // The client's id is a secret's value, and is read for each request: its place is kept.
    let value = |name: &str| values.get(name).map(String::as_str).or((name == "client_id").then_some(CLIENT_ID));
    let Some(filled) = fill(text, value) else { return Ok(None) };
    if definition.authorize.fragment && definition.authorize_url.as_deref() == Some(text) {
        let (base, fragment) = filled.split_once('#').unwrap_or((&filled, ""));
        let mut url = checked_url(base).map_err(|err| err.to_string())?;
        url.set_fragment(Some(fragment));
        return Ok(Some(url));
    }
    checked_beside(&filled, platform).map(Some).map_err(|err| err.to_string())
}
