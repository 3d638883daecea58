//! The first line of a request's head.

use memchr::memchr;

use crate::{
    fields::is_token,
    refusal::{BAD, LONG_TARGET, Refusal, VERSION},
};

/// Bytes that a target may have; `http::Uri` holds no more.
pub(crate) const TARGET_LIMIT: usize = 65_534;

/// The parts of a request line.
pub(crate) struct RequestLine<'a> {
    method: &'a [u8],
    target: &'a [u8],
    pub(crate) minor: u8,
    escapes: bool,
}

impl<'a> RequestLine<'a> {
    pub(crate) fn parse(line: &'a [u8]) -> Result<Self, Refusal> {
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

    pub(crate) fn needs_rewriting(&self) -> bool {
        self.escapes || self.minor > 1
    }

    pub(crate) fn rewritten(&self) -> Vec<u8> {
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
