//! What is read of answers.

use super::*;

#[test]
fn renamed_fields() {
    let body = r#"{"data":[{"token":"a"}],"refreshToken":"r","expireTime":1800000000000,"granted":["x","y"],"token_type":"user"}"#;
    let answer = grant::judge_token(&provider("Renamed fields"), &raw(body)).unwrap();
    assert_eq!((answer.access_token.expose(), answer.refresh_token.unwrap().expose()), ("a", "r"));
    assert_eq!(answer.expires_at, Timestamp::from_second(1_800_000_000).ok());
    assert_eq!(answer.scope.as_deref(), Some("x y"));
}

#[test]
fn success_by_another_sign() {
    let it = provider("Success by another sign");
    let judge = |body: &str| grant::judge_token(&it, &raw(body));
    assert!(judge(r#"{"result":"0000","access_token":"a"}"#).is_ok());
    for (body, class) in [
        (r#"{"result":"0001","access_token":"a"}"#, FailureKind::Config),
        (r#"{"result":"0000","errcode":4001}"#, FailureKind::InvalidGrant),
        (r#"{"result":"0000"}"#, FailureKind::MalformedAnswer),
    ] {
        assert_eq!(judge(body).unwrap_err().class(), class, "{body}");
    }
}

#[test]
fn h12_o6_limits_and_reasons() {
    let it = provider("Limits and reasons");
    let body = r#"{"error":"access_denied","error_description":"You made Too many requests","error_codes":[7]}"#;
    let failure = grant::judge_token(&it, &raw(body)).unwrap_err();
    assert_eq!((failure.class(), failure.reason()), (FailureKind::RateLimited, Some("error_codes=7")));
    let facts = token_keeper::api::Facts::of(&it, "id").unwrap();
    assert!(facts.limits.told_in[0].is_in(br#"{"status":429}"#) && !facts.limits.told_in[0].is_in(b"{}"));
}

#[test]
fn an_answer_without_a_refresh_token_leaves_the_old_one() {
    let it = provider("Another address for renewals");
    let read = |body: &str| grant::judge_token(&it, &raw(body)).unwrap();
    let record =
        Record::default().authorised(read(r#"{"access_token":"a","refresh_token":"r"}"#), Timestamp::UNIX_EPOCH, None);
    let record = record.renewed(read(r#"{"access_token":"b"}"#), Timestamp::UNIX_EPOCH, None);
    let tokens = record.tokens.unwrap();
    assert_eq!((tokens.access_token.expose(), tokens.refresh_token.unwrap().expose()), ("b", "r"));
}

#[test]
fn lifetimes() {
    let it = provider("Lifetimes");
    assert_eq!(it.renew_before.unwrap().as_secs(), 30, "h4");
    let life = |body: &str| {
        let answer = grant::judge_token(&it, &raw(body)).unwrap();
        answer.lifetime.map(|life| life.as_secs()).or_else(|| answer.expires_at.map(|at| at.as_second().unsigned_abs()))
    };
    for (body, wanted) in [
        (r#"{"access_token":"a","ttl":"3600000"}"#, Some(3600)),
        (r#"{"access_token":"a","ttl":3600000.0}"#, Some(3600)),
        (r#"{"access_token":"a","until":"1970-01-01T01:00:00Z"}"#, Some(3600)),
        (r#"{"access_token":"a"}"#, None),
    ] {
        assert_eq!(life(body), wanted, "{body}");
    }
    let answer = grant::judge_token(&it, &raw(r#"{"access_token":"a","refresh_token":"r"}"#)).unwrap();
    assert_eq!(answer.refresh_lifetime.unwrap().as_secs(), 31_536_000);
    let asked = grant::introspection(&it, &client(), &answer.access_token).unwrap();
    assert_eq!((asked.url().path(), asked.body()), ("/introspect", "token=a&token_type_hint=access_token"));
    assert!(asked.authorization().is_some(), "only a client may ask");
    let end = |body: &str| grant::judge_introspection(&it, &raw(body)).map(Timestamp::as_second);
    assert_eq!(end(r#"{"active":true,"exp":1800000000}"#), Some(1_800_000_000));
    assert_eq!(end(r#"{"ttl":60000}"#), Some(60));
    assert_eq!((end(r#"{"active":false,"exp":1800000000}"#), end(r#"{"active":true}"#), end("")), (None, None, None));
}
