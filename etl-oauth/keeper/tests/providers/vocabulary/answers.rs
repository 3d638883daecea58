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

#[test]
fn signs_with_a_status() {
    let it = provider("Signs with a status");
    let judge = |status: u16, body: &str| {
        let status = StatusCode::from_u16(status).unwrap();
        grant::judge_token(&it, &HttpResponse { status, ..raw(body) }).map(|answer| answer.token_type)
    };
    for (status, body, class) in [
        (403, r#"{"error":"unauthorized_client"}"#, FailureKind::InvalidGrant),
        (400, r#"{"error":"unauthorized_client"}"#, FailureKind::Config),
        (410, "", FailureKind::InvalidGrant),
        (420, "", FailureKind::RateLimited),
        (400, r#"{"error":"over_limit"}"#, FailureKind::RateLimited),
    ] {
        assert_eq!(judge(status, body).unwrap_err().class(), class, "{status} {body}");
    }
    assert_eq!(judge(200, r#"{"access_token":"a","token_type":"user"}"#).unwrap(), "Bearer");
    let facts = token_keeper::api::Facts::of(&it, "id").unwrap();
    let ended = |status, body: &[u8]| facts.expired_in.iter().any(|mark| mark.is_on_answer(status, body));
    let code = br#"{"error":{"code":190}}"#;
    assert_eq!([ended(403, code), ended(400, code), ended(498, b""), ended(403, b"")], [true, false, true, false]);
    let limited = |status| facts.limits.told_in[0].is_on_answer(status, br#"{"code":17}"#);
    assert!(limited(400) && !limited(403));
}

#[test]
fn a_lookup() {
    let it = provider("A lookup");
    let answer = grant::judge_token(&it, &raw(r#"{"access_token":"a"}"#)).unwrap();
    let request = grant::lookup(&it, &client(), &answer).unwrap();
    assert_eq!((request.method().as_str(), request.url().as_str()), ("GET", "https://a.example/me"));
    assert_eq!(request.headers()["authorization"], "Bearer a");
    let entry = |product: &str, id: &str, more: &str| {
        format!(
            r#"{{"product":"{product}","id":{id},"label":"L{id}","links":{{"base":"https://eu.a.example/x/"}}{more}}}"#
        )
    };
    let body = |entries: &[String]| raw(&format!(r#"{{"accounts":[{}]}}"#, entries.join(",")));
    let default = r#","is_default":true"#;
    let all = [entry("mail", "1", ""), entry("crm", "2", ""), entry("crm", "3", default)];
    let kept = grant::judge_lookup(&it, &body(&all)).unwrap();
    assert_eq!((&*kept["tenant"], &*kept["base"]), ("3", "https://eu.a.example/x"));
    assert_eq!(it.with(&kept).api_url.as_ref().unwrap().as_str(), "https://eu.a.example/x/v2/accounts/3");
    assert!(it.api_url.is_none() && it.wants_lookup(&Values::new()) && !it.wants_lookup(&kept));

    let plain = [entry("crm", "2", ""), entry("crm", "4", "")];
    let failure = grant::judge_lookup(&it, &body(&plain)).unwrap_err();
    let told = "the account has 2 entries: L2 (2), L4 (4); set the variable provider_";
    assert!(failure.to_string().contains("2 entries: ") && failure.class() == FailureKind::Config, "{failure} {told}");
    for choice in ["4", "L4"] {
        let chosen = with("A lookup", &[("tenant", choice)]);
        assert_eq!(grant::judge_lookup(&chosen, &body(&plain)).unwrap()["tenant"], "4");
        assert!(grant::judge_lookup(&chosen, &body(&all)).is_err(), "what is chosen is not there");
    }
    let moved = [("tenant".to_owned(), "2".to_owned()), ("base".to_owned(), "https://eu.a.example".to_owned())].into();
    assert!(with("A lookup", &[("tenant", "4")]).wants_lookup(&moved), "the operator has chosen another one since");
    for (wrong, class) in [
        (body(&[entry("mail", "1", "")]), FailureKind::Config),
        (body(&[entry("crm", "\"../x\"", "")]), FailureKind::MalformedAnswer),
        (body(&[entry("crm", "2", "").replace("eu.a.example", "evil.test")]), FailureKind::MalformedAnswer),
        (raw("{}"), FailureKind::MalformedAnswer),
        (HttpResponse { status: StatusCode::FORBIDDEN, ..raw("") }, FailureKind::Config),
        (HttpResponse { status: StatusCode::BAD_GATEWAY, ..raw("") }, FailureKind::ProviderUnavailable),
    ] {
        assert_eq!(grant::judge_lookup(&it, &wrong).unwrap_err().class(), class);
    }
}

#[test]
fn a_token_beside_the_body() {
    let it = provider("A token beside the body");
    let judge = |headers: &[(&'static str, &str)], body: &str| {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        grant::judge_token(&it, &HttpResponse { headers, ..raw(body) })
    };
    let answer = judge(&[("x-auth-token", "h"), ("x-auth-life", "60")], r#"{"user":"u"}"#).unwrap();
    assert_eq!((answer.access_token.expose(), answer.lifetime.unwrap().as_secs()), ("h", 60));
    assert!(answer.rest.contains_key("user") && !format!("{:?}", answer.rest).contains("\"h\""));
    let cookies = [("set-cookie", "other=1"), ("set-cookie", "SESSION=a=b; Secure")];
    assert_eq!(judge(&cookies, "").unwrap().access_token.expose(), "a=b");
    assert_eq!(judge(&[], "\"quoted\"").unwrap().access_token.expose(), "quoted");
    assert_eq!(judge(&[], " plain\n").unwrap().access_token.expose(), "plain");
    assert!(judge(&[], "").is_err());
    assert!(grant::judge_token(&provider("Bodies"), &raw("plain")).is_err(), "others have it in the body");
}

#[test]
fn a_renewal_that_prolongs_the_token() {
    let it = provider("A renewal that prolongs the token");
    let old = Secret::new("a1");
    let renewed = |body: &str| {
        grant::judge_renewal(&it, &raw(body), Some(&old))
            .map(|answer| (answer.access_token.expose().to_owned(), answer.lifetime))
    };
    assert_eq!(renewed(r#"{"expires_in":60}"#).unwrap(), ("a1".into(), Some(std::time::Duration::from_secs(60))));
    assert_eq!(renewed(r#"{"access_token":"a2"}"#).unwrap().0, "a2");
    assert_eq!(renewed("").unwrap().0, "a1");
    assert!(renewed(r#"{"error":"invalid_grant"}"#).is_err());
    assert!(grant::judge_token(&it, &raw(r#"{"expires_in":60}"#)).is_err(), "a code brings a token");
    assert!(grant::judge_renewal(&provider("Bodies"), &raw(r#"{"expires_in":60}"#), Some(&old)).is_err());
}

#[test]
fn several_tokens_of_one_consent() {
    let it = provider("Several tokens of one consent");
    let body = r#"{"access_token":"bot","refresh_token":"rb","expires_in":60,"team":{"id":"T"},
        "authed_user":{"id":"U","access_token":"person","refresh_token":"rp","expires_in":120,"scope":"chat:write,x"}}"#;
    let granted = |body: &str| {
        let answer = grant::judge_token(&it, &raw(body)).unwrap();
        Record::default().authorised(answer, Timestamp::UNIX_EPOCH, None)
    };
    let also = grant::also(&it, "default", &granted(body));
    let [(name, person)] = &also[..] else { panic!("{also:?}") };
    assert_eq!((name.as_str(), person.access_token.expose()), ("default-user", "person"));
    assert_eq!((person.refresh_token.as_ref().unwrap().expose(), person.lifetime.unwrap().as_secs()), ("rp", 120));
    assert_eq!((person.scope.as_deref(), person.rest.is_empty()), (Some("chat:write x"), true));
    assert!(grant::also(&it, "default", &granted(r#"{"access_token":"bot","authed_user":{"id":"U"}}"#)).is_empty());
    assert!(grant::also(&provider("Bodies"), "default", &granted(body)).is_empty());
}
