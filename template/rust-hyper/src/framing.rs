//! Messages that could be read in two ways. hyper refuses most of them; here are those that it takes.

use std::mem;

use http::{Method, Request, StatusCode, Uri, Version, uri::Authority};

use crate::headers::HOP_BY_HOP;

/// Bytes that a request's head may have, as for of-watchdog.
pub(crate) const HEAD_LIMIT: usize = (1 << 20) + 4096;

/// Which of the fields that matter here a request has.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Marks {
    pub(crate) hop_by_hop: bool,
    /// Fields by which a stream may be asked for.
    pub(crate) stream: bool,
    pub(crate) timeout: bool,
    pub(crate) call_id: bool,
    pub(crate) agent: bool,
}

/// Looks at a request's head, as hyper has parsed it, in one pass: a look-up for each field would cost a short call more
/// than its answer. `has_two_lengths`: the head had Content-Length beside Transfer-Encoding, see [`HeadScanner`].
///
/// # Errors
/// The status of the refusal, after which the connection is closed.
pub(crate) fn check<B>(request: &Request<B>, has_two_lengths: bool) -> Result<Marks, StatusCode> {
    let mut marks = Marks::default();
    let (mut size, mut hosts, mut encodings) = (0, 0, 0);
    let (mut is_host_good, mut is_chunked, mut is_expected) = (true, true, true);
    for (name, value) in request.headers() {
        let value = value.as_bytes();
        size += name.as_str().len() + value.len() + 4;
        match name.as_str() {
            "host" => {
                hosts += 1;
                is_host_good = is_host(value);
            }
            "transfer-encoding" => {
                encodings += 1;
                is_chunked = value.eq_ignore_ascii_case(b"chunked");
            }
            "expect" => is_expected &= value.eq_ignore_ascii_case(b"100-continue"),
            "accept" => marks.stream = true,
            "upgrade" => (marks.stream, marks.hop_by_hop) = (true, true),
            "x-timeout" => marks.timeout = true,
            "x-call-id" => marks.call_id = true,
            "user-agent" => marks.agent = true,
            name => marks.hop_by_hop |= HOP_BY_HOP.contains(&name),
        }
    }
    // In HTTP/2 a body ends with its stream, and h2 checks the pseudo-header fields.
    if request.version() <= Version::HTTP_11 {
        if *request.method() == Method::CONNECT {
            return Err(StatusCode::METHOD_NOT_ALLOWED);
        }
        // RFC 9112, section 3.2: exactly one Host.
        let is_old = request.version() < Version::HTTP_11;
        if !(hosts == 1 && is_host_good || hosts == 0 && is_old) || !has_path(request.uri()) {
            return Err(StatusCode::BAD_REQUEST);
        }
        // hyper limits what it buffers, and a head that comes in one piece may be twice as large.
        if size > HEAD_LIMIT {
            return Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        }
        // RFC 9112, section 6.1: a server may refuse both, and has to close the connection in any case.
        if encodings > 0 && has_two_lengths {
            return Err(StatusCode::BAD_REQUEST);
        }
        if encodings > 1 || !is_chunked {
            return Err(StatusCode::NOT_IMPLEMENTED);
        }
    }
    if !is_expected {
        return Err(StatusCode::EXPECTATION_FAILED);
    }
    Ok(marks)
}

/// Whether a target is a path, `*`, or a URL of HTTP. One without a path is that of CONNECT (RFC 9112, section 3.2.3).
/// Each `%` of the path begins an escape of two digits (RFC 3986, section 2.1): what decodes the path next may read a
/// broken one in its own way.
fn has_path(uri: &Uri) -> bool {
    let is_http = match uri.scheme_str() {
        Some(scheme) => ["http", "https"].contains(&scheme),
        None => uri.authority().is_none(),
    };
    let path = uri.path().as_bytes();
    let is_escape = |at: usize| path.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    is_http && memchr::memchr_iter(b'%', path).all(is_escape)
}

/// Bytes of names and IPv4 addresses.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        plain[byte] = (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'.' | b'-' | b'_');
        byte += 1;
    }
    plain
};

