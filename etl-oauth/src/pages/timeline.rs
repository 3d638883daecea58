//! A small picture of what happened when: one lane a kind of event, one bar an event.
//!
//! A bar that points up went well, one that points down failed, so that the colours are not needed. The picture is stretched
//! to the page's width: positions are per mille of it, and strokes keep their width.

use jiff::{SignedDuration, Timestamp};

/// Lanes over one stretch of time, which ends now.
#[derive(Debug)]
pub(super) struct Timeline {
    pub(super) from: Timestamp,
    pub(super) lanes: Vec<Lane>,
}

/// One kind of event.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) name: &'static str,
    pub(super) bars: Vec<Bar>,
}

/// One event.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bar {
    /// From 10 (the oldest event) to 990 (now).
    pub(super) x: u32,
    pub(super) ok: bool,
}

impl Timeline {
    /// A picture of the events up to `now`; none when there are none.
    pub(super) fn of(lanes: &[(&'static str, &[(Timestamp, bool)])], now: Timestamp) -> Option<Self> {
        let oldest = lanes.iter().flat_map(|(_, events)| *events).map(|(at, _)| *at).min()?;
        // Under a minute, every event would be a bar at the left edge.
        let from = oldest.min(now.saturating_sub(SignedDuration::from_mins(1)).unwrap_or(oldest));
        let whole = now.duration_since(from).as_millis().max(1);
        let bar = |(at, ok): &(Timestamp, bool)| {
            let gone = at.duration_since(from).as_millis().clamp(0, whole);
            Bar { x: 10 + u32::try_from(gone * 980 / whole).unwrap_or(980), ok: *ok }
        };
        let lanes = lanes.iter().map(|(name, events)| Lane { name, bars: events.iter().map(bar).collect() }).collect();
        Some(Self { from, lanes })
    }
}

impl Lane {
    /// "12, 1 failed"
    pub(super) fn words(&self) -> String {
        let failed = self.bars.iter().filter(|bar| !bar.ok).count();
        match failed {
            0 => self.bars.len().to_string(),
            _ => format!("{}, {failed} failed", self.bars.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: &str) -> Timestamp {
        format!("2026-11-21T{time}Z").parse().unwrap()
    }

    #[test]
    fn events_stand_where_they_happened() {
        let events = [(at("12:00:00"), true), (at("11:00:00"), false), (at("10:00:00"), true)];
        let timeline = Timeline::of(&[("Runs", &events), ("Renewals", &[])], at("12:00:00")).unwrap();
        assert_eq!(timeline.from, at("10:00:00"));
        let bars: Vec<_> = timeline.lanes[0].bars.iter().map(|bar| (bar.x, bar.ok)).collect();
        assert_eq!(bars, [(990, true), (500, false), (10, true)]);
        assert_eq!(timeline.lanes[0].words(), "3, 1 failed");
        assert_eq!(timeline.lanes[1].words(), "0");
    }

    #[test]
    fn a_clock_that_was_set_back_leaves_the_bars_inside() {
        let events = [(at("12:30:00"), true), (at("12:00:00"), true)];
        let timeline = Timeline::of(&[("Runs", &events)], at("11:00:00")).unwrap();
        assert!(timeline.lanes[0].bars.iter().all(|bar| (10..=990).contains(&bar.x)));
    }

    #[test]
    fn nothing_happened_is_no_picture() {
        assert!(Timeline::of(&[("Runs", &[])], at("12:00:00")).is_none());
    }
}
