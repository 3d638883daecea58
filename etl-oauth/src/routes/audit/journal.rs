//! Where the events of the audit are kept: for the replicas to come where the store can be read back, else in memory.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use super::event::{Action, Event, Subject, trim};
use crate::routes::document::Document;
use token_keeper::store::{Key, Kind, Store, StoreError};

/// The events of one account.
const OF_ACCOUNT: Kind = Kind::named("audit");
/// Those of the whole function.
const OF_FUNCTION: Kind = Kind::named("journal");
/// Requests that were not let in.
const REFUSALS: Kind = Kind::named("refusals");

/// How many events of one account are kept, and how many refusals.
const KEPT: usize = 100;
/// How many events of the whole function are kept.
const KEPT_OF_ALL: usize = 400;
/// How many events may wait to be written, each of which may count for many.
const WAITING: usize = 10_000;
/// Among so many of the newest events that wait a repetition is looked for.
const RECENT: usize = 16;
/// So long do events wait for others, to be written with them.
const PAUSE: Duration = Duration::from_millis(500);
/// So long is a store that failed left alone.
const AGAIN: Duration = Duration::from_secs(1);

/// Where an event stands. What strangers cause stands apart: it never takes the place of anything else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Shelf {
    /// Those of one account.
    Account(Subject),
    /// Those of the whole function.
    Function,
    /// Requests that were not let in.
    Refusals,
}

impl Shelf {
    fn key(&self) -> Result<Key, StoreError> {
        match self {
            Self::Account(subject) => Key::new(OF_ACCOUNT, &subject.connection, &subject.account),
            Self::Function => Ok(Key::default().of_kind(OF_FUNCTION)),
            Self::Refusals => Ok(Key::default().of_kind(REFUSALS)),
        }
    }

    fn room(&self) -> usize {
        if *self == Self::Function { KEPT_OF_ALL } else { KEPT }
    }

    /// Those on which an event stands.
    fn of(event: &Event) -> Vec<Self> {
        match event.subject() {
            _ if event.action == Action::Refuse => vec![Self::Refusals],
            Some(subject) => vec![Self::Account(subject), Self::Function],
            None => vec![Self::Function],
        }
    }
}

/// The events of a function. Clones are one.
#[derive(Clone, Debug)]
pub(in crate::routes) struct Audit(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<Store>,
    /// What is not written yet, newest first.
    waiting: Mutex<Vec<Event>>,
    /// What could not be written; the next event of the shelf takes it along.
    kept_back: Mutex<BTreeMap<Shelf, Vec<Event>>>,
    news: Notify,
    /// One writes at a time.
    writing: tokio::sync::Mutex<()>,
}

