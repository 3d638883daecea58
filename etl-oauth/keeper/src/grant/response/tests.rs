use super::*;
use crate::provider::{Definition, Overrides};

fn provider() -> Provider {
    let definition = Definition {
        token_url: Some("https://p.example/token".into()),
        grant_errors: vec!["bad_refresh_token".into()],
        ..Definition::default()
    };
    Provider::new("custom", definition, Overrides::default()).unwrap()
}

fn judge(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Result<TokenResponse, Failure> {
    let headers = headers.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).collect();
    let at = Timestamp::from_second(1_000_000_000).unwrap();
    let status = StatusCode::from_u16(status).unwrap();
    judge_token(&provider(), &HttpResponse { status, headers, body: body.into(), at })
}

#[test]
fn every_answer_has_its_class() {
    for (status, body, class) in [
        (400, r#"{"error":"invalid_grant"}"#, FailureKind::InvalidGrant),
        (401, r#"{"error":"invalid_client"}"#, FailureKind::InvalidClient),
        (400, r#"{"error":"invalid_scope"}"#, FailureKind::Config),
        (403, r#"{"error":"unauthorized_client"}"#, FailureKind::Config),
        (400, r#"{"error":"invalid_request"}"#, FailureKind::Config),
        (400, r#"{"error":"temporarily_unavailable"}"#, FailureKind::ProviderUnavailable),
        (429, "", FailureKind::RateLimited),
        (429, r#"{"error":"rate"}"#, FailureKind::RateLimited),
        (500, "<h1>Server Error (500)</h1>", FailureKind::ProviderUnavailable),
        (502, "", FailureKind::ProviderUnavailable),
        (408, "", FailureKind::ProviderUnavailable),
        (400, "", FailureKind::ProviderUnavailable),
        (403, "", FailureKind::ProviderUnavailable),
        (302, "", FailureKind::Config),
        (401, "", FailureKind::InvalidClient),
        (200, "<html>", FailureKind::MalformedAnswer),
        (200, "", FailureKind::MalformedAnswer),
        (200, r#"{"access_tok"#, FailureKind::MalformedAnswer),
    ] {
        assert_eq!(judge(status, &[], body).unwrap_err().class(), class, "{status} {body}");
    }
}

#[test]
fn h2_openids_errors_that_want_a_person_end_the_grant_of_a_person_and_no_other() {
    for code in ["interaction_required", "login_required", "consent_required", "account_selection_required"] {
        let answer = judge(400, &[], &format!(r#"{{"error":"{code}"}}"#));
        let failure = answer.clone().unwrap_err();
        assert!(failure.class().needs_person(), "{code}");
        assert!(failure.to_string().contains("sign in or to consent"), "{failure}");
        let unattended = crate::grant::unattended(answer).unwrap_err();
        assert_eq!(unattended.class(), FailureKind::Config, "there is no person to ask");
    }
}

#[test]
fn h6_an_origin_with_a_slash_or_a_path_is_kept_as_the_base_of_the_api() {
    let text = "token_url = 'https://p.example/token'\napi_url = '{home}/v2'\n\
                [variables.home]\nfrom = 'answer'\nkind = 'origin'\nhosts = ['*.p.example']";
    let provider = Provider::new("acme", Definition::read("a.toml", text).unwrap(), Overrides::default()).unwrap();
    let read = |home: &str| {
        let (status, headers, at) = (StatusCode::OK, HeaderMap::new(), Timestamp::UNIX_EPOCH);
        let body = serde_json::json!({"access_token": "a", "home": home}).to_string().into();
        judge_token(&provider, &HttpResponse { status, headers, body, at }).unwrap()
    };
    for (home, base) in [
        ("https://acme.eu.p.example/", "https://acme.eu.p.example/v2"),
        ("https://acme.p.example/v1/", "https://acme.p.example/v1/v2"),
        ("https://acme.p.example/a/b", "https://acme.p.example/a/b/v2"),
    ] {
        let answer = read(home);
        assert!(answer.unfinished.is_none(), "{home}");
        assert_eq!(provider.with(&answer.kept).api_url.as_ref().unwrap().as_str(), base);
    }
    for evil in [
        "https://acme.p.example/../x",
        "https://acme.p.example/a?b",
        "https://acme.p.example/a#b",
        "https://acme.p.example//x",
        "https://acme.p.example/%2e%2e",
        "https://acme.p.example\\x",
        "https://p.example.evil.com/",
        "https://acme.p.example/a/",
        "https://acme.p.example/a//",
    ] {
        let answer = read(evil);
        assert_eq!(answer.unfinished.is_none(), evil == "https://acme.p.example/a/", "{evil}");
    }
}

#[test]
fn h12_a_limit_that_a_code_or_a_text_tells_is_one_whatever_status_and_error_say() {
    let text = "token_url = 'https://p.example/token'\n\
                answer.limited = [{ at = 'error_description', has = ['too many requests'] }, { at = 'status', is = ['429'] }]";
    let provider = Provider::new("acme", Definition::read("a.toml", text).unwrap(), Overrides::default()).unwrap();
    let judge = |status: u16, body: &str| {
        let (status, headers) = (StatusCode::from_u16(status).unwrap(), HeaderMap::new());
        let raw = HttpResponse { status, headers, body: body.into(), at: Timestamp::UNIX_EPOCH };
        judge_token(&provider, &raw).map(drop).map_err(|failure| failure.class())
    };
    let zoho = r#"{"error":"access_denied","error_description":"You have made Too Many Requests continuously."}"#;
    assert_eq!(judge(400, zoho), Err(FailureKind::RateLimited));
    assert_eq!(judge(200, r#"{"status":429}"#), Err(FailureKind::RateLimited));
    assert_eq!(judge(400, r#"{"error":"access_denied","error_description":"no"}"#), Err(FailureKind::Config));
    assert_eq!(judge(200, r#"{"status":200,"access_token":"a"}"#), Ok(()));
}

#[test]
fn h17_an_answer_without_a_scope_grants_what_was_asked_for_and_a_renewal_leaves_it() {
    let definition = Definition {
        token_url: Some("https://p.example/token".into()),
        scope: vec!["read".into(), "write".into()],
        ..Definition::default()
    };
    let provider = Provider::new("custom", definition, Overrides::default()).unwrap();
    let read = |body: &str| provider.answer.read(body.as_bytes()).unwrap();
    let told = |body: &str| consented(&provider, read(body), &Values::new()).scope;
    assert_eq!(told(r#"{"access_token":"a"}"#).as_deref(), Some("read write"));
    assert_eq!(told(r#"{"access_token":"a","scope":"read"}"#).as_deref(), Some("read"));
    let first = consented(&provider, read(r#"{"access_token":"a","scope":"read"}"#), &Values::new());
    let record = crate::token::Record::default().authorised(first, Timestamp::UNIX_EPOCH, None);
    let renewed = record.renewed(read(r#"{"access_token":"b"}"#), Timestamp::UNIX_EPOCH, None);
    assert_eq!(renewed.tokens.unwrap().scope.as_deref(), Some("read"), "RFC 6749 §6");
}

#[test]
fn o7_a_redirect_is_told_as_one_with_the_host_alone() {
    let to = [("location", "https://login.example.org/sign-in?next=marker")];
    let failure = judge(302, &to, "<html>").unwrap_err();
    assert_eq!(failure.class(), FailureKind::Config);
    let text = failure.to_string();
    assert!(text.contains("redirect to login.example.org (HTTP 302)") && text.contains("token_url"), "{text}");
    assert!(!text.contains("marker") && !text.contains("sign-in"), "{text}");
}

#[test]
fn o6_a_refusal_shows_the_reason_that_the_definition_lets_through() {
    let text = "token_url = 'https://p.example/token'\nanswer.reason = ['error_subtype', 'error_codes']";
    let provider = Provider::new("acme", Definition::read("a.toml", text).unwrap(), Overrides::default()).unwrap();
    let body = r#"{"error":"invalid_grant","error_subtype":"invalid_rapt","error_description":"marker"}"#;
    let (status, headers, at) = (StatusCode::BAD_REQUEST, HeaderMap::new(), Timestamp::UNIX_EPOCH);
    let raw = HttpResponse { status, headers, body: body.into(), at };
    let failure = judge_token(&provider, &raw).unwrap_err();
    assert!(failure.to_string().ends_with("(invalid_grant: error_subtype=invalid_rapt)"), "{failure}");
    assert!(!failure.to_string().contains("marker"));
}

#[test]
fn e5_a_providers_own_word_for_a_dead_grant_is_understood() {
    let failure = judge(200, &[], r#"{"error":"bad_refresh_token","error_description":"x"}"#).unwrap_err();
    assert_eq!((failure.class(), failure.code()), (FailureKind::InvalidGrant, Some("bad_refresh_token")));
}

#[test]
fn f3_a_200_with_an_error_is_a_failure() {
    for body in [
        r#"{"error":"x","access_token":"a"}"#,
        r#"{"ok":false,"access_token":"a"}"#,
        r#"{"error":{"code":"x"}}"#,
        "error=bad_verification_code",
    ] {
        assert_eq!(judge(200, &[], body).unwrap_err().class(), FailureKind::Config, "{body}");
    }
    for body in [r#"{"error":null,"access_token":"a"}"#, r#"{"error":false,"access_token":"a"}"#] {
        assert!(judge(200, &[], body).is_ok(), "{body}");
    }
}

#[test]
fn f4_f5_201_www_authenticate_and_an_id_token_do_not_disturb() {
    let headers = [("www-authenticate", "Bearer"), ("content-type", "text/plain")];
    let answer = judge(201, &headers, r#"{"access_token":"a","id_token":"x"}"#).unwrap();
    assert_eq!(answer.access_token.expose(), "a");
}

#[test]
fn retry_after_is_read_in_seconds_and_as_a_date() {
    let wait = |value: &'static str| judge(503, &[("retry-after", value)], "").unwrap_err();
    assert_eq!(wait("120").retry_after(), Some(Duration::from_secs(120)));
    assert_eq!(wait("120").class(), FailureKind::RateLimited);
    assert_eq!(wait("Sun, 09 Sep 2001 01:47:40 GMT").retry_after(), Some(Duration::from_secs(60)));
    assert_eq!(wait("Sun, 09 Sep 2001 01:46:00 GMT").retry_after(), Some(Duration::ZERO));
    assert_eq!(wait("soon").class(), FailureKind::ProviderUnavailable);
}

#[test]
fn a_refresh_tokens_end_is_the_answers_else_the_definitions_and_a_consents_end_is_not_moved() {
    let read = |refresh: Option<u64>, body: &str| {
        let definition = Definition {
            token_url: Some("https://p.example/token".into()),
            refresh_lifetime: refresh,
            grant_lifetime: Some(1000),
            ..Definition::default()
        };
        let provider = Provider::new("custom", definition, Overrides::default()).unwrap();
        let (status, headers, at) = (StatusCode::OK, HeaderMap::new(), Timestamp::UNIX_EPOCH);
        let renewed = judge_token(&provider, &HttpResponse { status, headers, body: body.into(), at }).unwrap();
        let first = consented(&provider, renewed.clone(), &[("realm".to_owned(), "7".to_owned())].into());
        assert_eq!(first.kept["realm"], "7");
        [renewed, first].map(|answer| answer.refresh_lifetime.map(|lifetime| lifetime.as_secs()))
    };
    let told = r#"{"access_token":"a","refresh_token":"r","refresh_expires_in":"50"}"#;
    let silent = r#"{"access_token":"a","refresh_token":"r"}"#;
    assert_eq!(read(Some(60), told), [Some(50), Some(50)]);
    assert_eq!(read(Some(60), silent), [Some(60), Some(60)]);
    assert_eq!(read(None, silent), [None, Some(1000)], "a renewal leaves the consent's end as it was");
    assert_eq!(read(Some(60), r#"{"access_token":"a"}"#)[0], None, "the old refresh token keeps its end");
}

#[test]
fn a_failure_shows_the_code_and_nothing_else_of_the_body() {
    let failure = judge(400, &[], r#"{"error":"invalid_grant<x>\"","error_description":"marker"}"#).unwrap_err();
    assert!(!failure.to_string().contains("marker"));
    assert_eq!(failure.code(), Some("invalid_grant<x>"));
}

#[test]
fn the_owner_is_found_by_pointer_as_text_or_number() {
    let definition = Definition {
        token_url: Some("https://p.example/token".into()),
        userinfo_url: Some("https://p.example/me".into()),
        userinfo_id: Some("/data/id".into()),
        userinfo_name: Some("/data/login".into()),
        ..Definition::default()
    };
    let provider = Provider::new("custom", definition, Overrides::default()).unwrap();
    let judge = |status: u16, body: &str| {
        let (status, at) = (StatusCode::from_u16(status).unwrap(), Timestamp::UNIX_EPOCH);
        judge_userinfo(&provider, &HttpResponse { status, headers: HeaderMap::new(), body: body.into(), at })
    };
    assert_eq!(judge(200, r#"{"data":{"id":7,"login":"a"}}"#), Some(Subject::new("7", Some("a"))));
    assert_eq!(judge(200, r#"{"data":{"id":"x"}}"#), Some(Subject::new("x", None)));
    for (status, body) in [(401, r#"{"data":{"id":7}}"#), (200, r#"{"data":{"id":""}}"#), (200, "{}"), (200, "<p>")] {
        assert_eq!(judge(status, body), None, "{body}");
    }
}
