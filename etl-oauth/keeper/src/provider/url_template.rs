//! The URLs of a definition, with the values of its variables in their places.

use url::Url;

use super::{
    Definition, Grant, Kind, Source, Values, checked_beside, checked_url, fill,
    variable::{is_name, placeholders},
};

/// A URL that can never exist (RFC 2606 §2).
pub(super) fn nowhere() -> Url {
    #[expect(clippy::expect_used, reason = "a constant, and a URL")]
    "https://unknown.invalid/".parse().expect("a URL")
}

/// What stands in a URL where the client's id goes, until it is known. No URL holds a brace otherwise.
pub(crate) const CLIENT_ID: &str = "%7Bclient_id%7D";

/// The same of the code that a device asks with.
pub(crate) const DEVICE_CODE: &str = "%7Bdevice_code%7D";

/// A URL of the configuration as a template: a parser has written the braces of its variables as `%7B` and `%7D`.
pub(super) fn template(url: &Url) -> String {
    let text = url.as_str();
    let mut pieces = text.split("%7B");
    let mut template = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        match piece.split_once("%7D") {
            Some((name, rest)) if is_name(name) => template.push_str(&format!("{{{name}}}{rest}")),
            _ => template.push_str(&format!("%7B{piece}")),
        }
    }
    template
}

/// The variables of the token endpoint's URL that only the redirect brings, and that are no choice among known hosts.
pub(super) fn token_url_needs(definition: &Definition) -> Vec<&str> {
    let text = definition.token_url.as_deref().unwrap_or_default();
    let needs = |name: &&str| {
        definition.variables.get(*name).is_some_and(|variable| {
            let chooses = !matches!(variable.kind, Kind::Host | Kind::Origin) && !variable.is_closed();
            let open = chooses || variable.default.is_none();
            variable.from == Source::Redirect && open
        })
    };
    if definition.grant == Grant::AuthorizationCode { placeholders(text).filter(needs).collect() } else { Vec::new() }
}

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
    let place = |name: &str| match name {
        "client_id" => Some(CLIENT_ID),
        "device_code" => Some(DEVICE_CODE),
        _ => None,
    };
    let value = |name: &str| values.get(name).map(String::as_str).or_else(|| place(name));
    let Some(filled) = fill(text, value) else { return Ok(None) };
    if definition.authorize.fragment && definition.authorize_url.as_deref() == Some(text) {
        let (base, fragment) = filled.split_once('#').unwrap_or((&filled, ""));
        let mut url = checked_url(base).map_err(|err| err.to_string())?;
        url.set_fragment(Some(fragment));
        return Ok(Some(url));
    }
    checked_beside(&filled, platform).map(Some).map_err(|err| err.to_string())
}
