//! Judges the head of an HTTP/1 request before hyper sees it: what is refused, what is put in order, how long the body
//! will be. No input or output, so that each rule is a row of a table.

use memchr::{memchr, memchr_iter};

/// Bytes that a head may have, request line and all.
pub(crate) const LIMIT: usize = (1 << 20) + 4096;
/// Lines that a head may have; `http::HeaderMap` holds no more names.
pub(crate) const LINES_LIMIT: usize = 24_000;
/// Bytes that a target may have; `http::Uri` holds no more.
const TARGET_LIMIT: usize = 65_534;

/// The first bytes of an HTTP/2 connection.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

/// What the bytes so far are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The beginning of a head; the next look may start at this byte.
    Incomplete(usize),
    /// Not to be answered by a function; see [`Refusal`].
    Refused(Refusal),
    /// A connection that goes on as HTTP/2.
    Http2,
    /// A head of `length` bytes. `rewritten` is to take its place, when it is not as hyper wants it.
    Head { length: usize, lines: usize, body: Length, rewritten: Option<Vec<u8>> },
}

/// How the end of a request's body is found.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Length {
    Counted(u64),
    Chunked,
}

/// A refusal by the server itself: `status` is code and reason, `body` what is said below the header.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) struct Refusal {
    pub(crate) status: &'static str,
    pub(crate) body: &'static str,
}

impl Refusal {
    const fn plain(status: &'static str) -> Self {
        Self { status, body: status }
    }

    /// The whole answer. Its end is the end of the connection.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let Self { status, body } = self;
        format!("HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n{body}")
            .into()
    }
}

const BAD: Refusal = Refusal::plain("400 Bad Request");
const NO_HOST: Refusal = Refusal::plain("400 Bad Request: missing required Host header");
const BAD_HOST: Refusal = Refusal::plain("400 Bad Request: malformed Host header");
const BAD_NAME: Refusal = Refusal::plain("400 Bad Request: invalid header name");
const LONG_TARGET: Refusal = Refusal::plain("414 URI Too Long");
const LARGE: Refusal = Refusal::plain("431 Request Header Fields Too Large");
const ENCODING: Refusal = Refusal { status: "501 Not Implemented", body: "Unsupported transfer encoding" };
const VERSION: Refusal = Refusal::plain("505 HTTP Version Not Supported: unsupported protocol version");

/// Judges `bytes`; a line begins at `from`, and those before it were found in order. `lines_limit` is what hyper was
/// told to make room for.
pub(crate) fn judge(bytes: &[u8], from: usize, lines_limit: usize) -> Verdict {
    let mut line_start = from;
    for end in memchr_iter(b'\n', &bytes[from..]).map(|at| from + at) {
        // A line ended by a bare LF is one line to some parsers and not to others: the stuff of smuggling.
        if end == 0 || bytes[end - 1] != b'\r' || end == 1 {
            return Verdict::Refused(BAD);
        }
        if end == line_start + 1 {
            return if end + 1 > LIMIT { Verdict::Refused(LARGE) } else { examine(&bytes[..=end], lines_limit) };
        }
        line_start = end + 1;
    }
    match bytes.len() > LIMIT {
        true => Verdict::Refused(LARGE),
        false => Verdict::Incomplete(line_start),
    }
}

/// Looks at a whole head, the empty line included.
fn examine(head: &[u8], lines_limit: usize) -> Verdict {
    if head == PREFACE {
        return Verdict::Http2;
    }
    match accept(head, lines_limit) {
        Ok((lines, body, rewritten)) => Verdict::Head { length: head.len(), lines, body, rewritten },
        Err(refusal) => Verdict::Refused(refusal),
    }
}

