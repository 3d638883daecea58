//! What is told of a call when it has ended, however it ended: one line of the log, one count of the metrics.

use std::{fmt, io::Write as _, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header, uri::PathAndQuery};
use tokio::time::Instant;

use crate::{
    clock::Utc,
    config::LogFormat,
    decimal,
    duration::Go,
    gate::Ticket,
    log::{JsonStr, Rfc3339},
    message::Marks,
    shared::Local,
};

const CALL_ID: HeaderName = HeaderName::from_static("x-call-id");
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");

/// A call from its head to the end of its answer. Dropping it tells of it.
pub(crate) struct Entry {
    shared: Local,
    ticket: Option<Ticket>,
    method: Method,
    target: Option<PathAndQuery>,
    call_id: Option<HeaderValue>,
    trace: Option<HeaderValue>,
    /// The platform's own probes would fill the log.
    is_probe: bool,
    is_counted: bool,
    kind: Kind,
    started: Instant,
    pub(crate) status: StatusCode,
    written: u64,
    is_whole: bool,
}

/// How the size of an answer is told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `ContentLength`, -1 when it was not known beforehand.
    Whole(Option<u64>),
    /// `Bytes`, as many as there were.
    Stream,
    /// No size: the call was not let in.
    Denied,
}

impl Entry {
    /// A call that came through the gate.
    pub(crate) fn new<B>(shared: &Local, request: &Request<B>, marks: Marks, ticket: Option<Ticket>) -> Box<Self> {
        let headers = request.headers();
        let told = |name: &HeaderName, wanted: bool| if wanted { headers.get(name).cloned() } else { None };
        let is_json = shared.log.format() == LogFormat::Json;
        // In a box: it changes hands many times on its way.
        Box::new(Self {
            shared: Arc::clone(shared),
            ticket,
            method: request.method().clone(),
            target: request.uri().path_and_query().cloned(),
            call_id: told(&CALL_ID, is_json || shared.config.log_callid),
            trace: told(&TRACE_PARENT, is_json),
            is_probe: marks.agent && is_probe(headers),
            is_counted: true,
            kind: Kind::Whole(None),
            started: Instant::now(),
            status: StatusCode::INTERNAL_SERVER_ERROR,
            written: 0,
            is_whole: false,
        })
    }

