use std::{cmp::Ordering, collections::BTreeSet};

use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::{
    column::Schema,
    resource::{Cursor, CursorFormat},
};
use token_keeper::api::Bookmark;

/// So many records may have one value of the cursor: their keys are in memory and in the ledger, and neither may grow with
/// the number of records.
pub(super) const TIED: usize = 50_000;

/// How far a resource is copied: what the ledger holds of it. It is written after the data that it speaks of is safe, so
/// that a crash in between copies that data once more, to the same names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Checkpoint {
    /// Counts the runs that copied anything.
    pub(super) run: u64,
    /// The part that is to be written next.
    pub(super) part: u64,
    /// The page that it begins with; none for the first.
    pub(super) next: Option<Bookmark>,
    /// Records that this run has copied.
    pub(super) records: u64,
    /// What the runs before have copied.
    pub(super) since: Mark,
    /// The same with what this run has copied.
    pub(super) high: Mark,
    /// The columns that were inferred so far, where there are any.
    #[serde(skip_serializing_if = "Schema::is_empty")]
    pub(super) schema: Schema,
}

/// The highest value of the cursor's field, and the keys of the records that have it: an API that answers with "from"
/// and not "after" gives these again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Mark {
    value: Option<String>,
    keys: BTreeSet<String>,
}

impl Checkpoint {
    /// The position after the last page of a run.
    pub(super) fn finished(self) -> Self {
        let run = if self.part > 0 { self.run + 1 } else { self.run };
        Self { run, since: self.high.clone(), high: self.high, schema: self.schema, ..Self::default() }
    }

    /// The name of a part: the same whenever it is written.
    pub(super) fn name(&self, resource: &str, ending: &str) -> String {
        format!("{resource}/{:08}-{:06}.{ending}", self.run, self.part)
    }
}

impl Mark {
    /// Whether a record of that value and key is new.
    pub(super) fn is_new(&self, value: &str, key: &str) -> bool {
        match self.value.as_deref().map(|known| compare(value, known)) {
            Some(Ordering::Less) => false,
            Some(Ordering::Equal) => !self.keys.contains(key),
            None | Some(Ordering::Greater) => true,
        }
    }

    /// Whether more records have the highest value than can be distinguished.
    pub(super) fn is_full(&self) -> bool {
        self.keys.len() > TIED
    }

    /// Takes a record in.
    pub(super) fn take(&mut self, value: &str, key: &str) {
        match self.value.as_deref().map(|known| compare(value, known)) {
            Some(Ordering::Less) => return,
            Some(Ordering::Equal) => {}
            None | Some(Ordering::Greater) => {
                self.keys.clear();
                self.value = Some(value.to_owned());
            }
        }
        self.keys.insert(key.to_owned());
    }

    /// What the query asks for.
    pub(super) fn parameter(&self, cursor: &Cursor) -> Option<String> {
        let value = self.value.as_ref().map(|value| earlier(value, cursor.lookback));
        let value = value.as_ref().or(cursor.start.as_ref())?;
        let moment = || value.parse::<Timestamp>().ok();
        Some(match cursor.format {
            CursorFormat::Value => value.clone(),
            CursorFormat::Date => moment().map_or(value.clone(), |at| at.to_zoned(TimeZone::UTC).date().to_string()),
            CursorFormat::Unix => moment().map_or(value.clone(), |at| at.as_second().to_string()),
        })
    }
}

/// A moment, a day or a number of seconds, so much before; what is none of these stays.
fn earlier(value: &str, by: Option<SignedDuration>) -> String {
    // Seconds since 1970 have ten digits in this age, milliseconds thirteen.
    const MILLISECONDS: i64 = 100_000_000_000;
    let Some(by) = by.filter(|by| !by.is_zero()) else { return value.to_owned() };
    if let Ok(at) = value.parse::<Timestamp>() {
        return at.saturating_sub(by).map_or_else(|_| value.to_owned(), |at| at.to_string());
    }
    if let Ok(number) = value.parse::<i64>() {
        let by = if number >= MILLISECONDS { by.as_secs().saturating_mul(1000) } else { by.as_secs() };
        return number.saturating_sub(by).to_string();
    }
    if let Ok(day) = value.parse::<Date>() {
        return day.saturating_sub(by).to_string();
    }
    value.to_owned()
}

