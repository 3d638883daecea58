//! Durations as Go writes them: `1m30s`, `1.5h`, `250ms`; a bare integer is seconds.

use std::{fmt, time::Duration};

/// Appends seconds with six decimals, `0.012345`, or the first `decimals` of them.
pub(crate) fn push_seconds(out: &mut Vec<u8>, duration: Duration, decimals: usize) {
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(digits.format(duration.as_secs()).as_bytes());
    out.push(b'.');
    // The leading one keeps the zeros behind it.
    let micros = digits.format(1_000_000 + duration.subsec_micros()).as_bytes();
    out.extend_from_slice(&micros[1..=decimals.min(6)]);
}

/// A text that is no duration, or one below zero.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotADuration;

/// Parses a bare number of seconds (`5`, `+5`, `05`) or a Go duration. Negative ones are refused: of a limit they can
/// only be a mistake.
pub(crate) fn parse(text: &str) -> Result<Duration, NotADuration> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return digits.parse().map(Duration::from_secs).map_err(|_| NotADuration);
    }
    parse_go(digits)
}

/// Parses a Go duration alone, as `X-Timeout` carries it: a number without a unit is none, unless it is `0`.
pub(crate) fn parse_go(text: &str) -> Result<Duration, NotADuration> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut nanos = 0_u128;
    let mut rest = text;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(NotADuration)?;
        let (number, tail) = rest.split_at(number);
        let unit = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        nanos = nanos.checked_add(scale(number, unit)?).ok_or(NotADuration)?;
        rest = tail;
    }
    match u64::try_from(nanos) {
        Ok(nanos) if !text.is_empty() && i64::try_from(nanos).is_ok() => Ok(Duration::from_nanos(nanos)),
        _ => Err(NotADuration),
    }
}

fn scale(number: &str, unit: &str) -> Result<u128, NotADuration> {
    let unit: u128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return Err(NotADuration),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(NotADuration);
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().map_err(|_| NotADuration)? };
    let mut nanos = u128::from(whole) * unit;
    let mut part = unit;
    for digit in fraction.bytes() {
        part /= 10;
        nanos += u128::from(digit - b'0') * part;
    }
    Ok(nanos)
}

/// Shows a duration as Go does: `1h0m0s`, `1.5s`, `250ms`, `5µs`.
pub(crate) struct Go(pub(crate) Duration);

impl fmt::Display for Go {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        match nanos {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{nanos}ns"),
            1_000..1_000_000 => write!(f, "{}µs", nanos as f64 / 1e3),
            1_000_000..1_000_000_000 => write!(f, "{}ms", nanos as f64 / 1e6),
            _ => {
                let minutes = nanos / 60_000_000_000;
                if minutes >= 60 {
                    write!(f, "{}h", minutes / 60)?;
                }
                if minutes > 0 {
                    write!(f, "{}m", minutes % 60)?;
                }
                write!(f, "{}s", (nanos % 60_000_000_000) as f64 / 1e9)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_bare_seconds_and_go_durations() {
        for (text, millis) in [
            ("5", 5_000),
            ("+5", 5_000),
            ("05", 5_000),
            ("0", 0),
            ("0s", 0),
            ("1m30s", 90_000),
            ("1.5s", 1_500),
            (".5s", 500),
            ("1.s", 1_000),
            ("250ms", 250),
            ("+5s", 5_000),
            ("2000µs", 2),
            ("2000μs", 2),
            ("2000us", 2),
            ("2562047h", 2_562_047 * 3_600_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_duration() {
        for text in
            ["", " 5s", "5s ", "5 s", "5\n", "1.5", "1d", "5S", "1e3", "1h-5m", "-5", "-5s", "5,5s", ".s", "s", "+"]
        {
            assert_eq!(parse(text), Err(NotADuration), "{text:?}");
        }
        assert_eq!(parse("99999999999999999999"), Err(NotADuration));
        assert_eq!(parse("2562048h"), Err(NotADuration), "more than an int64 of nanoseconds");
    }

    #[test]
    fn a_header_needs_a_unit() {
        assert_eq!(parse_go("5"), Err(NotADuration));
        assert_eq!(parse_go("0"), Ok(Duration::ZERO));
        assert_eq!(parse_go("5s"), Ok(Duration::from_secs(5)));
    }

    #[test]
    fn shows_durations_as_go_does() {
        for (nanos, text) in [
            (0, "0s"),
            (5, "5ns"),
            (5_000, "5µs"),
            (250_000_000, "250ms"),
            (1_500_000_000, "1.5s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (1_234_567, "1.234567ms"),
            (59_999_999_999, "59.999999999s"),
            (61_000_000_001, "1m1.000000001s"),
        ] {
            assert_eq!(Go(Duration::from_nanos(nanos)).to_string(), text);
        }
    }
}
