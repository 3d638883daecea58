//! The rules of renewal that need no state: when a token is renewed, when a refresh token may be sent again, how long to
//! wait after a failure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::{
    backoff::Backoff,
    provider::Provider,
    token::{Failure, FailureKind, Health, Intent, Record},
};

const HOUR: Duration = Duration::from_hours(1);
/// The longest that a provider may ask to be left alone: a slip in its `Retry-After` is not to last for ever.
const DAY: Duration = Duration::from_hours(24);
/// After so long, and so many refusals without an OAuth error code, a grant counts as ended.
const DENIED: (SignedDuration, u32) = (SignedDuration::from_hours(24), 8);
/// Between sends of a refresh token that has been sent twice without an answer. Whichever send took effect, its answer is
/// gone, so that nothing more can be lost; the provider's next answer tells which it was.
const UNANSWERED: Backoff = Backoff::new(Duration::from_secs(60), HOUR);
/// The shortest wait that brings the next try before the end of the access token.
const SOON: Duration = Duration::from_secs(5);

/// When tokens are renewed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Renew {
    /// Before they end.
    #[default]
    BeforeExpiry,
    /// Before every run of the job.
    EachRun,
    /// Only when the API refuses them.
    On401,
}

/// What decides over renewals: the provider's habits and the configuration.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Policy {
    /// When tokens are renewed.
    pub renew: Renew,
    /// Whether the grant brings new tokens by being asked for again, so that no refresh token is needed and nobody.
    pub asks_again: bool,
    /// A token with less left is renewed first.
    pub renew_before: Duration,
    /// The time limit of one call to the token endpoint; shorter than the lease.
    pub token_timeout: Duration,
    /// By what part of a token's life its renewal may come earlier, so that tokens of one age are not renewed at once.
    pub spread: f64,
    /// How long a holder may be silent before another may renew.
    pub lease: Duration,
    /// Whether a renewal ends the refresh token that it spent.
    pub rotates: bool,
    /// For how long a refresh token may be sent again after an unanswered renewal.
    pub replay_window: Duration,
    /// Whether the spent refresh token works until the new access token was used.
    pub previous_until_used: bool,
    /// After how long without a renewal a refresh token lapses.
    pub refresh_idle: Option<Duration>,
    /// How long an access token lives where no answer says so.
    pub lifetime: Option<Duration>,
    /// Whether tokens of any type are used as bearer tokens.
    pub any_type: bool,
    /// A change of an account's state stands in its record until somebody has been told of it.
    pub tells: bool,
    /// Digest of the client's credentials in use, where they can be read.
    pub client: Option<String>,
}

impl Policy {
    /// The provider's habits with the usual times: a minute before expiry, 10 s for a call, a lease of 30 s.
    #[must_use]
    pub fn of(provider: &Provider) -> Self {
        Self {
            renew: Renew::default(),
            asks_again: provider.grant.asks_again(),
            renew_before: provider.renew_before.unwrap_or(Duration::from_secs(60)),
            token_timeout: Duration::from_secs(10),
            spread: 0.0,
            lease: Duration::from_secs(30),
            rotates: provider.rotates && !provider.grant.asks_again(),
            replay_window: provider.replay_window,
            previous_until_used: provider.previous_until_used,
            refresh_idle: provider.refresh_idle,
            lifetime: provider.lifetime,
            any_type: provider.answer.token_type.is_empty(),
            tells: false,
            client: None,
        }
    }

    /// Whether the tokens are good to use without a thought of renewal.
    #[must_use]
    pub fn is_fresh(&self, record: &Record, now: Timestamp) -> bool {
        now < self.fresh_until(record)
    }

    /// Until when the tokens are good to use without a thought of renewal: for ever where only the API can tell.
    #[must_use]
    pub fn fresh_until(&self, record: &Record) -> Timestamp {
        match (&record.tokens, self.renew) {
            (None, _) => Timestamp::MIN,
            (Some(tokens), Renew::On401) if !tokens.is_usable() => Timestamp::MIN,
            (Some(_), Renew::On401) => Timestamp::MAX,
            (Some(tokens), Renew::BeforeExpiry | Renew::EachRun) => tokens.fresh_until(self.renew_before),
        }
    }

    /// When the next renewal is due by itself: before the access token ends, or at half the idle life of the refresh
    /// token; earlier by [`Policy::spread`]. `None` where neither is known.
    #[must_use]
    pub fn due_at(&self, record: &Record) -> Option<Timestamp> {
        let tokens = record.tokens.as_ref()?;
        let margin = tokens.lifetime().map_or(self.renew_before, |lifetime| self.renew_before.min(lifetime / 10));
        let expiry =
            tokens.expires_at.filter(|_| self.renew != Renew::On401).and_then(|end| end.checked_sub(margin).ok());
        let due = [expiry, self.idle_at(record)].into_iter().flatten().min()?;
        Some(self.spread_out(tokens, due, tokens.obtained_at))
    }

