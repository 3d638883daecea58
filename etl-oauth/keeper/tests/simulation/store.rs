//! A store with compare-and-swap and with leases by its clients' clocks, and five ways to break the protocol on it.

use std::time::Duration;

use jiff::Timestamp;
use token_keeper::{
    renewal::Stored,
    store::{Acquired, StoreError, Version},
    token::{Health, Record},
};

/// One of the protocol's safeguards, taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Nothing is broken.
    Nothing,
    /// The lease is given to whoever asks.
    Lease,
    /// A holder of the lease works with the record that it knew before, over whatever version is stored.
    Reread,
    /// No intent is written.
    Intent,
    /// A write does not look at the version.
    Swap,
    /// No failure is written down.
    Note,
}

/// What is stored of one account.
#[derive(Clone, Debug)]
pub struct Slot {
    broken: Broken,
    record: Option<(Record, u64)>,
    lease: Option<(String, Timestamp)>,
}

impl Slot {
    pub fn new(broken: Broken) -> Self {
        Self { broken, record: None, lease: None }
    }

    pub fn record(&self) -> Option<&Record> {
        self.record.as_ref().map(|(record, _)| record)
    }

    /// What changes whenever anything does.
    pub fn mark(&self) -> (Option<u64>, Option<&(String, Timestamp)>) {
        (self.record.as_ref().map(|(_, version)| *version), self.lease.as_ref())
    }

    pub fn is_leased(&self, now: Timestamp) -> bool {
        self.lease.as_ref().is_some_and(|(_, end)| *end > now)
    }

    /// Reads; `known` is what the reader knew before.
    pub fn load(&self, known: Option<&Record>) -> Option<Stored> {
        let (record, version) = self.record.as_ref()?;
        let record = known.filter(|_| self.broken == Broken::Reread).unwrap_or(record);
        Some(Stored { record: record.clone(), version: Version::new(version) })
    }

    pub fn save(&mut self, record: &Record, was: Option<&Version>) -> Result<Version, StoreError> {
        let version = self.record.as_ref().map(|(_, version)| *version);
        if self.broken != Broken::Swap && version.map(Version::new).as_ref() != was {
            return Err(StoreError::Conflict);
        }
        let mut record = record.clone();
        if self.broken == Broken::Intent {
            record.intent = None;
        }
        if self.broken == Broken::Note {
            record.health = Health::default();
        }
        let version = version.unwrap_or(0) + 1;
        self.record = Some((record, version));
        Ok(Version::new(version))
    }

    /// Somebody writes the same record for a reason of their own.
    pub fn touch(&mut self) {
        if let Some((_, version)) = &mut self.record {
            *version += 1;
        }
    }

    pub fn acquire(&mut self, owner: &str, ttl: Duration, now: Timestamp) -> Acquired {
        let mut until = now + ttl;
        match &self.lease {
            Some((holder, end)) if holder == owner => until = until.max(*end),
            Some((_, end)) if *end > now && self.broken == Broken::Lease => return Acquired::Until(until),
            Some((_, end)) if *end > now => return Acquired::Busy,
            _ => {}
        }
        self.lease = Some((owner.to_owned(), until));
        Acquired::Until(until)
    }

    pub fn release(&mut self, owner: &str) {
        if self.lease.as_ref().is_some_and(|(holder, _)| holder == owner) {
            self.lease = None;
        }
    }
}
