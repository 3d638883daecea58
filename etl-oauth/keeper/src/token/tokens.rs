//! The tokens of one generation, and how an answer becomes the next one.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::{ExtraFields, Secret, TokenResponse, jwt, token_type};

/// The longest scope that is kept, in bytes: a longer one says nothing to people and fills the store.
const LONGEST_SCOPE: usize = 16 << 10;

/// The tokens of one generation.
#[derive(Clone, Debug, Deserialize)]
pub struct Tokens {
    /// What the API is called with.
    pub access_token: Secret,
    /// What the next renewal spends.
    #[serde(default)]
    pub refresh_token: Option<Secret>,
    /// What the last renewal spent: some providers honour it until the new access token has been used.
    #[serde(default)]
    pub previous_refresh_token: Option<Secret>,
    /// As the provider wrote it.
    #[serde(default = "bearer")]
    pub token_type: String,
    /// The granted scope, separated by spaces; `None` where the provider never said.
    #[serde(default)]
    pub scope: Option<String>,
    /// When the request for these tokens was sent: their lifetimes count from here.
    #[serde(default)]
    pub obtained_at: Timestamp,
    /// When the access token ends; `None` is unknown, and only the API's 401 shows it.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
    /// When the refresh token ends, where the provider says so.
    #[serde(default)]
    pub refresh_expires_at: Option<Timestamp>,
    /// The key that the access token is bound to (RFC 9449), where it is: private, in PKCS#8 and base64url.
    #[serde(default)]
    pub bound_to: Option<Secret>,
    /// The whole answer of the provider but for the tokens themselves.
    #[serde(default)]
    pub answer: ExtraFields,
    /// Why the access token must not be used, where it must not (RFC 6749 §7.1 for one).
    #[serde(default)]
    pub withheld: Option<String>,
    /// The values of the provider's variables that its redirect and its answers brought: part of addresses, for one.
    #[serde(default)]
    pub kept: BTreeMap<String, String>,
}

fn bearer() -> String {
    "Bearer".into()
}

impl Tokens {
    /// The tokens of an answer to a request of `sent_at`: what it leaves out stays as it was in `old` (RFC 6749 §6).
    pub(super) fn from_answer(
        answer: TokenResponse,
        sent_at: Timestamp,
        old: Option<&Self>,
        default_lifetime: Option<Duration>,
    ) -> Self {
        // A lifetime counts from before the request: the token may be older than its answer, never younger.
        let from_now = |lifetime: Duration| sent_at.checked_add(lifetime).ok();
        let last_lifetime = old.and_then(Self::lifetime);
        let said_by_token = jwt::ends_at(&answer.access_token, sent_at);
        let spent = old.and_then(|old| old.refresh_token.clone());
        let rotated = answer.refresh_token.is_some();
        let mut kept = old.map(|old| old.kept.clone()).unwrap_or_default();
        kept.extend(answer.kept);
        let old_one = old.filter(|_| answer.unfinished.is_some());
        let withheld = answer.unfinished.as_ref().map(ToString::to_string);
        let tokens = Self {
            access_token: answer.access_token,
            refresh_token: answer.refresh_token.or_else(|| spent.clone()),
            previous_refresh_token: spent.filter(|_| rotated),
            token_type: answer.token_type,
            scope: answer
                .scope
                .filter(|scope| scope.len() <= LONGEST_SCOPE)
                .or_else(|| old.and_then(|old| old.scope.clone())),
            obtained_at: sent_at,
            expires_at: answer
                .lifetime
                .and_then(from_now)
                .or(answer.expires_at)
                .or(said_by_token)
                .or_else(|| last_lifetime.or(default_lifetime).and_then(from_now)),
            refresh_expires_at: answer
                .refresh_lifetime
                .and_then(from_now)
                .or(answer.refresh_expires_at)
                .or_else(|| old.and_then(|old| old.refresh_expires_at)),
            bound_to: answer.bound_to,
            answer: ExtraFields::bounded(answer.rest),
            withheld,
            kept,
        };
        match old_one {
            // The new access token did not come: the old one is good for as long as it would have been.
            Some(old) => Self {
                access_token: old.access_token.clone(),
                token_type: old.token_type.clone(),
                expires_at: old.expires_at,
                bound_to: old.bound_to.clone(),
                withheld: old.withheld.clone(),
                ..tokens
            },
            None => tokens,
        }
    }

