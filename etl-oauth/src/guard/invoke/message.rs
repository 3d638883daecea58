//! What an HTTP message signature is made of (RFC 9421 §2): the covered components, line by line.

use http::HeaderMap;
use sfv::{FieldType, InnerList, ListEntry};
use url::Url;

use super::Call;

/// The signature base of a call to `url`, its address as the caller knows it: without the function's own headers having a
/// say in it, since a proxy rewrites them. `None` where a component is unknown, or missing in the call, or there twice.
pub(super) fn base(call: Call<'_>, url: &Url, covered: &InnerList) -> Option<String> {
    let mut base = String::new();
    let mut seen = Vec::new();
    for item in &covered.items {
        let name = item.bare_item.as_string()?.as_str();
        // Parameters of components (`sf`, `key`, `bs`, `req`, `tr`, `name`) are not taken: what they cover is less than the
        // whole component.
        if !item.params.is_empty() || seen.contains(&name) {
            return None;
        }
        seen.push(name);
        let value = component(call, url, name)?;
        base.push_str(&format!("\"{name}\": {value}\n"));
    }
    let params = vec![ListEntry::InnerList(covered.clone())].serialize()?;
    base.push_str(&format!("\"@signature-params\": {params}"));
    Some(base)
}

fn component(call: Call<'_>, url: &Url, name: &str) -> Option<String> {
    let query = call.uri.query();
    let with_query = |text: &str| query.map_or(text.to_owned(), |query| format!("{text}?{query}"));
    Some(match name {
        "@method" => call.method.as_str().to_owned(),
        "@scheme" => url.scheme().to_owned(),
        "@authority" => authority(url)?,
        "@path" => url.path().to_owned(),
        "@query" => format!("?{}", query.unwrap_or_default()),
        "@request-target" => with_query(url.path()),
        "@target-uri" => with_query(&format!("{}://{}{}", url.scheme(), authority(url)?, url.path())),
        name if name.starts_with('@') || name.bytes().any(|byte| byte.is_ascii_uppercase()) => return None,
        name => combined(call.headers, name)?,
    })
}

/// Host and port, the scheme's own port left out.
fn authority(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    Some(url.port().map_or(host.to_owned(), |port| format!("{host}:{port}")))
}

/// All fields of a name, each trimmed, as one (RFC 9421 §2.1).
pub(super) fn combined(headers: &HeaderMap, name: &str) -> Option<String> {
    let mut values = headers.get_all(name).iter().peekable();
    values.peek()?;
    let values: Option<Vec<&str>> = values.map(|value| value.to_str().ok().map(str::trim)).collect();
    Some(values?.join(", "))
}
