//! The index of a store that has none of its own, in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;

use super::{Due, Key, Kind, Meta, Page, Scan};

/// Keys with what their values say of themselves, by name and by time.
#[derive(Debug, Default)]
pub(super) struct Index {
    keys: BTreeMap<Key, Entry>,
    /// Kind, connection, time, name.
    due: BTreeSet<(Kind, Box<str>, Timestamp, Box<str>)>,
    /// How many values of a kind and a connection have a tag.
    counts: BTreeMap<(Kind, Box<str>, Arc<str>), u64>,
    /// The tags: each text once.
    tags: BTreeSet<Arc<str>>,
}

#[derive(Clone, Debug)]
struct Entry {
    /// [`Timestamp::MAX`] for never.
    at: Timestamp,
    /// Empty for none.
    tag: Arc<str>,
}

impl Index {
    /// Takes note of a value.
    pub(super) fn set(&mut self, key: &Key, meta: &Meta) {
        let tag = self.tag(meta.tag.as_deref().unwrap_or_default());
        let at = match meta.due_at {
            Some(at) => at,
            None if tag.is_empty() => Timestamp::MIN,
            None => Timestamp::MAX,
        };
        self.remove(key);
        *self.counts.entry(Self::count_of(key, &tag)).or_default() += 1;
        self.keys.insert(key.clone(), Entry { at, tag });
        if at < Timestamp::MAX {
            self.due.insert(Self::place_of(key, at));
        }
    }

    /// Takes note that there is no such value.
    pub(super) fn remove(&mut self, key: &Key) {
        let Some(old) = self.keys.remove(key) else { return };
        self.due.remove(&Self::place_of(key, old.at));
        if let Some(count) = self.counts.get_mut(&Self::count_of(key, &old.tag)) {
            *count -= 1;
        }
    }

    fn tag(&mut self, tag: &str) -> Arc<str> {
        if let Some(known) = self.tags.get(tag) {
            return Arc::clone(known);
        }
        let new: Arc<str> = tag.into();
        self.tags.insert(Arc::clone(&new));
        new
    }

    fn place_of(key: &Key, at: Timestamp) -> (Kind, Box<str>, Timestamp, Box<str>) {
        (key.kind(), key.connection().into(), at, key.name().into())
    }

    fn count_of(key: &Key, tag: &Arc<str>) -> (Kind, Box<str>, Arc<str>) {
        (key.kind(), key.connection().into(), Arc::clone(tag))
    }

