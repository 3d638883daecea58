//! Access log and metrics for one request, written on drop.

use std::{cell::RefCell, fmt, io::Write as _, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header, uri::PathAndQuery};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::{
    config::LogFormat,
    connection::Connection,
    duration::{Go, push_seconds},
    framing::Marks,
    limit::Permit,
    service::CALL_ID,
    tracing::{JsonStr, LogWriter, push_stamp},
};

const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");

/// Where the lines go. They are written past `tracing`: an event would cost a short call more than all the rest of the
/// watchdog. Its filter applies to them all the same, as the target `access_log`.
pub(crate) struct AccessLog {
    pub(crate) out: LogWriter,
    pub(crate) format: LogFormat,
    pub(crate) is_on: bool,
}

thread_local! {
    /// Where a line is put together.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A request from its head to the end of its answer. Dropping it ends the call: writes its line, counts it, and lets the
/// next one in.
pub(crate) struct AccessRecord {
    connection: Arc<Connection>,
    /// Of the call on its connection.
    number: u64,
    started: Instant,
    entry: Option<Entry>,
    permit: Option<Permit>,
    size: Size,
    status: StatusCode,
    written: u64,
    is_complete: bool,
    /// The connection ends with the answer.
    pub(crate) is_last: bool,
    /// Ends with the record.
    #[cfg(feature = "otel")]
    pub(crate) span: Option<tracing::Span>,
}

/// What the log has of the request.
struct Entry {
    method: Method,
    target: Option<PathAndQuery>,
    call_id: Option<HeaderValue>,
    trace: Option<HeaderValue>,
    /// The platform's own probes would fill the log.
    is_probe: bool,
    is_counted: bool,
}

/// How the size of an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    /// `ContentLength`, -1 when it was not known beforehand.
    ContentLength(Option<u64>),
    /// `Bytes`, as many as were written.
    Stream,
    /// None: the call was not let in.
    Denied,
}

impl AccessRecord {
    /// A call that begins now, and that no line is written of.
    pub(crate) fn new(connection: &Arc<Connection>) -> Box<Self> {
        let started = Instant::now();
        // In a box: it changes hands many times on its way.
        Box::new(Self {
            number: connection.begin(started),
            connection: Arc::clone(connection),
            started,
            entry: None,
            permit: None,
            size: Size::ContentLength(None),
            status: StatusCode::INTERNAL_SERVER_ERROR,
            written: 0,
            is_complete: false,
            is_last: false,
            #[cfg(feature = "otel")]
            span: None,
        })
    }

