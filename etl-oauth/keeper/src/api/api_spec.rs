//! How an API is called and how it answers, with headers and names parsed.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use jiff::Timestamp;

use crate::{
    provider::{self, Provider, ResetUnit, Source, fill, placeholders},
    token::Mark,
};

/// Where an API leaves the common ways. The default is RFC 6750, RFC 9110 and the usual names of rate limit headers.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The statuses that say that the token has ended (case F10); 401 where nothing else is known.
    pub expired: Vec<StatusCode>,
    /// The signs of that in an answer.
    pub expired_in: Vec<Mark>,
    /// The header that carries the token.
    pub header: HeaderName,
    /// What stands before the token in it, with the space: `Bearer `.
    pub prefix: String,
    /// What stands after the token in it.
    pub suffix: String,
    /// Headers of every request, such as the API's version.
    pub headers: HeaderMap,
    /// Parameters of every request's query.
    pub params: Vec<(String, String)>,
    /// Whether headers or parameters hold more than is known now: values of accounts, or secrets.
    pub later: Later,
    /// The client's id, which they may hold.
    pub client_id: String,
    /// Where an answer that is no success says why: the first of these places that is there.
    pub message: Vec<String>,
    /// The header by which the API knows a request that comes a second time.
    pub idempotency: Option<HeaderName>,
    /// How its answers show what is left of a rate limit.
    pub limits: Limits,
}

impl Facts {
    /// What the provider's definition says.
    ///
    /// # Errors
    /// A sentence on what of it no header can carry.
    pub fn of(provider: &Provider, client_id: &str) -> Result<Self, String> {
        let name = |text: &str| {
            HeaderName::try_from(text).map_err(|_| format!("provider {}: {text:?} is no header's name", provider.name))
        };
        let api = &provider.api;
        let mut headers = HeaderMap::new();
        let known = |word: &str| if word == "client_id" { Some(client_id) } else { provider.value(word) };
        for (key, text) in &api.headers {
            // A value may be known only later, such as which of several organisations is meant: without it no header.
            let Some(value) = fill(text, known).filter(|value| !value.is_empty()) else { continue };
            let value = HeaderValue::try_from(value)
                .map_err(|_| format!("provider {}: the header {key} can't be filled in", provider.name))?;
            headers.insert(name(key)?, value);
        }
        let params = api.params.iter().filter_map(|(key, text)| Some((key.clone(), fill(text, known)?)));
        let (prefix, suffix) = api.around_token();
        let expired = api.expired.iter().filter_map(|status| StatusCode::from_u16(*status).ok()).collect();
        Ok(Self {
            expired,
            expired_in: api.expired_in.clone(),
            header: name(&api.header)?,
            prefix,
            suffix: suffix.to_owned(),
            headers,
            params: params.filter(|(_, value)| !value.is_empty()).collect(),
            later: Later::of(provider),
            client_id: client_id.to_owned(),
            message: api.message.clone(),
            idempotency: api.idempotency.as_deref().map(name).transpose()?,
            limits: Limits::of(&api.limits, name)?,
        })
    }
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            expired: vec![StatusCode::UNAUTHORIZED],
            expired_in: Vec::new(),
            header: http::header::AUTHORIZATION,
            prefix: "Bearer ".into(),
            suffix: String::new(),
            headers: HeaderMap::new(),
            params: Vec::new(),
            later: Later::default(),
            client_id: String::new(),
            message: Vec::new(),
            idempotency: None,
            limits: Limits::default(),
        }
    }
}

/// What is filled in for each request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Later {
    /// Nothing.
    #[default]
    Nothing,
    /// Values that are kept with an account's tokens.
    Kept,
    /// Secrets too, which are read for each request.
    Secrets,
}

