//! Parts of an answer, found by path and left as they came: nothing but the way to them is read.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::json_path;

/// The value at `path` (`/data/items`, RFC 6901, or `data.items`; empty for the whole) of a JSON text; `None` where there is none, or a null.
///
/// # Errors
/// When the text is no JSON.
pub fn at<'a>(json: &'a [u8], path: &str) -> Result<Option<&'a RawValue>, serde_json::Error> {
    let mut found = None;
    // The last one counts, where a name is there twice.
    walk(json, Way { path, each: false, found: &mut |value| found = Some(value) })?;
    Ok(found.filter(|value| value.get() != "null"))
}

/// The records at `path`, each as it came. No list there is an empty one.
///
/// # Errors
/// When the text is no JSON.
pub fn records<'a>(json: &'a [u8], path: &str) -> Result<Vec<&'a RawValue>, serde_json::Error> {
    let mut all = Vec::new();
    each(json, path, |record| all.push(record))?;
    Ok(all)
}

/// Gives the records at `path` one by one, each as it came; the text is read once. After an error some were given.
///
/// # Errors
/// When the text is no JSON.
pub fn each<'a>(json: &'a [u8], path: &str, mut take: impl FnMut(&'a RawValue)) -> Result<(), serde_json::Error> {
    walk(json, Way { path, each: true, found: &mut take })
}

/// The value at `path` as text, where it is a string that is not empty, a number or a truth value.
///
/// # Errors
/// When the text is no JSON.
pub fn text(json: &[u8], path: &str) -> Result<Option<String>, serde_json::Error> {
    let Some(value) = at(json, path)? else { return Ok(None) };
    Ok(match value.get().as_bytes() {
        [b'"', ..] => Some(serde_json::from_str::<String>(value.get())?).filter(|text| !text.is_empty()),
        [b'{' | b'[', ..] => None,
        _ => Some(value.get().to_owned()),
    })
}

fn walk<'a>(json: &'a [u8], way: Way<'_, 'a>) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    way.deserialize(&mut deserializer)?;
    deserializer.end()
}

/// The rest of the way to a value, or to each one of a list.
struct Way<'w, 'de> {
    path: &'w str,
    each: bool,
    found: &'w mut dyn FnMut(&'de RawValue),
}

impl<'de> DeserializeSeed<'de> for Way<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.path.is_empty() && !self.each {
            (self.found)(<&RawValue>::deserialize(deserializer)?);
            return Ok(());
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Way<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let first = json_path::split(self.path);
        while let Some(name) = map.next_key_seed(Name)? {
            let path = match &first {
                Some(_) if json_path::is_whole(self.path, &name) => Some(""),
                Some((key, rest)) if *key == name => Some(*rest),
                _ => None,
            };
            if let Some(path) = path {
                map.next_value_seed(Way { path, each: self.each, found: &mut *self.found })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if let Some((place, path)) = json_path::split(self.path) {
            let place = place.parse::<usize>().unwrap_or(usize::MAX);
            for before in 0..=place {
                if before == place {
                    list.next_element_seed(Way { path, each: self.each, found: &mut *self.found })?;
                } else if list.next_element::<IgnoredAny>()?.is_none() {
                    break;
                }
            }
        } else {
            while let Some(record) = list.next_element()? {
                (self.found)(record);
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    // Anything else is the end of the way.
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
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
        assert_eq!(at(json, "/a/bb/0/x").unwrap().unwrap().get(), "1.0");
        assert_eq!(text(json, "a.bb.1").unwrap().as_deref(), Some("2"));
        assert_eq!(records(json, "/a/bb").unwrap().len(), 2);
        assert_eq!(text(br#"{"@odata.nextLink":"u"}"#, "@odata.nextLink").unwrap().as_deref(), Some("u"));
        assert!(at(json, "/a/bb/2").unwrap().is_none() && at(json, "/a/bb/x").unwrap().is_none());
        for nothing in ["n", "a.c", "t.x", "a.bb.x"] {
            assert!(at(json, nothing).unwrap().is_none(), "{nothing}");
            assert!(records(json, nothing).unwrap().is_empty());
        }
        assert_eq!(text(json, "t").unwrap().as_deref(), Some("x\n"));
        assert_eq!(text(json, "k").unwrap().as_deref(), Some("12345678901234567890"));
        assert_eq!((text(json, "e").unwrap(), text(json, "a").unwrap()), (None, None));
        assert_eq!(records(b"[1,2]", "").unwrap().len(), 2);
        assert!(records(br#"{"": [1], "x": [2]}"#, "").unwrap().is_empty());
        assert!(at(b"{\"a\":", "a").is_err() && at(b"[1] x", "").is_err() && at(b"<html>", "").is_err());
    }
}
