//! The copying of one resource.

use std::time::Instant;

use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::value::RawValue;
use tokio::task::JoinHandle;

use super::{
    NOTES, Positions, Report,
    checkpoint::{Checkpoint, TIED},
    plan::{Plan, Style},
    record::{is_plain, shaped},
    resource::{Parent, Resource},
    sink::{Part, Sink, Written},
    writer::{Writer, text},
};
use crate::job::{Context, Entry, JobError, Turn, progress::Step};
use token_keeper::{
    api::{ApiError, Paging, Request, Response, json},
    store::DEFAULT_ACCOUNT,
};

/// The copying of one resource.
pub(super) struct Copy<'a> {
    pub(super) plan: &'a Plan,
    pub(super) resource: &'a Resource,
    pub(super) context: &'a Context,
    pub(super) turn: &'a Turn,
    pub(super) sink: &'a Sink,
    pub(super) style: Style,
}

/// What no writer uses at the moment.
pub(super) struct Idle {
    entry: Entry<Positions>,
    /// An empty part, whose memory is taken for the next.
    spare: Writer,
    /// What was made of the parts so far.
    report: Report,
}

impl Idle {
    pub(super) fn new(entry: Entry<Positions>) -> Self {
        Self { entry, spare: Writer::default(), report: Report::default() }
    }

    fn count(&mut self, bytes: &Bytes, written: &Written) {
        self.report.parts += 1;
        self.report.bytes += bytes.len() as u64;
        self.report.dead += written.dead;
        self.report.discarded += written.discarded;
    }
}

/// A write that goes on while further pages are read.
type Writing = JoinHandle<Result<Idle, JobError>>;

