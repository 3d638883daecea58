use super::*;

fn read(body: &str) -> Result<Answer, Malformed> {
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
    assert_eq!(read(r#"{"access_token":"a","token_type":null}"#).unwrap().token_type, "Bearer");
    let exchanged =
        r#"{"access_token":"a","token_type":"N_A","issued_token_type":"urn:ietf:params:oauth:token-type:jwt"}"#;
    assert_eq!(read(exchanged).unwrap().token_type, "Bearer");
    assert_eq!(read(r#"{"access_token":"a","token_type":"N_A"}"#).unwrap_err(), Malformed::UnknownType);
    assert_eq!(read(r#"{"access_token":"a","token_type":"mac"}"#).unwrap_err(), Malformed::UnknownType);
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
    assert_eq!(plain.error(br#"{"ok":false,"access_token":"a"}"#).as_deref(), Some("not_ok"));
    assert_eq!(plain.error(br#"{"ok":true,"error":"","access_token":"a"}"#), None);
    assert_eq!(plain.error(b""), None, "an empty answer of a revocation is none");
    let shape = AnswerShape {
        error: vec!["error.code".into(), "errcode".into()],
        success: Some(Mark { at: "result".into(), is: vec!["0000".into(), "0".into()] }),
        ..AnswerShape::default()
    };
    for good in [r#"{"result":"0000","errcode":0}"#, r#"{"result":0}"#] {
        assert_eq!(shape.error(good.as_bytes()), None, "{good}");
    }
    for (bad, code) in [
        (r#"{"result":"0001"}"#, "not_ok"),
        ("{}", "not_ok"),
        (r#"{"result":"0000","errcode":40029}"#, "40029"),
        (r#"{"result":"0000","error":{"code":190}}"#, "190"),
    ] {
        assert_eq!(shape.error(bad.as_bytes()).as_deref(), Some(code), "{bad}");
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
