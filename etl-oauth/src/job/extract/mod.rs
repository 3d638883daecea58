//! Copies lists of any API, without code: a TOML file names them ([`Plan`]), and where the records go.
//!
//! Nothing is lost and nothing comes twice, whenever the process is killed. A part (a file, an object, a batch) is made of
//! whole pages; its name follows from the [ledger](super::JobState) alone; the ledger moves on, by compare-and-swap, after
//! the part is safe. A run after a crash begins with the page where the ledger stands, and writes what may be
//! there already once more, to the same name. Runs of an account take [turns](super::Turn), so that no two of them write
//! side by side.
//!
//! Memory holds two pages and two parts, however many records there are.

mod bucket;
mod checkpoint;
mod folder;
mod plan;
mod sink;
mod webhook;
mod writer;

pub use plan::{Cursor, CursorFormat, Plan, Resource};

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::task::JoinHandle;

use super::{Context, Entry, JobError, Outcome, Turn, progress::Step};
use crate::format::count;
use checkpoint::{Checkpoint, TIED};
use plan::Style;
use sink::Sink;
use token_keeper::{
    api::{ApiError, Response, json},
    store::DEFAULT_ACCOUNT,
};
use writer::{Writer, text};

/// The name of the notes in the ledger.
const NOTES: &str = "extract";

type Positions = BTreeMap<String, Checkpoint>;

/// Copies what is new of every resource of the plan, one after the other.
///
/// # Errors
/// The API's, the ledger's and the sink's. What was copied until then stays, and is not copied again.
pub async fn run(plan: &Plan, context: &Context) -> Result<Outcome, JobError> {
    let sink = Sink::open(plan, context.outlets.secrets())?;
    let turn = context.ledger.turn(context.api.keeper().lease()).await?;
    let mut idle = Idle { entry: context.ledger.read::<Positions>(NOTES).await?, spare: Writer::default() };
    let mut copied = BTreeMap::new();
    for resource in plan.resources() {
        let copy = Copy { resource, context, turn: &turn, sink: &sink, style: plan.target().style() };
        let (next, records) = copy.run(idle).await?;
        idle = next;
        copied.insert(resource.name.clone(), records);
    }
    outcome(&copied)
}

/// The copying of one resource.
struct Copy<'a> {
    resource: &'a Resource,
    context: &'a Context,
    turn: &'a Turn,
    sink: &'a Sink,
    style: Style,
}

/// What no writer uses at the moment.
struct Idle {
    entry: Entry<Positions>,
    /// An empty part, whose memory is taken for the next.
    spare: Writer,
}

/// A write that goes on while further pages are read.
type Writing = JoinHandle<Result<Idle, JobError>>;

