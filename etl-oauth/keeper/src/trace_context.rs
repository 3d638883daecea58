//! The trace that a request belongs to (W3C Trace Context), passed on to the provider and the API.
//!
//! A request's `traceparent` stands beside its task, and beside each task that is started through [`carry`]; every call
//! that goes out names the same trace under a span of its own, and every event in the log names it as `trace_id`. Without
//! one nothing is sent: who begins a trace is for the gateway to say.
//!
//! Beside it stands the actor: on whose behalf the work is done, for an audit.

use std::{fmt::Write as _, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue};
use tracing::{Instrument as _, Span};

const PARENT: HeaderName = HeaderName::from_static("traceparent");
const STATE: HeaderName = HeaderName::from_static("tracestate");

/// What W3C Trace Context §3.3.1.5 asks to be passed on at least; a longer `tracestate` is left out.
const LONGEST_STATE: usize = 512;

/// The trace that a request came with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    id: String,
    /// Two digits; the last bit says that the trace is recorded.
    flags: String,
    state: Option<HeaderValue>,
}

tokio::task_local! {
    static CURRENT: Option<Trace>;
    static ACTOR: Option<Arc<str>>;
}

/// Runs `work` as part of a trace, if there is one.
pub async fn within<F: Future>(trace: Option<Trace>, work: F) -> F::Output {
    let span = trace.as_ref().map_or_else(Span::none, |trace| tracing::info_span!("request", trace_id = trace.id));
    CURRENT.scope(trace, work).instrument(span).await
}

/// `work` for a task of its own, as part of the trace of the task that starts it, and on behalf of the same actor.
pub fn carry<F: Future>(work: F) -> impl Future<Output = F::Output> {
    ACTOR.scope(actor(), CURRENT.scope(current(), work)).in_current_span()
}

/// Runs `work` on behalf of an actor.
pub async fn acting<F: Future>(actor: &str, work: F) -> F::Output {
    ACTOR.scope(Some(actor.into()), work).await
}

/// On whose behalf this task works, where [`acting`] or the task that started it says so.
pub fn actor() -> Option<Arc<str>> {
    ACTOR.try_with(Clone::clone).ok().flatten()
}

/// The headers of a call that goes out.
pub fn headers() -> HeaderMap {
    let Some(trace) = current() else { return HeaderMap::new() };
    let mut span = [0; 8];
    // A span that is all zeros is none (§3.2.2.4); so is one without randomness.
    if aws_lc_rs::rand::fill(&mut span).is_err() || span == [0; 8] {
        return HeaderMap::new();
    }
    trace.headers(span)
}

fn current() -> Option<Trace> {
    CURRENT.try_with(Clone::clone).ok().flatten()
}

