//! The path of a request to a function. The community edition decodes it at the gateway, joins it to a URL as text,
//! parses that again, and decodes once more at the provider.

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// The characters that Go escapes in a path.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b',')
    .remove(b'/')
    .remove(b':')
    .remove(b';')
    .remove(b'=')
    .remove(b'@');

/// What hyper does not send in a query. Go sends a part of the path that its decoding has turned into one as it is.
const QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'`').add(b'{').add(b'}');

/// A request for a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) asynchronous: bool,
    /// The name as in the path, with the namespace.
    pub(super) name: String,
    /// Path and query as the function sees them.
    pub(super) target: String,
}

/// What the gateway does with a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Call(Call),
    /// 301 to the cleaned path.
    Moved(String),
    NotFound,
    /// 400: not a URL.
    Malformed,
    /// The gateway panics over it: the connection closes without an answer.
    Panic,
}

pub(super) fn route(path: &str, query: Option<&str>) -> Route {
    let Some(decoded) = decode(path) else { return Route::Malformed };
    let with_query = |path: &str, query: Option<&str>| match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    if let Some(cleaned) = cleaned(&decoded) {
        return Route::Moved(with_query(&encode(&cleaned), query));
    }
    let Some((asynchronous, _, _)) = split(&decoded) else { return Route::NotFound };
    // The URL of the request to the provider, as text that is parsed again.
    let text = with_query(&decoded, query.filter(|query| !query.is_empty()));
    let text = text.split('#').next().unwrap_or_default();
    if text.chars().any(|c| c.is_ascii_control()) {
        return Route::Panic;
    }
    let (path, query) = match text.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (text, None),
    };
    let Some(decoded) = decode(path) else { return Route::Panic };
    if let Some(cleaned) = self::cleaned(&decoded) {
        return Route::Moved(with_query(&encode(&cleaned), query));
    }
    let Some((_, name, rest)) = split(&decoded) else { return Route::NotFound };
    let query = query.map(|query| utf8_percent_encode(query, QUERY).to_string());
    let target = with_query(&format!("/{}", encode(rest)), query.as_deref());
    Route::Call(Call { asynchronous, name: name.to_owned(), target })
}

/// Decodes a path once; `None` where Go finds a bad escape. Go passes on bytes that are not UTF-8; here they are an error.
fn decode(path: &str) -> Option<String> {
    let mut rest = path;
    while let Some((_, after)) = rest.split_once('%') {
        let digits = after.get(..2)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        rest = &after[2..];
    }
    percent_decode_str(path).decode_utf8().ok().map(|text| text.into_owned())
}

fn encode(path: &str) -> String {
    utf8_percent_encode(path, PATH).to_string()
}

/// The path without `//`, `.` and `..`, if that differs.
fn cleaned(path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let mut cleaned = format!("/{}", parts.join("/"));
    if path.ends_with('/') && cleaned != "/" {
        cleaned.push('/');
    }
    (cleaned != path).then_some(cleaned)
}

/// Whether the call is asynchronous, the function's name, and the rest of the path.
fn split(path: &str) -> Option<(bool, &str, &str)> {
    let (asynchronous, rest) = match path.strip_prefix("/function/") {
        Some(rest) => (false, rest),
        None => (true, path.strip_prefix("/async-function/")?),
    };
    let (name, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (!name.is_empty() && name.bytes().all(allowed)).then_some((asynchronous, name, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(path: &str, query: Option<&str>) -> String {
        match route(path, query) {
            Route::Call(call) => call.target,
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn the_prefix_is_stripped_and_the_query_kept() {
        for (path, query, expected) in [
            ("/function/f", None, "/"),
            ("/function/f/", None, "/"),
            ("/function/f/a/b/", None, "/a/b/"),
            ("/function/f.openfaas-fn/a", Some("b=%2F&c"), "/a?b=%2F&c"),
            ("/function/f", Some(""), "/"),
            ("/function/f/a%20b", None, "/a%20b"),
        ] {
            assert_eq!(target(path, query), expected, "{path}");
        }
    }

    #[test]
    fn paths_are_decoded_twice() {
        for (path, query, expected) in [
            ("/function/f/a%2Fb", None, "/a/b"),
            ("/function/f/a%252Fb", None, "/a/b"),
            ("/function/f/a%25252Fb", None, "/a%252Fb"),
            ("/function/f/a%3Fb=c", None, "/a?b=c"),
            ("/function/f/a%3Fb=c", Some("d=e"), "/a?b=c?d=e"),
            ("/function/f/a%23b", Some("d=e"), "/a"),
        ] {
            assert_eq!(target(path, query), expected, "{path}");
        }
    }

    #[test]
    fn what_go_cannot_parse_the_second_time_ends_the_connection() {
        for path in ["/function/f/a%25zz", "/function/f/a%25", "/function/f/a%0Ab"] {
            assert_eq!(route(path, None), Route::Panic, "{path}");
        }
        assert_eq!(route("/function/f/a%zz", None), Route::Malformed);
    }

    #[test]
    fn untidy_paths_move() {
        for (path, moved) in [
            ("/function//f", "/function/f"),
            ("/function/f/../g", "/function/g"),
            ("/function/f/./a", "/function/f/a"),
            ("/function/f/a%2F%2Fb", "/function/f/a/b"),
            ("/function/f/%252e%252e/g", "/function/g"),
        ] {
            assert_eq!(route(path, Some("q=1")), Route::Moved(format!("{moved}?q=1")), "{path}");
        }
    }

    #[test]
    fn other_paths_are_not_found() {
        for path in ["/", "/function/", "/function", "/functions/f", "/function/a$b", "/ui/"] {
            assert_eq!(route(path, None), Route::NotFound, "{path}");
        }
    }
}
