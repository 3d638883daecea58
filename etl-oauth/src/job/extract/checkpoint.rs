use std::{cmp::Ordering, collections::BTreeSet};

use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::plan::{Cursor, CursorFormat};
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
        Self { run, since: self.high.clone(), high: self.high, ..Self::default() }
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
        let value = self.value.as_ref().or(cursor.start.as_ref())?;
        let moment = || value.parse::<Timestamp>().ok();
        Some(match cursor.format {
            CursorFormat::Value => value.clone(),
            CursorFormat::Date => moment().map_or(value.clone(), |at| at.to_zoned(TimeZone::UTC).date().to_string()),
            CursorFormat::Unix => moment().map_or(value.clone(), |at| at.as_second().to_string()),
        })
    }
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
        let cursor = |format| Cursor { field: "at".into(), parameter: "p".into(), format, start: Some("7".into()) };
        assert_eq!(mark.parameter(&cursor(CursorFormat::Date)).unwrap(), "2026-11-20");
        assert_eq!(mark.parameter(&cursor(CursorFormat::Unix)).unwrap(), "1795215600");
        assert_eq!(Mark::default().parameter(&cursor(CursorFormat::Value)).unwrap(), "7");
    }

    #[test]
    fn a_run_that_copied_nothing_takes_no_number() {
        let done = Checkpoint { run: 3, part: 2, records: 9, ..Checkpoint::default() }.finished();
        assert_eq!((done.run, done.part, done.records), (4, 0, 0));
        assert_eq!(done.clone().finished(), done);
        assert_eq!(done.name("sales", "jsonl"), "sales/00000004-000000.jsonl");
    }
}
