//! Types of columns: inferred from values, widened, never narrowed.

use std::{collections::BTreeMap, fmt};

use jiff::{Timestamp, civil::Date};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// `true` and `false`.
    Boolean,
    /// An integer of 64 bits.
    Integer,
    /// Any other number, exact to its last digit.
    Decimal,
    /// A moment, RFC 3339 with an offset.
    Timestamp,
    /// A calendar day.
    Date,
    /// Text.
    Text,
    /// An object or a list, or values of kinds that have no other type in common.
    Json,
}

/// The columns of a table, by name.
pub(super) type Schema = BTreeMap<String, ColumnType>;

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Decimal => "decimal",
            Self::Timestamp => "timestamp",
            Self::Date => "date",
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

impl ColumnType {
    /// The narrowest type of a value; `None` for null, which fits all.
    pub(super) fn of(value: &RawValue) -> Option<Self> {
        let raw = value.get();
        Some(match raw.as_bytes().first()? {
            b'n' => return None,
            b't' | b'f' => Self::Boolean,
            b'{' | b'[' => Self::Json,
            b'"' => of_text(raw.trim_matches('"')),
            _ if raw.parse::<i64>().is_ok() => Self::Integer,
            _ => Self::Decimal,
        })
    }

    /// The narrowest type that holds both.
    pub(super) fn join(self, other: Self) -> Self {
        match (self, other) {
            (one, other) if one == other => one,
            (Self::Json, _) | (_, Self::Json) => Self::Json,
            (Self::Integer, Self::Decimal) | (Self::Decimal, Self::Integer) => Self::Decimal,
            _ => Self::Text,
        }
    }

    /// Whether a column of a stated type takes the value: a number or a moment may be written as text.
    pub(super) fn takes(self, value: &RawValue) -> bool {
        let raw = value.get();
        let text = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(raw);
        match (self, Self::of(value)) {
            (_, None) | (Self::Text | Self::Json, _) => true,
            (wanted, Some(is)) if wanted == is => true,
            (Self::Decimal, Some(is)) => is == Self::Integer || is_number(text),
            (Self::Integer, Some(Self::Text)) => text.parse::<i64>().is_ok(),
            (Self::Timestamp, Some(Self::Text)) => text.parse::<Timestamp>().is_ok(),
            _ => false,
        }
    }
}

/// Whether a text is a plain decimal number.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, places) = digits.split_once('.').unwrap_or((digits, "0"));
    [whole, places].iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Moments and days, where that loses nothing: databases keep microseconds.
fn of_text(text: &str) -> ColumnType {
    let bytes = text.as_bytes();
    if bytes.len() < 10 || !bytes[0].is_ascii_digit() || bytes[4] != b'-' || bytes[7] != b'-' {
        return ColumnType::Text;
    }
    if bytes.len() == 10 {
        return if text.parse::<Date>().is_ok() { ColumnType::Date } else { ColumnType::Text };
    }
    let exact = text.parse::<Timestamp>().is_ok_and(|at| at.subsec_nanosecond() % 1000 == 0);
    if exact && !text.contains('[') { ColumnType::Timestamp } else { ColumnType::Text }
}

#[cfg(test)]
mod tests {
    use super::{ColumnType::*, *};

    fn of(raw: &str) -> Option<ColumnType> {
        ColumnType::of(&RawValue::from_string(raw.to_owned()).unwrap())
    }

    #[test]
    fn values_have_the_narrowest_type_that_loses_nothing() {
        for (raw, wanted) in [
            ("null", None),
            ("true", Some(Boolean)),
            ("-9223372036854775808", Some(Integer)),
            ("9223372036854775808", Some(Decimal)),
            ("18446744073709551615", Some(Decimal)),
            ("1.10", Some(Decimal)),
            ("1e3", Some(Decimal)),
            ("\"2026-11-21T12:00:00Z\"", Some(Timestamp)),
            ("\"2026-11-21T12:00:00.123456+02:00\"", Some(Timestamp)),
            ("\"2026-11-21T12:00:00.123456789Z\"", Some(Text)),
            ("\"2026-11-21T12:00:00\"", Some(Text)),
            ("\"2026-11-21\"", Some(Date)),
            ("\"2026-13-21\"", Some(Text)),
            ("\"12345\"", Some(Text)),
            ("{}", Some(Json)),
            ("[1]", Some(Json)),
        ] {
            assert_eq!(of(raw), wanted, "{raw}");
        }
    }

    #[test]
    fn types_widen_to_one_that_holds_both() {
        let all = [Boolean, Integer, Decimal, Timestamp, Date, Text, Json];
        for one in all {
            for other in all {
                let joined = one.join(other);
                assert_eq!(joined, other.join(one));
                // A wider one stays: widening ends.
                assert_eq!(joined.join(one), joined);
            }
        }
        assert_eq!((Integer.join(Decimal), Integer.join(Text), Date.join(Timestamp)), (Decimal, Text, Text));
    }

    #[test]
    fn a_stated_type_takes_numbers_and_moments_that_are_written_as_text() {
        let takes = |kind: ColumnType, raw: &str| kind.takes(&RawValue::from_string(raw.to_owned()).unwrap());
        assert!(takes(Decimal, "\"12.50\"") && takes(Decimal, "7") && !takes(Decimal, "\"12,50\""));
        assert!(takes(Integer, "\"7\"") && !takes(Integer, "7.5") && takes(Integer, "null"));
        assert!(takes(Text, "7") && takes(Json, "7") && !takes(Boolean, "1"));
    }
}
