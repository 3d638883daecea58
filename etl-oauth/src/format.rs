//! Words for people, on pages and in mails: times, counts, and what others wrote, cut to a length.

pub(crate) use token_keeper::text::{LONGEST, cut};

use jiff::{RoundMode, Timestamp, TimestampRound, Unit};

/// Words that may be an error's message ("the gateway answered 503") as a sentence: with a capital letter and a full stop.
pub(crate) fn sentence(words: &str) -> String {
    let words = cut(words.trim(), LONGEST);
    let mut rest = words.chars();
    let Some(first) = rest.next() else { return words };
    let end = if words.ends_with(['.', '!', '?', '…']) { "" } else { "." };
    format!("{}{}{end}", first.to_uppercase(), rest.as_str())
}

/// "21 Nov 2026, 09:00 UTC"
pub(crate) fn moment(at: Timestamp) -> String {
    at.strftime("%-d %b %Y, %H:%M UTC").to_string()
}

/// "3 minutes ago", "in 2 hours", "just now"; in the largest unit that fills at least two, so that a lifetime of 90 minutes is
/// not "1 hour".
pub(crate) fn relative(at: Timestamp, now: Timestamp) -> String {
    let seconds = at.duration_since(now).as_secs();
    let span = span(seconds.unsigned_abs());
    match seconds {
        -1..=1 => "just now".into(),
        ..-1 => format!("{span} ago"),
        _ => format!("in {span}"),
    }
}

/// "45 seconds", "90 minutes", "36 hours", "14 days"
pub(crate) fn span(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")];
    let (unit, name) = UNITS.into_iter().find(|(unit, _)| seconds >= 2 * unit).unwrap_or((1, "second"));
    count(seconds / unit, name)
}

/// The first letter or digit of a name, for a sign that stands for it.
pub(crate) fn monogram(name: &str) -> String {
    name.chars().find(|c| c.is_alphanumeric()).map(|c| c.to_uppercase().to_string()).unwrap_or_default()
}

/// "1 sale", "2 sales"
pub(crate) fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// The same for templates. Their results are escaped like everything else.
#[allow(unreachable_pub, reason = "the macro makes its methods public")]
pub(crate) mod filters {
    use std::fmt::Display;

    use askama::{Result, Values, filter_fn};
    use jiff::Timestamp;

    #[filter_fn]
    pub(crate) fn cut(words: impl Display, _: &dyn Values) -> Result<String> {
        Ok(super::cut(&words.to_string(), super::LONGEST))
    }

    #[filter_fn]
    pub(crate) fn sentence(words: impl Display, _: &dyn Values) -> Result<String> {
        Ok(super::sentence(&words.to_string()))
    }

    #[filter_fn]
    pub(crate) fn moment(at: &Timestamp, _: &dyn Values) -> Result<String> {
        Ok(super::moment(*at))
    }

    #[filter_fn]
    pub(crate) fn relative(at: &Timestamp, _: &dyn Values, now: &Timestamp) -> Result<String> {
        Ok(super::relative(*at, *now))
    }

    #[filter_fn]
    pub(crate) fn monogram(name: impl Display, _: &dyn Values) -> Result<String> {
        Ok(super::monogram(&name.to_string()))
    }

    #[filter_fn]
    pub(crate) fn count(number: &u64, _: &dyn Values, noun: &str) -> Result<String> {
        Ok(super::count(*number, noun))
    }
}

/// Whole seconds, as all JSON of this function has them: `2026-01-31T11:27:38Z`.
pub(crate) fn whole(at: Timestamp) -> Timestamp {
    at.round(TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Trunc)).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_in_a_unit_that_fills_at_least_two() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        for (at, said) in [
            ("2026-11-21T12:00:01Z", "just now"),
            ("2026-11-21T12:00:45Z", "in 45 seconds"),
            ("2026-11-21T12:01:59Z", "in 119 seconds"),
            ("2026-11-21T13:30:00Z", "in 90 minutes"),
            ("2026-11-23T00:00:00Z", "in 36 hours"),
            ("2026-11-21T11:57:00Z", "3 minutes ago"),
            ("2026-11-01T12:00:00Z", "20 days ago"),
        ] {
            assert_eq!(relative(at.parse().unwrap(), now), said);
        }
    }

    #[test]
    fn words_of_others_are_one_line_and_cut() {
        assert_eq!(cut("a\nb\u{202e}c", 10), "a bc");
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöüß", 3), "äöü…");
    }

    #[test]
    fn a_message_becomes_a_sentence() {
        for (words, said) in
            [("", ""), ("it broke", "It broke."), ("Why?", "Why?"), ("über 9", "Über 9."), (" done. ", "Done.")]
        {
            assert_eq!(sentence(words), said);
        }
    }
}
