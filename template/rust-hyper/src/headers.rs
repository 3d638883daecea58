//! What of a request goes to the function, and what of its answer to the client.

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version,
    header::{self, CONNECTION},
    uri::PathAndQuery,
};
use hyper::ext::ReasonPhrase;

use crate::framing::Marks;

/// Fields that are of one connection, and not of the message.
pub(crate) const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "upgrade",
];

fn is_hop_by_hop(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(&name.as_str())
}

/// Removes the connection's own fields and those that `Connection` names. An upgrade keeps its two.
fn drop_hop_by_hop(headers: &mut HeaderMap, is_upgrade: bool) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .collect();
        for name in named.iter().filter(|name| !(is_upgrade && **name == header::UPGRADE)) {
            headers.remove(name);
        }
    }
    for name in HOP_BY_HOP {
        if !(is_upgrade && ["connection", "upgrade"].contains(&name)) {
            headers.remove(name);
        }
    }
}

/// Puts a request in order for the function.
pub(crate) fn prepare_request<B>(request: &mut Request<B>, marks: Marks) {
    let is_http1 = request.version() <= Version::HTTP_11;
    if is_http1 && let Some(authority) = request.uri().authority() {
        // An absolute target says where it goes better than the Host field (RFC 9112, section 3.2.2).
        let host = HeaderValue::try_from(authority.as_str());
        let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        if let Ok(host) = host {
            request.headers_mut().insert(header::HOST, host);
        }
        *request.uri_mut() = Uri::from(path);
    }
    if request.version() == Version::HTTP_2 {
        join_cookies(request.headers_mut());
    }
    if marks.hop_by_hop {
        let is_upgrade = wants_upgrade(request.headers());
        drop_hop_by_hop(request.headers_mut(), is_upgrade);
    }
}

/// A client of HTTP/2 may send a field for each cookie; a function sees one (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
    if let (Some(first), Some(second)) = (cookies.next(), cookies.next()) {
        let all: Vec<_> = [first, second].into_iter().chain(cookies).collect();
        // Values of fields are a value when joined, too.
        if let Ok(cookie) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
            headers.insert(header::COOKIE, cookie);
        }
    }
}

fn wants_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE)
        && headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|name| name.trim().eq_ignore_ascii_case("upgrade")))
}

/// Puts the head of a function's answer in order for the client.
pub(crate) fn prepare_response<B>(response: &mut Response<B>) {
    let status = response.status();
    let headers = response.headers_mut();
    if headers.keys().any(|name| is_hop_by_hop(name) || *name == header::TRANSFER_ENCODING) {
        drop_hop_by_hop(headers, status == StatusCode::SWITCHING_PROTOCOLS);
        // The length of the body is hyper's to say.
        headers.remove(header::TRANSFER_ENCODING);
    }
    if status == StatusCode::NOT_MODIFIED {
        headers.remove(header::CONTENT_TYPE);
    }
    if status.canonical_reason().is_none()
        && let Ok(reason) = ReasonPhrase::try_from(format!("status code {}", status.as_str()).into_bytes())
    {
        response.extensions_mut().insert(reason);
    }
}

/// Whether the client asks for a stream: by the first `Accept`, whatever the type of the answer will be, or by wanting
/// a websocket.
pub(crate) fn wants_stream(headers: &HeaderMap) -> bool {
    if headers.get(header::UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket")) {
        return true;
    }
    let Some(accept) = headers.get(header::ACCEPT) else { return false };
    let accept = accept.as_bytes();
    let has = |kind: &[u8]| accept.windows(kind.len()).any(|window| window.eq_ignore_ascii_case(kind));
    has(b"text/event-stream") || has(b"application/x-ndjson")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(request: &mut Request<()>) {
        prepare_request(request, Marks { hop_by_hop: true, ..Marks::default() });
    }

    #[test]
    fn the_connections_own_fields_stay_with_it() {
        let mut request = Request::builder()
            .header("connection", "keep-alive, X-Own")
            .header("x-own", "1")
            .header("te", "trailers")
            .header("upgrade", "h2c")
            .header("x-other", "1")
            .body(())
            .unwrap();
        prepared(&mut request);
        assert_eq!(request.headers().keys().collect::<Vec<_>>(), ["x-other"]);
    }

    #[test]
    fn an_upgrade_keeps_what_it_is_asked_by() {
        let builder = Request::builder().header("connection", "keep-alive, Upgrade").header("upgrade", "WebSocket");
        let mut request = builder.body(()).unwrap();
        prepared(&mut request);
        assert_eq!(request.headers()["upgrade"], "WebSocket");
    }

    #[test]
    fn an_absolute_target_becomes_a_path_and_a_host() {
        let builder = Request::builder().uri("http://other.example:80/echo?a=1").header("host", "fn");
        let mut request = builder.body(()).unwrap();
        prepared(&mut request);
        assert_eq!(request.uri(), "/echo?a=1");
        assert_eq!(request.headers()["host"], "other.example:80");
    }

    #[test]
    fn cookies_of_http_2_are_one_field() {
        let builder = Request::builder().version(Version::HTTP_2);
        let builder =
            ["a=1", "b=2; c=3", "d=4"].into_iter().fold(builder, |builder, cookie| builder.header("cookie", cookie));
        let mut request = builder.body(()).unwrap();
        prepared(&mut request);
        let cookies: Vec<_> = request.headers().get_all("cookie").iter().collect();
        assert_eq!(cookies, ["a=1; b=2; c=3; d=4"]);
    }

    #[test]
    fn streams_are_asked_for_by_the_first_accept() {
        let headers = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::ACCEPT, value.parse().unwrap());
            }
            headers
        };
        assert!(wants_stream(&headers(&["text/html, Text/Event-Stream;q=0.9"])));
        assert!(wants_stream(&headers(&["application/x-ndjson"])));
        assert!(!wants_stream(&headers(&["text/html", "text/event-stream"])));
        assert!(!wants_stream(&headers(&[])));
    }
}