fn accept(head: &[u8], lines_limit: usize) -> Result<(usize, Length, Option<Vec<u8>>), Refusal> {
    // Both were found on the way here.
    let end = memchr(b'\n', head).unwrap_or(head.len() - 1);
    let request = Request::parse(&head[..end - 1])?;
    let fields = Fields::parse(&head[end + 1..head.len() - 2])?;
    if fields.lines > lines_limit {
        return Err(LARGE);
    }
    match (request.minor, fields.hosts) {
        (0, 0) | (_, 1) => {}
        (_, 0) => return Err(NO_HOST),
        _ => return Err(BAD),
    }
    let chunked = match fields.encoding {
        // HTTP/1.0 has no transfer encodings.
        None => false,
        Some(_) if request.minor == 0 => false,
        Some(encoding) if encoding.eq_ignore_ascii_case(b"chunked") => true,
        Some(_) => return Err(ENCODING),
    };
    let body = match (chunked, fields.length) {
        // Two ways to find the end of one body: whoever is before or behind us may choose the other.
        (true, Some(_)) => return Err(BAD),
        (true, None) => Length::Chunked,
        (false, length) => Length::Counted(length.unwrap_or(0)),
    };
    let drop_encoding = fields.encoding.is_some() && !chunked;
    let rewritten = (request.needs_rewriting() || drop_encoding).then(|| {
        let mut rewritten = request.rewritten();
        for line in head[end + 1..].split_inclusive(|&byte| byte == b'\n') {
            let name = &line[..memchr(b':', line).unwrap_or(0)];
            if !(drop_encoding && name.eq_ignore_ascii_case(b"transfer-encoding")) {
                rewritten.extend_from_slice(line);
            }
        }
        rewritten
    });
    Ok((fields.lines, body, rewritten))
}

/// The parts of a request line.
struct Request<'a> {
    method: &'a [u8],
    target: &'a [u8],
    minor: u8,
    escapes: bool,
}

impl<'a> Request<'a> {
    fn parse(line: &'a [u8]) -> Result<Self, Refusal> {
        let first = memchr(b' ', line).ok_or(BAD)?;
        let second = first + 1 + memchr(b' ', &line[first + 1..]).ok_or(BAD)?;
        let (method, target, version) = (&line[..first], &line[first + 1..second], &line[second + 1..]);
        if method.is_empty() || !method.iter().all(|&byte| is_token(byte)) {
            return Err(BAD);
        }
        let minor = match version {
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
                if *major != b'1' {
                    return Err(VERSION);
                }
                minor - b'0'
            }
            _ => return Err(BAD),
        };
        let is_authority = method == b"CONNECT" && target.first() != Some(&b'/');
        if !is_authority && !is_target(target) {
            return Err(BAD);
        }
        if target.len() > TARGET_LIMIT {
            return Err(LONG_TARGET);
        }
        let escapes = check_target(target)?;
        Ok(Self { method, target, minor, escapes })
    }

    fn needs_rewriting(&self) -> bool {
        self.escapes || self.minor > 1
    }

    fn rewritten(&self) -> Vec<u8> {
        let mut line = self.method.to_vec();
        line.push(b' ');
        let mut in_query = false;
        for &byte in self.target {
            in_query |= byte == b'?';
            match needs_escape(byte, in_query) {
                true => line.extend_from_slice(format!("%{byte:02X}").as_bytes()),
                false => line.push(byte),
            }
        }
        // Whatever follows 1.1 is to be answered like it.
        line.extend_from_slice(if self.minor == 0 { b" HTTP/1.0\r\n" } else { b" HTTP/1.1\r\n" });
        line
    }
}

/// A path, an absolute URL, or the asterisk.
fn is_target(target: &[u8]) -> bool {
    let has_prefix = |prefix: &[u8]| target.len() > prefix.len() && target[..prefix.len()].eq_ignore_ascii_case(prefix);
    target.first() == Some(&b'/') || target == b"*" || has_prefix(b"http://") || has_prefix(b"https://")
}

/// Whether bytes of the target have to be escaped; refuses control bytes, and broken escapes in the path.
fn check_target(target: &[u8]) -> Result<bool, Refusal> {
    let mut escapes = false;
    let mut in_query = false;
    for (at, &byte) in target.iter().enumerate() {
        if byte <= b' ' || byte == 0x7f {
            return Err(BAD);
        }
        // Behind it is a fragment, which is cut off.
        if byte == b'#' {
            break;
        }
        in_query |= byte == b'?';
        if byte == b'%' && !in_query {
            let digits = target.get(at + 1..at + 3).ok_or(BAD)?;
            if !digits.iter().all(u8::is_ascii_hexdigit) {
                return Err(BAD);
            }
        }
        escapes |= needs_escape(byte, in_query);
    }
    Ok(escapes)
}

/// What Go's URLs escape in a path; of a query only what `http::Uri` cannot hold.
fn needs_escape(byte: u8, in_query: bool) -> bool {
    match byte {
        0x80.. | b'"' | b'<' | b'>' => true,
        b'{' | b'}' | b'|' | b'^' | b'`' | b'\\' => !in_query,
        _ => false,
    }
}

