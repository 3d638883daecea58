//! Parts of an answer, found by path and left as they came: nothing but the way to them is read.

use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The value at `path` (`data.items`; empty for the whole) of a JSON text; `None` where there is none, or a null.
///
/// # Errors
/// When the text is no JSON.
pub fn at<'a>(json: &'a [u8], path: &str) -> Result<Option<&'a RawValue>, serde_json::Error> {
    let mut found: &RawValue = serde_json::from_slice(json)?;
    for key in path.split('.').filter(|key| !key.is_empty()) {
        if !found.get().starts_with('{') {
            return Ok(None);
        }
        match Member(key).deserialize(&mut serde_json::Deserializer::from_str(found.get()))? {
            Some(value) => found = value,
            None => return Ok(None),
        }
    }
    Ok(Some(found).filter(|value| value.get() != "null"))
}

/// The records at `path`, each as it came. No list there is an empty one.
///
/// # Errors
/// When the text is no JSON.
pub fn records<'a>(json: &'a [u8], path: &str) -> Result<Vec<&'a RawValue>, serde_json::Error> {
    match at(json, path)? {
        Some(list) if list.get().starts_with('[') => serde_json::from_str(list.get()),
        _ => Ok(Vec::new()),
    }
}

/// The value at `path` as text, where it is a string that is not empty, a number or a truth value.
pub(crate) fn text(json: &[u8], path: &str) -> Result<Option<String>, serde_json::Error> {
    let Some(value) = at(json, path)? else { return Ok(None) };
    Ok(match value.get().as_bytes() {
        [b'"', ..] => Some(serde_json::from_str::<String>(value.get())?).filter(|text| !text.is_empty()),
        [b'{' | b'[', ..] => None,
        _ => Some(value.get().to_owned()),
    })
}

/// One member of an object, raw.
struct Member<'k>(&'k str);

impl<'de> DeserializeSeed<'de> for Member<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key_seed(Name)? {
            if key == self.0 {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// A member's name, borrowed wherever it has no escapes.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_by_path_and_left_as_they_came() {
        let json =
            br#" {"a": {"b\u0062": [ {"x" : 1.0}, 2 ]}, "n": null, "t": "x\n", "e": "", "k": 12345678901234567890} "#;
        assert_eq!(at(json, "a.bb").unwrap().unwrap().get(), r#"[ {"x" : 1.0}, 2 ]"#);
        let all: Vec<_> = records(json, "a.bb").unwrap().iter().map(|record| record.get()).collect();
        assert_eq!(all, [r#"{"x" : 1.0}"#, "2"]);
        for nothing in ["n", "a.c", "t.x", "a.bb.x"] {
            assert!(at(json, nothing).unwrap().is_none(), "{nothing}");
            assert!(records(json, nothing).unwrap().is_empty());
        }
        assert_eq!(text(json, "t").unwrap().as_deref(), Some("x\n"));
        assert_eq!(text(json, "k").unwrap().as_deref(), Some("12345678901234567890"));
        assert_eq!((text(json, "e").unwrap(), text(json, "a").unwrap()), (None, None));
        assert_eq!(records(b"[1,2]", "").unwrap().len(), 2);
        assert!(at(b"{\"a\":", "a").is_err() && at(b"[1] x", "").is_err() && at(b"<html>", "").is_err());
    }
}
