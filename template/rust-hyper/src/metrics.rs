//! The metrics of the watchdog, and of whatever the function registers through the `metrics` facade.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use http::{Method, StatusCode};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::usage;

/// The buckets of Go's client library, in seconds.
const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const METADATA: Metadata<'static> = Metadata::new("watchdog", Level::INFO, None);

/// One recorder; a process makes it the global one, a test keeps its own.
pub(crate) struct Metrics {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
    in_flight: Gauge,
    /// Looking a metric up by its labels costs more than the rest of a short call.
    calls: RwLock<HashMap<Labels, (Counter, Histogram)>>,
}

type Labels = (&'static str, StatusCode);

impl Metrics {
    pub(crate) fn new() -> Result<Self, BuildError> {
        let recorder = PrometheusBuilder::new().set_buckets(&BUCKETS)?.build_recorder();
        let describe = |name: &'static str| KeyName::from_const_str(name);
        recorder.describe_counter(describe("http_requests_total"), None, "Calls by method and status code".into());
        recorder.describe_histogram(
            describe("http_request_duration_seconds"),
            // The exporter would put the unit into the name a second time.
            None::<Unit>,
            "Duration of calls in seconds, by method and status code".into(),
        );
        recorder.describe_gauge(describe("http_requests_in_flight"), None, "Calls under way".into());
        let in_flight = recorder.register_gauge(&Key::from_static_name("http_requests_in_flight"), &METADATA);
        in_flight.set(0.0);
        let handle = recorder.handle();
        Ok(Self { recorder: Arc::new(recorder), handle, in_flight, calls: RwLock::default() })
    }

    /// What the `metrics` macros of the function are to write to.
    pub(crate) fn recorder(&self) -> Arc<PrometheusRecorder> {
        Arc::clone(&self.recorder)
    }

    /// Counts a call that has ended.
    pub(crate) fn record(&self, method: &Method, status: StatusCode, duration: Duration) {
        let key = (method_label(method), status);
        {
            let calls = self.calls.read().unwrap_or_else(PoisonError::into_inner);
            if let Some((counter, histogram)) = calls.get(&key) {
                counter.increment(1);
                histogram.record(duration);
                return;
            }
        }
        let (counter, histogram) = self.register(key);
        counter.increment(1);
        histogram.record(duration);
        self.calls.write().unwrap_or_else(PoisonError::into_inner).insert(key, (counter, histogram));
    }

    fn register(&self, (method, status): Labels) -> (Counter, Histogram) {
        let labels = || [Label::new("code", code_label(status)), Label::new("method", method)].to_vec();
        let counter = Key::from_parts("http_requests_total", labels());
        let histogram = Key::from_parts("http_request_duration_seconds", labels());
        (self.recorder.register_counter(&counter, &METADATA), self.recorder.register_histogram(&histogram, &METADATA))
    }

    /// The text exposition, with `in_flight` calls under way.
    pub(crate) fn render(&self, in_flight: usize) -> String {
        self.in_flight.set(in_flight as f64);
        self.handle.render() + &usage::render()
    }

    /// Folds the samples since the last time into buckets; until then each takes room.
    pub(crate) fn fold(&self) {
        self.handle.run_upkeep();
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
