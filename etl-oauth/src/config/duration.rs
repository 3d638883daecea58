//! Durations as Go's `time.ParseDuration` reads them, and as the template does: `1m30s`, `.5s`, `1.s`; a bare integer is
//! seconds.

use std::time::Duration;

/// The units of Go and their nanoseconds.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Parses a bare number of seconds (`90`) or a Go duration. `None` for anything else: a negative duration, one with white
/// space in it, and one beyond Go's own 292 years, which would leave the calendar.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let nanos = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        u128::from(text.parse::<u64>().ok()?) * 1_000_000_000
    } else {
        nanoseconds(text)?
    };
    i64::try_from(nanos).ok().and_then(|nanos| u64::try_from(nanos).ok()).map(Duration::from_nanos)
}

/// The sum of a text's parts: a number and a unit each.
fn nanoseconds(text: &str) -> Option<u128> {
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let (mut rest, mut sum) = (text, 0_u128);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c| !is_number(c))?);
        let (unit, tail) = tail.split_at(tail.find(is_number).unwrap_or(tail.len()));
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return None;
        }
        let whole: u128 = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()?.into() };
        let (mut nanos, mut place) = (whole * unit, *unit);
        for digit in fraction.bytes() {
            place /= 10;
            nanos += u128::from(digit - b'0') * place;
        }
        sum = sum.checked_add(nanos)?;
        rest = tail;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads_and_bare_seconds() {
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
            ("2000µs", 2),
            ("2562047h", 2_562_047 * 3_600_000),
        ] {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn refuses_what_go_refuses() {
        for text in [
            "",
            " 5s",
            "5s ",
            "5 s",
            "1m 30s",
            "1.5",
            "1d",
            "5S",
            "1e3",
            "1h-5m",
            "-5",
            "-5s",
            "5,5s",
            ".s",
            "s",
            "+",
            "1..5s",
            "5 seconds",
            "PT5S",
            "99999999999999999999",
            "2562048h",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
