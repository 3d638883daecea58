//! The index entry beside a sealed text, which is a JSON object. A reader that does not know of entries passes over it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Bytes, Meta};

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    generation: u64,
    due: Option<Timestamp>,
    tag: Option<String>,
}

#[derive(Serialize)]
struct Added<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    due: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<&'a str>,
}

/// The sealed text with the entry in it.
pub(super) fn with_entry(mut sealed: Bytes, meta: &Meta) -> Bytes {
    // Strings alone: nothing of it can fail to serialise.
    let json = serde_json::to_vec(&Added { due: meta.due_at, tag: meta.tag.as_deref() }).unwrap_or_default();
    if json.len() > 2 && sealed.pop() == Some(b'}') {
        sealed.push(b',');
        sealed.extend_from_slice(&json[1..]);
    }
    sealed
}

/// The entry in a sealed text; none where that makes no sense.
pub(super) fn entry(sealed: &[u8]) -> Meta {
    let Entry { generation, due, tag } = serde_json::from_slice(sealed).unwrap_or_default();
    Meta { generation, due_at: due, tag }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_comes_back_and_leaves_the_rest_as_it_is() {
        let sealed = br#"{"sealed":1,"generation":7,"text":"x"}"#;
        let meta = Meta { generation: 7, due_at: Some(Timestamp::UNIX_EPOCH), tag: Some("on".into()) };
        let with = with_entry(Bytes::new(sealed.to_vec()), &meta);
        assert!(with.starts_with(&sealed[..sealed.len() - 1]));
        assert_eq!(entry(&with), meta);
        let without = with_entry(Bytes::new(sealed.to_vec()), &Meta::default());
        assert_eq!(*without, sealed);
        assert_eq!(entry(&without), Meta { generation: 7, ..Meta::default() });
        assert_eq!(entry(b"{"), Meta::default());
    }
}
