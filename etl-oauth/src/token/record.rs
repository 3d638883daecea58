use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use secrecy::zeroize::Zeroizing;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use super::{Answer, Class, Device, Owner, Secret, jwt};

/// All that is stored of one account: its tokens, what is being done with them, and how it fares.
///
/// It is written and replaced as a whole, so that an access token never stands beside another one's refresh token.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Counts the token sets of this account: a renewal, an authorisation or a revocation adds one. It never goes back.
    pub generation: u64,
    /// The tokens; `None` before the first authorisation and after a revocation.
    pub tokens: Option<Tokens>,
    /// The renewal that is under way, or whose outcome nobody knows.
    pub intent: Option<Intent>,
    /// How the account fares.
    pub health: Health,
    /// What a job remembers, by its own names. Records that hold this hold no tokens.
    pub notes: Map<String, Value>,
    /// Who granted the tokens, where the provider says.
    pub owner: Option<Owner>,
    /// What was used up, by whichever replica, until it would have ended anyway: answers to authorisations are good once.
    pub used: BTreeMap<String, Timestamp>,
    /// A change of the account's state that nobody has been told of yet.
    pub untold: Option<Untold>,
    /// How often somebody has authorised the account: what a renewal never changes.
    pub authorisations: u32,
    /// A device authorisation that is under way, for whichever replica goes on with it.
    pub device: Option<Box<Device>>,
}

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
    /// When the access token ends; `None` is unknown, and only the API's 401 will tell.
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
    pub answer: Map<String, Value>,
    /// The values of the provider's variables that its redirect and its answers brought: part of addresses, for one.
    #[serde(default)]
    pub kept: BTreeMap<String, String>,
}

fn bearer() -> String {
    "Bearer".into()
}

/// A renewal that was begun: written before the provider is called, so that after a crash the next holder of the lease
/// knows that the refresh token may be spent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Digest of the refresh token that is about to be spent.
    pub digest: String,
    /// Who spends it.
    pub owner: String,
    /// When it was sent for the first time.
    pub first_at: Timestamp,
    /// When it was sent last.
    pub at: Timestamp,
    /// How often it has been sent without an answer.
    pub attempt: u32,
}

/// How an account fares: shared between replicas, so that one's failure spares the others a try.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// Failed renewals in a row.
    pub failures: u32,
    /// What the last one failed of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// One sentence on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// No try before this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_try_at: Option<Timestamp>,
    /// No try at all by itself: the refresh token was sent as often as is safe, and a person has to look.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// Only a new authorisation helps.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub needs_authorisation: bool,
    /// Tokens that the API refused although they were just renewed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
    /// The last renewal, whatever came of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_renewal: Option<Renewal>,
}

/// New tokens that the API would not take: forced renewals are spaced out until some token works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Forced renewals in a row that did not help.
    pub count: u32,
    /// No forced renewal before this.
    pub next_at: Timestamp,
}

/// A change of an account's state, from its write until those have heard of it who are to be told: should its writer die in
/// between, another replica tells them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Untold {
    /// The state before.
    pub from: State,
    /// When it changed.
    pub at: Timestamp,
    /// Until then somebody is telling.
    pub again_at: Timestamp,
    /// How many have tried besides its writer.
    pub tries: u32,
}

/// When a renewal was, and its outcome: `renewed`, `adopted` or a failure class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewal {
    /// When it ended.
    pub at: Timestamp,
    /// What came of it.
    pub outcome: String,
}

/// What an account's record amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Never authorised, or revoked.
    Disabled,
    /// It has tokens, and the last renewal went well.
    Enabled,
    /// It has tokens, and something is wrong that may pass.
    Degraded,
    /// Its grant is gone: a person must authorise again.
    NeedsAuthorisation,
}

impl State {
    /// Every state, for metrics that show one gauge for each.
    pub const ALL: [Self; 4] = [Self::Disabled, Self::Enabled, Self::Degraded, Self::NeedsAuthorisation];

    /// The name in JSON, metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Enabled => "enabled",
            Self::Degraded => "degraded",
            Self::NeedsAuthorisation => "needs_authorisation",
        }
    }
}

