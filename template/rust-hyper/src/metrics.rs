//! The metrics of the watchdog, and of whatever the function registers through the `metrics` facade.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::{Method, StatusCode};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder as _};

use crate::{registry::Registry, usage};

const METADATA: Metadata<'static> = Metadata::new("watchdog", Level::INFO, None);
const CALLS: &str = "http_requests_total";
const DURATIONS: &str = "http_request_duration_seconds";
const IN_FLIGHT: &str = "http_requests_in_flight";

/// One registry; a process makes it the global one, a test keeps its own.
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    in_flight: Gauge,
    /// The first series that calls asked for. A list that only grows is read without a lock; looking a metric up by its
    /// labels costs more than the rest of a short call.
    calls: [OnceLock<Series>; 32],
}

type Labels = (&'static str, StatusCode);

struct Series {
    of: Labels,
    calls: Counter,
    durations: Histogram,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let registry = Registry::default();
        registry.describe_counter(KeyName::from_const_str(CALLS), None, "Calls by method and status code.".into());
        let help = "Duration of calls in seconds, by method and status code.";
        registry.describe_histogram(KeyName::from_const_str(DURATIONS), None, help.into());
        registry.describe_gauge(KeyName::from_const_str(IN_FLIGHT), None, "Calls under way.".into());
        let in_flight = registry.register_gauge(&Key::from_static_name(IN_FLIGHT), &METADATA);
        Self { registry: Arc::new(registry), in_flight, calls: Default::default() }
    }

    /// What the `metrics` macros of the function are to write to.
    pub(crate) fn recorder(&self) -> Arc<Registry> {
        Arc::clone(&self.registry)
    }

    /// Counts a call that has ended.
    pub(crate) fn record(&self, method: &Method, status: StatusCode, duration: Duration) {
        let labels = (method_label(method), status);
        for slot in &self.calls {
            let Series { of, calls, durations } = slot.get_or_init(|| self.register(labels));
            if *of == labels {
                calls.increment(1);
                durations.record(duration);
                return;
            }
        }
        let Series { calls, durations, .. } = self.register(labels);
        calls.increment(1);
        durations.record(duration);
    }

    fn register(&self, (method, status): Labels) -> Series {
        let labels = || [Label::new("code", code_label(status)), Label::new("method", method)].to_vec();
        let counter = Key::from_parts(CALLS, labels());
        let histogram = Key::from_parts(DURATIONS, labels());
        Series {
            of: (method, status),
            calls: self.registry.register_counter(&counter, &METADATA),
            durations: self.registry.register_histogram(&histogram, &METADATA),
        }
    }

    /// The text exposition, with `in_flight` calls under way.
    pub(crate) fn render(&self, in_flight: usize) -> String {
        self.in_flight.set(in_flight as f64);
        self.registry.render() + &usage::render()
    }
}

/// Lower-case, however it was sent; unknown ones share a label, or a caller could make as many time series as there are
/// words.
fn method_label(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] = ["get", "post", "put", "delete", "head", "patch", "options", "trace", "connect"];
    KNOWN.into_iter().find(|known| method.as_str().eq_ignore_ascii_case(known)).unwrap_or("unknown")
}

fn code_label(status: StatusCode) -> String {
    if status.as_u16() < 600 { status.as_str().to_owned() } else { "unknown".to_owned() }
}