/// Whether `host` is `uri-host [ ":" port ]` (RFC 9110, section 7.2), and not empty.
fn is_host(host: &[u8]) -> bool {
    // Names and IPv4 addresses, which is nearly all there is, without a parser.
    let plain = host.iter().position(|byte| !PLAIN[usize::from(*byte)]).unwrap_or(host.len());
    let (name, port) = if plain > 0 && host.get(plain).is_none_or(|&next| next == b':') {
        host.split_at(plain)
    } else {
        match Authority::try_from(host) {
            Ok(authority) if !host.contains(&b'@') => host.split_at(authority.host().len()),
            _ => return false,
        }
    };
    !name.is_empty() && (port.is_empty() || port[0] == b':' && port[1..].iter().all(u8::is_ascii_digit))
}

/// Finds heads with both Content-Length and Transfer-Encoding in the bytes of an HTTP/1 connection.
///
/// hyper takes such a message by its Transfer-Encoding, removes its Content-Length and closes the connection after the
/// answer (RFC 9112, section 6.3), so a service cannot see that there were two lengths. This looks at the lines of each
/// head as they are read, and at nothing else: neither at values nor at bodies. A head that a client sends before an
/// earlier request with a body is answered is not looked at; hyper's own rule applies to it.
#[derive(Debug, Default)]
pub(crate) struct HeadScanner {
    /// The beginning of the line that is not ended yet.
    line: [u8; LONGEST],
    length: usize,
    has_length: bool,
    has_encoding: bool,
    /// Where a body follows the head that ended last, or no head follows at all.
    state: State,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    Body,
    Http2,
}

const LONGEST: usize = 18;
const CONTENT_LENGTH: &[u8] = b"content-length";
const TRANSFER_ENCODING: &[u8] = b"transfer-encoding";

impl HeadScanner {
    /// Whether the scanner waits for the end of a body.
    pub(crate) fn is_in_body(&self) -> bool {
        self.state == State::Body
    }

    /// The body is over; what is read next is a head.
    pub(crate) fn body_ended(&mut self) {
        *self = Self::default();
    }

    /// Looks at bytes that were read. `true` if a head has both lengths.
    pub(crate) fn scan(&mut self, bytes: &[u8]) -> bool {
        let mut begin = 0;
        for end in memchr::memchr_iter(b'\n', bytes) {
            if self.state != State::Head {
                return false;
            }
            let line = &bytes[mem::replace(&mut begin, end + 1)..end];
            let has_both = match mem::take(&mut self.length) {
                0 => self.line_ended(line),
                kept => {
                    self.length = kept;
                    self.keep(line);
                    let (line, length) = (self.line, mem::take(&mut self.length));
                    self.line_ended(&line[..length])
                }
            };
            if has_both {
                return true;
            }
        }
        self.keep(&bytes[begin..]);
        false
    }

    /// Keeps what matters of the beginning of a line.
    fn keep(&mut self, part: &[u8]) {
        let kept = part.len().min(LONGEST - self.length);
        self.line[self.length..self.length + kept].copy_from_slice(&part[..kept]);
        self.length += kept;
    }

