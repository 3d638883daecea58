use std::sync::LazyLock;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use token_keeper::{
    grant::{HttpResponse, judge_token},
    provider::{Definition, Overrides, Provider},
    renewal::Policy,
    token::Record,
};

static PROVIDER: LazyLock<Provider> = LazyLock::new(|| {
    let definition = Definition { token_url: Some("https://p.example/token".into()), ..Definition::default() };
    Provider::new("custom", definition, Overrides::default()).unwrap()
});

const STATUSES: [u16; 10] = [200, 201, 302, 400, 401, 403, 404, 429, 500, 503];

/// An answer of a token endpoint: a digit that picks its status, its `Retry-After` up to the end of the line, its body.
/// What comes of it can be kept, written, read and planned with.
pub fn token_answer(data: &[u8]) {
    let Some((pick, rest)) = data.split_first() else { return };
    let line = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let (line, body) = rest.split_at(line);
    let status = STATUSES[usize::from(pick.wrapping_sub(b'0')) % STATUSES.len()];
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(line) {
        headers.insert(header::RETRY_AFTER, value);
    }
    let now: Timestamp = "2026-11-21T09:00:00Z".parse().unwrap();
    let raw = HttpResponse { status: StatusCode::from_u16(status).unwrap(), headers, body: body.to_vec(), at: now };
    consequences(&PROVIDER, &raw, now);
}

/// All that follows from an answer.
pub(crate) fn consequences(provider: &Provider, raw: &HttpResponse, now: Timestamp) {
    let policy = Policy::of(provider);
    let first = Record::default();
    match judge_token(provider, raw) {
        Ok(answer) => {
            assert!(raw.status.is_success() && !answer.access_token.expose().is_empty());
            let record = first.authorised(answer.clone(), now, policy.lifetime);
            plan(&policy, &record, now);
            plan(&policy, &record.renewed(answer, now, policy.lifetime), now);
        }
        Err(failure) => {
            assert!(failure.to_string().chars().count() < 2000, "a failure is a sentence, not what the provider sent");
            let mut record = Record::default();
            for _ in 0..3 {
                record.health = policy.after_failure(&record, &failure, now, 0.5);
            }
            plan(&policy, &record, now);
        }
    }
}

fn plan(policy: &Policy, record: &Record, now: Timestamp) {
    let written = record.to_json();
    let read = Record::from_json(&written).expect("what was written can be read");
    assert_eq!(*read.to_json(), *written, "and is the same");
    let _ = (read.state(), policy.is_fresh(&read, now), policy.due_at(&read), policy.idle_at(&read));
}