impl Later {
    fn of(provider: &Provider) -> Self {
        let texts = provider.api.headers.values().chain(provider.api.params.values());
        let of = |name: &str| match provider.variables.get(name).map(|variable| variable.from) {
            None if name == "client_secret" => Self::Secrets,
            Some(Source::Secret) => Self::Secrets,
            None | Some(Source::Configuration) => Self::Nothing,
            Some(_) => Self::Kept,
        };
        let all: Vec<_> = texts.flat_map(|text| placeholders(text).map(of)).collect();
        [Self::Secrets, Self::Kept].into_iter().find(|later| all.contains(later)).unwrap_or_default()
    }
}

/// The headers of rate limits.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How many requests are left: the first of these that is there.
    pub remaining: Vec<HeaderName>,
    /// When there are more: Unix seconds or milliseconds, seconds from now, or a date.
    pub reset: Vec<HeaderName>,
    /// What a bare number in `reset` counts, where that is not to be seen from its size: milliseconds from now.
    pub reset_in_milliseconds: bool,
    /// Limits and use of several windows side by side, separated by commas.
    pub windows: Option<Windows>,
    /// The statuses beside 429 that are a refusal for going too fast when nothing is left.
    pub statuses: Vec<StatusCode>,
    /// The signs in the body of an answer that a limit is reached, whatever its status is.
    pub told_in: Vec<Mark>,
    /// How many requests of one account go on at a time; no limit where nothing is known.
    pub concurrent: Option<usize>,
}

/// Limits of windows of fixed lengths, which begin at whole multiples of them.
#[derive(Clone, Debug)]
pub struct Windows {
    /// The limits.
    pub limit: HeaderName,
    /// How much of each is used.
    pub usage: HeaderName,
    /// The lengths, in the same order.
    pub lengths: Vec<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        let names = |names: &[&'static str]| names.iter().map(|name| HeaderName::from_static(name)).collect();
        Self {
            remaining: names(&["x-ratelimit-remaining", "x-rate-limit-remaining", "ratelimit-remaining"]),
            reset: names(&["x-ratelimit-reset", "x-rate-limit-reset", "ratelimit-reset"]),
            reset_in_milliseconds: false,
            windows: None,
            // So says GitHub, among others.
            statuses: vec![StatusCode::FORBIDDEN],
            told_in: Vec::new(),
            concurrent: None,
        }
    }
}

impl Limits {
    fn of(told: &provider::Limits, name: impl Fn(&str) -> Result<HeaderName, String>) -> Result<Self, String> {
        let concurrent = told.concurrent.and_then(|count| usize::try_from(count).ok());
        let mut limits = Self { told_in: told.told_in.clone(), concurrent, ..Self::default() };
        if let Some(remaining) = &told.remaining {
            limits.remaining = vec![name(remaining)?];
        }
        if let Some(reset) = &told.reset {
            limits.reset = vec![name(reset)?];
            limits.reset_in_milliseconds = told.reset_unit == ResetUnit::Milliseconds;
        }
        if let (Some(limit), Some(usage), false) = (&told.limit, &told.usage, told.windows.is_empty()) {
            let lengths = told.windows.iter().map(|seconds| Duration::from_secs((*seconds).into())).collect();
            limits.windows = Some(Windows { limit: name(limit)?, usage: name(usage)?, lengths });
        }
        limits.statuses.extend(told.statuses.iter().filter_map(|status| StatusCode::from_u16(*status).ok()));
        Ok(limits)
    }

    /// How many requests are left, and until when that holds.
    pub(super) fn left(&self, headers: &HeaderMap, now: Timestamp) -> Option<(u64, Timestamp)> {
        if let Some(windows) = &self.windows
            && let Some(left) = windows.left(headers, now)
        {
            return Some(left);
        }
        let remaining = first(headers, &self.remaining)?.trim().parse::<f64>().ok()?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a cast saturates, as it should here"
        )]
        Some((remaining as u64, self.reset(headers, now)?))
    }

    /// When the API wants to be asked again.
    pub(super) fn reset(&self, headers: &HeaderMap, now: Timestamp) -> Option<Timestamp> {
        let text = first(headers, &self.reset)?.trim();
        if self.reset_in_milliseconds {
            return now.checked_add(Duration::from_millis(text.parse().ok()?)).ok();
        }
        moment(text, now)
    }
}