    /// The keys that are known.
    #[cfg(feature = "file")]
    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.keys.keys()
    }

    pub(super) fn list(&self, scan: &Scan) -> Page {
        use std::ops::Bound;
        let first = Key::first(scan.kind, scan.connection.as_deref(), &scan.prefix);
        let from = match scan.after.as_ref().filter(|after| **after >= first) {
            Some(after) => Bound::Excluded(after.clone()),
            None => Bound::Included(first),
        };
        let is_in = |key: &Key| {
            key.kind() == scan.kind
                && scan.connection.as_deref().is_none_or(|connection| key.connection() == connection)
        };
        let keys = self
            .keys
            .range((from, Bound::Unbounded))
            .take_while(|(key, _)| is_in(key))
            // Of one connection the names are in order.
            .take_while(|(key, _)| scan.connection.is_none() || key.name().starts_with(&scan.prefix))
            .filter(|(key, _)| key.name().starts_with(&scan.prefix))
            .filter(|(_, entry)| scan.tag.as_deref().is_none_or(|tag| *entry.tag == *tag))
            .map(|(key, _)| key.clone())
            .take(scan.limit + 1)
            .collect();
        Page::of(keys, scan.limit)
    }

    pub(super) fn due(&self, kind: Kind, connection: &str, before: Timestamp, limit: usize) -> Vec<Due> {
        self.due
            .range((kind, connection.into(), Timestamp::MIN, Box::default())..)
            .take_while(|(its_kind, its_connection, at, _)| {
                *its_kind == kind && **its_connection == *connection && *at <= before
            })
            .take(limit)
            .filter_map(|(_, _, at, name)| Some(Due { key: Key::new(kind, connection, name).ok()?, at: *at }))
            .collect()
    }

    pub(super) fn counts(&self, kind: Kind, connection: Option<&str>) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for ((its_kind, its_connection, tag), count) in &self.counts {
            if *its_kind == kind && *count > 0 && connection.is_none_or(|connection| **its_connection == *connection) {
                *counts.entry(tag.to_string()).or_default() += count;
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn key(path: &str) -> Key {
        Key::from_path(Kind::TOKEN, path).unwrap()
    }

    fn meta(due: Option<i64>, tag: &str) -> Meta {
        Meta { generation: 1, due_at: due.map(at), tag: Some(tag.to_owned()) }
    }

    fn index() -> Index {
        let mut index = Index::default();
        for (path, due, tag) in [
            ("b", Some(5), "on"),
            ("a", Some(9), "on"),
            ("c.b", Some(1), "off"),
            ("abc", None, "off"),
            ("c.abc", None, "on"),
        ] {
            index.set(&key(path), &meta(due, tag));
        }
        index.set(&key("abd"), &Meta::default());
        index.set(&key("b").of_kind(Kind::JOB), &Meta::default());
        index
    }

    fn paths(page: &Page) -> Vec<String> {
        page.keys.iter().map(Key::path).collect()
    }

    #[test]
    fn pages_follow_each_other_and_end() {
        let (index, mut scan, mut all) = (index(), Scan::of(Kind::TOKEN, 2), Vec::new());
        loop {
            let page = index.list(&scan);
            assert!(page.keys.len() <= 2);
            all.extend(paths(&page));
            match page.next {
                Some(next) => scan.after = Some(next),
                None => break,
            }
        }
        assert_eq!(all, ["c.abc", "c.b", "a", "abc", "abd", "b"]);
        let by = |connection: Option<&str>, prefix: &str, tag: Option<&str>| {
            let (connection, tag) = (connection.map(str::to_owned), tag.map(str::to_owned));
            paths(&index.list(&Scan { connection, prefix: prefix.into(), tag, ..Scan::of(Kind::TOKEN, 9) }))
        };
        assert_eq!(by(None, "ab", None), ["c.abc", "abc", "abd"]);
        assert_eq!(by(Some("default"), "ab", None), ["abc", "abd"]);
        assert_eq!(by(Some("c"), "", None), ["c.abc", "c.b"]);
        assert_eq!(by(None, "", Some("off")), ["c.b", "abc"]);
        assert_eq!(index.list(&Scan::of(Kind::JOB, 9)).keys, [key("b").of_kind(Kind::JOB)]);
    }

    #[test]
    fn what_is_due_comes_in_order_and_what_has_no_entry_first() {
        let mut index = index();
        let due = |index: &Index, before, limit| -> Vec<String> {
            index.due(Kind::TOKEN, "default", at(before), limit).iter().map(|due| due.key.path()).collect()
        };
        assert_eq!(due(&index, 9, 9), ["abd", "b", "a"]);
        assert_eq!(due(&index, 8, 9), ["abd", "b"]);
        assert_eq!(due(&index, 9, 1), ["abd"]);
        index.set(&key("abd"), &meta(Some(7), "on"));
        index.set(&key("b"), &meta(None, "off"));
        assert_eq!(due(&index, 9, 9), ["abd", "a"]);
        index.remove(&key("abd"));
        index.remove(&key("abd"));
        assert_eq!(due(&index, 9, 9), ["a"]);
    }

    #[test]
    fn counts_are_by_tag_and_by_connection() {
        let index = index();
        let of =
            |pairs: &[(&str, u64)]| pairs.iter().map(|(tag, n)| ((*tag).to_owned(), *n)).collect::<BTreeMap<_, _>>();
        assert_eq!(index.counts(Kind::TOKEN, None), of(&[("", 1), ("off", 2), ("on", 3)]));
        assert_eq!(index.counts(Kind::TOKEN, Some("c")), of(&[("off", 1), ("on", 1)]));
    }
}
