//! The metrics of the watchdog, and of whatever the function registers through the `metrics` facade.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::{Method, StatusCode};
use metrics::{Counter, Histogram, Key, Label, Level, Metadata, Recorder as _, SharedString};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::tracing::LogWriter;

/// The buckets of Go's client library, in seconds.
const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const METADATA: Metadata<'static> = Metadata::new("watchdog", Level::INFO, None);
const CALLS: &str = "http_requests_total";
const DURATIONS: &str = "http_request_duration_seconds";
const IN_FLIGHT: &str = "http_requests_in_flight";
const TIMEOUTS: &str = "http_requests_timed_out_total";
const DROPPED: &str = "log_lines_dropped_total";

/// One recorder; a process makes it the global one, a test keeps its own.
pub(crate) struct Metrics {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
    process: metrics_process::Collector,
    log: LogWriter,
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
    /// `log` knows how many lines found no room.
    pub(crate) fn new(log: LogWriter) -> Self {
        let builder = PrometheusBuilder::new();
        // Fails only without buckets.
        let builder = builder.set_buckets(&BUCKETS).unwrap_or_else(|_| PrometheusBuilder::new());
        let recorder = builder.build_recorder();
        let metrics = Self {
            handle: recorder.handle(),
            recorder: Arc::new(recorder),
            process: metrics_process::Collector::default(),
            log,
            calls: Default::default(),
        };
        metrics::with_local_recorder(&*metrics.recorder, || {
            metrics.process.describe();
            metrics::describe_counter!(CALLS, "Calls by method and status code.");
            metrics::describe_histogram!(DURATIONS, "Duration of calls in seconds, by method and status code.");
            metrics::describe_gauge!(IN_FLIGHT, "Calls in flight.");
            metrics::describe_counter!(TIMEOUTS, "Calls that were cancelled, by the limit that they exceeded.");
            metrics::describe_counter!(DROPPED, "Lines of the log that were dropped because their reader is too slow.");
        });
        metrics
    }

    /// What the `metrics` macros of the function are to write to.
    pub(crate) fn recorder(&self) -> Arc<PrometheusRecorder> {
        Arc::clone(&self.recorder)
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

    /// Counts a call that was cancelled because it exceeded `limit`.
    pub(crate) fn record_timeout(&self, limit: &'static str) {
        let key = Key::from_parts(TIMEOUTS, [Label::new("limit", limit)].to_vec());
        self.recorder.register_counter(&key, &METADATA).increment(1);
    }

    fn register(&self, (method, status): Labels) -> Series {
        let labels = || [Label::new("code", code_label(status)), Label::new("method", method)].to_vec();
        Series {
            of: (method, status),
            calls: self.recorder.register_counter(&Key::from_parts(CALLS, labels()), &METADATA),
            durations: self.recorder.register_histogram(&Key::from_parts(DURATIONS, labels()), &METADATA),
        }
    }

    /// Sorts the samples of histograms into their buckets: without it a function that is never scraped, as on OpenFaaS
    /// CE, would keep every sample. To be called every few seconds.
    pub(crate) fn run_upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// The text exposition, with `in_flight` calls in flight.
    pub(crate) fn render(&self, in_flight: usize) -> String {
        metrics::with_local_recorder(&*self.recorder, || {
            self.process.collect();
            metrics::gauge!(IN_FLIGHT).set(in_flight as f64);
            metrics::counter!(DROPPED).absolute(self.log.dropped());
        });
        self.handle.render()
    }
}

/// Lower-case, however it was sent; unknown ones share a label, or a caller could make as many time series as there are
/// words.
fn method_label(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] = ["get", "post", "put", "delete", "head", "patch", "options", "trace", "connect"];
    KNOWN.into_iter().find(|known| method.as_str().eq_ignore_ascii_case(known)).unwrap_or("unknown")
}

fn code_label(status: StatusCode) -> SharedString {
    if status.as_u16() < 600 { status.as_str().to_owned().into() } else { "unknown".into() }
}