impl Copy<'_> {
    async fn run(&self, idle: Idle) -> Result<(Idle, u64), JobError> {
        let name = &self.resource.name;
        let mut position = idle.entry.notes.get(name).cloned().unwrap_or_default();
        let before = position.records;
        let paging = self.resource.paging.clone().or_else(|| self.context.api.paging()).unwrap_or_default();
        let request = self.request(&position);
        let mut pages = request.pages_from(paging, self.resource.max_pages, position.next.clone());
        let mut part = Writer::default();
        let mut writing: Result<Writing, Idle> = Err(idle);
        while let Some(page) = pages.next().await {
            let taken = match page {
                Ok(page) => self.take(&page, &mut part, &mut position).map(|()| page),
                Err(err) => Err(err.into()),
            };
            let page = match taken {
                Ok(page) => page,
                Err(err) => {
                    // What is being written is finished first: the next run begins where this one ends.
                    settled(writing).await?;
                    return Err(err);
                }
            };
            if part.is_full(self.resource.batch)
                && let Some(next) = page.next_page()
            {
                let Idle { entry, spare } = settled(writing).await?;
                position.next = Some(next.clone());
                writing = Ok(self.write(entry, std::mem::replace(&mut part, spare), &mut position, false));
            }
        }
        let mut idle = settled(writing).await?;
        if part.records > 0 {
            idle = settled(Ok(self.write(idle.entry, part, &mut position, true))).await?;
        } else {
            self.turn.check()?;
            self.sink.remove(&self.name(&position)).await?;
            idle.entry.notes.insert(name.clone(), position.clone().finished());
            idle.entry = self.context.ledger.write(NOTES, idle.entry).await?;
        }
        let records = position.records - before;
        let step = Step { records: position.records, parts: position.part, done: true };
        self.context.progress.set(self.account(), name, step);
        tracing::info!(account = self.account(), resource = name, records, parts = position.part, "copied");
        Ok((idle, records))
    }

    fn account(&self) -> &str {
        self.context.api.keeper().account()
    }

    fn name(&self, position: &Checkpoint) -> String {
        let name = position.name(&self.resource.name, self.style.format.ending());
        match self.account() {
            DEFAULT_ACCOUNT => name,
            account => format!("{account}/{name}"),
        }
    }

    fn request(&self, position: &Checkpoint) -> token_keeper::api::Request {
        let mut request = self.context.api.get(&self.resource.path);
        for (name, value) in &self.resource.params {
            request = request.query(name, value);
        }
        if let Some(cursor) = &self.resource.cursor
            && let Some(value) = position.since.parameter(cursor)
        {
            request = request.query(&cursor.parameter, value);
        }
        request
    }

    /// Takes what is new of a page into the part.
    fn take(&self, page: &Response, part: &mut Writer, position: &mut Checkpoint) -> Result<(), JobError> {
        let resource = self.resource;
        let mut took = Ok(());
        json::each(&page.body, &resource.records, |record| {
            if took.is_ok() {
                took = self.take_record(record, part, position);
            }
        })
        .map_err(|err| ApiError::malformed(http::Method::GET, resource.path.clone(), &err))?;
        took
    }

    fn take_record(&self, record: &RawValue, part: &mut Writer, position: &mut Checkpoint) -> Result<(), JobError> {
        let resource = self.resource;
        let wrong = |what: &str| JobError::Refused(format!("a record of {} has no {what}", resource.name));
        if let (Some(cursor), Some(key)) = (&resource.cursor, &resource.key) {
            let value = text(record, &cursor.field).ok_or_else(|| wrong(&cursor.field))?;
            let key = text(record, key).ok_or_else(|| wrong(key))?;
            if !position.since.is_new(&value, &key) {
                return Ok(());
            }
            position.high.take(&value, &key);
            if position.high.is_full() {
                let (name, field) = (&resource.name, &cursor.field);
                let why =
                    format!("more than {TIED} records of {name} have one value of {field}: choose a finer cursor");
                return Err(JobError::Refused(why));
            }
        }
        part.add(record, resource, self.style).map_err(|why| wrong(&format!("shape that can be written: {why}")))
    }

    /// Writes a part, and after it the ledger. With the last part the run is over in the same write: a crash between the two
    /// would begin the run again behind its own parts.
    fn write(&self, mut entry: Entry<Positions>, part: Writer, position: &mut Checkpoint, last: bool) -> Writing {
        let (resource, name, kind) = (self.resource.name.clone(), self.name(position), self.style.format.media_type());
        position.part += 1;
        position.records += part.records;
        let (sink, context, position) = (self.sink.clone(), self.context.clone(), position.clone());
        let turn = self.turn.clone();
        tokio::spawn(token_keeper::trace_context::carry(async move {
            turn.check()?;
            let bytes = Bytes::from(part.bytes);
            sink.put(&name, kind, bytes.clone()).await?;
            let step = Step { records: position.records, parts: position.part, done: false };
            entry.notes.insert(resource.clone(), if last { position.finished() } else { position });
            let entry = context.ledger.write(NOTES, entry).await?;
            context.progress.set(context.api.keeper().account(), &resource, step);
            tracing::info!(resource, part = name, records = step.records, "safe");
            Ok(Idle { entry, spare: Writer::reusing(bytes) })
        }))
    }
}

/// Waits until what is being written is safe.
async fn settled(writing: Result<Writing, Idle>) -> Result<Idle, JobError> {
    match writing {
        Ok(task) => task.await.unwrap_or_else(|_| Err(JobError::Sink("the function is stopping".into()))),
        Err(idle) => Ok(idle),
    }
}

fn outcome(copied: &BTreeMap<String, u64>) -> Result<Outcome, JobError> {
    let lines: Vec<String> =
        copied.iter().map(|(name, records)| format!("{name}: {}", count(*records, "new record"))).collect();
    let json = serde_json::json!({ "copied": copied });
    Outcome::list("Copied", &lines, json)
}