    /// When the refresh token has been idle for half its life, as it is configured or as the provider told: the scheduled
    /// run renews then (case D1).
    #[must_use]
    pub fn idle_at(&self, record: &Record) -> Option<Timestamp> {
        let tokens = record.tokens.as_ref()?;
        tokens.refresh_token.as_ref()?;
        let told =
            tokens.refresh_expires_at.and_then(|end| Duration::try_from(end.duration_since(tokens.obtained_at)).ok());
        let life = [self.refresh_idle, told].into_iter().flatten().min()?;
        after(tokens.obtained_at, life / 2)
    }

    /// Whether the refresh token of an unanswered renewal may be sent again: within the provider's replay window as often
    /// as the backoff allows, without a window once, and then at growing distance ([`Policy::resend_at`]).
    ///
    /// The window is taken to end a call's time limit early: the request must arrive within it, and another replica's
    /// clock may have begun it.
    #[must_use]
    pub fn may_replay(&self, intent: &Intent, now: Timestamp) -> bool {
        let window = self.replay_window.saturating_sub(self.token_timeout);
        !self.rotates
            || intent.attempt < 2
            || after(intent.first_at, window).is_some_and(|end| now < end)
            || self.resend_at(intent) <= now
    }

    /// When the refresh token of an unanswered renewal may be sent again at the latest: a minute after the second send, then
    /// at distances that double up to an hour.
    #[must_use]
    pub fn resend_at(&self, intent: &Intent) -> Timestamp {
        after(intent.at, UNANSWERED.after(intent.attempt.saturating_sub(1))).unwrap_or(Timestamp::MAX)
    }

    /// The account's health after a failed try.
    ///
    /// `jitter` is between 0 and 1, of the caller's randomness: it spreads replicas by up to a quarter of the wait.
    #[must_use]
    pub fn after_failure(&self, record: &Record, failure: &Failure, now: Timestamp, jitter: f64) -> Health {
        let class = failure.class();
        let failures = record.health.failures.saturating_add(1);
        let wait = class.backoff().spread(failures, jitter).max(failure.retry_after().unwrap_or_default().min(DAY));
        let mut next_try_at = after(now, wait);
        let end = record.tokens.as_ref().and_then(|tokens| tokens.expires_at);
        // A 5xx may hide a rotation. While the access token lives there is nothing to win by a replay, and it to lose.
        let hides_rotation = class == FailureKind::ProviderUnavailable
            && !failure.is_denial()
            && self.rotates
            && self.replay_window.is_zero();
        if let Some(end) = end.filter(|_| hides_rotation) {
            next_try_at = next_try_at.map(|at| at.max(end.min(after(at, HOUR).unwrap_or(Timestamp::MAX))));
        } else if let Some(end) = end.filter(|end| next_try_at.is_some_and(|at| *end <= at))
            && let Ok(left) = Duration::try_from(end.duration_since(now))
            && !class.is_ambiguous()
            && failure.retry_after().is_none()
        {
            // The next try comes before the old token ends: some providers refuse renewals that come early.
            next_try_at = after(now, SOON.max(left / 2)).filter(|at| *at < end).or(next_try_at);
        }
        let denied_since = self.denied_since(record, failure, now);
        let (longest, often) = DENIED;
        let ended = denied_since.filter(|since| now.duration_since(*since) >= longest && failures >= often);
        let detail = match ended {
            Some(since) => format!(
                "{failure}: every renewal since {since:.0} was refused without a reason, so the grant counts as ended; \
                 POST /refresh tries once more"
            ),
            None => failure.to_string(),
        };
        Health {
            failures,
            class: Some(if ended.is_some() { FailureKind::InvalidGrant } else { class }),
            detail: Some(detail),
            reason: failure.reason().map(str::to_owned),
            next_try_at,
            needs_authorisation: class.needs_person() || ended.is_some(),
            refused: record.health.refused.clone(),
            denied_since,
            client: self.client.clone().filter(|_| class == FailureKind::InvalidClient),
            last_renewal: Some(crate::token::LastRenewal { at: now, outcome: class.as_str().into() }),
        }
    }
}

impl Policy {
    /// Since when every answer of the provider has been a refusal without an OAuth error code. No answer says nothing, any
    /// other answer ends it.
    fn denied_since(&self, record: &Record, failure: &Failure, now: Timestamp) -> Option<Timestamp> {
        let earlier = record.health.denied_since;
        match failure.class() {
            _ if self.asks_again => None,
            _ if failure.is_denial() => Some(earlier.unwrap_or(now)),
            FailureKind::NetworkNotSent | FailureKind::NetworkAmbiguous | FailureKind::RateLimited => earlier,
            _ => None,
        }
    }
}

