//! A list of the API: what is asked for, and what becomes of its records.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Span, SpanRelativeTo};
use serde::{Deserialize, Deserializer};

use super::column::ColumnType;
use token_keeper::api::Paging;

/// A list of the API.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resource {
    /// What its files or its table are called: lower-case letters, digits, `_` and `-`.
    pub name: String,
    /// The path below the API's base URL; of a child with fields of the parent's record, `/orders/{id}/items`.
    pub path: String,
    /// Further parameters of the query.
    #[serde(default)]
    pub params: BTreeMap<String, String>,
    /// The JSON body of a POST, for an API that is asked so. A parameter that begins with a slash is a place in it.
    pub body: Option<serde_json::Value>,
    /// Where the records are in an answer, with dots; empty where the answer is the list.
    #[serde(default)]
    pub records: String,
    /// How the list comes in pages; as the provider's definition says where this says nothing.
    pub paging: Option<Paging>,
    /// More pages than this are an error.
    #[serde(default = "max_pages")]
    pub max_pages: usize,
    /// The field that is another one for each record.
    pub key: Option<String>,
    /// What distinguishes new records from those of before; without it each run copies all.
    pub cursor: Option<Cursor>,
    /// The resource whose records this one belongs to: it is asked for once for each new one of them.
    pub parent: Option<Parent>,
    /// The fields of a CSV row, with dots.
    #[serde(default)]
    pub columns: Vec<String>,
    /// Records in a file, at least: a page is never split.
    pub batch: Option<u64>,
    /// The fields that are kept, with dots; all where it is empty.
    #[serde(default)]
    pub select: Vec<String>,
    /// New names of fields.
    #[serde(default)]
    pub rename: BTreeMap<String, String>,
    /// So many levels of objects become fields of their own, `a_b`.
    #[serde(default)]
    pub flatten: u8,
    /// The field that says that a record is gone: a flag, or a time. Each record has the field `_deleted` then.
    pub deleted: Option<String>,
    /// Removes the rows of records that are gone, in a database.
    #[serde(default)]
    pub remove_deleted: bool,
    /// How a database's rows come to be.
    #[serde(default)]
    pub mode: Mode,
    /// What becomes of fields that have no column, or another type than it.
    #[serde(default)]
    pub drift: Drift,
    /// Keeps records that do not fit apart, in place of ending the run.
    #[serde(default)]
    pub dead_letters: bool,
    /// The types of columns that are not to be inferred.
    #[serde(default)]
    pub types: BTreeMap<String, ColumnType>,
}

/// The resource whose records a child belongs to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parent {
    /// Its name.
    pub resource: String,
    /// The field of its record that the child's records get.
    pub field: String,
    /// The name of that field in them.
    pub column: String,
}

/// How a database's rows come to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// A record replaces the row of its key.
    #[default]
    Upsert,
    /// The rows of a run replace those of before, all at once when the run is through.
    Replace,
}

/// What becomes of fields that have no column, or another type than it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Drift {
    /// Columns are made, and widened.
    #[default]
    Evolve,
    /// The record does not fit.
    Freeze,
    /// They are left out, and counted.
    Discard,
}

/// The field that only grows, and the parameter that asks for what comes after it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// The field of a record.
    pub field: String,
    /// The parameter of the query; without one all is asked for, and what is not new is left out.
    pub parameter: Option<String>,
    /// How the parameter wants it.
    #[serde(default)]
    pub format: CursorFormat,
    /// What the first run begins with.
    pub start: Option<String>,
    /// How far back each run asks again (`3d`, `12h`), for records that come late; a day has 24 hours. Only for a database,
    /// where a record that comes again is the same row.
    #[serde(default, deserialize_with = "span")]
    pub lookback: Option<SignedDuration>,
}

/// How a cursor's value is written into a query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CursorFormat {
    /// As it is in the record.
    #[default]
    Value,
    /// The day, in UTC: `2026-11-21`.
    Date,
    /// Seconds since 1970.
    Unix,
}

fn max_pages() -> usize {
    100_000
}

/// A duration in days and what is shorter: the same across changes of summer time.
fn span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SignedDuration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let span = text.parse::<Span>().and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()));
    let span = span.map_err(|_| serde::de::Error::custom(format!("{text:?} is no duration such as 3d or 12h")))?;
    if span.is_negative() {
        return Err(serde::de::Error::custom("a lookback is not negative"));
    }
    Ok(Some(span))
}
