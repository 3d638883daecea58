//! The path of a request: what the function is asked for, or where the client is sent instead.

use http::Uri;

/// The endpoints of the watchdog's own.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Endpoint {
    Health,
    Ready,
}

/// Compares segment by segment after decoding, so that `/%5F/health` is the endpoint and `/_%2Fhealth` is not.
pub(crate) fn endpoint(path: &str) -> Option<Endpoint> {
    match path {
        "/_/health" => return Some(Endpoint::Health),
        "/_/ready" => return Some(Endpoint::Ready),
        // Only an escape is another way to write them.
        _ if !path.contains('%') => return None,
        _ => {}
    }
    let mut segments = path.strip_prefix('/')?.split('/').map(decode);
    match (segments.next()?.as_slice(), segments.next()?.as_slice(), segments.next()) {
        (b"_", b"health", None) => Some(Endpoint::Health),
        (b"_", b"ready", None) => Some(Endpoint::Ready),
        _ => None,
    }
}

/// Where a path with empty or dot segments leads: the cleaned path, its escapes escaped once more, and the query. `None`
/// for a path that is clean, which is nearly every one.
pub(crate) fn redirect(uri: &Uri) -> Option<String> {
    let path = uri.path();
    if !path.as_bytes().windows(2).any(|pair| matches!(pair, b"//" | b"/.")) {
        return None;
    }
    let mut clean: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(clean.pop()),
            segment => clean.push(segment),
        }
    }
    let mut location = String::with_capacity(path.len());
    for segment in &clean {
        location.push('/');
        location.push_str(segment);
    }
    if location.is_empty() || path.ends_with('/') {
        location.push('/');
    }
    if location == path {
        return None;
    }
    let mut location = location.replace('%', "%25");
    if let Some(query) = uri.query() {
        location.push('?');
        location.push_str(query);
    }
    Some(location)
}

/// The page that goes with a redirect.
pub(crate) fn redirect_page(location: &str) -> String {
    let mut href = String::with_capacity(location.len());
    for c in location.chars() {
        match c {
            '&' => href.push_str("&amp;"),
            '<' => href.push_str("&lt;"),
            '>' => href.push_str("&gt;"),
            '"' => href.push_str("&#34;"),
            '\'' => href.push_str("&#39;"),
            c => href.push(c),
        }
    }
    format!("<a href=\"{href}\">Temporary Redirect</a>.\n\n")
}

/// Percent-decodes a segment whose escapes are known to be whole.
fn decode(segment: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        match byte {
            b'%' => match (digit(rest.next()), digit(rest.next())) {
                (Some(high), Some(low)) => decoded.push((high << 4 | low) as u8),
                _ => return Vec::new(),
            },
            byte => decoded.push(byte),
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_exact_but_for_escapes_within_a_segment() {
        for (path, found) in [
            ("/_/health", Some(Endpoint::Health)),
            ("/%5F/health", Some(Endpoint::Health)),
            ("/_/healt%68", Some(Endpoint::Health)),
            ("/_/%72eady", Some(Endpoint::Ready)),
            ("/_%2Fhealth", None),
            ("/_/health/", None),
            ("/_/%68ealth/x", None),
            ("/_/HEALTH", None),
            ("/%5F", None),
        ] {
            assert_eq!(endpoint(path), found, "{path}");
        }
    }

    #[test]
    fn unclean_paths_lead_to_the_clean_one() {
        for (path, location) in [
            ("//", Some("/")),
            ("//evil.example/x", Some("/evil.example/x")),
            ("/a//b?x=//..&y=%20", Some("/a/b?x=//..&y=%20")),
            ("/a/../../b", Some("/b")),
            ("/a/.", Some("/a")),
            ("/a/./", Some("/a/")),
            ("/a//b%2Fc", Some("/a/b%252Fc")),
            ("/.well-known/x", None),
            ("/a/..b/...", None),
            ("/a/b/", None),
        ] {
            assert_eq!(redirect(&path.parse().unwrap()).as_deref(), location, "{path}");
        }
    }

    #[test]
    fn the_page_cannot_be_broken_out_of() {
        assert_eq!(
            redirect_page("/?\"><x>&'"),
            "<a href=\"/?&#34;&gt;&lt;x&gt;&amp;&#39;\">Temporary Redirect</a>.\n\n"
        );
    }
}
