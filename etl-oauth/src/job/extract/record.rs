//! The fields of a record: chosen, renamed, flattened, with each value as it came.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeMap};
use serde_json::value::RawValue;

use super::resource::Resource;
use token_keeper::api::json;

/// The field that says whether a record is gone at the source.
pub(super) const DELETED: &str = "_deleted";

/// Names and raw values, in order.
#[derive(Debug, Default)]
pub(super) struct Fields<'a>(pub(super) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Fields(Vec::with_capacity(map.size_hint().unwrap_or(16)));
                while let Some((name, value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
                    fields.0.push((name.0, value));
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// A name, borrowed wherever it has no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Fields<'a> {
    pub(super) fn read(record: &'a str) -> serde_json::Result<Self> {
        serde_json::from_str(record)
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(other, _)| other == name).map(|(_, value)| *value)
    }

    /// The same with objects as fields of their own, `a_b`, so many levels deep.
    fn flattened(self, levels: u8) -> serde_json::Result<Self> {
        let mut all = Vec::with_capacity(self.0.len());
        for (name, value) in self.0 {
            if levels == 0 || !value.get().starts_with('{') {
                all.push((name, value));
                continue;
            }
            let inner = Self::read(value.get())?.flattened(levels - 1)?;
            all.extend(inner.0.into_iter().map(|(below, value)| (format!("{name}_{below}").into(), value)));
        }
        Ok(Self(all))
    }
}

/// The column of a field: its new name, or its path with `_` for the dots.
pub(super) fn column_of(resource: &Resource, field: &str) -> String {
    resource.rename.get(field).cloned().unwrap_or_else(|| field.replace('.', "_"))
}

/// Whether records go on as they came.
pub(super) fn is_plain(resource: &Resource) -> bool {
    resource.select.is_empty() && resource.rename.is_empty() && resource.flatten == 0 && resource.deleted.is_none()
}

/// The record as the resource wants it, with the fields in `more` besides.
pub(super) fn shaped(
    record: &RawValue,
    resource: &Resource,
    more: Option<(&str, &RawValue)>,
) -> serde_json::Result<Box<RawValue>> {
    let all = Fields::read(record.get())?;
    let mut fields = if resource.select.is_empty() {
        let mut fields = all.flattened(resource.flatten)?;
        for (name, _) in &mut fields.0 {
            if let Some(new) = resource.rename.get(name.as_ref()) {
                *name = Cow::Owned(new.clone());
            }
        }
        fields
    } else {
        let mut fields = Fields::default();
        for field in &resource.select {
            if let Some(value) = json::at(record.get().as_bytes(), field)? {
                fields.0.push((column_of(resource, field).into(), value));
            }
        }
        fields
    };
    let deleted = resource.deleted.as_ref().map(|field| is_deleted(record, field)).transpose()?;
    let word = RawValue::from_string(deleted.unwrap_or_default().to_string())?;
    if deleted.is_some() {
        fields.0.push((DELETED.into(), &word));
    }
    fields.0.extend(more.map(|(name, value)| (name.to_owned().into(), value)));
    serde_json::value::to_raw_value(&fields)
}

/// A flag that is set, or a time at which it was deleted.
fn is_deleted(record: &RawValue, field: &str) -> serde_json::Result<bool> {
    let text = json::text(record.get().as_bytes(), field)?;
    Ok(text.is_some_and(|text| text != "false" && text != "0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(resource: &str, record: &str) -> String {
        let resource: Resource = toml::from_str(&format!("name = 'a'\npath = '/a'\n{resource}")).unwrap();
        let record = RawValue::from_string(record.to_owned()).unwrap();
        let parent = RawValue::from_string("7".to_owned()).unwrap();
        shaped(&record, &resource, Some(("order", &parent))).unwrap().get().to_owned()
    }

    #[test]
    fn fields_are_chosen_renamed_and_flattened_and_values_stay_as_they_came() {
        let record = r#"{"id":18446744073709551615,"a":{"b":1.10,"c":{"d":"x"}},"deleted_at":null}"#;
        assert_eq!(
            shape("select = ['id', 'a.b']\nrename = { id = 'key' }", record),
            r#"{"key":18446744073709551615,"a_b":1.10,"order":7}"#
        );
        assert_eq!(
            shape("flatten = 1\nrename = { a_b = 'b' }", record),
            r#"{"id":18446744073709551615,"b":1.10,"a_c":{"d":"x"},"deleted_at":null,"order":7}"#
        );
        assert!(shape("flatten = 2", record).contains(r#""a_c_d":"x""#));
        assert!(shape("deleted = 'deleted_at'", record).contains(r#""_deleted":false"#));
        let gone = r#"{"deleted_at":"2026-11-21"}"#;
        assert!(shape("deleted = 'deleted_at'", gone).contains(r#""_deleted":true"#));
    }
}
