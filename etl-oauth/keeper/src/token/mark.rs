//! Signs of answers, by which definitions tell one kind of answer from another.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::response::{at, object, text};

/// A sign of an answer: what a field of its body says, its status, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// The field: a JSON pointer (RFC 6901), or a path with dots.
    #[serde(default)]
    pub at: String,
    /// What it says then, as a text: `true`, `0`, `OK`.
    #[serde(default)]
    pub is: Vec<String>,
    /// A part of what it says then, in any case: `too many requests`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub has: Vec<String>,
    /// The statuses of an answer that bears it; any where nothing is said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<u16>,
}

impl Mark {
    /// Whether an answer bears it.
    #[must_use]
    pub fn is_on_answer(&self, status: u16, body: &[u8]) -> bool {
        (self.status.is_empty() || self.status.contains(&status)) && (self.at.is_empty() || self.is_in(body))
    }

    /// Whether it says what bears it.
    pub(crate) fn is_whole(&self) -> bool {
        let words = !self.is.is_empty() || !self.has.is_empty();
        if self.at.is_empty() { !words && !self.status.is_empty() } else { words }
    }

    /// Whether these fields bear it.
    pub(crate) fn is_on(&self, fields: &Map<String, Value>) -> bool {
        let Some(value) = at(fields, &self.at).map(text) else { return false };
        let lower = value.to_lowercase();
        self.is.contains(&value) || self.has.iter().any(|part| lower.contains(&part.to_lowercase()))
    }

    /// Whether a body does.
    #[must_use]
    pub fn is_in(&self, body: &[u8]) -> bool {
        object(body).is_some_and(|fields| self.is_on(&fields))
    }
}

/// One item, or a list of them.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged, expecting = "must be a table such as { at = \"code\", is = [\"190\"] }, or a list of them")]
pub(crate) enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

/// Reads one sign or a list of them.
pub(crate) fn one_or_many<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(item) => vec![item],
        OneOrMany::Many(items) => items,
    })
}
