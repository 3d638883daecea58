//! Why a function is called: typed events from the headers of a request.
//!
//! ```
//! use openfaas_events::Event;
//!
//! # let request = http::Request::post("/").header("X-Topic", "cron-function").header("X-Connector", "cron-connector").body(())?;
//! match Event::of(request.headers()) {
//!     Event::Cron(_) => println!("the schedule"),
//!     Event::Callback(callback) => println!("{} answered {}", callback.function, callback.status),
//!     Event::Queued(call) => println!("asynchronous call {}", call.call_id.unwrap_or("without an id")),
//!     Event::Cloud(event) => println!("{} of {}", event.kind, event.source),
//!     _ => println!("a call"),
//! }
//! # Ok::<(), http::Error>(())
//! ```
//!
//! Anyone who reaches the gateway can send these headers. They say what a call is about, and never that it is allowed.

use std::{
    num::ParseIntError,
    time::{Duration, SystemTime},
};

use http::HeaderMap;

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// cron-connector calls on a schedule (annotation `schedule`): a POST to `/` without a body.
    Cron(Cron<'a>),
    /// The queue-worker delivers the result of an asynchronous call to this function, which was its `X-Callback-Url`.
    /// The body is that of the answer.
    Callback(Callback<'a>),
    /// The queue-worker makes a call that was sent to `/async-function`.
    Queued(Queued<'a>),
    /// A CloudEvent in binary content mode: its attributes are headers, the body is its data.
    Cloud(CloudEvent<'a>),
    /// Any other call.
    Request,
}

/// A call on a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cron<'a> {
    /// The topic, `cron-function`.
    pub topic: &'a str,
}

/// The result of an asynchronous call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Callback<'a> {
    /// The function that was called.
    pub function: &'a str,
    /// The status of its answer.
    pub status: u16,
    /// The id that the asynchronous call's 202 had as `X-Call-Id`.
    pub call_id: Option<&'a str>,
    /// How long the function took.
    pub duration: Option<Duration>,
}

/// An asynchronous call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Queued<'a> {
    /// The id that the caller's 202 had as `X-Call-Id`.
    pub call_id: Option<&'a str>,
    /// When the gateway took the call.
    pub queued_at: Option<SystemTime>,
    /// Which retry this is, from 1; OpenFaaS CE never retries.
    pub retry: Option<u32>,
}

/// A CloudEvent 1.0 in binary content mode (HTTP protocol binding, section 3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloudEvent<'a> {
    /// `id`: unique for its source.
    pub id: &'a str,
    /// `source`: a URI reference.
    pub source: &'a str,
    /// `type`.
    pub kind: &'a str,
    /// `subject`.
    pub subject: Option<&'a str>,
    /// `time`, as RFC 3339 has it.
    pub time: Option<&'a str>,
    headers: &'a HeaderMap,
}

impl<'a> Event<'a> {
    /// What `headers` say. An event whose headers are not complete is an [`Event::Request`].
    pub fn of(headers: &'a HeaderMap) -> Self {
        if let Some(event) = CloudEvent::of(headers) {
            return Self::Cloud(event);
        }
        if let (Some(function), Some(status)) = (text(headers, "x-function-name"), number(headers, "x-function-status"))
        {
            let seconds = text(headers, "x-duration-seconds").and_then(|seconds| seconds.parse().ok());
            return Self::Callback(Callback {
                function,
                status,
                call_id: text(headers, "x-call-id"),
                duration: seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
            });
        }
        if text(headers, "x-connector") == Some("cron-connector")
            && let Some(topic) = text(headers, "x-topic")
        {
            return Self::Cron(Cron { topic });
        }
        if text(headers, "user-agent").is_some_and(|agent| agent.contains("queue-worker")) {
            let nanos = number(headers, "x-start-time").map(Duration::from_nanos);
            return Self::Queued(Queued {
                call_id: text(headers, "x-call-id"),
                queued_at: nanos.and_then(|nanos| SystemTime::UNIX_EPOCH.checked_add(nanos)),
                retry: number(headers, "x-retry"),
            });
        }
        Self::Request
    }
}

impl<'a> CloudEvent<'a> {
    fn of(headers: &'a HeaderMap) -> Option<Self> {
        if text(headers, "ce-specversion")? != "1.0" {
            return None;
        }
        Some(Self {
            id: text(headers, "ce-id")?,
            source: text(headers, "ce-source")?,
            kind: text(headers, "ce-type")?,
            subject: text(headers, "ce-subject"),
            time: text(headers, "ce-time"),
            headers,
        })
    }

    /// An extension attribute, by its name without `ce-`.
    pub fn extension(&self, name: &str) -> Option<&'a str> {
        text(self.headers, &format!("ce-{name}"))
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn number<T: std::str::FromStr<Err = ParseIntError>>(headers: &HeaderMap, name: &str) -> Option<T> {
    text(headers, name)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
        of.iter().map(|(name, value)| (name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_schedule_is_told_by_its_connector() {
        let cron = headers(&[("x-topic", "cron-function"), ("x-connector", "cron-connector")]);
        assert_eq!(Event::of(&cron), Event::Cron(Cron { topic: "cron-function" }));
        assert_eq!(Event::of(&headers(&[("x-topic", "orders"), ("x-connector", "nats")])), Event::Request);
    }

    #[test]
    fn a_callback_has_status_and_id_of_its_call() {
        let callback = headers(&[
            ("x-function-name", "resize"),
            ("x-function-status", "503"),
            ("x-call-id", "a"),
            ("x-duration-seconds", "1.500000"),
        ]);
        let duration = Some(Duration::from_millis(1500));
        let expected = Callback { function: "resize", status: 503, call_id: Some("a"), duration };
        assert_eq!(Event::of(&callback), Event::Callback(expected));
        assert_eq!(Event::of(&headers(&[("x-function-name", "resize")])), Event::Request);
    }

    #[test]
    fn a_queued_call_has_its_time_and_retry() {
        let queued = headers(&[
            ("user-agent", "openfaas-ce/nats-queue-worker"),
            ("x-call-id", "a"),
            ("x-start-time", "1700000000000000000"),
            ("x-retry", "2"),
        ]);
        let queued_at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(1_700_000_000));
        assert_eq!(Event::of(&queued), Event::Queued(Queued { call_id: Some("a"), queued_at, retry: Some(2) }));
    }

    #[test]
    fn a_cloud_event_needs_its_four_attributes() {
        let all = [
            ("ce-specversion", "1.0"),
            ("ce-id", "1"),
            ("ce-source", "/orders"),
            ("ce-type", "order.created"),
            ("ce-tenant", "acme"),
        ];
        let found = headers(&all);
        let Event::Cloud(event) = Event::of(&found) else { panic!("{found:?}") };
        assert_eq!((event.id, event.source, event.kind), ("1", "/orders", "order.created"));
        assert_eq!((event.subject, event.extension("tenant")), (None, Some("acme")));
        for missing in 0..4 {
            let mut some = all.to_vec();
            some.remove(missing);
            assert_eq!(Event::of(&headers(&some)), Event::Request, "{missing}");
        }
    }
}
