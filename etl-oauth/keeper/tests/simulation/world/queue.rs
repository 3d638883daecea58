//! What is to happen, by time; of two things at the same time, the one that was put first.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
};

struct Entry<T>(i64, u64, T);

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl<T> Eq for Entry<T> {}
impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

pub(super) struct Queue<T> {
    entries: BinaryHeap<Reverse<Entry<T>>>,
    count: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { entries: BinaryHeap::new(), count: 0 }
    }
}

impl<T> Queue<T> {
    pub(super) fn put(&mut self, at: i64, what: T) {
        self.count += 1;
        self.entries.push(Reverse(Entry(at, self.count, what)));
    }

    pub(super) fn next(&mut self) -> Option<(i64, T)> {
        self.entries.pop().map(|Reverse(Entry(at, _, what))| (at, what))
    }
}
