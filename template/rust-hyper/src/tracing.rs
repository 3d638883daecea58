//! Lines of the log: one format for the watchdog's own messages and the function's events, written by a thread of its own.

use std::{
    cell::RefCell,
    fmt::{self, Write as _},
    io::{self, Write},
    mem,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use jiff::{Timestamp, Zoned};
use tokio::time::Instant;
use tracing::{
    Dispatch, Event, Subscriber,
    field::{Field, Visit},
};
use tracing_log::NormalizeEvent as _;
use tracing_subscriber::{
    Layer, Registry,
    field::RecordFields,
    filter::Targets,
    fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, format::Writer},
    layer::SubscriberExt as _,
    registry::LookupSpan,
};

use crate::config::LogFormat;

/// Bytes of lines that may wait for the reader of standard error; more lines are dropped and counted, and no call waits.
const WAITING: usize = 1 << 20;
/// After a write, the lines of so long leave together. To hand each line to a thread of its own, as `tracing-appender`
/// does, is a sixth of a short call's instructions, and for a busy function a system call more.
const GATHERING: Duration = Duration::from_millis(2);
/// How long the end waits for what is left to be written.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// Takes lines for the thread that writes them.
#[derive(Clone, Default)]
pub(crate) struct LogWriter(Arc<Queue>);

#[derive(Default)]
struct Queue {
    lines: Mutex<Lines>,
    changed: Condvar,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Lines {
    waiting: Vec<u8>,
    /// The thread waits for a line.
    is_idle: bool,
    is_closed: bool,
    is_done: bool,
}

/// Writes what is left when it is dropped.
pub(crate) struct LogGuard(LogWriter);

/// Starts the thread that writes to `out`.
pub(crate) fn log_writer(out: impl Write + Send + 'static) -> (LogWriter, LogGuard) {
    let writer = LogWriter::default();
    let queue = Arc::clone(&writer.0);
    // Without a thread there is no log, and the function serves all the same.
    let _ = thread::Builder::new().name("log".into()).spawn(move || queue.write_to(out));
    (writer.clone(), LogGuard(writer))
}

impl LogWriter {
    /// Takes one line, or several.
    pub(crate) fn write_line(&self, line: &[u8]) {
        let mut lines = self.0.lines();
        if lines.waiting.len() + line.len() > WAITING {
            self.0.dropped.fetch_add(1, Relaxed);
            return;
        }
        lines.waiting.extend_from_slice(line);
        if mem::take(&mut lines.is_idle) {
            drop(lines);
            self.0.changed.notify_all();
        }
    }

    /// How many lines found no room.
    pub(crate) fn dropped(&self) -> u64 {
        self.0.dropped.load(Relaxed)
    }
}

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.write_line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Queue {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_to(&self, mut out: impl Write) {
        let mut batch = Vec::new();
        loop {
            let wait = self.changed.wait_while(self.lines(), |lines| {
                lines.is_idle = lines.waiting.is_empty() && !lines.is_closed;
                lines.is_idle
            });
            let mut lines = wait.unwrap_or_else(PoisonError::into_inner);
            if lines.waiting.is_empty() {
                lines.is_done = true;
                self.changed.notify_all();
                return;
            }
            mem::swap(&mut batch, &mut lines.waiting);
            drop(lines);
            // A log that cannot be written is no reason to stop.
            let _ = out.write_all(&batch).and_then(|()| out.flush());
            batch.clear();
            let gathered = self.changed.wait_timeout_while(self.lines(), GATHERING, |lines| !lines.is_closed);
            drop(gathered);
        }
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let queue = &*self.0.0;
        let mut lines = queue.lines();
        lines.is_closed = true;
        queue.changed.notify_all();
        // A reader that is stuck does not hold up the end.
        let _ = queue.changed.wait_timeout_while(lines, LAST_WRITE, |lines| !lines.is_done);
    }
}

/// The subscriber that writes events to `out`, with another layer below.
pub(crate) fn subscriber(
    out: LogWriter,
    format: LogFormat,
    filter: Targets,
    other: impl Layer<Registry> + Send + Sync,
) -> Dispatch {
    let lines =
        tracing_subscriber::fmt::layer().fmt_fields(format).event_format(format).with_writer(move || out.clone());
    Dispatch::new(tracing_subscriber::registry().with(other).with(lines.with_filter(filter)))
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
        with_stamp(Instant::now(), |stamp| f.write_str(stamp))
    }
}

/// Appends `now` as text lines begin with it.
pub(crate) fn push_stamp(line: &mut Vec<u8>, now: Instant) {
    with_stamp(now, |stamp| line.extend_from_slice(stamp.as_bytes()));
}

thread_local! {
    /// The text of this second, which thousands of lines share, and when the second ends.
    static SECOND: RefCell<(Option<Instant>, String)> = const { RefCell::new((None, String::new())) };
}

fn with_stamp<T>(now: Instant, write: impl FnOnce(&str) -> T) -> T {
    SECOND.with_borrow_mut(|(end, text)| {
        if end.is_none_or(|end| end <= now) {
            let time = Zoned::now();
            *text = time.strftime("%Y/%m/%d %H:%M:%S").to_string();
            *end = now.checked_add(
                Duration::from_secs(1) - Duration::from_nanos(time.subsec_nanosecond().unsigned_abs().into()),
            );
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

/// What `write` writes to a log, for tests.
#[cfg(test)]
pub(crate) fn written(write: impl FnOnce(LogWriter)) -> String {
    let (mut out, written) = io::pipe().unwrap();
    let (log, guard) = log_writer(written);
    write(log);
    // Then the thread ends, and its side of the pipe is closed.
    drop(guard);
    io::read_to_string(&mut out).unwrap()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tracing_subscriber::layer::Identity;

    use super::*;

    fn written(format: LogFormat, filter: &str, events: impl FnOnce()) -> String {
        let filter: Targets = filter.parse().unwrap();
        super::written(|out| {
            tracing::dispatcher::with_default(&subscriber(out, format, filter, Identity::new()), events)
        })
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
        let (out, guard) = log_writer(Stuck(stuck));
        let (line, most) = ([b'x'; 128], WAITING as u64 / 128);
        for _ in 0..3 * most {
            out.write_line(&line);
        }
        // As many as the writer had taken before it got stuck have left the queue.
        assert!((most..=2 * most).contains(&out.dropped()), "{}", out.dropped());
        drop(go_on);
        drop(guard);
    }
}