    /// Tokens of which nothing else is known. Without an access token (a crash between two writes) the refresh token
    /// stands alone, and the first use renews.
    #[must_use]
    pub fn bare(access_token: Option<Secret>, refresh_token: Option<Secret>) -> Self {
        let expires_at = access_token.is_none().then_some(Timestamp::UNIX_EPOCH);
        Self {
            access_token: access_token.unwrap_or_else(|| Secret::new("")),
            refresh_token,
            previous_refresh_token: None,
            token_type: bearer(),
            scope: None,
            obtained_at: Timestamp::UNIX_EPOCH,
            expires_at,
            refresh_expires_at: None,
            bound_to: None,
            answer: ExtraFields::default(),
            withheld: None,
            kept: BTreeMap::new(),
        }
    }

    /// When the refresh token ends for good, where that is within a week and the renewal that made these of `before` has not
    /// put it off (case D2): only a person can then.
    #[must_use]
    pub fn final_end(&self, before: &Self, now: Timestamp) -> Option<Timestamp> {
        let end = self.refresh_expires_at?;
        // An expiry that comes as a lifetime in whole seconds varies from one answer to the next.
        let wavers = SignedDuration::from_secs(60);
        let is_put_off = before.refresh_expires_at.is_none_or(|before| end.duration_since(before) > wavers);
        (!is_put_off && end.duration_since(now) < SignedDuration::from_hours(7 * 24)).then_some(end)
    }

