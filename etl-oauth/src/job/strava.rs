//! An athlete's recent activities and totals on [Strava](https://developers.strava.com/docs/reference/), small enough for
//! a public page.
//!
//! Two functions of this crate: one runs this job on a schedule and writes what it read into its ledger; the other has the
//! variable `record_of` with the first one's name, and shows that to everyone. It has no token, and asks only the
//! store. Activities that are not for everyone, and where any of them took place, are left out.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Context, JobError, Outcome};
use crate::format;
use token_keeper::api::Api;

/// The name of the notes in the ledger.
pub const NOTES: &str = "strava";

/// How many activities are shown.
const RECENT: usize = 20;

/// What a page shows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// When it was read.
    pub updated_at: Option<Timestamp>,
    /// Newest first.
    pub recent: Vec<Activity>,
    /// Since the first of January.
    pub this_year: Totals,
    /// Of all times.
    pub all: Totals,
}

/// One activity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Activity {
    /// Its title.
    pub name: String,
    /// `Ride`, `Run`, …
    pub sport_type: String,
    /// When it began.
    pub start_date: Timestamp,
    /// Metres.
    pub distance: f64,
    /// Seconds.
    pub moving_time: u64,
    /// Metres.
    #[serde(default)]
    pub total_elevation_gain: f64,
}

/// Totals by sport.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the three sports that Strava sums up")]
pub struct Totals {
    pub ride: Total,
    pub run: Total,
    pub swim: Total,
}

/// One total.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Total {
    /// How many activities.
    pub count: u64,
    /// Metres.
    pub distance: f64,
    /// Seconds.
    pub moving_time: u64,
    /// Metres.
    pub elevation_gain: f64,
}

#[derive(Deserialize)]
struct Athlete {
    id: u64,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Stats {
    ytd_ride_totals: Total,
    ytd_run_totals: Total,
    ytd_swim_totals: Total,
    all_ride_totals: Total,
    all_run_totals: Total,
    all_swim_totals: Total,
}

#[derive(Deserialize)]
struct Read {
    #[serde(flatten)]
    activity: Activity,
    #[serde(default)]
    private: bool,
    #[serde(default)]
    visibility: Option<String>,
}

/// Reads the summary and writes it where the other function finds it.
///
/// # Errors
/// The API's, and the ledger's.
pub async fn run(context: &Context) -> Result<Outcome, JobError> {
    let summary = read(&context.api, context.now).await?;
    loop {
        let mut entry = context.ledger.read::<Summary>(NOTES).await?;
        // An older run that took longer.
        if entry.notes.updated_at.is_some_and(|at| at > context.now) {
            break;
        }
        entry.notes = summary.clone();
        match context.ledger.write(NOTES, entry).await {
            Err(JobError::Overtaken) => {}
            result => break drop(result?),
        }
    }
    summary.outcome()
}

/// Reads the summary as of `now`: three calls.
///
/// # Errors
/// The API's.
pub async fn read(api: &Api, now: Timestamp) -> Result<Summary, JobError> {
    let athlete: Athlete = api.get("/v3/athlete").json().await?;
    let stats: Stats = api.get(&format!("/v3/athletes/{}/stats", athlete.id)).json().await?;
    let read: Vec<Read> = api.get("/v3/athlete/activities").query("per_page", "50").json().await?;
    // Its other values are `followers_only` and `only_me`.
    let for_all = |read: &Read| read.visibility.as_deref().is_none_or(|visibility| visibility == "everyone");
    let public = read.into_iter().filter(|read| !read.private && for_all(read));
    Ok(Summary {
        updated_at: Some(now),
        recent: public.map(|read| read.activity).take(RECENT).collect(),
        this_year: Totals { ride: stats.ytd_ride_totals, run: stats.ytd_run_totals, swim: stats.ytd_swim_totals },
        all: Totals { ride: stats.all_ride_totals, run: stats.all_run_totals, swim: stats.all_swim_totals },
    })
}

impl Summary {
    fn outcome(&self) -> Result<Outcome, JobError> {
        let line = |activity: &Activity| {
            let (name, kind) = (format::cut(&activity.name, 80), format::cut(&activity.sport_type, 40));
            format!("{}: {name} ({kind}, {:.1} km)", format::moment(activity.start_date), activity.distance / 1000.0)
        };
        let lines: Vec<String> = self.recent.iter().map(line).collect();
        let json = serde_json::to_value(self).map_err(|err| JobError::Failed(err.to_string()))?;
        Outcome::list("Activities on Strava", &lines, json)
    }
}