impl Trace {
    /// Reads the headers; one that is malformed, or there twice, is none (§3.2.2, §4.3).
    pub fn read(headers: &HeaderMap) -> Option<Self> {
        let mut parents = headers.get_all(PARENT).iter();
        let parent = parents.next()?.to_str().ok().filter(|_| parents.next().is_none())?;
        let mut parts = parent.split('-');
        let (version, id, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let hex = |part: &str, length| {
            part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let zero = |part: &str| part.bytes().all(|byte| byte == b'0');
        // A later version may have more parts; version ff is no version (§3.2.2.1).
        let known = hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
        let sound = hex(id, 32) && !zero(id) && hex(span, 16) && !zero(span) && hex(flags, 2);
        if !(known && sound) {
            return None;
        }
        let states: Vec<_> = headers.get_all(STATE).iter().filter_map(|value| value.to_str().ok()).collect();
        let state = Some(states.join(",")).filter(|state| !state.is_empty() && state.len() <= LONGEST_STATE);
        Some(Self { id: id.into(), flags: flags.into(), state: state.and_then(|state| state.parse().ok()) })
    }

    fn headers(self, span: [u8; 8]) -> HeaderMap {
        let mut parent = format!("00-{}-", self.id);
        for byte in span {
            // Writing to a String cannot fail.
            let _ = write!(parent, "{byte:02x}");
        }
        let _ = write!(parent, "-{}", self.flags);
        let mut headers = HeaderMap::new();
        headers.extend(parent.parse().ok().map(|parent: HeaderValue| (PARENT, parent)));
        headers.extend(self.state.map(|state| (STATE, state)));
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0af7651916cd43dd8448eb211c80319c";

    fn read(pairs: &[(&HeaderName, &str)]) -> Option<Trace> {
        Trace::read(&pairs.iter().map(|(name, value)| ((*name).clone(), value.parse().unwrap())).collect())
    }

    #[test]
    fn a_malformed_parent_is_none() {
        let zeros = "0".repeat(32);
        for (parent, is_one) in [
            (format!("00-{ID}-b7ad6b7169203331-01"), true),
            (format!("00-{ID}-b7ad6b7169203331-00"), true),
            (format!("01-{ID}-b7ad6b7169203331-01-later"), true),
            (format!("00-{ID}-b7ad6b7169203331-01-later"), false),
            (format!("ff-{ID}-b7ad6b7169203331-01"), false),
            (format!("00-{}-b7ad6b7169203331-01", ID.to_uppercase()), false),
            (format!("00-{zeros}-b7ad6b7169203331-01"), false),
            (format!("00-{ID}-0000000000000000-01"), false),
            (format!("00-{ID}-b7ad6b716920333-01"), false),
            (format!("00-{ID}"), false),
            (String::new(), false),
        ] {
            assert_eq!(read(&[(&PARENT, &parent)]).is_some(), is_one, "{parent}");
        }
        let parent = format!("00-{ID}-b7ad6b7169203331-01");
        assert!(read(&[(&PARENT, &parent), (&PARENT, &parent)]).is_none(), "twice");
        assert!(read(&[(&STATE, "a=1")]).is_none());
    }

    #[test]
    fn a_call_names_the_same_trace_under_a_span_of_its_own() {
        let parent = format!("00-{ID}-b7ad6b7169203331-01");
        let trace = read(&[(&PARENT, &parent), (&STATE, "a=1"), (&STATE, "b=2")]).unwrap();
        let headers = trace.headers([0, 1, 2, 3, 0xfc, 0xfd, 0xfe, 0xff]);
        assert_eq!(headers[PARENT], format!("00-{ID}-00010203fcfdfeff-01"));
        assert_eq!(headers[STATE], "a=1,b=2");
        let long = "a=".to_owned() + &"1".repeat(600);
        let trace = read(&[(&PARENT, &parent), (&STATE, &long)]).unwrap();
        assert!(!trace.headers([1; 8]).contains_key(STATE));
    }

    #[tokio::test]
    async fn a_task_carries_the_trace_of_the_one_that_started_it() {
        let parent = format!("00-{ID}-b7ad6b7169203331-01");
        let came = HeaderMap::from_iter([(PARENT, parent.parse().unwrap())]);
        let (one, two) = within(Trace::read(&came), async {
            let sent = || headers()[PARENT].to_str().unwrap().to_owned();
            (tokio::spawn(carry(async move { sent() })).await.unwrap(), sent())
        })
        .await;
        assert!(one.starts_with(&format!("00-{ID}-")) && two.starts_with(&format!("00-{ID}-")), "{one} {two}");
        assert!(one != two && one != parent && one.ends_with("-01"), "{one} {two}");
        assert!(headers().is_empty() && tokio::spawn(carry(async { headers() })).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_task_works_on_behalf_of_the_actor_of_the_one_that_started_it() {
        let actor = acting("caller:a", async { tokio::spawn(carry(async { actor() })).await.unwrap() }).await;
        assert_eq!(actor.as_deref(), Some("caller:a"));
        assert_eq!(super::actor(), None);
    }
}
