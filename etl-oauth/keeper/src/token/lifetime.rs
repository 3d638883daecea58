//! Lifetimes and scopes as providers really write them: RFC 6749 §5.1 wants an integer of seconds and a list separated
//! by spaces, and neither is what one gets.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What `expires_in` counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Seconds, as RFC 6749 §5.1 has it.
    #[default]
    Seconds,
    /// Milliseconds, as some providers do.
    Milliseconds,
    /// Minutes, as some device flows do.
    Minutes,
}

/// No token lives longer than this: a larger number is a mistake, or means "for ever".
const LONGEST: f64 = 100.0 * 365.0 * 86_400.0;

/// Reads a lifetime: a number or a string of one (`3600`, `"3600"`, `"3600.0"`). `null`, nothing, text, zero and
/// negative values say nothing about the lifetime, and neither does "for ever": `None`.
pub(crate) fn seconds(value: &Value, unit: Unit) -> Option<Duration> {
    let number = number(value)?;
    let seconds = match unit {
        Unit::Seconds => number,
        Unit::Milliseconds => number / 1000.0,
        Unit::Minutes => number * 60.0,
    };
    (seconds > 0.0 && seconds <= LONGEST).then(|| Duration::from_secs_f64(seconds))
}

/// Reads a point in time: Unix seconds, Unix milliseconds (told apart by size), or RFC 3339, as number or string.
pub(super) fn instant(value: &Value) -> Option<Timestamp> {
    if let Some(number) = number(value) {
        // The year 2001 in milliseconds is the year 33658 in seconds.
        let seconds = if number >= 1e12 { number / 1000.0 } else { number };
        #[expect(clippy::cast_possible_truncation, reason = "from_second rejects what is out of range")]
        return (seconds > 0.0).then(|| Timestamp::from_second(seconds as i64).ok()).flatten();
    }
    value.as_str()?.trim().parse().ok()
}

fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    number.is_finite().then_some(number)
}

/// Reads a scope list: separated by spaces or commas, or a JSON array. An empty one is `None`: it says nothing.
#[must_use]
pub fn lenient_scope(value: &Value) -> Option<String> {
    let words: Vec<&str> = match value {
        Value::String(text) => text.split([' ', ',']).filter(|word| !word.is_empty()).collect(),
        Value::Array(items) => items.iter().filter_map(Value::as_str).filter(|word| !word.is_empty()).collect(),
        _ => return None,
    };
    (!words.is_empty()).then(|| words.join(" "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn f1_expires_in_is_read_as_string_float_and_milliseconds_and_nonsense_says_nothing() {
        for (value, wanted) in [
            (json!(3600), Some(3600)),
            (json!("3600"), Some(3600)),
            (json!(3600.0), Some(3600)),
            (json!("3600.0"), Some(3600)),
            (json!(" 3600 "), Some(3600)),
            (json!(null), None),
            (json!(0), None),
            (json!(-1), None),
            (json!("-3600"), None),
            (json!("soon"), None),
            (json!(""), None),
            (json!(true), None),
            (json!(1e300), None),
            (json!("inf"), None),
            (json!("NaN"), None),
            (json!({}), None),
        ] {
            assert_eq!(seconds(&value, Unit::Seconds), wanted.map(Duration::from_secs), "{value}");
        }
        assert_eq!(seconds(&json!(3_600_000), Unit::Milliseconds), Some(Duration::from_secs(3600)));
    }

    #[test]
    fn f12_expires_at_is_read_in_seconds_milliseconds_and_rfc_3339() {
        let wanted: Timestamp = "2026-01-31T11:27:38Z".parse().unwrap();
        let seconds = wanted.as_second();
        for value in
            [json!(seconds), json!(seconds * 1000), json!(seconds.to_string()), json!("2026-01-31T12:27:38+01:00")]
        {
            assert_eq!(instant(&value), Some(wanted), "{value}");
        }
        for value in [json!(null), json!(-1), json!("tomorrow"), json!(1e300)] {
            assert_eq!(instant(&value), None, "{value}");
        }
    }

    #[test]
    fn f12_scope_is_read_as_array_and_comma_list() {
        for value in [json!("a b"), json!("a,b"), json!("a, b"), json!(["a", "b"])] {
            assert_eq!(lenient_scope(&value).as_deref(), Some("a b"), "{value}");
        }
        for value in [json!(""), json!([]), json!(null), json!(7)] {
            assert_eq!(lenient_scope(&value), None, "{value}");
        }
    }
}
