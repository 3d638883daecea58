//! Places in JSON: JSON pointers (RFC 6901, `/data/0/id`), and paths with dots (`data.0.id`), which definitions used before.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// The first name of a path, and the rest of it; `None` at its end. A rest is a path of the same form.
pub(crate) fn split(path: &str) -> Option<(Cow<'_, str>, &str)> {
    if let Some(pointer) = path.strip_prefix('/') {
        let (name, rest) = pointer.find('/').map_or((pointer, ""), |at| pointer.split_at(at));
        let name = if name.contains('~') { name.replace("~1", "/").replace("~0", "~").into() } else { name.into() };
        return Some((name, rest));
    }
    let (name, rest) = path.split_once('.').unwrap_or((path, ""));
    (!path.is_empty()).then_some((name.into(), rest))
}

/// Whether a member of this name is meant by all that is left of a path: in a path with dots a name may have dots of its own.
pub(crate) fn is_whole(path: &str, name: &str) -> bool {
    !path.starts_with('/') && path == name
}

/// The value at a path.
pub(crate) fn at<'a>(fields: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(value) = fields.get(path).filter(|_| !path.starts_with('/')) {
        return Some(value);
    }
    let (name, rest) = split(path)?;
    below(fields.get(&*name)?, rest)
}

/// The value at a path below another one; the empty path is that one itself.
pub(crate) fn below<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    let Some((name, rest)) = split(path) else { return Some(value) };
    match value {
        Value::Object(fields) => at(fields, path),
        Value::Array(items) => below(items.get(name.parse::<usize>().ok()?)?, rest),
        _ => None,
    }
}

/// Removes the value at a path; from a list it leaves a null, so that the others keep their places.
pub(crate) fn remove(fields: &mut Map<String, Value>, path: &str) {
    if !path.starts_with('/') && fields.remove(path).is_some() {
        return;
    }
    let Some((name, rest)) = split(path) else { return };
    if rest.is_empty() {
        fields.remove(&*name);
    } else if let Some(value) = fields.get_mut(&*name) {
        remove_below(value, rest);
    }
}

fn remove_below(value: &mut Value, path: &str) {
    let Some((name, rest)) = split(path) else { return };
    match value {
        Value::Object(fields) => remove(fields, path),
        Value::Array(items) => {
            let Some(item) = name.parse::<usize>().ok().and_then(|place| items.get_mut(place)) else { return };
            if rest.is_empty() {
                *item = Value::Null;
            } else {
                remove_below(item, rest);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Map<String, Value> {
        let Value::Object(fields) = value else { panic!("an object") };
        fields
    }

    #[test]
    fn pointers_and_paths_with_dots_lead_to_the_same_places() {
        let it =
            fields(json!({"a": {"b": [{"c": 1}, 2]}, "x.y": 3, "x": {"y": 4}, "m~n/o": 5, "": 6, "d": {"e.f": 7}}));
        for (path, wanted) in [
            ("/a/b/0/c", json!(1)),
            ("a.b.0.c", json!(1)),
            ("/a/b/1", json!(2)),
            ("a.b.1", json!(2)),
            ("x.y", json!(3)),
            ("/x.y", json!(3)),
            ("/x/y", json!(4)),
            ("/m~0n~1o", json!(5)),
            ("/", json!(6)),
            ("d.e.f", json!(7)),
            ("/d/e.f", json!(7)),
        ] {
            assert_eq!(at(&it, path), Some(&wanted), "{path}");
        }
        for nothing in ["/a/c", "a.c", "/a/b/2", "/a/b/x", "a.b.0.c.d", "/x/y/z", "/a/b/-", "q"] {
            assert_eq!(at(&it, nothing), None, "{nothing}");
        }
    }

    #[test]
    fn a_token_is_removed_wherever_it_stands() {
        let mut it = fields(json!({"a": {"b": [{"c": 1, "d": 2}, 2]}, "x.y": 3}));
        for path in ["/a/b/0/c", "a.b.1", "x.y", "nothing.there"] {
            remove(&mut it, path);
        }
        assert_eq!(Value::from(it), json!({"a": {"b": [{"d": 2}, null]}}));
    }
}
