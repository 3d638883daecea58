//! Sample answers and records for tests.

use jiff::Timestamp;

use super::{AnswerShape, Record, TokenResponse};

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

pub(crate) fn answer(body: &str) -> TokenResponse {
    AnswerShape::default().read(body.as_bytes()).unwrap()
}

pub(crate) fn first() -> Record {
    let body = r#"{"access_token":"a1","refresh_token":"r1","expires_in":3600,"scope":"s","refresh_expires_in":9000}"#;
    Record::default().authorised(answer(body), at(1000), None)
}