impl Copy<'_> {
    pub(super) async fn run(&self, mut idle: Idle) -> Result<(Idle, Report), JobError> {
        let (name, started) = (&self.resource.name, Instant::now());
        idle.report = Report::default();
        if let Some(position) = self.sink.position(self.account(), name).await? {
            // The ledger's copy is for people.
            idle.entry.notes.insert(name.clone(), position);
        }
        let mut position = idle.entry.notes.get(name).cloned().unwrap_or_default();
        let (before, mut read) = (position.records, 0);
        let walked = self.walked();
        let request = self.request(&position);
        let mut pages = request.pages_from(self.paging(walked), walked.max_pages, position.next.clone());
        let mut part = Writer::default();
        let mut writing: Result<Writing, Idle> = Err(idle);
        while let Some(page) = pages.next().await {
            let taken = match page {
                Ok(page) => self.take(&page, &mut part, &mut position, &mut read).await.map(|()| page),
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
                let mut idle = settled(writing).await?;
                position.next = Some(next.clone());
                let full = std::mem::replace(&mut part, std::mem::take(&mut idle.spare));
                writing = Ok(self.write(idle, full, &mut position, false));
            }
        }
        let mut idle = settled(writing).await?;
        if part.records > 0 {
            idle = settled(Ok(self.write(idle, part, &mut position, true))).await?;
        } else {
            self.turn.check()?;
            let schema = schema_of(&idle, name);
            let before = (position.run, position.part);
            let after = Checkpoint { schema: schema.clone(), ..position.clone().finished() };
            let name = self.name(&position);
            let format = self.style.format;
            let (resource, account) = (self.resource, self.account());
            let end = Part { resource, account, name, format, bytes: Bytes::new(), before, after, last: true, schema };
            self.sink.finish(&end).await?;
            idle.entry.notes.insert(self.resource.name.clone(), end.after);
            idle.entry = self.context.ledger.write(NOTES, idle.entry).await?;
        }
        let report = Report {
            records: position.records - before,
            pages: read,
            milliseconds: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            ..idle.report
        };
        let step = Step { records: position.records, parts: position.part, done: true };
        self.context.progress.set(self.account(), name, step);
        tracing::info!(
            account = self.account(),
            resource = name,
            records = report.records,
            parts = position.part,
            "copied"
        );
        Ok((idle, report))
    }

    fn account(&self) -> &str {
        self.context.api.keeper().account()
    }

    /// The parent of a child, for its list is what is walked; else the resource itself.
    fn walked(&self) -> &Resource {
        let parent = self.resource.parent.as_ref().and_then(|parent| self.plan.resource(&parent.resource));
        parent.unwrap_or(self.resource)
    }

    fn paging(&self, resource: &Resource) -> Paging {
        resource.paging.clone().or_else(|| self.context.api.paging()).unwrap_or_default()
    }

    fn name(&self, position: &Checkpoint) -> String {
        let name = position.name(&self.resource.name, self.style.format.ending());
        match self.account() {
            DEFAULT_ACCOUNT => name,
            account => format!("{account}/{name}"),
        }
    }

    fn request(&self, position: &Checkpoint) -> Request {
        let walked = self.walked();
        let mut request = self.ask(walked, &walked.path);
        if let Some(cursor) = &walked.cursor
            && let (Some(parameter), Some(value)) = (&cursor.parameter, position.since.parameter(cursor))
        {
            request = request.set(parameter, &value);
        }
        request
    }

    fn ask(&self, resource: &Resource, path: &str) -> Request {
        let mut request = match &resource.body {
            Some(body) => self.context.api.post(path).body_json(body).reads_only(),
            None => self.context.api.get(path),
        };
        for (name, value) in &resource.params {
            request = request.query(name, value);
        }
        request
    }

    /// Takes what is new of a page into the part.
    async fn take(
        &self,
        page: &Response,
        part: &mut Writer,
        position: &mut Checkpoint,
        read: &mut u64,
    ) -> Result<(), JobError> {
        *read += 1;
        let walked = self.walked();
        let (mut fresh, mut took) = (Vec::new(), Ok(()));
        json::each(&page.body, &walked.records, |record| {
            if took.is_ok() {
                match is_new(walked, record, position) {
                    Ok(true) if self.resource.parent.is_some() => fresh.push(record),
                    Ok(true) => took = self.add(record, None, part),
                    Ok(false) => {}
                    Err(err) => took = Err(err),
                }
            }
        })
        .map_err(|err| ApiError::malformed(http::Method::GET, walked.path.clone(), &err))?;
        took?;
        if let Some(parent) = &self.resource.parent {
            for record in fresh {
                self.take_children(record, parent, part, read).await?;
            }
        }
        Ok(())
    }

    /// Takes all that belongs to a record of the parent into the part.
    async fn take_children(
        &self,
        record: &RawValue,
        parent: &Parent,
        part: &mut Writer,
        read: &mut u64,
    ) -> Result<(), JobError> {
        let resource = self.resource;
        let path = path_of(&resource.path, record)
            .map_err(|field| JobError::Refused(format!("a record of {} has no {field}", parent.resource)))?;
        let field = json::at(record.get().as_bytes(), &parent.field);
        let field = field.ok().flatten().map(|value| (parent.column.as_str(), value));
        let mut pages = self.ask(resource, &path).pages(self.paging(resource), resource.max_pages);
        while let Some(page) = pages.next().await {
            let (page, mut took) = (page?, Ok(()));
            *read += 1;
            json::each(&page.body, &resource.records, |record| {
                if took.is_ok() {
                    took = self.add(record, field, part);
                }
            })
            .map_err(|err| ApiError::malformed(http::Method::GET, path.clone(), &err))?;
            took?;
        }
        Ok(())
    }

    fn add(&self, record: &RawValue, more: Option<(&str, &RawValue)>, part: &mut Writer) -> Result<(), JobError> {
        let resource = self.resource;
        let added = if more.is_none() && is_plain(resource) {
            part.add(record, resource, self.style)
        } else {
            let shaped = shaped(record, resource, more).map_err(|err| err.to_string());
            shaped.and_then(|record| part.add(&record, resource, self.style))
        };
        added.map_err(|why| {
            JobError::Refused(format!("a record of {} has no shape that can be written: {why}", resource.name))
        })
    }

    /// Writes a part, and after it the ledger. With the last part the run is over in the same write: a crash between the two
    /// would begin the run again behind its own parts.
    fn write(&self, mut idle: Idle, part: Writer, position: &mut Checkpoint, last: bool) -> Writing {
        let (name, before) = (self.name(position), (position.run, position.part));
        position.part += 1;
        position.records += part.records;
        let step = Step { records: position.records, parts: position.part, done: false };
        let (sink, context, resource) = (self.sink.clone(), self.context.clone(), self.resource.clone());
        let after = if last { position.clone().finished() } else { position.clone() };
        let (turn, format) = (self.turn.clone(), self.style.format);
        tokio::spawn(token_keeper::trace_context::carry(async move {
            turn.check()?;
            let account = context.api.keeper().account();
            let schema = schema_of(&idle, &resource.name);
            let bytes = Bytes::from(part.bytes);
            let mut part =
                Part { resource: &resource, account, name, format, bytes: bytes.clone(), before, after, last, schema };
            let written = sink.put(&part).await?;
            idle.count(&bytes, &written);
            part.after.schema = written.schema;
            idle.entry.notes.insert(resource.name.clone(), part.after);
            idle.entry = context.ledger.write(NOTES, idle.entry).await?;
            context.progress.set(account, &resource.name, step);
            tracing::info!(resource = resource.name, part = part.name, records = step.records, "safe");
            drop(part.bytes);
            Ok(Idle { spare: Writer::reusing(bytes), ..idle })
        }))
    }
}

