//! Lines of the log: one format for the watchdog's own messages and the function's events, written by a thread of its own.

use std::{
    cell::RefCell,
    fmt::{self, Write as _},
    io::{self, BufWriter, Write},
};

use jiff::{Timestamp, Zoned};
use tracing::{
    Dispatch, Event, Subscriber,
    field::{Field, Visit},
};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_log::NormalizeEvent as _;
use tracing_subscriber::{
    field::RecordFields,
    filter::Targets,
    fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, format::Writer},
    layer::SubscriberExt as _,
    registry::LookupSpan,
};

use crate::config::LogFormat;

/// Lines that may wait for the reader of standard error; more are dropped and counted, and no call waits for one.
const WAITING_LINES: usize = 8192;
/// Lines that wait leave together.
const WRITE_SIZE: usize = 64 << 10;

/// Starts the thread that writes to `out`. It writes what is left when the guard is dropped.
pub(crate) fn writer(out: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING_LINES).thread_name("log");
    builder.finish(BufWriter::with_capacity(WRITE_SIZE, out))
}

/// The subscriber that writes events to `out`.
pub(crate) fn subscriber(out: NonBlocking, format: LogFormat, filter: Targets) -> Dispatch {
    let lines = tracing_subscriber::fmt::layer().fmt_fields(format).event_format(format).with_writer(out);
    Dispatch::new(tracing_subscriber::registry().with(filter).with(lines))
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> FormatEvent<S, LogFormat> for LogFormat {
    fn format_event(
        &self,
        context: &FmtContext<'_, S, LogFormat>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        // Records of the crate `log` come with their own target and level as fields.
        let normalized = event.normalized_metadata();
        let metadata = normalized.as_ref().unwrap_or_else(|| event.metadata());
        let mut fields = Fields::new(*self);
        event.record(&mut fields);
        for span in context.event_scope().into_iter().flatten() {
            if let Some(known) = span.extensions().get::<FormattedFields<LogFormat>>() {
                fields.rest.push_str(&known.fields);
            }
        }
        let Fields { message, rest, .. } = fields;
        let (level, target) = (metadata.level(), metadata.target());
        match self {
            // As of-watchdog writes them.
            Self::Text if target == "watchdog" => writeln!(out, "{Stamp} {message}{rest}"),
            Self::Text => writeln!(out, "{Stamp} {level} {target}: {message}{rest}"),
            Self::Json => writeln!(
                out,
                "{{\"time\":\"{:.6}\",\"level\":\"{level}\",\"target\":{},\"message\":{}{rest}}}",
                Timestamp::now(),
                JsonStr(target),
                JsonStr(&message),
            ),
        }
    }
}

impl<'writer> FormatFields<'writer> for LogFormat {
    fn format_fields<R: RecordFields>(&self, mut out: Writer<'writer>, recorded: R) -> fmt::Result {
        let mut fields = Fields::new(*self);
        recorded.record(&mut fields);
        out.write_str(&fields.rest)
    }

    fn add_fields(
        &self,
        known: &'writer mut FormattedFields<Self>,
        recorded: &tracing::span::Record<'_>,
    ) -> fmt::Result {
        self.format_fields(known.as_writer(), recorded)
    }
}

/// Collects the message and, ready to be appended to a line, the other fields.
struct Fields {
    format: LogFormat,
    message: String,
    rest: String,
}

impl Fields {
    fn new(format: LogFormat) -> Self {
        Self { format, message: String::new(), rest: String::new() }
    }

    /// `value` is written as it is: a number, or a string that is quoted already.
    fn field(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = match self.format {
            LogFormat::Text => write!(self.rest, " {}={value}", field.name()),
            LogFormat::Json => write!(self.rest, ",{}:{value}", JsonStr(field.name())),
        };
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name().starts_with("log.") {
            return;
        }
        let text = format!("{value:?}");
        // A line of text is a line, whatever is in it; JSON escapes by itself.
        let text = if self.format == LogFormat::Text { text.replace('\n', "\\n") } else { text };
        match (field.name(), self.format) {
            ("message", _) => self.message = text,
            (_, LogFormat::Text) => self.field(field, format_args!("{text}")),
            (_, LogFormat::Json) => self.field(field, format_args!("{}", JsonStr(&text))),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.record_debug(field, &format_args!("{value}")),
            name if name.starts_with("log.") => {}
            _ => self.field(field, format_args!("{}", JsonStr(value))),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.field(field, format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if !field.name().starts_with("log.") {
            self.field(field, format_args!("{value}"));
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        match value.is_finite() || self.format == LogFormat::Text {
            true => self.field(field, format_args!("{value}")),
            false => self.field(field, format_args!("null")),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.field(field, format_args!("{value}"));
    }
}

/// Now as `2006/01/02 15:04:05` in the time zone of `TZ`, as Go's log package writes it.
struct Stamp;

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        with_stamp(|stamp| f.write_str(stamp))
    }
}

/// Appends now as text lines begin with it.
pub(crate) fn push_stamp(line: &mut Vec<u8>) {
    with_stamp(|stamp| line.extend_from_slice(stamp.as_bytes()));
}

thread_local! {
    /// The text of this second, which thousands of lines share.
    static SECOND: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) };
}

fn with_stamp<T>(write: impl FnOnce(&str) -> T) -> T {
    let now = Timestamp::now();
    SECOND.with_borrow_mut(|(second, text)| {
        if *second != now.as_second() {
            *text = Zoned::new(now, jiff::tz::TimeZone::system()).strftime("%Y/%m/%d %H:%M:%S").to_string();
            *second = now.as_second();
        }
        write(text)
    })
}

/// A string as JSON, quotes included.
pub(crate) struct JsonStr<'a>(pub(crate) &'a str);