/// `at` plus `wait`, unless that is beyond all calendars.
pub(super) fn after(at: Timestamp, wait: Duration) -> Option<Timestamp> {
    at.checked_add(SignedDuration::try_from(wait).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        provider::{Definition, Overrides},
        token::AnswerShape,
    };

    fn policy() -> Policy {
        let definition = Definition { token_url: Some("https://p.example/".into()), ..Definition::default() };
        Policy::of(&Provider::new("custom", definition, Overrides::default()).unwrap())
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn record() -> Record {
        let answer = AnswerShape::default().read(br#"{"access_token":"a","refresh_token":"r","expires_in":3600}"#);
        Record::default().authorised(answer.unwrap(), at(0), None)
    }

    fn wait(policy: &Policy, record: &Record, failure: &Failure) -> i64 {
        policy.after_failure(record, failure, at(0), 0.0).next_try_at.unwrap().as_second()
    }

    #[test]
    fn d1_a_refresh_token_that_lapses_when_idle_is_due_at_half_its_idle_life() {
        let policy = Policy { refresh_idle: Some(Duration::from_secs(1000)), ..policy() };
        assert_eq!(policy.due_at(&record()), Some(at(500)));
        let policy = Policy { refresh_idle: Some(Duration::from_secs(100_000)), ..policy };
        assert_eq!(policy.due_at(&record()), Some(at(3540)));
        assert_eq!(policy.idle_at(&record()), Some(at(50_000)));
        // The provider's own word counts where it is the shorter one.
        let answer = AnswerShape::default()
            .read(br#"{"access_token":"a","refresh_token":"r","expires_in":3600,"refresh_expires_in":1800}"#);
        let told = Record::default().authorised(answer.unwrap(), at(0), None);
        assert_eq!(policy.idle_at(&told), Some(at(900)));
        assert_eq!(Policy { refresh_idle: None, ..policy }.due_at(&told), Some(at(900)));
    }

    #[test]
    fn waits_double_up_to_the_longest_and_honour_the_providers_wish() {
        let failure = Failure::new(FailureKind::NetworkNotSent, "x");
        let mut record = record();
        let waits: Vec<i64> = (0..10)
            .map(|_| {
                let wait = wait(&policy(), &record, &failure);
                record.health.failures += 1;
                wait
            })
            .collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        let patient = Failure::new(FailureKind::RateLimited, "x").with_retry_after(Some(Duration::from_secs(5000)));
        assert_eq!(wait(&policy(), &record, &patient), 5000);
    }

    #[test]
    fn a_provider_that_asks_to_be_left_alone_for_ever_is_asked_again_after_a_day() {
        for class in [FailureKind::RateLimited, FailureKind::ProviderUnavailable] {
            let failure = Failure::new(class, "x").with_retry_after(Some(Duration::MAX));
            assert_eq!(wait(&policy(), &record(), &failure), 86_400);
            // Close to the end of the calendar nothing breaks either.
            let health = policy().after_failure(&record(), &failure, Timestamp::MAX, 0.0);
            assert_eq!(health.next_try_at, None);
        }
    }

    #[test]
    fn jitter_only_ever_lengthens_a_wait() {
        let failure = Failure::new(FailureKind::NetworkNotSent, "x");
        let next = |jitter| policy().after_failure(&record(), &failure, at(0), jitter).next_try_at.unwrap();
        assert_eq!(next(0.0), at(2));
        assert!(next(0.5) > at(2) && next(9.0) < at(3));
    }

    #[test]
    fn c3_a_5xx_is_not_tried_again_while_the_access_token_lives_unless_a_replay_is_safe() {
        let failure = Failure::new(FailureKind::ProviderUnavailable, "x");
        assert_eq!(wait(&policy(), &record(), &failure), 3600);
        let safe = Policy { replay_window: Duration::from_secs(60), ..policy() };
        assert_eq!(wait(&safe, &record(), &failure), 15);
        let still = Policy { rotates: false, ..policy() };
        assert_eq!(wait(&still, &record(), &failure), 15);
    }

    #[test]
    fn c1_h16_a_replay_is_allowed_within_the_window_and_without_one_once_then_at_growing_distance() {
        let intent = |attempt| Intent { digest: "d".into(), owner: "o".into(), first_at: at(0), at: at(0), attempt };
        assert!(policy().may_replay(&intent(1), at(1000)) && !policy().may_replay(&intent(2), at(1)));
        let resends = [2, 3, 4, 8, 100].map(|attempt| policy().resend_at(&intent(attempt)).as_second());
        assert_eq!(resends, [60, 120, 240, 3600, 3600], "H16: never without an end");
        assert!(policy().may_replay(&intent(2), at(60)) && !policy().may_replay(&intent(3), at(60)));
        let window = Policy { replay_window: Duration::from_secs(30), ..policy() };
        // A call may take 10 s.
        assert!(window.may_replay(&intent(5), at(19)) && !window.may_replay(&intent(5), at(20)));
        let still = Policy { rotates: false, ..policy() };
        assert!(still.may_replay(&intent(9), at(1_000_000)));
    }
}