/// Numbers by size, moments by time, the rest by letter.
fn compare(one: &str, other: &str) -> Ordering {
    if let (Ok(one), Ok(other)) = (one.parse::<i128>(), other.parse::<i128>()) {
        return one.cmp(&other);
    }
    if let (Ok(one), Ok(other)) = (one.parse::<f64>(), other.parse::<f64>()) {
        return one.total_cmp(&other);
    }
    if let (Ok(one), Ok(other)) = (one.parse::<Timestamp>(), other.parse::<Timestamp>()) {
        return one.cmp(&other);
    }
    one.cmp(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_at_the_mark_are_told_apart_by_their_keys() {
        let mut mark = Mark::default();
        for (value, key) in [("9", "a"), ("10", "b"), ("10", "c"), ("2", "d")] {
            mark.take(value, key);
        }
        assert!(!mark.is_new("10", "b") && !mark.is_new("9", "z"), "ten is more than nine");
        assert!(mark.is_new("10", "e") && mark.is_new("11", "b"));
    }

    #[test]
    fn the_keys_of_one_value_do_not_grow_without_end() {
        let mut mark = Mark::default();
        (0..=TIED).for_each(|key| mark.take("2026-11-21", &key.to_string()));
        assert!(mark.is_full());
        mark.take("2026-11-22", "a");
        assert!(!mark.is_full());
    }

    #[test]
    fn moments_are_compared_as_such_and_asked_for_as_the_api_wants_them() {
        let mut mark = Mark::default();
        mark.take("2026-11-21T01:00:00+02:00", "a");
        assert!(mark.is_new("2026-11-20T23:30:00Z", "b") && !mark.is_new("2026-11-20T22:00:00Z", "b"));
        let cursor = |format| Cursor {
            field: "at".into(),
            parameter: Some("p".into()),
            format,
            start: Some("7".into()),
            lookback: None,
        };
        assert_eq!(mark.parameter(&cursor(CursorFormat::Date)).unwrap(), "2026-11-20");
        assert_eq!(mark.parameter(&cursor(CursorFormat::Unix)).unwrap(), "1795215600");
        assert_eq!(Mark::default().parameter(&cursor(CursorFormat::Value)).unwrap(), "7");
    }

    #[test]
    fn a_lookback_is_the_same_across_summer_time_and_in_each_notation() {
        let cursor: Cursor = toml::from_str("field = 'at'\nparameter = 'p'\nlookback = '1d 12h'").unwrap();
        for (value, wanted) in [
            // Clocks in Europe went forward between the two.
            ("2026-03-29T12:00:00+02:00", "2026-03-27T22:00:00Z"),
            ("1795262400", "1795132800"),
            ("1795262400000", "1795132800000"),
            ("abc", "abc"),
        ] {
            let mut mark = Mark::default();
            mark.take(value, "a");
            assert_eq!(mark.parameter(&cursor).unwrap(), wanted);
        }
        for wrong in ["'soon'", "'-1d'"] {
            assert!(toml::from_str::<Cursor>(&format!("field = 'at'\nlookback = {wrong}")).is_err());
        }
        let days: Cursor = toml::from_str("field = 'at'\nlookback = '3d'").unwrap();
        let mut mark = Mark::default();
        mark.take("2026-03-01", "a");
        assert_eq!(mark.parameter(&days).unwrap(), "2026-02-26");
    }

    #[test]
    fn a_run_that_copied_nothing_takes_no_number() {
        let done = Checkpoint { run: 3, part: 2, records: 9, ..Checkpoint::default() }.finished();
        assert_eq!((done.run, done.part, done.records), (4, 0, 0));
        assert_eq!(done.clone().finished(), done);
        assert_eq!(done.name("sales", "jsonl"), "sales/00000004-000000.jsonl");
    }
}