impl Record {
    /// The state that follows from the record.
    #[must_use]
    pub fn state(&self) -> State {
        match (&self.tokens, self.health.needs_authorisation, self.health.failures) {
            (None, _, _) => State::Disabled,
            (_, true, _) => State::NeedsAuthorisation,
            (_, _, 0) => State::Enabled,
            _ => State::Degraded,
        }
    }

    /// The record after an answer to a first authorisation: a new grant, nothing of the old one stays.
    #[must_use]
    pub fn authorised(&self, answer: Answer, sent_at: Timestamp, default_lifetime: Option<Duration>) -> Self {
        let owner = answer.owner.clone();
        let tokens = Tokens::from_answer(answer, sent_at, None, default_lifetime);
        let last_renewal = Some(Renewal { at: sent_at, outcome: "renewed".into() });
        Self {
            generation: self.generation + 1,
            tokens: Some(tokens),
            intent: None,
            health: Health { last_renewal, ..Health::default() },
            notes: self.notes.clone(),
            owner,
            used: self.used.clone(),
            untold: None,
            authorisations: self.authorisations.saturating_add(1),
            device: None,
        }
    }

    /// The record after an answer to a renewal: what the answer leaves out stays as it was (RFC 6749 §6).
    #[must_use]
    pub fn renewed(&self, answer: Answer, sent_at: Timestamp, default_lifetime: Option<Duration>) -> Self {
        let tokens = Tokens::from_answer(answer, sent_at, self.tokens.as_ref(), default_lifetime);
        let last_renewal = Some(Renewal { at: sent_at, outcome: "renewed".into() });
        Self {
            generation: self.generation + 1,
            tokens: Some(tokens),
            intent: None,
            health: Health { refused: self.health.refused.clone(), last_renewal, ..Health::default() },
            notes: self.notes.clone(),
            owner: self.owner.clone(),
            used: self.used.clone(),
            untold: None,
            authorisations: self.authorisations,
            device: self.device.clone(),
        }
    }

    /// The record after a revocation: no tokens, and a generation that tells everyone so.
    #[must_use]
    pub fn revoked(&self) -> Self {
        let (notes, used) = (self.notes.clone(), self.used.clone());
        let authorisations = self.authorisations;
        Self { generation: self.generation + 1, notes, used, authorisations, ..Self::default() }
    }

    /// The record as it is to be written over `before`: what people have not been told yet stays in it, and where `tells`,
    /// a change of state joins it.
    #[must_use]
    pub fn over(mut self, before: &Self, tells: bool, now: Timestamp) -> Self {
        self.untold = if self.state() == before.state() {
            before.untold.clone()
        } else {
            tells.then(|| Untold { from: before.state(), at: now, again_at: now + Untold::PATIENCE, tries: 0 })
        };
        self
    }

    /// The record as JSON: the one place where tokens are written out.
    #[must_use]
    pub fn to_json(&self) -> Zeroizing<Vec<u8>> {
        let written = Written {
            version: 1,
            generation: self.generation,
            tokens: self.tokens.as_ref(),
            intent: self.intent.as_ref(),
            health: &self.health,
            notes: &self.notes,
            owner: self.owner.as_ref(),
            used: &self.used,
            untold: self.untold.as_ref(),
            authorisations: self.authorisations,
            device: self.device.as_deref(),
        };
        // Strings, numbers and maps with string keys: nothing of it can fail to serialise.
        Zeroizing::new(serde_json::to_vec(&written).unwrap_or_default())
    }

    /// Reads what [`Record::to_json`] wrote. Unknown fields are passed over, so that an older replica reads a newer one's.
    ///
    /// # Errors
    /// What is wrong with the JSON, without a word of its contents.
    pub fn from_json(json: &[u8]) -> Result<Self, CorruptRecord> {
        // serde takes an array for a struct, too; `[]` would be an empty record.
        if json.trim_ascii_start().first() != Some(&b'{') {
            return Err(CorruptRecord { line: 1, column: 0 });
        }
        serde_json::from_slice(json).map_err(|err| CorruptRecord { line: err.line(), column: err.column() })
    }
}

impl Untold {
    /// How long a writer may take to tell. A webhook is tried for half of it.
    const PATIENCE: SignedDuration = SignedDuration::from_secs(60);