fn schema_of(idle: &Idle, resource: &str) -> super::column::Schema {
    idle.entry.notes.get(resource).map(|position| position.schema.clone()).unwrap_or_default()
}

/// Whether a record is new, and takes note of it.
fn is_new(resource: &Resource, record: &RawValue, position: &mut Checkpoint) -> Result<bool, JobError> {
    let (Some(cursor), Some(key)) = (&resource.cursor, &resource.key) else { return Ok(true) };
    let wrong = |what: &str| JobError::Refused(format!("a record of {} has no {what}", resource.name));
    let value = text(record, &cursor.field).ok_or_else(|| wrong(&cursor.field))?;
    let key = text(record, key).ok_or_else(|| wrong(key))?;
    // What comes again by a lookback is written again: it may have changed.
    if cursor.lookback.is_none() && !position.since.is_new(&value, &key) {
        return Ok(false);
    }
    position.high.take(&value, &key);
    if position.high.is_full() {
        let (name, field) = (&resource.name, &cursor.field);
        let why = format!("more than {TIED} records of {name} have one value of {field}: choose a finer cursor");
        return Err(JobError::Refused(why));
    }
    Ok(true)
}

/// `/orders/{id}/items` with the fields of a record, each one segment; the field that is missing, where one is.
pub(super) fn path_of<'a>(path: &'a str, record: &RawValue) -> Result<String, &'a str> {
    let (mut filled, mut rest) = (String::new(), path);
    while let Some((before, (field, after))) =
        rest.split_once('{').and_then(|(before, from)| Some((before, from.split_once('}')?)))
    {
        let value = text(record, field).ok_or(field)?;
        filled += before;
        filled += &utf8_percent_encode(&value, NON_ALPHANUMERIC).to_string();
        rest = after;
    }
    Ok(filled + rest)
}

/// Waits until what is being written is safe.
async fn settled(writing: Result<Writing, Idle>) -> Result<Idle, JobError> {
    match writing {
        Ok(task) => task.await.unwrap_or_else(|_| Err(JobError::Sink("the function is stopping".into()))),
        Err(idle) => Ok(idle),
    }
}