/// What the header fields say about the message.
#[derive(Default)]
struct Fields<'a> {
    lines: usize,
    hosts: usize,
    length: Option<u64>,
    encoding: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    fn parse(mut rest: &'a [u8]) -> Result<Self, Refusal> {
        let mut fields = Self::default();
        while let Some(end) = memchr(b'\n', rest) {
            let line = &rest[..end - 1];
            rest = &rest[end + 1..];
            fields.lines += 1;
            let colon = memchr(b':', line).ok_or(BAD)?;
            let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
            if name.is_empty() || !name.iter().all(|&byte| is_token(byte)) {
                // A line that begins with a blank continues the one before to some, and is one of its own to others.
                let spaced = name.contains(&b' ') && name[0] != b' ';
                return Err(if spaced { BAD_NAME } else { BAD });
            }
            if value.iter().any(|&byte| (byte < b' ' && byte != b'\t') || byte == 0x7f) {
                return Err(BAD);
            }
            fields.note(name, value)?;
        }
        Ok(fields)
    }

    fn note(&mut self, name: &[u8], value: &'a [u8]) -> Result<(), Refusal> {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                self.hosts += 1;
                if !value.iter().all(|&byte| is_host(byte)) {
                    return Err(BAD_HOST);
                }
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = counted(value).ok_or(BAD)?;
                if self.length.replace(length).is_some_and(|other| other != length) {
                    return Err(BAD);
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") && self.encoding.replace(value).is_some() => {
                return Err(ENCODING);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Digits and nothing else, within what a signed 64-bit number holds.
fn counted(value: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok().filter(|&length| i64::try_from(length).is_ok())
}

fn trim(value: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_blank(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_blank(byte)).map_or(start, |last| last + 1);
    &value[start..end]
}

fn is_token(byte: u8) -> bool {
    const TOKEN: [bool; 256] = table(b"!#$%&'*+-.^_`|~");
    TOKEN[usize::from(byte)]
}

fn is_host(byte: u8) -> bool {
    const HOST: [bool; 256] = table(b"!$%&()*+,-.:;=[]'_~");
    HOST[usize::from(byte)]
}

/// Letters, digits and `others`.
const fn table(others: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut at = 0;
    while at < 256 {
        table[at] = (at as u8).is_ascii_alphanumeric();
        at += 1;
    }
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Verdict {
        judge(text.as_bytes(), 0, 100)
    }

    fn rewritten(text: &str) -> Option<String> {
        match head(text) {
            Verdict::Head { rewritten, .. } => rewritten.map(|bytes| String::from_utf8(bytes).unwrap()),
            other => panic!("{text:?}: {other:?}"),
        }
    }

    #[test]
    fn an_ordinary_head_is_left_alone() {
        let text = "POST /a/b%20c?x=%zz&y={} HTTP/1.1\r\nHost: fn:8080\r\nContent-Length: 02\r\n\r\n";
        let verdict = head(&format!("{text}hi"));
        let body = Length::Counted(2);
        assert_eq!(verdict, Verdict::Head { length: text.len(), lines: 2, body, rewritten: None });
    }

    #[test]
    fn a_head_in_pieces_is_looked_at_once() {
        let text = b"GET / HTTP/1.1\r\nHost: fn\r\n\r\n";
        let mut from = 0;
        for end in 0..text.len() {
            match judge(&text[..end], from, 100) {
                Verdict::Incomplete(next) => from = next,
                other => panic!("{end}: {other:?}"),
            }
        }
        assert_eq!(from, text.len() - 2, "only the last line is looked at again");
        assert!(matches!(judge(text, from, 100), Verdict::Head { .. }));
    }

    #[test]
    fn what_a_uri_cannot_hold_is_escaped() {
        let host = "HTTP/1.1\r\nHost: fn\r\n\r\n";
        for (sent, kept) in [
            ("/a\"<b>{c}|^`\\", "/a%22%3Cb%3E%7Bc%7D%7C%5E%60%5C"),
            ("/\u{e9}?\u{e9}", "/%C3%A9?%C3%A9"),
            ("/?<{|}>", "/?%3C{|}%3E"),
        ] {
            assert_eq!(rewritten(&format!("GET {sent} {host}")), Some(format!("GET {kept} {host}")));
        }
    }

    #[test]
    fn later_versions_and_the_encodings_of_http_1_0_are_put_in_order() {
        assert_eq!(
            rewritten("GET / HTTP/1.2\r\nHost: fn\r\n\r\n").as_deref(),
            Some("GET / HTTP/1.1\r\nHost: fn\r\n\r\n")
        );
        assert_eq!(
            rewritten("POST / HTTP/1.0\r\nA: b\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n").as_deref(),
            Some("POST / HTTP/1.0\r\nA: b\r\nContent-Length: 2\r\n\r\n")
        );
    }

    #[test]
    fn ambiguous_and_broken_heads_are_refused() {
        for (refusal, heads) in [
            (
                BAD,
                &[
                    "\r\nGET / HTTP/1.1\r\nHost: fn\r\n\r\n",
                    "\nGET / HTTP/1.1\r\nHost: fn\r\n\r\n",
                    "GET / HTTP/1.1\nHost: fn\n\n",
                    "hello\r\n\r\n",
                    "GET / HTTP/1.1 \r\nHost: fn\r\n\r\n",
                    "GET / x HTTP/1.1\r\nHost: fn\r\n\r\n",
                    "G@T / HTTP/1.1\r\nHost: fn\r\n\r\n",
                    "GET echo HTTP/1.1\r\nHost: fn\r\n\r\n",
                    "GET /%zz HTTP/1.1\r\nHost: fn\r\n\r\n",
                    "GET /%2 HTTP/1.1\r\nHost: fn\r\n\r\n",
                    "GET /\u{1} HTTP/1.1\r\nHost: fn\r\n\r\n",
                    "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
                    "GET / HTTP/1.1\r\nHost: fn\r\nX-A: 1\r\n 2\r\n\r\n",
                    "GET / HTTP/1.1\r\nHost: fn\r\nX-A\r\n\r\n",
                    "GET / HTTP/1.1\r\nHost: fn\r\nX-A: 1\u{0}2\r\n\r\n",
                    "GET / HTTP/1.1\r\nHost: fn\r\nX-A: 1\r2\r\n\r\n",
                    "POST / HTTP/1.1\r\nHost: fn\r\nContent-Length: +2\r\n\r\n",
                    "POST / HTTP/1.1\r\nHost: fn\r\nContent-Length: 2, 2\r\n\r\n",
                    "POST / HTTP/1.1\r\nHost: fn\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n",
                    "POST / HTTP/1.1\r\nHost: fn\r\nContent-Length: 9223372036854775808\r\n\r\n",
                    "POST / HTTP/1.1\r\nHost: fn\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
                ][..],
            ),
            (NO_HOST, &["GET / HTTP/1.1\r\n\r\n"]),
            (BAD_HOST, &["GET / HTTP/1.1\r\nHost: a@b\r\n\r\n"]),
            (BAD_NAME, &["GET / HTTP/1.1\r\nHost: fn\r\nContent-Length : 2\r\n\r\n"]),
            (VERSION, &["GET / HTTP/2.0\r\nHost: fn\r\n\r\n", "GET / HTTP/0.9\r\n\r\n"]),
            (
                ENCODING,
                &[
                    "POST / HTTP/1.1\r\nHost: fn\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                    "POST / HTTP/1.1\r\nHost: fn\r\nTransfer-Encoding:\r\n\r\n",
                    "POST / HTTP/1.1\r\nHost: fn\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
                ],
            ),
        ] {
            for text in heads {
                assert_eq!(head(text), Verdict::Refused(refusal), "{text:?}");
            }
        }
    }

    #[test]
    fn heads_are_limited_by_bytes_and_lines() {
        let many = format!("GET / HTTP/1.1\r\nHost: fn\r\n{}\r\n", "A: b\r\n".repeat(101));
        assert_eq!(head(&many), Verdict::Refused(LARGE));
        assert!(matches!(judge(many.as_bytes(), 0, 200), Verdict::Head { lines: 102, .. }));
        let large = format!("GET / HTTP/1.1\r\nHost: fn\r\nA: {}", "a".repeat(LIMIT));
        assert_eq!(head(&large), Verdict::Refused(LARGE), "before its end has come");
        let long = format!("GET /{} HTTP/1.1\r\nHost: fn\r\n\r\n", "a".repeat(TARGET_LIMIT));
        assert_eq!(head(&long), Verdict::Refused(LONG_TARGET));
    }

    #[test]
    fn http2_announces_itself() {
        assert_eq!(head("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Verdict::Http2);
    }
}
