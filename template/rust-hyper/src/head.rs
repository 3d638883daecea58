//! Judges the head of an HTTP/1 request before hyper sees it: what is refused, what is put in order, how long the body
//! will be. No input or output, so that each rule is a row of a table.

use memchr::{memchr, memchr_iter};

use crate::{
    fields::{Fields, controls},
    refusal::{BAD, ENCODING, LARGE, NO_HOST, Refusal},
    request_line::RequestLine,
};

/// Bytes that a head may have, request line and all.
pub(crate) const LIMIT: usize = (1 << 20) + 4096;
/// Lines that a head may have; `http::HeaderMap` holds no more names.
pub(crate) const LINES_LIMIT: usize = 24_000;

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
    let request = RequestLine::parse(&head[..end - 1])?;
    let fields = Fields::parse(&head[end + 1..head.len() - 2])?;
    // Of the bytes that no line may have there are those two that end each: the request's, the fields', the empty one.
    if controls(head) != 2 * (fields.lines + 2) {
        return Err(BAD);
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        refusal::{BAD_HOST, BAD_NAME, LONG_TARGET, VERSION},
        request_line::TARGET_LIMIT,
    };

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