impl fmt::Display for JsonStr<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                c if c < ' ' || c == '\u{7f}' => write!(f, "\\u{:04x}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        f.write_str("\"")
    }
}

/// Writes one line; one that finds no room is counted by the writer.
pub(crate) fn write_line(out: &NonBlocking, line: &[u8]) {
    // The writer accepts everything.
    let _: io::Result<()> = out.clone().write_all(line);
}

/// What was written, for tests.
#[cfg(test)]
#[derive(Clone, Default)]
pub(crate) struct Lines(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

#[cfg(test)]
impl Lines {
    /// What `write` writes to a log.
    pub(crate) fn of(write: impl FnOnce(NonBlocking)) -> String {
        let lines = Self::default();
        let (out, guard) = writer(lines.clone());
        write(out);
        drop(guard);
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }
}

#[cfg(test)]
impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn written(format: LogFormat, filter: &str, events: impl FnOnce()) -> String {
        let filter: Targets = filter.parse().unwrap();
        Lines::of(|out| tracing::dispatcher::with_default(&subscriber(out, format, filter), events))
    }

    fn events() {
        let span = tracing::info_span!("job", account = "a\"b", late = tracing::field::Empty);
        let _inside = span.enter();
        span.record("late", 5);
        tracing::info!(count = 3, ratio = 0.5, "two\nlines");
        tracing::debug!("not asked for");
    }

    #[test]
    fn a_line_of_text_has_message_fields_and_those_of_its_span() {
        let line = written(LogFormat::Text, "info", events);
        let (stamp, rest) = line.split_at("2006/01/02 15:04:05".len());
        assert!(stamp.starts_with("20"), "{line}");
        assert_eq!(rest, " INFO watchdog::tracing::tests: two\\nlines count=3 ratio=0.5 account=\"a\\\"b\" late=5\n");
    }

    #[test]
    fn a_line_of_json_is_an_object() {
        let line = written(LogFormat::Json, "info", events);
        assert_eq!(line.lines().count(), 1);
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(object["message"], "two\nlines");
        assert_eq!(object["level"], "INFO");
        assert_eq!((&object["count"], &object["late"]), (&3.into(), &5.into()));
        assert_eq!(object["account"], "a\"b");
        let time = object["time"].as_str().unwrap();
        assert_eq!((time.len(), &time[26..]), ("2006-01-02T15:04:05.000000Z".len(), "Z"), "{time}");
    }

    #[test]
    fn the_watchdogs_own_lines_are_of_watchdogs() {
        let line = written(LogFormat::Text, "info", || tracing::info!(target: "watchdog", "Listening on port: 8080"));
        assert_eq!(&line["2006/01/02 15:04:05".len()..], " Listening on port: 8080\n");
    }

    #[test]
    fn a_filter_is_by_target_and_level() {
        let lines = written(LogFormat::Text, "warn,mine=debug", || {
            tracing::info!("other");
            tracing::debug!(target: "mine::inner", "mine");
        });
        assert!(lines.ends_with(" DEBUG mine::inner: mine\n") && lines.lines().count() == 1, "{lines}");
    }

    /// Standard error whose reader has stopped reading.
    struct Stuck(mpsc::Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_is_stuck_costs_lines_and_no_time() {
        let (go_on, stuck) = mpsc::channel();
        let (out, guard) = writer(Stuck(stuck));
        let line = [b'x'; WRITE_SIZE];
        for _ in 0..2 * WAITING_LINES {
            write_line(&out, &line[..100]);
        }
        // One full buffer may have left the queue before the writer got stuck.
        let most = 2 * WAITING_LINES - WRITE_SIZE / 100 - 1;
        let dropped = out.error_counter().dropped_lines();
        assert!(dropped > 0 && dropped <= most, "{dropped}");
        drop(go_on);
        drop(guard);
    }
}