    fn line_ended(&mut self, line: &[u8]) -> bool {
        let is_field = |name: &[u8]| line.len() > name.len() && line[..name.len()].eq_ignore_ascii_case(name);
        match line {
            [b'c' | b'C', ..] => self.has_length |= is_field(CONTENT_LENGTH),
            [b't' | b'T', ..] => self.has_encoding |= is_field(TRANSFER_ENCODING),
            [b'P', ..] if line.starts_with(b"PRI * HTTP/2.0") => self.state = State::Http2,
            b"" | b"\r" => {
                if self.has_length || self.has_encoding {
                    self.state = State::Body;
                }
                (self.has_length, self.has_encoding) = (false, false);
            }
            _ => {}
        }
        self.has_length && self.has_encoding
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(pieces: &[&str]) -> bool {
        let mut scanner = HeadScanner::default();
        pieces.iter().any(|piece| scanner.scan(piece.as_bytes()))
    }

    const BOTH: &str = "POST / HTTP/1.1\r\nHost: fn\r\ncontent-Length: 4\r\nTransfer-ENCODING: chunked\r\n\r\n";

    #[test]
    fn two_lengths_of_one_head_are_found_however_it_is_read() {
        for at in 0..BOTH.len() {
            assert!(scan(&[&BOTH[..at], &BOTH[at..]]), "{at}");
        }
        let bytes: Vec<_> = BOTH.split_inclusive(|_| true).collect();
        assert!(scan(&bytes));
        assert!(scan(&[&BOTH.replace('\r', "")]), "bare line feeds");
        assert!(scan(&["GET / HTTP/1.1\r\nHost: fn\r\n\r\n", BOTH]), "behind a request without a body");
        assert!(scan(&[&format!("\r\n{BOTH}")]), "behind a stray line end");
    }

    #[test]
    fn lengths_of_two_messages_and_of_bodies_are_none() {
        for text in [
            "POST / HTTP/1.1\r\nContent-Length: 99\r\n\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nContent-Length: 1\r\n",
            "GET / HTTP/1.1\r\nX-Content-Length: 1\r\nX: Transfer-Encoding\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            assert!(!scan(&[text]), "{text:?}");
        }
    }

    #[test]
    fn a_head_behind_a_finished_body_is_looked_at() {
        let mut scanner = HeadScanner::default();
        assert!(!scanner.scan(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nab"));
        assert!(scanner.is_in_body());
        scanner.body_ended();
        assert!(scanner.scan(BOTH.as_bytes()));
    }

    fn checked(target: &str, version: Version, headers: &[(&'static str, &str)]) -> Result<(), StatusCode> {
        let mut request = Request::builder().uri(target).version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check(&request.body(()).unwrap(), false).map(drop)
    }

    #[test]
    fn a_host_is_needed_once_and_well_formed() {
        for host in ["fn", "fn:8080", "fn:", "127.0.0.1", "[::1]:80", "a_b.c-d", "xn--e1aybc"] {
            assert_eq!(checked("/", Version::HTTP_11, &[("host", host)]), Ok(()), "{host}");
        }
        for host in ["", "a b", "a@b", "a/b", "a:b", "[::1", ":80"] {
            let answer = checked("/", Version::HTTP_11, &[("host", host)]);
            assert_eq!(answer, Err(StatusCode::BAD_REQUEST), "{host}");
        }
        assert!(checked("/", Version::HTTP_11, &[]).is_err());
        assert!(checked("/", Version::HTTP_11, &[("host", "a"), ("host", "a")]).is_err());
        assert!(checked("/", Version::HTTP_10, &[("host", "a"), ("host", "b")]).is_err());
        assert_eq!(checked("/", Version::HTTP_10, &[]), Ok(()));
        assert_eq!(checked("/", Version::HTTP_2, &[]), Ok(()));
    }

    #[test]
    fn a_target_has_a_path() {
        for (target, is_taken) in [
            ("/", true),
            ("*", true),
            ("http://a/x", true),
            ("word", false),
            ("ftp://a/", false),
            ("/%2F%2e", true),
            ("/%", false),
            ("/%2", false),
            ("/a%zz", false),
            ("/?%", true),
        ] {
            assert_eq!(checked(target, Version::HTTP_11, &[("host", "a")]).is_ok(), is_taken, "{target}");
        }
    }

    #[test]
    fn chunked_is_the_only_encoding() {
        let with = |encodings: &[&str]| {
            let mut headers = vec![("host", "a")];
            headers.extend(encodings.iter().map(|encoding| ("transfer-encoding", *encoding)));
            checked("/", Version::HTTP_11, &headers)
        };
        assert_eq!(with(&["Chunked"]), Ok(()));
        for encodings in [&["gzip, chunked"][..], &["chunked", "chunked"], &["chunked, chunked"], &[""]] {
            assert_eq!(with(encodings), Err(StatusCode::NOT_IMPLEMENTED), "{encodings:?}");
        }
    }
}