impl Windows {
    /// The tightest of the windows.
    fn left(&self, headers: &HeaderMap, now: Timestamp) -> Option<(u64, Timestamp)> {
        let numbers = |name| -> Option<Vec<u64>> {
            text(headers.get(name)?)?.split(',').map(|number| number.trim().parse().ok()).collect()
        };
        let (limits, used) = (numbers(&self.limit)?, numbers(&self.usage)?);
        let windows = limits.into_iter().zip(used).zip(&self.lengths);
        windows.map(|((limit, used), length)| (limit.saturating_sub(used), turn(*length, now))).min()
    }
}

/// The end of the window of that length in which `now` is.
fn turn(length: Duration, now: Timestamp) -> Timestamp {
    let length = i64::try_from(length.as_secs()).unwrap_or(i64::MAX).max(1);
    let end = now.as_second().div_euclid(length).saturating_add(1).saturating_mul(length);
    Timestamp::from_second(end).unwrap_or(Timestamp::MAX)
}

fn first<'a>(headers: &'a HeaderMap, names: &[HeaderName]) -> Option<&'a str> {
    names.iter().find_map(|name| text(headers.get(name)?))
}

fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

fn moment(text: &str, now: Timestamp) -> Option<Timestamp> {
    // No window is as long as thirty years: a number that large is a moment of the calendar.
    const CALENDAR: f64 = 1e9;
    if let Ok(number) = text.parse::<f64>() {
        let seconds = match number {
            ..0.0 => return None,
            number if number >= CALENDAR * 1000.0 => number / 1000.0,
            number if number >= CALENDAR => number,
            #[expect(clippy::cast_precision_loss, reason = "milliseconds of the calendar are exact in a double")]
            number => now.as_millisecond() as f64 / 1000.0 + number,
        };
        #[expect(clippy::cast_possible_truncation, reason = "a cast saturates, and what is no time is refused")]
        return Timestamp::from_millisecond((seconds * 1000.0) as i64).ok();
    }
    text.parse().ok().or_else(|| Some(jiff::fmt::rfc2822::parse(text).ok()?.timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn resets_are_read_as_seconds_dates_and_moments() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        for (reset, wanted) in [
            ("90", "2026-11-21T12:01:30Z"),
            ("1.5", "2026-11-21T12:00:01.5Z"),
            ("1795262400", "2026-11-21T12:00:00Z"),
            ("1795262400000", "2026-11-21T12:00:00Z"),
            ("2026-11-21T12:15:00Z", "2026-11-21T12:15:00Z"),
            ("Sat, 21 Nov 2026 12:15:00 GMT", "2026-11-21T12:15:00Z"),
        ] {
            let found = Limits::default().reset(&headers(&[("x-ratelimit-reset", reset)]), now);
            assert_eq!(found, Some(wanted.parse().unwrap()), "{reset}");
        }
        assert_eq!(Limits::default().reset(&headers(&[("ratelimit-reset", "soon")]), now), None);
    }

    #[test]
    fn of_several_windows_the_tightest_counts() {
        let windows = Windows {
            limit: HeaderName::from_static("x-ratelimit-limit"),
            usage: HeaderName::from_static("x-ratelimit-usage"),
            lengths: vec![Duration::from_secs(900), Duration::from_secs(86_400)],
        };
        let limits = Limits { windows: Some(windows), ..Limits::default() };
        let now = "2026-11-21T12:07:00Z".parse().unwrap();
        let left = |usage| {
            limits.left(&headers(&[("x-ratelimit-limit", "100,1000"), ("x-ratelimit-usage", usage)]), now).unwrap()
        };
        assert_eq!(left("98, 200"), (2, "2026-11-21T12:15:00Z".parse().unwrap()));
        assert_eq!(left("10,1001"), (0, "2026-11-22T00:00:00Z".parse().unwrap()));
    }
}
