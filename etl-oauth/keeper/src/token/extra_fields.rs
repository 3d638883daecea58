//! The fields of a token answer besides the tokens.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{
    Map, Value,
    value::{RawValue, to_raw_value},
};

use crate::text;

/// The fields of a token answer besides the two tokens; some APIs need one of them.
///
/// Kept as JSON text and parsed on access: as a tree it would be the largest part of an account in memory.
#[derive(Clone, Default)]
pub struct ExtraFields(Option<Box<RawValue>>);

impl ExtraFields {
    /// All of it.
    #[must_use]
    pub fn fields(&self) -> Map<String, Value> {
        // It was written from such a map.
        self.0.as_ref().and_then(|text| serde_json::from_str(text.get()).ok()).unwrap_or_default()
    }

    /// The value of one field.
    #[must_use]
    pub fn get(&self, field: &str) -> Option<Value> {
        self.fields().remove(field)
    }
}

/// The longest answer that is kept beside the tokens, in bytes: stores have limits of their own (a Kubernetes Secret holds
/// 1 MiB, a NATS message as much), and a record holds an answer twice while it is being replaced.
const LONGEST: usize = 32 << 10;

impl ExtraFields {
    /// The fields of an answer. Where they are too long together, the longest are left out, with a line in the log.
    pub(super) fn bounded(mut fields: Map<String, Value>) -> Self {
        let mut sizes: Vec<_> =
            fields.iter().map(|(name, value)| (name.len() + value.to_string().len(), name.clone())).collect();
        let mut all: usize = sizes.iter().map(|(size, _)| size).sum();
        sizes.sort_unstable();
        let mut left_out = Vec::new();
        while all > LONGEST
            && let Some((size, name)) = sizes.pop()
        {
            fields.remove(&name);
            all -= size;
            left_out.push(text::cut(&name, 40));
        }
        if !left_out.is_empty() {
            let count = left_out.len();
            left_out.truncate(10);
            tracing::warn!(count, fields = ?left_out, "fields of the provider's answer are too long and not kept");
        }
        fields.into()
    }
}

impl From<Map<String, Value>> for ExtraFields {
    fn from(fields: Map<String, Value>) -> Self {
        // A map whose keys are strings always serialises.
        Self(if fields.is_empty() { None } else { to_raw_value(&fields).ok() })
    }
}

/// Shows the names alone: an ID token may be among the values.
impl fmt::Debug for ExtraFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.fields().keys()).finish()
    }
}

impl Serialize for ExtraFields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Some(text) => text.serialize(serializer),
            None => Map::new().serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ExtraFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Map::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_read_back_and_debug_shows_its_name_alone() {
        let rest: ExtraFields =
            serde_json::from_str(r#"{ "url": "https://a.example", "id_token": "marker" }"#).unwrap();
        assert_eq!(rest.get("url"), Some(Value::from("https://a.example")));
        assert_eq!(rest.get("other"), None);
        assert_eq!(format!("{rest:?}"), r#"{"id_token", "url"}"#);
    }

    #[test]
    fn nothing_is_an_empty_object_and_what_is_no_object_is_an_error() {
        assert_eq!(serde_json::to_string(&ExtraFields::default()).unwrap(), "{}");
        assert!(serde_json::from_str::<ExtraFields>("{}").unwrap().fields().is_empty());
        assert!(serde_json::from_str::<ExtraFields>("[]").is_err());
    }
}