    /// Whether both have the same access token and the same refresh token.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        let refresh = match (&self.refresh_token, &other.refresh_token) {
            (Some(ours), Some(theirs)) => ours.same(theirs),
            (None, None) => true,
            _ => false,
        };
        refresh && self.access_token.same(&other.access_token)
    }

    /// How long the access token lives in all.
    #[must_use]
    pub fn lifetime(&self) -> Option<Duration> {
        Duration::try_from(self.expires_at?.duration_since(self.obtained_at)).ok()
    }

    /// Whether the access token is worth sending at `now`: one that may be used, and not past its end, as far as that is
    /// known.
    #[must_use]
    pub fn is_alive(&self, now: Timestamp) -> bool {
        self.withheld.is_none() && self.expires_at.is_none_or(|end| now < end)
    }

    /// Whether there is an access token that may be used at all.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.withheld.is_none() && !self.access_token.expose().is_empty()
    }

    /// Lets an access token be used that was withheld for its unknown type alone, where the provider's definition now says
    /// that the type does not count. Returns whether it did.
    pub fn release(&mut self, any_type: bool) -> bool {
        let by_type = self.withheld.is_some()
            && !self.access_token.expose().is_empty()
            && token_type::known(&self.token_type, false).is_none();
        if any_type && by_type {
            self.withheld = None;
            self.token_type = bearer();
        }
        any_type && by_type
    }

    /// Until when the access token has more than `margin` left, or a tenth of its lifetime where that is less.
    #[must_use]
    pub fn fresh_until(&self, margin: Duration) -> Timestamp {
        if self.withheld.is_some() {
            return Timestamp::MIN;
        }
        let Some(end) = self.expires_at else { return Timestamp::MAX };
        let margin = self.lifetime().map_or(margin, |lifetime| margin.min(lifetime / 10));
        end.checked_sub(margin).unwrap_or(Timestamp::MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::{
        Record,
        samples::{answer, at, first},
    };

    #[test]
    fn b4_a_renewal_without_a_refresh_token_keeps_the_old_one() {
        for body in [r#"{"access_token":"a2"}"#, r#"{"access_token":"a2","refresh_token":""}"#] {
            let tokens = first().renewed(answer(body), at(2000), None).tokens.unwrap();
            assert_eq!(tokens.refresh_token.unwrap().expose(), "r1");
            assert!(tokens.previous_refresh_token.is_none());
            assert_eq!(tokens.scope.as_deref(), Some("s"));
        }
    }

    #[test]
    fn f2_without_expires_in_the_last_known_lifetime_counts_then_the_providers_usual_one() {
        let record = first().renewed(answer(r#"{"access_token":"a2"}"#), at(2000), Some(Duration::from_secs(5)));
        assert_eq!(record.tokens.unwrap().expires_at, Some(at(5600)));
        let alone =
            Record::default().authorised(answer(r#"{"access_token":"a"}"#), at(0), Some(Duration::from_secs(5)));
        assert_eq!(alone.tokens.unwrap().expires_at, Some(at(5)));
        let unknown = Record::default().authorised(answer(r#"{"access_token":"a"}"#), at(0), None).tokens.unwrap();
        assert_eq!(unknown.expires_at, None);
        assert!(unknown.is_alive(at(1_000_000_000)) && unknown.fresh_until(Duration::from_secs(60)) == Timestamp::MAX);
    }

    #[test]
    fn f2_without_expires_in_the_end_that_a_jwt_says_of_itself_is_believed() {
        // {"alg":"none"} . {"exp":5000,"sub":"me"} . nothing
        let jwt = r#"{"access_token":"eyJhbGciOiJub25lIn0.eyJleHAiOjUwMDAsInN1YiI6Im1lIn0."}"#;
        let tokens = Record::default().authorised(answer(jwt), at(1000), Some(Duration::from_secs(9))).tokens.unwrap();
        assert_eq!(tokens.expires_at, Some(at(5000)));
        let renewed = first().renewed(answer(jwt), at(2000), None).tokens.unwrap();
        assert_eq!(renewed.expires_at, Some(at(5000)), "rather than what the last one lived");
    }

    #[test]
    fn d2_the_refresh_tokens_own_end_is_stored_and_kept() {
        let record = first();
        assert_eq!(record.tokens.as_ref().unwrap().refresh_expires_at, Some(at(10_000)));
        let renewed = record.renewed(answer(r#"{"access_token":"a2"}"#), at(2000), None);
        assert_eq!(renewed.tokens.unwrap().refresh_expires_at, Some(at(10_000)));
    }

    #[test]
    fn d2_an_end_that_renewals_do_not_put_off_is_worth_an_alarm_in_its_last_week() {
        let week = 7 * 86_400;
        let first = Record::default().authorised(
            answer(&format!(r#"{{"access_token":"a","refresh_token":"r","refresh_expires_in":{}}}"#, 2 * week)),
            at(0),
            None,
        );
        let end_of = |body: &str, second| {
            let tokens = first.renewed(answer(body), at(second), None).tokens.unwrap();
            tokens.final_end(first.tokens.as_ref().unwrap(), at(second))
        };
        let fixed = |second| end_of(r#"{"access_token":"b"}"#, second);
        assert_eq!((fixed(week - 1), fixed(week + 1)), (None, Some(at(2 * week))));
        let told = format!(r#"{{"access_token":"b","refresh_expires_in":{}}}"#, week - 1);
        assert_eq!(end_of(&told, week + 1), Some(at(2 * week)), "told anew, and the same");
        let slides = format!(r#"{{"access_token":"b","refresh_expires_in":{}}}"#, 2 * week);
        assert_eq!(end_of(&slides, 2 * week - 10), None);
    }

    #[test]
    fn d2_a_refresh_token_that_ends_with_the_calendar_is_no_panic() {
        let mut tokens = first().tokens.unwrap();
        tokens.refresh_expires_at = Some(Timestamp::MAX);
        assert_eq!(tokens.final_end(&tokens, at(0)), None);
        assert_eq!(tokens.final_end(&tokens, Timestamp::MAX), Some(Timestamp::MAX));
    }

    #[test]
    fn the_margin_is_capped_at_a_tenth_of_the_lifetime() {
        let tokens = first().tokens.unwrap();
        let margin = Duration::from_secs(60);
        assert_eq!(tokens.fresh_until(margin), at(4540));
        let short = Record::default().authorised(answer(r#"{"access_token":"a","expires_in":10}"#), at(0), None);
        let short = short.tokens.unwrap();
        assert_eq!(short.fresh_until(margin), at(9));
        assert!(short.is_alive(at(9)) && !short.is_alive(at(10)));
    }
}