    /// A line is written of the call, and where `is_counted` it counts in the metrics. It gives `permit` back at its end.
    pub(crate) fn set_request<B>(
        &mut self,
        request: &Request<B>,
        marks: Marks,
        is_counted: bool,
        permit: Option<Permit>,
    ) {
        let (headers, context) = (request.headers(), &self.connection.context);
        let value = |name: &HeaderName, is_wanted: bool| if is_wanted { headers.get(name).cloned() } else { None };
        let is_json = context.access_log.format == LogFormat::Json;
        self.entry = Some(Entry {
            method: request.method().clone(),
            target: request.uri().path_and_query().cloned(),
            call_id: value(&CALL_ID, is_json || context.config.log_callid),
            trace: value(&TRACE_PARENT, is_json),
            is_probe: marks.agent && is_probe(headers),
            is_counted,
        });
        self.permit = permit;
    }

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Whether it is a call, and not a probe.
    pub(crate) fn is_counted(&self) -> bool {
        self.entry.as_ref().is_some_and(|entry| entry.is_counted)
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// The log shows this path in place of the request's, which holds a secret.
    pub(crate) fn set_path(&mut self, shown: PathAndQuery) {
        if let Some(entry) = &mut self.entry {
            entry.target = Some(shown);
        }
    }

    /// The path that the log shows.
    #[cfg(feature = "otel")]
    pub(crate) fn path(&self) -> &str {
        self.entry.as_ref().map_or("", Entry::path)
    }

    pub(crate) fn set_status(&mut self, status: StatusCode) {
        self.status = status;
    }

    /// The answer's length as its header says it.
    pub(crate) fn set_length(&mut self, length: Option<u64>) {
        self.size = Size::ContentLength(length);
    }

    pub(crate) fn set_stream(&mut self) {
        self.size = Size::Stream;
    }

    pub(crate) fn set_denied(&mut self) {
        self.size = Size::Denied;
    }

    /// The connection is a websocket from now on. It does not delay the end of the process.
    pub(crate) fn set_upgraded(&mut self) {
        self.size = Size::Stream;
        if let Some(permit) = &mut self.permit {
            self.connection.context.limit.set_idle(permit);
        }
    }

    /// All of the answer was written.
    pub(crate) fn set_complete(&mut self) {
        self.is_complete = true;
    }

    pub(crate) fn wrote(&mut self, bytes: usize) {
        self.written += bytes as u64;
    }

    /// The answer could not be finished.
    pub(crate) fn broke_off(&self, why: &dyn fmt::Display) {
        self.warn(format_args!("the answer broke off: {why}"));
    }

    /// The function was cancelled by the limit `name`.
    pub(crate) fn timed_out(&self, name: &'static str, limit: Duration) {
        let context = &self.connection.context;
        let function = context.config.function.as_deref().unwrap_or("the function");
        self.warn(format_args!("{function} did not answer within {name}={}", Go(limit)));
        context.metrics.record_timeout(name);
    }

    fn warn(&self, what: fmt::Arguments<'_>) {
        let (method, path) = self.entry.as_ref().map_or(("", ""), |entry| (entry.method.as_str(), entry.path()));
        tracing::warn!(target: "watchdog", "{method} {path}: {what}");
    }

    fn end(&mut self, now: Instant) {
        let Some(entry) = &self.entry else { return };
        let (took, context) = (now.saturating_duration_since(self.started), &self.connection.context);
        let is_upgrade = self.status == StatusCode::SWITCHING_PROTOCOLS;
        // A stream that was broken off is not counted, as by of-watchdog: its length says nothing.
        if entry.is_counted && (self.size != Size::Stream || self.is_complete || is_upgrade) {
            // An upgrade has no answer in the usual sense; of-watchdog counts it as 200.
            let status = if is_upgrade { StatusCode::OK } else { self.status };
            context.metrics.record(&entry.method, status, took);
        }
        let log = &context.access_log;
        if log.is_on && !entry.is_probe {
            LINE.with_borrow_mut(|line| {
                line.clear();
                // Writing to a Vec cannot fail.
                let _ = match log.format {
                    LogFormat::Text => self.write_text(line, entry, now, took),
                    LogFormat::Json => self.write_json(line, entry, took),
                };
                line.push(b'\n');
                log.out.write_line(line);
            });
        }
        if let Some(permit) = &self.permit {
            context.limit.leave(permit);
        }
    }

    /// Piece by piece: `write!` would take longer than the rest of a short call.
    fn write_text(&self, line: &mut Vec<u8>, entry: &Entry, now: Instant, took: Duration) -> std::io::Result<()> {
        push_stamp(line, now);
        for part in [" ", entry.method.as_str(), " ", entry.path(), " - ", self.status.as_str()] {
            line.extend_from_slice(part.as_bytes());
        }
        match self.size {
            Size::Denied => return write!(line, " ACCESS DENIED - ({})", Go(Duration::from_secs(took.as_secs()))),
            Size::Stream => {
                line.extend_from_slice(b" - Bytes: ");
                push_size(line, Some(self.written))?;
            }
            Size::ContentLength(length) => {
                let reason = self.status.canonical_reason().unwrap_or("Status");
                for part in [" ", reason, " - ContentLength: "] {
                    line.extend_from_slice(part.as_bytes());
                }
                push_size(line, length)?;
            }
        }
        line.extend_from_slice(b" (");
        push_seconds(line, took, 4);
        line.extend_from_slice(b"s)");
        if self.connection.context.config.log_callid && self.size != Size::Stream {
            let id = entry.call_id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or("none");
            write!(line, " [{id}]")?;
        }
        Ok(())
    }

    fn write_json(&self, line: &mut Vec<u8>, entry: &Entry, took: Duration) -> std::io::Result<()> {
        write!(
            line,
            "{{\"time\":\"{:.6}\",\"level\":\"INFO\",\"message\":\"call\",\"method\":{},\"path\":{},\"status\":{},\
             \"bytes\":{},\"duration_seconds\":",
            Timestamp::now(),
            JsonStr(entry.method.as_str()),
            JsonStr(entry.path()),
            self.status.as_u16(),
            self.written,
        )?;
        push_seconds(line, took, 6);
        let text = |value: &Option<HeaderValue>| value.as_ref().and_then(|id| Some(id.to_str().ok()?.to_owned()));
        if let Some(call_id) = text(&entry.call_id) {
            write!(line, ",\"call_id\":{}", JsonStr(&call_id))?;
        }
        if let Some((trace, span)) = text(&entry.trace).as_deref().and_then(trace_ids) {
            write!(line, ",\"trace_id\":\"{trace}\",\"span_id\":\"{span}\"")?;
        }
        line.push(b'}');
        Ok(())
    }
}

impl Entry {
    fn path(&self) -> &str {
        self.target.as_ref().map_or("", PathAndQuery::path)
    }
}

impl Drop for AccessRecord {
    fn drop(&mut self) {
        let now = Instant::now();
        // In this order: a call is logged before the next one of its connection begins.
        self.end(now);
        self.connection.end(self.number, now);
    }
}

fn is_probe(headers: &HeaderMap) -> bool {
    headers.get(header::USER_AGENT).is_some_and(|agent| agent.as_bytes().starts_with(b"kube-probe"))
}

/// Trace and parent id of a W3C `traceparent`.
fn trace_ids(value: &str) -> Option<(&str, &str)> {
    let mut parts = value.split('-');
    let (version, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
    let is_id = |text: &str, length| {
        text.len() == length
            && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
            && text.bytes().any(|byte| byte != b'0')
    };
    (version.len() == 2 && is_id(trace, 32) && is_id(span, 16)).then_some((trace, span))
}

/// Appends a size in decimal units: `5B`, `1.5kB`, `-1B` when it is not known.
fn push_size(line: &mut Vec<u8>, size: Option<u64>) -> std::io::Result<()> {
    match size {
        None => line.extend_from_slice(b"-1B"),
        Some(bytes @ ..1000) => {
            line.extend_from_slice(itoa::Buffer::new().format(bytes).as_bytes());
            line.push(b'B');
        }
        Some(bytes) => {
            let power = bytes.ilog(1000).min(6);
            let unit = ["", "kB", "MB", "GB", "TB", "PB", "EB"][power as usize];
            write!(line, "{:.1}{unit}", bytes as f64 / 1000_f64.powi(power as i32))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Config, framing, metrics::Metrics, server::Context, tracing::written};

    /// The log's lines of one call that was answered with `hello\n`.
    fn logged(format: &'static str, headers: &[(&str, &str)]) -> String {
        written(|out| {
            let config = Config::from_strings(|name| match name {
                "log_format" => Some(format.to_owned()),
                "suppress_lock" => Some("true".to_owned()),
                _ => None,
            });
            let metrics = Metrics::new(out.clone());
            let context = Context::new(config.unwrap(), out, metrics, None);
            let connection = Arc::new(Connection::new(Arc::new(context)));
            let mut request = Request::post("/a%20b?code=secret").header("host", "fn");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let request = request.body(()).unwrap();
            let mut record = AccessRecord::new(&connection);
            record.set_request(&request, framing::check(&request, false).unwrap(), true, None);
            record.set_status(StatusCode::CREATED);
            record.set_length(Some(6));
            record.wrote(6);
        })
    }

    #[test]
    fn a_line_of_json_has_all_that_is_known_of_the_call_but_its_query() {
        let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        let parent = format!("00-{trace}-{span}-01");
        let line = logged("json", &[("x-call-id", "a\"b"), ("traceparent", &parent)]);
        let call: serde_json::Value = serde_json::from_str(&line).unwrap();
        for (name, value) in [
            ("level", "INFO"),
            ("method", "POST"),
            ("path", "/a%20b"),
            ("call_id", "a\"b"),
            ("trace_id", trace),
            ("span_id", span),
        ] {
            assert_eq!(call[name], value, "{line}");
        }
        assert_eq!((&call["status"], &call["bytes"]), (&201.into(), &6.into()), "{line}");
        assert!(call["duration_seconds"].is_f64() && call["time"].is_string(), "{line}");
        assert_eq!(line.lines().count(), 1);
        assert!(!line.contains("secret"));
    }

    #[test]
    fn a_line_of_text_is_of_watchdogs_without_the_query() {
        let line = logged("text", &[]);
        let (_, rest) = line.split_at("2006/01/02 15:04:05".len());
        assert!(rest.starts_with(" POST /a%20b - 201 Created - ContentLength: 6B (0.0"), "{line}");
        assert!(rest.ends_with("s)\n"), "{line}");
    }

    #[test]
    fn probes_are_left_out() {
        for format in ["text", "json"] {
            assert_eq!(logged(format, &[("user-agent", "kube-probe/1.33")]), "");
        }
    }

    #[test]
    fn sizes_are_in_decimal_units() {
        for (bytes, text) in
            [(None, "-1B"), (Some(0), "0B"), (Some(999), "999B"), (Some(1500), "1.5kB"), (Some(1_500_000), "1.5MB")]
        {
            let mut line = Vec::new();
            push_size(&mut line, bytes).unwrap();
            assert_eq!(String::from_utf8(line).unwrap(), text);
        }
    }

    #[test]
    fn trace_ids_are_those_of_a_valid_parent_only() {
        let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        assert_eq!(trace_ids(&format!("00-{trace}-{span}-01")), Some((trace, span)));
        for bad in
            ["", "00", "00-x-y-01", &format!("00-{}-{span}-01", "0".repeat(32)), &format!("00-{trace}\"-{span}-01")]
        {
            assert_eq!(trace_ids(bad), None, "{bad}");
        }
    }
}
