use super::*;
use crate::token::{Record, State};

fn read(body: &str) -> Result<TokenResponse, Malformed> {
    AnswerShape::default().read(body.as_bytes())
}

#[test]
fn f11_json_and_form_bodies_are_read_whatever_their_content_type_says() {
    for body in [
        r#"{"access_token":"a","refresh_token":"r","expires_in":"3600","scope":"x,y"}"#,
        "access_token=a&refresh_token=r&expires_in=3600&scope=x%2Cy",
    ] {
        let answer = read(body).unwrap();
        assert_eq!(answer.access_token.expose(), "a");
        assert_eq!(answer.refresh_token.unwrap().expose(), "r");
        assert_eq!(answer.lifetime, Some(Duration::from_secs(3600)));
        assert_eq!(answer.scope.as_deref(), Some("x y"));
        assert_eq!(answer.token_type, "Bearer");
    }
}

#[test]
fn f11_duplicate_fields_missing_type_and_any_case_are_taken() {
    assert_eq!(read(r#"{"access_token":"old","access_token":"new"}"#).unwrap().access_token.expose(), "new");
    assert_eq!(read(r#"{"access_token":"a","token_type":"bEARER"}"#).unwrap().token_type, "bEARER");
    let odd = read(r#"{"access_token":"a","token_type":"User Access Token"}"#).unwrap();
    assert_eq!((odd.token_type.as_str(), odd.unfinished), ("Bearer", None));
    assert_eq!(read(r#"{"access_token":"a","token_type":null}"#).unwrap().token_type, "Bearer");
    let exchanged =
        r#"{"access_token":"a","token_type":"N_A","issued_token_type":"urn:ietf:params:oauth:token-type:jwt"}"#;
    assert_eq!(read(exchanged).unwrap().token_type, "Bearer");
    assert!(read(r#"{"access_token":"a","token_type":"N_A"}"#).unwrap().unfinished.is_some());
}

/// RFC 6749 §7.1: it must not be used, and nothing says that it must be thrown away.
#[test]
fn h5_tokens_of_an_unknown_type_are_kept_and_not_used_and_the_cure_is_named() {
    let body = r#"{"access_token":"a","refresh_token":"r","token_type":"mac","expires_in":3600}"#;
    let answer = read(body).unwrap();
    let why = answer.unfinished.clone().unwrap();
    assert_eq!(why.class(), FailureKind::Config);
    assert!(why.to_string().contains("\"mac\"") && why.to_string().contains("answer.token_type = []"), "{why}");
    let now = Timestamp::UNIX_EPOCH;
    let record = Record::default().authorised(answer, now, None);
    assert_eq!((record.state(), record.health.class), (State::Degraded, Some(FailureKind::Config)));
    let tokens = Record::from_json(&record.to_json()).unwrap().tokens.unwrap();
    assert_eq!((tokens.access_token.expose(), tokens.refresh_token.as_ref().unwrap().expose()), ("a", "r"));
    assert!(!tokens.is_alive(now) && tokens.fresh_until(Duration::ZERO) < now);
    // A definition that says that the type does not count frees what is stored, and reads such answers from then on.
    let mut cured = Record::from_json(&record.to_json()).unwrap();
    cured.release(false);
    assert!(!cured.tokens.as_ref().unwrap().is_usable());
    cured.release(true);
    let tokens = cured.tokens.as_ref().unwrap();
    assert!(tokens.is_alive(now) && tokens.token_type == "Bearer" && cured.state() == State::Enabled);
    let shape = AnswerShape { token_type: Vec::new(), ..AnswerShape::default() };
    assert!(shape.read(body.as_bytes()).unwrap().unfinished.is_none());
}

#[test]
fn h5_a_renewal_whose_answer_is_of_an_unknown_type_keeps_the_new_refresh_token_and_the_old_access_token() {
    let now = Timestamp::UNIX_EPOCH;
    let first = read(r#"{"access_token":"a","refresh_token":"r","expires_in":3600}"#).unwrap();
    let next = read(r#"{"access_token":"b","refresh_token":"r2","token_type":"mac"}"#).unwrap();
    let tokens = Record::default().authorised(first, now, None).renewed(next, now, None).tokens.unwrap();
    assert_eq!((tokens.access_token.expose(), tokens.refresh_token.as_ref().unwrap().expose()), ("a", "r2"));
    assert!(tokens.is_alive(now));
}

#[test]
fn h5_an_answer_with_a_refresh_token_alone_is_kept() {
    let answer = read(r#"{"refresh_token":"r"}"#).unwrap();
    assert_eq!(answer.unfinished.as_ref().unwrap().class(), FailureKind::MalformedAnswer);
    let tokens = Record::default().authorised(answer, Timestamp::UNIX_EPOCH, None).tokens.unwrap();
    assert!(tokens.refresh_token.is_some() && !tokens.is_usable());
}

#[test]
fn o6_the_providers_own_reason_is_told_by_the_fields_that_may_be_shown_and_no_token_is() {
    let shape = AnswerShape {
        reason: ["error_subtype", "error_codes", "error.detail", "/deep/why"].map(String::from).into(),
        ..AnswerShape::default()
    };
    let reason = |body: &str| shape.reason(body.as_bytes());
    assert_eq!(
        reason(r#"{"error":"invalid_grant","error_subtype":"invalid_rapt"}"#).unwrap(),
        "error_subtype=invalid_rapt"
    );
    assert_eq!(reason(r#"{"error_codes":[70008,65001],"x":1}"#).unwrap(), "error_codes=70008,65001");
    assert_eq!(
        reason(r#"{"error":{"detail":"token 1//0gAbCdEfGhIjKlMnOp is dead"}}"#).unwrap(),
        "detail=token … is dead"
    );
    assert_eq!(reason(r#"{"error_subtype":null}"#), None);
    assert_eq!(AnswerShape::default().reason(br#"{"error_subtype":"x"}"#), None, "nothing is shown unasked");
}

#[test]
fn s17_an_answer_of_900_kb_of_unknown_fields_becomes_a_record_of_ordinary_size() {
    let long = "x".repeat(300_000);
    let many: String = (0..3000).map(|n| format!(r#","f{n}":"{}""#, "y".repeat(100))).collect();
    let body = format!(
        r#"{{"access_token":"a","refresh_token":"r","scope":"{long}","one":"{long}","id_token":"small"{many}}}"#
    );
    let record = Record::default().authorised(read(&body).unwrap(), Timestamp::UNIX_EPOCH, None);
    let json = record.to_json();
    assert!(json.len() < 64 << 10, "{}", json.len());
    let tokens = record.tokens.unwrap();
    assert_eq!((tokens.access_token.expose(), tokens.refresh_token.unwrap().expose()), ("a", "r"));
    assert_eq!((tokens.answer.get("id_token"), tokens.answer.get("one")), (Some("small".into()), None));
    assert_eq!(tokens.scope, None);
}

#[test]
fn f3_an_answer_without_a_token_is_no_answer() {
    for body in [r#"{"ok":false,"error":"x"}"#, r#"{"access_token":""}"#, r#"{"access_token":null}"#, "{}", "a=b"] {
        assert_eq!(read(body).unwrap_err(), Malformed::NoAccessToken, "{body}");
    }
    for body in ["", "[]", "null", "<html><a href='x=y'>", "Service Unavailable", "\"access_token=a\"", "\u{0}"] {
        assert_eq!(read(body).unwrap_err(), Malformed::NotAnObject, "{body}");
    }
}

#[test]
fn b4_an_empty_or_null_refresh_token_is_none() {
    for body in [
        r#"{"access_token":"a","refresh_token":""}"#,
        r#"{"access_token":"a","refresh_token":null}"#,
        r#"{"access_token":"a"}"#,
    ] {
        assert!(read(body).unwrap().refresh_token.is_none(), "{body}");
    }
}

#[test]
fn f5_fields_nobody_asked_for_are_kept_and_the_tokens_are_not_kept_twice() {
    let answer = read(r#"{"access_token":"a","refresh_token":"r","id_token":"i","instance_url":"https://x"}"#).unwrap();
    let names: Vec<_> = answer.rest.keys().collect();
    assert_eq!(names, ["id_token", "instance_url"]);
}

#[test]
fn f3_an_error_and_a_success_are_told_by_the_signs_that_the_definition_names() {
    let plain = AnswerShape::default();
    assert_eq!(plain.error(200, br#"{"ok":false,"access_token":"a"}"#).as_deref(), Some("not_ok"));
    assert_eq!(plain.error(200, br#"{"ok":true,"error":"","access_token":"a"}"#), None);
    assert_eq!(plain.error(200, b""), None, "an empty answer of a revocation is none");
    let shape = AnswerShape {
        error: vec!["error.code".into(), "errcode".into()],
        success: Some(Mark { at: "result".into(), is: vec!["0000".into(), "0".into()], ..Mark::default() }),
        ..AnswerShape::default()
    };
    for good in [r#"{"result":"0000","errcode":0}"#, r#"{"result":0}"#] {
        assert_eq!(shape.error(200, good.as_bytes()), None, "{good}");
    }
    for (bad, code) in [
        (r#"{"result":"0001"}"#, "not_ok"),
        ("{}", "not_ok"),
        (r#"{"result":"0000","errcode":40029}"#, "40029"),
        (r#"{"result":"0000","error":{"code":190}}"#, "190"),
    ] {
        assert_eq!(shape.error(200, bad.as_bytes()).as_deref(), Some(code), "{bad}");
    }
}

#[test]
fn f12_the_end_of_a_refresh_token_is_read_as_a_lifetime_and_as_a_point_in_time() {
    let answer = read(r#"{"access_token":"a","refresh_token_expires_in":60}"#).unwrap();
    assert_eq!((answer.refresh_lifetime, answer.refresh_expires_at), (Some(Duration::from_secs(60)), None));
    let answer = read(r#"{"access_token":"a","refresh_token_expires_at":"2026-12-01T00:00:00Z"}"#).unwrap();
    assert_eq!(answer.refresh_expires_at, Some("2026-12-01T00:00:00Z".parse().unwrap()));
}

#[test]
fn a_field_whose_name_has_dots_is_found() {
    let fields = object(br#"{"@odata.nextLink":"x","a":{"b":"y"}}"#).unwrap();
    assert_eq!(at(&fields, "@odata.nextLink").unwrap(), "x");
    assert_eq!(at(&fields, "a.b").unwrap(), "y");
}

#[test]
fn tokens_are_found_by_path() {
    let shape = AnswerShape {
        access_token: vec!["token".into(), "data.0.token".into()],
        refresh_token: vec!["data.0.again".into()],
        ..AnswerShape::default()
    };
    let answer = shape.read(br#"{"data":[{"token":"a","again":"r"}]}"#).unwrap();
    assert_eq!(answer.access_token.expose(), "a");
    assert_eq!(answer.refresh_token.unwrap().expose(), "r");
}
