//! The one place that writes a record out, and reads it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use secrecy::zeroize::Zeroizing;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::{ClientRef, Device, ExtraFields, Health, Intent, PendingNotification, Record, Secret, Subject, Tokens};

impl Record {
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
            client: self.client.as_ref(),
            decided_at: self.decided_at,
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

/// A stored record that cannot be read. That is not the same as "not authorised": nothing may overwrite it unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored record is damaged at line {line}, column {column}")]
pub struct CorruptRecord {
    line: usize,
    column: usize,
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
    owner: Option<&'a Subject>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    used: &'a BTreeMap<String, Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    untold: Option<&'a PendingNotification>,
    #[serde(skip_serializing_if = "is_zero")]
    authorisations: u32,
    #[serde(serialize_with = "write_device", skip_serializing_if = "Option::is_none")]
    device: Option<&'a Device>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<&'a ClientRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decided_at: Option<Timestamp>,
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
        answer: &'a ExtraFields,
        #[serde(skip_serializing_if = "Option::is_none")]
        withheld: &'a Option<String>,
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
            withheld: &tokens.withheld,
            kept: &tokens.kept,
        })
        .serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::samples::{answer, at, first};

    #[test]
    fn a_record_reads_back_what_it_wrote_and_debug_shows_no_token() {
        let record = first();
        let read = Record::from_json(&record.to_json()).unwrap();
        assert_eq!(*read.to_json(), *record.to_json());
        assert_eq!(read.tokens.as_ref().unwrap().refresh_token.as_ref().unwrap().expose(), "r1");
        let shown = format!("{read:?}");
        assert!(!shown.contains("\"a1\"") && !shown.contains("\"r1\""), "{shown}");
    }

    /// Replicas of two versions share a store while one follows the other.
    #[test]
    fn a_record_of_before_is_read_and_written_as_it_was_and_what_is_new_stands_beside_it() {
        let before = concat!(
            r#"{"version":1,"generation":7,"tokens":{"access_token":"a","refresh_token":"r","previous_refresh_token":"q","#,
            r#""token_type":"DPoP","scope":"s","obtained_at":"2026-01-01T00:00:00Z","expires_at":"2026-01-01T01:00:00Z","#,
            r#""refresh_expires_at":null,"bound_to":"k","answer":{"id_token":"i","n":{"x":1.5}},"kept":{"shop":"acme"}},"#,
            r#""intent":{"digest":"d","owner":"one","first_at":"2026-01-01T00:00:00Z","at":"2026-01-01T00:00:01Z","#,
            r#""attempt":2},"health":{"failures":1,"class":"rate_limited","detail":"x","#,
            r#""next_try_at":"2026-01-01T00:01:00Z","last_renewal":{"at":"2026-01-01T00:00:00Z","outcome":"renewed"}},"#,
            r#""notes":{"n":[1]},"owner":{"id":"1","name":"N"},"used":{"u":"2026-01-01T00:00:00Z"},"#,
            r#""untold":{"from":"enabled","at":"2026-01-01T00:00:00Z","again_at":"2026-01-01T00:01:00Z","tries":0}}"#,
        );
        let mut record = Record::from_json(before.as_bytes()).unwrap();
        assert_eq!(std::str::from_utf8(&record.to_json()).unwrap(), before);
        record.authorisations = 3;
        record.device = Some(Box::new(
            serde_json::from_str(
                r#"{"device_code":"c","user_code":"U","verification_uri":"https://p.example/","interval":5,"asker":"one",
                    "ends_at":"2026-01-01T00:00:00Z","asked_until":"2026-01-01T00:00:00Z"}"#,
            )
            .unwrap(),
        ));
        let mut written: Value = serde_json::from_slice(&record.to_json()).unwrap();
        let new = ["authorisations", "device"].map(|name| written.as_object_mut().unwrap().remove(name));
        assert!(new.iter().all(Option::is_some));
        assert_eq!(written, serde_json::from_str::<Value>(before).unwrap());
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
}