    /// For `/_/ready`: such a call is logged, but not counted.
    pub(crate) fn uncounted(mut self: Box<Self>) -> Box<Self> {
        self.is_counted = false;
        self
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// The answer's length as its header says it.
    pub(crate) fn set_length(&mut self, length: Option<u64>) {
        self.kind = Kind::Whole(length);
    }

    pub(crate) fn set_stream(&mut self) {
        self.kind = Kind::Stream;
    }

    pub(crate) fn set_denied(&mut self) {
        self.kind = Kind::Denied;
    }

    /// The connection is a websocket from now on. It does not hold up the end of the process.
    pub(crate) fn set_upgraded(&mut self) {
        self.kind = Kind::Stream;
        if let Some(ticket) = &mut self.ticket {
            self.shared.gate.set_idle(ticket);
        }
    }

    /// All of the answer was written.
    pub(crate) fn set_whole(&mut self) {
        self.is_whole = true;
    }

    pub(crate) fn wrote(&mut self, bytes: usize) {
        self.written += bytes as u64;
    }

    /// The answer could not be finished.
    pub(crate) fn broke_off(&self, why: &dyn fmt::Display) {
        self.shared.log.say(format_args!("{} {}: the answer broke off: {why}", self.method, self.path()));
    }

    fn log(&self, now: Instant, took: Duration) {
        match self.shared.log.format() {
            LogFormat::Text => self.log_text(now, took),
            LogFormat::Json => self.log_json(took),
        }
    }

    fn log_text(&self, now: Instant, took: Duration) {
        self.shared.log.stamped(now, |line| {
            for part in [self.method.as_str(), " ", self.path(), " - ", self.status.as_str()] {
                line.extend_from_slice(part.as_bytes());
            }
            match self.kind {
                Kind::Denied => {
                    let took = Go(Duration::from_secs(took.as_secs()));
                    // Writing to a Vec cannot fail.
                    let _ = write!(line, " ACCESS DENIED - ({took})");
                    return;
                }
                Kind::Stream => {
                    line.extend_from_slice(b" - Bytes: ");
                    size(line, Some(self.written));
                }
                Kind::Whole(length) => {
                    line.push(b' ');
                    line.extend_from_slice(self.status.canonical_reason().unwrap_or("Status").as_bytes());
                    line.extend_from_slice(b" - ContentLength: ");
                    size(line, length);
                }
            }
            line.extend_from_slice(b" (");
            decimal::seconds::<4>(line, took);
            line.extend_from_slice(b"s)");
            if self.shared.config.log_callid && self.kind != Kind::Stream {
                let id = self.call_id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or("none");
                line.extend_from_slice(b" [");
                line.extend_from_slice(id.as_bytes());
                line.push(b']');
            }
        });
    }

    fn path(&self) -> &str {
        self.target.as_ref().map_or("", PathAndQuery::path)
    }

    fn log_json(&self, took: Duration) {
        let id = |value: &Option<HeaderValue>| value.as_ref().and_then(|id| Some(id.to_str().ok()?.to_owned()));
        let mut more = String::new();
        if let Some(call_id) = id(&self.call_id) {
            more = format!(",\"call_id\":{}", JsonStr(&call_id));
        }
        if let Some((trace, span)) = id(&self.trace).as_deref().and_then(trace_ids) {
            more.push_str(&format!(",\"trace_id\":\"{trace}\",\"span_id\":\"{span}\""));
        }
        self.shared.log.line(format_args!(
            "{{\"time\":\"{}\",\"level\":\"INFO\",\"message\":\"call\",\"method\":{},\"path\":{},\"status\":{},\
             \"bytes\":{},\"duration_seconds\":{:.6}{more}}}",
            Rfc3339(Utc::now()),
            JsonStr(self.method.as_str()),
            JsonStr(self.path()),
            self.status.as_u16(),
            self.written,
            took.as_secs_f64(),
        ));
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let now = Instant::now();
        let took = now.saturating_duration_since(self.started);
        let is_upgrade = self.status == StatusCode::SWITCHING_PROTOCOLS;
        // A stream that was broken off is not counted, as by of-watchdog: its length says nothing.
        if self.is_counted && (self.kind != Kind::Stream || self.is_whole || is_upgrade) {
            // An upgrade has no answer in the usual sense; of-watchdog counts it as 200.
            let status = if is_upgrade { StatusCode::OK } else { self.status };
            self.shared.metrics.record(&self.method, status, took);
        }
        if !self.is_probe {
            self.log(now, took);
        }
        if let Some(ticket) = &self.ticket {
            self.shared.gate.leave(ticket);
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("method", &self.method).field("status", &self.status).finish_non_exhaustive()
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

/// A size in decimal units: `5B`, `1.5kB`, `-1B` when it is not known.
fn size(line: &mut Vec<u8>, size: Option<u64>) {
    match size {
        None => line.extend_from_slice(b"-1B"),
        Some(size) if size < 1000 => {
            decimal::whole(line, size);
            line.push(b'B');
        }
        Some(size) => {
            let mut size = size as f64;
            let mut unit = "B";
            for next in ["kB", "MB", "GB", "TB", "PB", "EB"] {
                if size < 1000.0 {
                    break;
                }
                size /= 1000.0;
                unit = next;
            }
            // Writing to a Vec cannot fail.
            let _ = write!(line, "{size:.1}{unit}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::{
        config::Config,
        gate::Gate,
        leftover::Leftovers,
        lock::Lock,
        log::{Lines, Log},
        metrics::Metrics,
        shared::Shared,
    };

    /// The log's lines of one call that was answered with `hello\n`.
    fn logged(format: LogFormat, headers: &[(&str, &str)]) -> String {
        let lines = Lines::default();
        let log = Log::to(Box::new(lines.clone()), format).unwrap();
        let shared = Shared {
            config: Config::from_strings(|_| None).unwrap(),
            gate: Gate::new(None),
            leftovers: Leftovers::default(),
            metrics: Metrics::new(),
            log: log.clone(),
            lock: Lock::write("/unused/.lock".into(), true).0,
            auth: None,
            draining: AtomicBool::new(false),
        };
        let mut request = Request::post("/a%20b?code=secret");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        let marks = Marks::of(request.headers());
        let mut entry = Entry::new(&Arc::new(Arc::new(shared)), &request, marks, None);
        entry.status = StatusCode::CREATED;
        entry.set_length(Some(6));
        entry.wrote(6);
        drop(entry);
        log.flush();
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_line_of_json_has_all_that_is_known_of_the_call_but_its_query() {
        let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        let parent = format!("00-{trace}-{span}-01");
        let line = logged(LogFormat::Json, &[("x-call-id", "a\"b"), ("traceparent", &parent)]);
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
        let line = logged(LogFormat::Text, &[]);
        let (_, rest) = line.split_at("2006/01/02 15:04:05".len());
        assert!(rest.starts_with(" POST /a%20b - 201 Created - ContentLength: 6B (0.0"), "{line}");
        assert!(rest.ends_with("s)\n"), "{line}");
    }

    #[test]
    fn probes_are_left_out() {
        for format in [LogFormat::Text, LogFormat::Json] {
            assert_eq!(logged(format, &[("user-agent", "kube-probe/1.33")]), "");
        }
    }

    #[test]
    fn sizes_are_in_decimal_units() {
        for (bytes, text) in
            [(None, "-1B"), (Some(0), "0B"), (Some(999), "999B"), (Some(1500), "1.5kB"), (Some(1_500_000), "1.5MB")]
        {
            let mut line = Vec::new();
            size(&mut line, bytes);
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
