//! All metrics of the process: what the `metrics` facade writes to, and the text that Prometheus reads.
//!
//! Histograms have fixed buckets, so that a function that nobody scrapes, as on OpenFaaS CE, keeps no samples.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};

/// The buckets of Go's client library, in seconds.
const BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Families of metrics by name.
#[derive(Default)]
pub(crate) struct Registry(RwLock<BTreeMap<String, Family>>);

#[derive(Default)]
struct Family {
    help: String,
    /// By their labels, as they are written.
    series: BTreeMap<String, Series>,
}

#[derive(Clone)]
enum Series {
    Counter(Arc<AtomicU64>),
    /// The bits of a float.
    Gauge(Arc<AtomicU64>),
    Histogram(Arc<Buckets>),
}

/// Samples by bucket, the last one without a bound, and the bits of their sum.
#[derive(Default)]
struct Buckets {
    counts: [AtomicU64; BOUNDS.len() + 1],
    sum: AtomicU64,
}

impl HistogramFn for Buckets {
    fn record(&self, value: f64) {
        let bucket = BOUNDS.iter().position(|bound| value <= *bound).unwrap_or(BOUNDS.len());
        self.counts[bucket].fetch_add(1, Relaxed);
        // The closure never declines.
        let _ = self.sum.fetch_update(Relaxed, Relaxed, |sum| Some((f64::from_bits(sum) + value).to_bits()));
    }
}

impl Registry {
    /// Finds a series or makes it. The first kind that a name is used with is the kind it has.
    fn series(&self, key: &Key, new: fn() -> Series) -> Series {
        let (name, labels) = (sanitized(key.name(), true), labels(key));
        {
            let families = self.0.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(series) = families.get(&name).and_then(|family| family.series.get(&labels)) {
                return series.clone();
            }
        }
        let mut families = self.0.write().unwrap_or_else(PoisonError::into_inner);
        families.entry(name).or_default().series.entry(labels).or_insert_with(new).clone()
    }

    fn describe(&self, name: &KeyName, help: &str) {
        let mut families = self.0.write().unwrap_or_else(PoisonError::into_inner);
        families.entry(sanitized(name.as_str(), true)).or_default().help =
            help.replace('\\', "\\\\").replace('\n', "\\n");
    }

    /// The text exposition, families that have a series alone.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        for (name, family) in &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            let Some(first) = family.series.values().next() else { continue };
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {}", family.help, first.kind());
            // A series that came with another kind under the same name cannot be told.
            for (labels, series) in family.series.iter().filter(|(_, series)| series.kind() == first.kind()) {
                series.render(name, labels, &mut text);
            }
        }
        text
    }
}

impl Series {
    fn kind(&self) -> &'static str {
        match self {
            Self::Counter(_) => "counter",
            Self::Gauge(_) => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }

    fn render(&self, name: &str, labels: &str, text: &mut String) {
        let braced = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let _ = match self {
            Self::Counter(value) => writeln!(text, "{name}{braced} {}", value.load(Relaxed)),
            Self::Gauge(value) => writeln!(text, "{name}{braced} {}", f64::from_bits(value.load(Relaxed))),
            Self::Histogram(buckets) => {
                let comma = if labels.is_empty() { "" } else { "," };
                let mut count = 0;
                for (number, bucket) in buckets.counts.iter().enumerate() {
                    count += bucket.load(Relaxed);
                    let bound = BOUNDS.get(number).map_or("+Inf".to_owned(), f64::to_string);
                    let _ = writeln!(text, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}");
                }
                let sum = f64::from_bits(buckets.sum.load(Relaxed));
                writeln!(text, "{name}_sum{braced} {sum}\n{name}_count{braced} {count}")
            }
        };
    }
}

impl Recorder for Registry {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&name, &help);
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&name, &help);
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&name, &help);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        match self.series(key, || Series::Counter(Arc::default())) {
            Series::Counter(value) => Counter::from_arc(value),
            _ => Counter::noop(),
        }
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        match self.series(key, || Series::Gauge(Arc::default())) {
            Series::Gauge(value) => Gauge::from_arc(value),
            _ => Gauge::noop(),
        }
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        match self.series(key, || Series::Histogram(Arc::default())) {
            Series::Histogram(buckets) => Histogram::from_arc(buckets),
            _ => Histogram::noop(),
        }
    }
}

/// Labels as they are written between the braces, in the order in which they were given.
fn labels(key: &Key) -> String {
    let mut text = String::new();
    for label in key.labels() {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&sanitized(label.key(), false));
        text.push_str("=\"");
        for c in label.value().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                c => text.push(c),
            }
        }
        text.push('"');
    }
    text
}

/// A name with an underscore for each character that names do not have.
fn sanitized(name: &str, is_metric: bool) -> String {
    let mut name: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' || (is_metric && c == ':') { c } else { '_' })
        .collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_function_registers_is_rendered() {
        let registry = Registry::default();
        metrics::with_local_recorder(&registry, || {
            metrics::describe_counter!("jobs.total", "jobs\ndone");
            metrics::counter!("jobs.total", "kind" => "a\"b").increment(2);
            metrics::counter!("jobs.total", "kind" => "a\"b").increment(1);
            metrics::gauge!("depth").set(1.5);
            metrics::gauge!("depth").increment(1.0);
            for value in [0.005, 0.3, 99.0] {
                metrics::histogram!("seconds", "a" => "b").record(value);
            }
        });
        let text = registry.render();
        for line in [
            "# HELP jobs_total jobs\\ndone",
            "# TYPE jobs_total counter",
            "jobs_total{kind=\"a\\\"b\"} 3",
            "depth 2.5",
            "seconds_bucket{a=\"b\",le=\"0.005\"} 1",
            "seconds_bucket{a=\"b\",le=\"0.25\"} 1",
            "seconds_bucket{a=\"b\",le=\"0.5\"} 2",
            "seconds_bucket{a=\"b\",le=\"1\"} 2",
            "seconds_bucket{a=\"b\",le=\"+Inf\"} 3",
            "seconds_sum{a=\"b\"} 99.305",
            "seconds_count{a=\"b\"} 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_name_has_one_kind_and_nothing_is_told_of_one_without_series() {
        let registry = Registry::default();
        metrics::with_local_recorder(&registry, || {
            metrics::describe_gauge!("later", "not yet");
            metrics::counter!("one").increment(1);
            metrics::gauge!("one").set(7.0);
        });
        assert_eq!(registry.render(), "# HELP one \n# TYPE one counter\none 1\n");
    }
}
