//! What is told of a call when it has ended, however it ended: one line of the log, one count of the metrics.

use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use tokio::time::Instant;

use crate::{
    clock::Utc,
    config::LogFormat,
    duration::Go,
    gate::Ticket,
    log::{JsonStr, Rfc3339, Stamp},
    shared::Shared,
};

const CALL_ID: HeaderName = HeaderName::from_static("x-call-id");
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");

/// A call from its head to the end of its answer. Dropping it tells of it.
pub(crate) struct Entry {
    shared: Arc<Shared>,
    ticket: Option<Ticket>,
    method: Method,
    uri: Uri,
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
    pub(crate) fn new<B>(shared: &Arc<Shared>, request: &Request<B>, ticket: Option<Ticket>) -> Self {
        let headers = request.headers();
        let told = |name: &HeaderName, wanted: bool| if wanted { headers.get(name).cloned() } else { None };
        let is_json = shared.log.format() == LogFormat::Json;
        Self {
            shared: Arc::clone(shared),
            ticket,
            method: request.method().clone(),
            uri: request.uri().clone(),
            call_id: told(&CALL_ID, is_json || shared.config.log_callid),
            trace: told(&TRACE_PARENT, is_json),
            is_probe: is_probe(headers),
            is_counted: true,
            kind: Kind::Whole(None),
            started: Instant::now(),
            status: StatusCode::INTERNAL_SERVER_ERROR,
            written: 0,
            is_whole: false,
        }
    }

    /// For `/_/ready`: such a call is logged, but not counted.
    pub(crate) fn uncounted(mut self) -> Self {
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
            ticket.set_idle();
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
        self.shared.log.say(format_args!("{} {}: the answer broke off: {why}", self.method, self.uri.path()));
    }

    fn log(&self, took: Duration) {
        match self.shared.log.format() {
            LogFormat::Text => self.log_text(took),
            LogFormat::Json => self.log_json(took),
        }
    }

    fn log_text(&self, took: Duration) {
        let (log, stamp, seconds) = (&self.shared.log, Stamp(Utc::now()), Seconds(took));
        let (method, path, status) = (&self.method, self.uri.path(), self.status);
        match self.kind {
            Kind::Denied => {
                let took = Go(Duration::from_secs(took.as_secs()));
                log.line(format_args!("{stamp} {method} {path} - {} ACCESS DENIED - ({took})", status.as_str()));
            }
            Kind::Stream => {
                let size = Size(self.written.cast_signed());
                log.line(format_args!("{stamp} {method} {path} - {} - Bytes: {size} ({seconds}s)", status.as_str()));
            }
            Kind::Whole(length) => {
                let (reason, size) =
                    (status.canonical_reason().unwrap_or("Status"), Size(length.map_or(-1, u64::cast_signed)));
                let line = format_args!(
                    "{stamp} {method} {path} - {} {reason} - ContentLength: {size} ({seconds}s)",
                    status.as_str()
                );
                match &self.call_id {
                    _ if !self.shared.config.log_callid => log.line(line),
                    Some(id) => log.line(format_args!("{line} [{}]", id.to_str().unwrap_or("none"))),
                    None => log.line(format_args!("{line} [none]")),
                }
            }
        }
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
            JsonStr(self.uri.path()),
            self.status.as_u16(),
            self.written,
            took.as_secs_f64(),
        ));
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        let is_upgrade = self.status == StatusCode::SWITCHING_PROTOCOLS;
        // A stream that was broken off is not counted, as by of-watchdog: its length says nothing.
        if self.is_counted && (self.kind != Kind::Stream || self.is_whole || is_upgrade) {
            // An upgrade has no answer in the usual sense; of-watchdog counts it as 200.
            let status = if is_upgrade { StatusCode::OK } else { self.status };
            self.shared.metrics.record(&self.method, status, took);
        }
        if !self.is_probe {
            self.log(took);
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

/// Seconds with four decimals; whole numbers are written several times faster than floats.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = (self.0.as_micros() + 50) / 100;
        write!(f, "{}.{:04}", parts / 10_000, parts % 10_000)
    }
}

/// A size in decimal units: `5B`, `1.5kB`, `-1B` when it is not known.
struct Size(i64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1000 {
            return write!(f, "{}B", self.0);
        }
        let mut size = self.0 as f64;
        let mut unit = "B";
        for next in ["kB", "MB", "GB", "TB", "PB", "EB"] {
            if size < 1000.0 {
                break;
            }
            size /= 1000.0;
            unit = next;
        }
        write!(f, "{size:.1}{unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_rounded_to_four_decimals() {
        for (micros, text) in
            [(0, "0.0000"), (49, "0.0000"), (50, "0.0001"), (1_234_560, "1.2346"), (59_999_960, "60.0000")]
        {
            assert_eq!(Seconds(Duration::from_micros(micros)).to_string(), text);
        }
    }

    #[test]
    fn sizes_are_in_decimal_units() {
        for (bytes, text) in [(-1, "-1B"), (0, "0B"), (999, "999B"), (1500, "1.5kB"), (1_500_000, "1.5MB")] {
            assert_eq!(Size(bytes).to_string(), text);
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