impl Audit {
    /// An audit that is kept beside what the job remembers.
    pub(in crate::routes) fn new(store: Arc<Store>) -> Self {
        let (waiting, kept_back) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { store, waiting, kept_back, news: Notify::new(), writing: tokio::sync::Mutex::new(()) }))
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Event>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept_back(&self) -> MutexGuard<'_, BTreeMap<Shelf, Vec<Event>>> {
        self.0.kept_back.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `store`, or `memory` where the events end with the process.
    pub(in crate::routes) fn kept(&self) -> &'static str {
        if matches!(*self.0.store, Store::Memory(_)) { "memory" } else { "store" }
    }

    /// Takes an event in. Its caller waits for nothing: it is written and logged within a moment.
    pub(in crate::routes) fn note(&self, event: Event) {
        let mut waiting = self.waiting();
        // What repeats itself moves to the end, and so stays among the newest.
        let recent = waiting.len().saturating_sub(RECENT);
        if let Some(at) = waiting.iter().skip(recent).rposition(|one| one.repeats(&event)) {
            let one = waiting.remove(recent + at);
            waiting.push(Event { count: one.count + event.count, ..event });
        } else if waiting.len() < WAITING {
            waiting.push(event);
        }
        drop(waiting);
        self.0.news.notify_one();
    }

    /// Writes events down as they come, for as long as the process runs.
    pub(in crate::routes) async fn follow(&self) {
        loop {
            self.0.news.notified().await;
            tokio::time::sleep(PAUSE).await;
            if self.flush().await.is_err() {
                tokio::time::sleep(AGAIN).await;
                self.0.news.notify_one();
            }
        }
    }

    /// Writes down what waits.
    ///
    /// # Errors
    /// The store's. What could not be written waits on.
    pub(in crate::routes) async fn flush(&self) -> Result<(), StoreError> {
        let _one = self.0.writing.lock().await;
        let waiting = std::mem::take(&mut *self.waiting());
        waiting.iter().for_each(Event::log);
        let mut shelves: BTreeMap<Shelf, Vec<Event>> = BTreeMap::new();
        for event in waiting {
            for shelf in Shelf::of(&event) {
                shelves.entry(shelf).or_default().push(event.clone());
            }
        }
        let mut failed = Ok(());
        for (shelf, events) in shelves {
            if let Err(err) = self.write(&shelf, &events).await {
                tracing::debug!(error = %err, "failed to store events of the audit");
                self.keep_back(shelf, &events);
                failed = Err(err);
            }
        }
        failed
    }

    async fn write(&self, shelf: &Shelf, events: &[Event]) -> Result<(), StoreError> {
        let key = shelf.key()?;
        let before = self.kept_back().remove(shelf).unwrap_or_default();
        let document = Document { store: &self.0.store, key: &key };
        let written = document.update(|all: &mut Vec<Event>| {
            add(all, &before, shelf.room());
            add(all, events, shelf.room());
        });
        let written = written.await;
        if written.is_err() && !before.is_empty() {
            self.keep_back(shelf.clone(), &before);
        }
        written.map(drop)
    }

    fn keep_back(&self, shelf: Shelf, events: &[Event]) {
        let room = shelf.room();
        add(self.kept_back().entry(shelf).or_default(), events, room);
    }

    /// The events of an account, newest first; of a store that cannot be read this process's part.
    pub(in crate::routes) async fn history(&self, connection: &str, account: &str) -> Vec<Event> {
        let subject = Subject { connection: connection.to_owned(), account: account.to_owned() };
        match self.events(Some(subject.clone())).await {
            Ok(events) => events,
            Err(err) => {
                tracing::debug!(connection, account, error = %err, "failed to read the history of an account");
                self.kept_back().get(&Shelf::Account(subject)).cloned().unwrap_or_default()
            }
        }
    }

    /// The events of an account, or of the whole function and what was refused; newest first.
    ///
    /// # Errors
    /// The store's.
    pub(in crate::routes) async fn events(&self, of: Option<Subject>) -> Result<Vec<Event>, StoreError> {
        // What was just done is in the answer.
        let _ = self.flush().await;
        let shelves = match of {
            Some(subject) => vec![Shelf::Account(subject)],
            None => vec![Shelf::Function, Shelf::Refusals],
        };
        let mut events = Vec::new();
        for shelf in shelves {
            let key = shelf.key()?;
            events.extend(Document { store: &self.0.store, key: &key }.read::<Vec<Event>>().await?);
            events.extend(self.kept_back().get(&shelf).cloned().unwrap_or_default());
        }
        events.sort_by_key(|event| std::cmp::Reverse(event.at));
        Ok(events)
    }
}

/// Adds events; one that is there already was written by a try whose outcome was not known.
fn add(all: &mut Vec<Event>, more: &[Event], room: usize) {
    let there: HashSet<_> = all.iter().map(|event| (event.at, event.action, event.actor.clone())).collect();
    let is_new =
        |event: &&Event| !there.contains(&(event.at, event.action, event.actor.clone())) || !all.contains(event);
    let new: Vec<_> = more.iter().filter(is_new).cloned().collect();
    all.extend(new);
    all.sort_by_key(|event| std::cmp::Reverse(event.at));
    trim(all, room);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::audit::STRANGER;
    use jiff::Timestamp;
    use token_keeper::store::Memory;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn audit() -> Audit {
        Audit::new(Arc::new(Store::Memory(Memory::default())))
    }

    #[tokio::test]
    async fn equal_calls_are_one_event_with_a_count_and_decisions_stand_alone() {
        let audit = audit();
        for second in 0..50 {
            audit.note(Event::new("caller:a", Action::Token, at(second)).about("default", "ada"));
            audit.note(Event::new("caller:a", Action::Token, at(second)).about("default", "bob"));
            audit.note(Event::new("operator", Action::SignIn, at(second)));
        }
        let ada = Subject { connection: "default".into(), account: "ada".into() };
        let events = audit.events(Some(ada)).await.unwrap();
        assert_eq!((events.len(), events[0].count, events[0].at), (1, 50, at(49)));
        let all = audit.events(None).await.unwrap();
        assert_eq!(all.len(), 52);
        assert!(all.windows(2).all(|pair| pair[0].at >= pair[1].at), "newest first");
    }

    #[tokio::test]
    async fn what_strangers_cause_takes_the_place_of_nothing_else() {
        let audit = audit();
        audit.note(Event::new("operator", Action::SignIn, at(0)));
        for second in 1..2000 {
            let event = Event::new(STRANGER, Action::Refuse, at(second)).with_outcome(&format!("code_{second}"));
            audit.note(event);
        }
        let events = audit.events(None).await.unwrap();
        assert_eq!(events.len(), KEPT + 1);
        assert_eq!(events[KEPT].action, Action::SignIn);
    }
}
