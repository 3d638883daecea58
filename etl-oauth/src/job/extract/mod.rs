//! Copies lists of any API, without code: a TOML file names them ([`Plan`]), and where the records go.
//!
//! Nothing is lost and nothing comes twice, whenever the process is killed. A part (a file, an object, a batch) is made of
//! whole pages; its name follows from the [ledger](super::JobState) alone; the ledger moves on, by compare-and-swap, after
//! the part is safe. A run after a crash begins with the page where the ledger stands, and writes what may be
//! there already once more, to the same name. Runs of an account take [turns](super::Turn), so that no two of them write
//! side by side.
//!
//! Memory holds two pages and two parts, however many records there are.

#![cfg_attr(
    not(all(feature = "postgres", feature = "parquet")),
    allow(dead_code, reason = "what tables and files with types alone need")
)]

#[cfg(any(feature = "parquet", feature = "postgres"))]
mod batch;
mod bucket;
mod checkpoint;
mod column;
mod copy;
mod folder;
mod parquet;
mod plan;
mod postgres;
mod preview;
mod record;
mod resource;
mod sink;
mod sql;
mod webhook;
mod writer;

pub use column::ColumnType;
pub use plan::Plan;
pub use preview::{Preview, preview};
pub use resource::{Cursor, CursorFormat, Drift, Mode, Parent, Resource};

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Context, JobError, Outcome};
use crate::format::count;
use checkpoint::Checkpoint;
use copy::{Copy, Idle};
use sink::Sink;

/// The name of the notes in the ledger.
const NOTES: &str = "extract";

type Positions = BTreeMap<String, Checkpoint>;

/// What a run did with a resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Report {
    /// Records that were new.
    records: u64,
    /// Pages that were read, those of children included.
    pages: u64,
    /// Files, objects, batches or transactions.
    parts: u64,
    /// Bytes of them before they were compressed.
    bytes: u64,
    /// Records that do not fit, and were kept apart.
    dead: u64,
    /// Values that were left out.
    discarded: u64,
    /// How long it took.
    milliseconds: u64,
}

/// Copies what is new of every resource of the plan, one after the other.
///
/// # Errors
/// The API's, the ledger's and the sink's. What was copied until then stays, and is not copied again.
pub async fn run(plan: &Plan, context: &Context) -> Result<Outcome, JobError> {
    let sink = Sink::open(plan, context.outlets.secrets())?;
    let turn = context.ledger.turn(context.api.keeper().lease()).await?;
    let mut idle = Idle::new(context.ledger.read::<Positions>(NOTES).await?);
    let mut reports = BTreeMap::new();
    for resource in plan.resources() {
        let copy = Copy { plan, resource, context, turn: &turn, sink: &sink, style: plan.target().style() };
        let (next, report) = copy.run(idle).await?;
        idle = next;
        count_up(&resource.name, &report);
        reports.insert(resource.name.clone(), report);
    }
    outcome(&reports)
}

fn count_up(resource: &str, report: &Report) {
    for (what, count) in [("copied", report.records), ("dead", report.dead), ("discarded", report.discarded)] {
        metrics::counter!("etl_oauth_extract_records_total", "resource" => resource.to_owned(), "what" => what)
            .increment(count);
    }
}

fn outcome(reports: &BTreeMap<String, Report>) -> Result<Outcome, JobError> {
    let line = |(name, report): (&String, &Report)| {
        let mut line = format!("{name}: {}", count(report.records, "new record"));
        for (number, what) in [(report.dead, "kept apart"), (report.discarded, "values left out")] {
            if number > 0 {
                line += &format!(", {number} {what}");
            }
        }
        line
    };
    let lines: Vec<String> = reports.iter().map(line).collect();
    let copied: BTreeMap<_, _> = reports.iter().map(|(name, report)| (name, report.records)).collect();
    let json = serde_json::json!({ "copied": copied, "report": reports });
    Outcome::list("Copied", &lines, json)
}