    /// The same change, taken over by somebody else: while nobody listens, the waits double up to an hour.
    #[must_use]
    pub fn taken_over(&self, now: Timestamp) -> Self {
        let tries = self.tries.saturating_add(1);
        Self { again_at: now + Self::PATIENCE * (1 << tries.min(6)), tries, ..self.clone() }
    }

    /// Whether both are the same change.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        (self.from, self.at) == (other.from, other.at)
    }
}

/// A stored record that cannot be read. That is not the same as "not authorised": nothing may overwrite it unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored record is damaged at line {line}, column {column}")]
pub struct CorruptRecord {
    line: usize,
    column: usize,
}

impl Tokens {
    fn from_answer(answer: Answer, sent_at: Timestamp, old: Option<&Self>, default_lifetime: Option<Duration>) -> Self {
        // A lifetime counts from before the request: the token may be older than its answer, never younger.
        let from_now = |lifetime: Duration| sent_at.checked_add(lifetime).ok();
        let last_lifetime = old.and_then(Self::lifetime);
        let said_by_token = jwt::expires_at(&answer.access_token);
        let spent = old.and_then(|old| old.refresh_token.clone());
        let rotated = answer.refresh_token.is_some();
        let mut kept = old.map(|old| old.kept.clone()).unwrap_or_default();
        kept.extend(answer.kept);
        let old_one = old.filter(|_| answer.unfinished.is_some());
        let tokens = Self {
            access_token: answer.access_token,
            refresh_token: answer.refresh_token.or_else(|| spent.clone()),
            previous_refresh_token: spent.filter(|_| rotated),
            token_type: answer.token_type,
            scope: answer.scope.or_else(|| old.and_then(|old| old.scope.clone())),
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
            answer: answer.rest,
            kept,
        };
        match old_one {
            // The new access token did not come: the old one is good for as long as it would have been.
            Some(old) => Self {
                access_token: old.access_token.clone(),
                token_type: old.token_type.clone(),
                expires_at: old.expires_at,
                bound_to: old.bound_to.clone(),
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
            answer: Map::new(),
            kept: BTreeMap::new(),
        }
    }

    /// When the refresh token ends for good, where that is within a week and the renewal that made these of `before` has not
    /// put it off (case D2): only a person can then.
    #[must_use]
    pub fn final_end(&self, before: &Self, now: Timestamp) -> Option<Timestamp> {
        let end = self.refresh_expires_at?;
        // An end that is told in whole seconds from now on wavers.
        let is_put_off = before.refresh_expires_at.is_none_or(|before| end > before + SignedDuration::from_secs(60));
        (!is_put_off && end < now + SignedDuration::from_hours(7 * 24)).then_some(end)
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

    /// Whether the access token is worth sending at `now`: not past its end, as far as that is known.
    #[must_use]
    pub fn is_alive(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }

    /// Until when the access token has more than `margin` left, or a tenth of its lifetime where that is less.
    #[must_use]
    pub fn fresh_until(&self, margin: Duration) -> Timestamp {
        let Some(end) = self.expires_at else { return Timestamp::MAX };
        let margin = self.lifetime().map_or(margin, |lifetime| margin.min(lifetime / 10));
        end.checked_sub(margin).unwrap_or(Timestamp::MIN)
    }
}

#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    generation: u64,
    #[serde(serialize_with = "write_tokens")]
    tokens: Option<&'a Tokens>,
    #[serde(skip_serializing_if = "Option::is_none")]
    intent: Option<&'a Intent>,
    health: &'a Health,
    #[serde(skip_serializing_if = "Map::is_empty")]
    notes: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'a Owner>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    used: &'a BTreeMap<String, Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    untold: Option<&'a Untold>,
    #[serde(skip_serializing_if = "is_zero")]
    authorisations: u32,
    #[serde(serialize_with = "write_device", skip_serializing_if = "Option::is_none")]
    device: Option<&'a Device>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

fn write_device<S: Serializer>(device: &Option<&Device>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Exposed<'a> {
        device_code: &'a str,
        #[serde(flatten)]
        rest: &'a Device,
    }
    device.map(|device| Exposed { device_code: device.device_code.expose(), rest: device }).serialize(serializer)
}

fn write_tokens<S: Serializer>(tokens: &Option<&Tokens>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Exposed<'a> {
        access_token: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        refresh_token: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        previous_refresh_token: Option<&'a str>,
        token_type: &'a str,
        scope: &'a Option<String>,
        obtained_at: Timestamp,
        expires_at: Option<Timestamp>,
        refresh_expires_at: Option<Timestamp>,
        #[serde(skip_serializing_if = "Option::is_none")]
        bound_to: Option<&'a str>,
        answer: &'a Map<String, Value>,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        kept: &'a BTreeMap<String, String>,
    }
    tokens
        .map(|tokens| Exposed {
            access_token: tokens.access_token.expose(),
            refresh_token: tokens.refresh_token.as_ref().map(Secret::expose),
            previous_refresh_token: tokens.previous_refresh_token.as_ref().map(Secret::expose),
            token_type: &tokens.token_type,
            scope: &tokens.scope,
            obtained_at: tokens.obtained_at,
            expires_at: tokens.expires_at,
            refresh_expires_at: tokens.refresh_expires_at,
            bound_to: tokens.bound_to.as_ref().map(Secret::expose),
            answer: &tokens.answer,
            kept: &tokens.kept,
        })
        .serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::AnswerShape;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn answer(body: &str) -> Answer {
        AnswerShape::default().read(body.as_bytes()).unwrap()
    }

