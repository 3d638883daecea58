//! The lines of a request's header: what they say about the message, and whether each is one to all parsers.

use memchr::memchr;

use crate::refusal::{BAD, BAD_HOST, BAD_NAME, ENCODING, Refusal};

/// What the header fields say about the message.
#[derive(Default)]
pub(crate) struct Fields<'a> {
    pub(crate) lines: usize,
    pub(crate) hosts: usize,
    pub(crate) length: Option<u64>,
    pub(crate) encoding: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    pub(crate) fn parse(mut rest: &'a [u8]) -> Result<Self, Refusal> {
        let mut fields = Self::default();
        while let Some(&first) = rest.first() {
            let colon = rest.iter().position(|&byte| !is_token(byte)).ok_or(BAD)?;
            let (name, line) = rest.split_at(colon);
            let end = memchr(b'\n', line).ok_or(BAD)?;
            if line[0] != b':' || name.is_empty() {
                // A line that begins with a blank continues the one before to some, and is one of its own to others.
                let spaced = memchr(b':', &line[..end]).is_some_and(|colon| line[..colon].contains(&b' '));
                return Err(if spaced && first != b' ' { BAD_NAME } else { BAD });
            }
            fields.lines += 1;
            // Between the colon and the CR.
            fields.note(name, trim(&line[1..end - 1]))?;
            rest = &line[end + 1..];
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

/// How many control bytes there are, tabs aside. In pieces that are counted in a byte each, many at a time.
pub(crate) fn controls(head: &[u8]) -> usize {
    let is_control = |byte: u8| (byte < b' ' && byte != b'\t') || byte == 0x7f;
    head.chunks(128).map(|piece| usize::from(piece.iter().map(|&byte| u8::from(is_control(byte))).sum::<u8>())).sum()
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

pub(crate) fn is_token(byte: u8) -> bool {
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
