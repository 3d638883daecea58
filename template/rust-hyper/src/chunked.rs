//! Reads a chunked body and writes it anew in the one form that no two parsers disagree on, without its trailers.

/// Where in a chunked body the next byte is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum Chunked {
    #[default]
    Start,
    /// In the digits of a size.
    Size {
        size: u64,
        digits: u8,
    },
    /// Behind the size: blanks or an extension, up to the end of the line.
    Extension {
        size: u64,
        bytes: u16,
        blanks_only: bool,
    },
    /// The LF behind a size is still to come.
    SizeEnd {
        size: u64,
    },
    Data {
        left: u64,
    },
    /// The CR, then the LF behind the data.
    DataEnd {
        seen: bool,
    },
    /// In the trailers: bytes so far, and whether the line is still empty.
    Trailers {
        bytes: u16,
        line: u16,
        cr: bool,
    },
    End,
    Broken,
}

/// The most that extensions of one chunk, or all trailers, may take.
const EXTRA_LIMIT: u16 = 8192;
/// A size that no parser takes: makes hyper tell the function that its body is broken.
const BROKEN: &[u8] = b"broken\r\n";

impl Chunked {
    /// Takes bytes from `input` and appends what they come to; returns how many it took. Takes all of them unless the
    /// body ends.
    pub(crate) fn take(&mut self, input: &[u8], output: &mut Vec<u8>) -> usize {
        let mut at = 0;
        while at < input.len() && !self.is_over() {
            if let Self::Data { left } = self {
                let n = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len() - at);
                output.extend_from_slice(format!("{n:x}\r\n").as_bytes());
                output.extend_from_slice(&input[at..at + n]);
                output.extend_from_slice(b"\r\n");
                at += n;
                *left -= n as u64;
                if *left == 0 {
                    *self = Self::DataEnd { seen: false };
                }
                continue;
            }
            let next = std::mem::take(self).after(input[at]);
            *self = next;
            at += 1;
        }
        match self {
            Self::End => output.extend_from_slice(b"0\r\n\r\n"),
            Self::Broken => output.extend_from_slice(BROKEN),
            _ => {}
        }
        at
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self, Self::End | Self::Broken)
    }

    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Start, _) => Self::Size { size: 0, digits: 0 }.after(byte),
            (Self::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < 16 => {
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                Self::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
            }
            (Self::Size { size, digits: 1.. }, b'\r') => Self::SizeEnd { size },
            (Self::Size { size, digits: 1.. }, b' ' | b'\t' | b';') => {
                Self::Extension { size, bytes: 0, blanks_only: byte != b';' }
            }
            (Self::Extension { size, .. }, b'\r') => Self::SizeEnd { size },
            // Between the size and an extension there are only blanks.
            (Self::Extension { size, bytes, blanks_only: true }, b' ' | b'\t' | b';') if bytes < EXTRA_LIMIT => {
                Self::Extension { size, bytes: bytes + 1, blanks_only: byte != b';' }
            }
            (Self::Extension { size, bytes, blanks_only: false }, b'\t' | b' '..=b'~' | 0x80..)
                if bytes < EXTRA_LIMIT =>
            {
                Self::Extension { size, bytes: bytes + 1, blanks_only: false }
            }
            (Self::SizeEnd { size: 0 }, b'\n') => Self::Trailers { bytes: 0, line: 0, cr: false },
            (Self::SizeEnd { size }, b'\n') => Self::Data { left: size },
            (Self::DataEnd { seen: false }, b'\r') => Self::DataEnd { seen: true },
            (Self::DataEnd { seen: true }, b'\n') => Self::Start,
            (Self::Trailers { line: 0, cr: true, .. }, b'\n') => Self::End,
            (Self::Trailers { bytes, cr: true, .. }, b'\n') => Self::Trailers { bytes, line: 0, cr: false },
            (Self::Trailers { bytes, line, cr: false }, b'\r') => Self::Trailers { bytes, line, cr: true },
            (Self::Trailers { bytes, line, cr: false }, b'\t' | b' '..=b'~' | 0x80..) if bytes < EXTRA_LIMIT => {
                Self::Trailers { bytes: bytes + 1, line: line + 1, cr: false }
            }
            _ => Self::Broken,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(input: &str) -> (Chunked, String, usize) {
        let (mut state, mut output) = (Chunked::default(), Vec::new());
        let taken = state.take(input.as_bytes(), &mut output);
        (state, String::from_utf8(output).unwrap(), taken)
    }

    #[test]
    fn all_that_is_allowed_comes_out_in_one_form() {
        for body in [
            "2\r\nhi\r\n0\r\n\r\n",
            "0002;a=1;q=\"x\"\r\nhi\r\n000\r\n\r\n",
            "2 \r\nhi\r\n0\r\nX-T: 1\r\n\r\n",
            "2 ;a\r\nhi\r\n0\r\n\r\n",
        ] {
            let rest = "GET /";
            let (state, output, taken) = decoded(&format!("{body}{rest}"));
            assert_eq!((state, output.as_str(), taken), (Chunked::End, "2\r\nhi\r\n0\r\n\r\n", body.len()), "{body:?}");
        }
    }

    #[test]
    fn it_does_not_matter_where_the_bytes_are_cut() {
        let body = b"A;x=y\r\n0123456789\r\n1\r\nz\r\n0\r\nX-T: 1\r\n\r\n";
        for cut in 0..body.len() {
            let (mut state, mut output) = (Chunked::default(), Vec::new());
            assert_eq!(state.take(&body[..cut], &mut output), cut);
            state.take(&body[cut..], &mut output);
            assert_eq!(state, Chunked::End, "cut at {cut}");
            let text = String::from_utf8(output).unwrap();
            let data: String = text.split("\r\n").skip(1).step_by(2).collect();
            assert_eq!(data, "0123456789z", "cut at {cut}");
        }
    }

    #[test]
    fn what_parsers_disagree_on_is_broken() {
        for body in [
            "zz\r\n",
            "2\r\nhiX\r\n",
            "-1\r\n",
            "0x2\r\n",
            "fffffffffffffffff\r\n",
            "2\nhi",
            "2\r\nhi0\r\n",
            "\r\n",
            ";\r\n",
            "2 x\r\nhi",
            "2\r\r\n",
            "0\r\nX\n",
            "2;\u{1}\r\n",
        ] {
            let (state, output, _) = decoded(body);
            assert_eq!(state, Chunked::Broken, "{body:?}");
            assert!(output.ends_with("broken\r\n"), "{body:?}");
        }
    }
}