    fn first() -> Record {
        let body =
            r#"{"access_token":"a1","refresh_token":"r1","expires_in":3600,"scope":"s","refresh_expires_in":9000}"#;
        Record::default().authorised(answer(body), at(1000), None)
    }

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
    fn a_rotation_keeps_what_it_spent_for_one_generation() {
        let record = first().renewed(answer(r#"{"access_token":"a2","refresh_token":"r2"}"#), at(2000), None);
        assert_eq!(record.generation, 2);
        let tokens = record.tokens.unwrap();
        assert_eq!(tokens.refresh_token.unwrap().expose(), "r2");
        assert_eq!(tokens.previous_refresh_token.unwrap().expose(), "r1");
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
    fn the_margin_is_capped_at_a_tenth_of_the_lifetime() {
        let tokens = first().tokens.unwrap();
        let margin = Duration::from_secs(60);
        assert_eq!(tokens.fresh_until(margin), at(4540));
        let short = Record::default().authorised(answer(r#"{"access_token":"a","expires_in":10}"#), at(0), None);
        let short = short.tokens.unwrap();
        assert_eq!(short.fresh_until(margin), at(9));
        assert!(short.is_alive(at(9)) && !short.is_alive(at(10)));
    }

    #[test]
    fn a_record_reads_back_what_it_wrote_and_debug_shows_no_token() {
        let record = first();
        let read = Record::from_json(&record.to_json()).unwrap();
        assert_eq!(*read.to_json(), *record.to_json());
        assert_eq!(read.tokens.as_ref().unwrap().refresh_token.as_ref().unwrap().expose(), "r1");
        let shown = format!("{read:?}");
        assert!(!shown.contains("\"a1\"") && !shown.contains("\"r1\""), "{shown}");
    }

    #[test]
    fn b5_a_damaged_record_is_an_error_and_not_an_empty_record() {
        for damaged in ["", "{\"generation\":", "empty", "[]", "{\"tokens\":{}}"] {
            assert!(Record::from_json(damaged.as_bytes()).is_err(), "{damaged}");
        }
    }

    #[test]
    fn numbers_of_an_answer_stay_what_they_are_however_often_the_record_is_written() {
        let record = Record::default().authorised(answer(r#"{"access_token":"a","x":13e300,"y":0.1}"#), at(0), None);
        let read = Record::from_json(&record.to_json()).unwrap();
        assert_eq!(*read.to_json(), *record.to_json());
    }

    #[test]
    fn the_state_follows_from_the_record() {
        let mut record = first();
        assert_eq!(record.state(), State::Enabled);
        record.health.failures = 1;
        assert_eq!(record.state(), State::Degraded);
        record.health.needs_authorisation = true;
        assert_eq!(record.state(), State::NeedsAuthorisation);
        assert_eq!(record.revoked().state(), State::Disabled);
        assert_eq!(Record::default().state(), State::Disabled);
    }
}
