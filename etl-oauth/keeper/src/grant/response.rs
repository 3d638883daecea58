//! Answers of the endpoints, judged by status, headers and body.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;
use serde_json::Value;

use crate::{
    provider::{Provider, Source, Values},
    text,
    token::{Answer, Failure, FailureKind, Subject},
};

/// What came back from an endpoint.
#[derive(Clone, Debug)]
pub struct HttpResponse {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, cut at the size limit.
    pub body: Vec<u8>,
    /// When it came, by our clock: for `Retry-After` dates.
    pub at: Timestamp,
}

/// Judges a token endpoint's answer (RFC 6749 §5.1, §5.2), for a code or a renewal alike.
///
/// # Errors
/// The [`Failure`], classified. A grant is refused only by a well-formed OAuth error that says so; whatever else is wrong
/// may pass, or is a matter of configuration.
pub fn judge_token(provider: &Provider, raw: &HttpResponse) -> Result<Answer, Failure> {
    let error = provider.answer.error(&raw.body);
    if raw.status.is_success() && error.is_none() && !provider.answer.is_limited(&raw.body) {
        // 200 is RFC 6749's, 201 is seen too.
        let answer = provider.answer.read(&raw.body);
        let mut answer = answer.map_err(|err| Failure::new(FailureKind::MalformedAnswer, err.to_string()))?;
        // Counted from the answer that brought the refresh token: one without keeps the old one, and the old one's end.
        if answer.refresh_token.is_some() && answer.refresh_expires_at.is_none() {
            let known = provider.refresh_lifetime.map(Duration::from_secs);
            answer.refresh_lifetime = answer.refresh_lifetime.or(known);
        }
        return Ok(keep(provider, answer));
    }
    Err(refusal(provider, raw, error.as_deref()))
}

/// The answer to a code, with what is known since the person has just consented: the values that the redirect brought, the
/// scope where the answer does not name it (RFC 6749 §5.1: it is the one that was asked for), and the end of the consent
/// itself, which no renewal moves.
#[must_use]
pub fn consented(provider: &Provider, answer: Answer, redirect: &Values) -> Answer {
    let mut answer = as_asked(provider, answer);
    for (name, value) in redirect {
        let accepted = provider.variables.get(name).and_then(|variable| variable.accept(value).ok());
        answer.kept.entry(name.clone()).or_insert_with(|| accepted.unwrap_or_else(|| value.clone()));
    }
    if answer.refresh_expires_at.is_none() {
        answer.refresh_lifetime = answer.refresh_lifetime.or(provider.grant_lifetime.map(Duration::from_secs));
    }
    answer
}

/// The answer to a first request, which grants the scope that was asked for where it names none (RFC 6749 §5.1).
pub(super) fn as_asked(provider: &Provider, answer: Answer) -> Answer {
    let asked = || (!provider.scope.is_empty()).then(|| provider.scope.join(" "));
    Answer { scope: answer.scope.or_else(asked), ..answer }
}

/// Takes the values of variables out of an answer. One that may not stand in a URL is not kept, and the access token is not
/// used: it would be sent to whatever host the value names. The refresh token counts all the same.
fn keep(provider: &Provider, mut answer: Answer) -> Answer {
    let mut wrong = None;
    for (name, variable) in provider.variables.iter().filter(|(_, variable)| variable.from == Source::Answer) {
        let value = crate::token::at(&answer.rest, variable.at(name)).filter(|value| !value.is_null());
        let Some(value) = value.map(crate::token::text).filter(|value| !value.is_empty()) else { continue };
        match variable.accept(&value) {
            Ok(value) => drop(answer.kept.insert(name.clone(), value)),
            Err(right) => {
                let why = format!("{} of the token endpoint's answer must be {right}", variable.at(name));
                wrong.get_or_insert_with(|| Failure::new(FailureKind::MalformedAnswer, why));
            }
        }
    }
    match wrong {
        Some(why) => answer.unfinished(why),
        None => answer,
    }
}

/// Judges a revocation endpoint's answer (RFC 7009 §2.2): 200 for unknown tokens too.
///
/// # Errors
/// The [`Failure`]; the token may live on.
pub fn judge_revocation(provider: &Provider, raw: &HttpResponse) -> Result<(), Failure> {
    let error = provider.answer.error(&raw.body);
    if raw.status.is_success() && error.is_none() {
        return Ok(());
    }
    Err(refusal(provider, raw, error.as_deref()))
}

/// Judges the answer that says when a token ends (RFC 7662 §2.2). `None` where it does not say so.
#[must_use]
pub fn judge_introspection(provider: &Provider, raw: &HttpResponse) -> Option<Timestamp> {
    raw.status.is_success().then(|| provider.answer.end(&raw.body, raw.at)).flatten()
}

/// Judges the answer that says whose a token is: the owner, by the definition's pointers. `None` where nothing is there.
#[must_use]
pub fn judge_userinfo(provider: &Provider, raw: &HttpResponse) -> Option<Subject> {
    let answer: Value = raw.status.is_success().then(|| serde_json::from_slice(&raw.body).ok()).flatten()?;
    let text = |pointer: &Option<String>| match answer.pointer(pointer.as_deref()?)? {
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let id = text(&provider.userinfo_id)?;
    Some(Subject::new(&id, text(&provider.userinfo_name).as_deref()))
}

fn refusal(provider: &Provider, raw: &HttpResponse, code: Option<&str>) -> Failure {
    let retry_after = retry_after(&raw.headers, raw.at);
    let class = match () {
        () if provider.answer.is_limited(&raw.body) => FailureKind::RateLimited,
        () => classify(provider, raw.status, code, retry_after.is_some()),
    };
    let detail = match class {
        _ if raw.status.is_redirection() => redirected(raw),
        FailureKind::InvalidGrant if code.is_some_and(wants_person) => {
            "the provider wants the person to sign in or to consent again".to_owned()
        }
        FailureKind::InvalidGrant => "the provider refuses the grant: it was used, revoked, or has ended".to_owned(),
        FailureKind::InvalidClient => "the provider refuses the client's credentials".to_owned(),
        FailureKind::RateLimited => format!("the provider asks for patience (HTTP {})", raw.status.as_u16()),
        FailureKind::ProviderUnavailable => format!("the provider cannot answer (HTTP {})", raw.status.as_u16()),
        _ => format!("the provider refuses the request (HTTP {})", raw.status.as_u16()),
    };
    let reason = provider.answer.reason(&raw.body);
    let failure = Failure::new(class, detail).with_retry_after(retry_after).with_reason(reason);
    code.map_or(failure.clone(), |code| failure.with_code(code))
}

/// A token endpoint never redirects (RFC 6749 §3.2.1), and a redirect is not followed: it would carry the client's secret
/// to another host. Of where it leads the host alone is shown.
fn redirected(raw: &HttpResponse) -> String {
    let to =
        raw.headers.get(header::LOCATION).and_then(|to| to.to_str().ok()).and_then(|to| to.parse::<url::Url>().ok());
    let to = to.as_ref().and_then(url::Url::host_str).map(|host| format!(" to {}", text::cut(host, 100)));
    format!(
        "the token endpoint answers with a redirect{} (HTTP {}), which is not followed: compare token_url with the \
         provider's documentation to the letter, and look for a proxy between",
        to.unwrap_or_default(),
        raw.status.as_u16()
    )
}

/// The codes of OpenID Connect Core §3.1.2.6 that no renewal ends: a person must be asked.
fn wants_person(code: &str) -> bool {
    matches!(code, "interaction_required" | "login_required" | "consent_required" | "account_selection_required")
}

fn classify(provider: &Provider, status: StatusCode, code: Option<&str>, wants_patience: bool) -> FailureKind {
    match code {
        Some("invalid_grant") => return FailureKind::InvalidGrant,
        Some(code) if wants_person(code) => return FailureKind::InvalidGrant,
        Some(code) if provider.grant_errors.iter().any(|known| known == code) => return FailureKind::InvalidGrant,
        Some("invalid_client") => return FailureKind::InvalidClient,
        Some("temporarily_unavailable" | "server_error") => return FailureKind::ProviderUnavailable,
        Some("slow_down") => return FailureKind::RateLimited,
        _ => {}
    }
    match status.as_u16() {
        429 => FailureKind::RateLimited,
        503 if wants_patience => FailureKind::RateLimited,
        408 | 425 | 500..=599 => FailureKind::ProviderUnavailable,
        401 if code.is_none() => FailureKind::InvalidClient,
        300..=399 => FailureKind::Config,
        // Only a well-formed OAuth error says anything of the configuration: an empty 403 may be a firewall's.
        _ if code.is_some() => FailureKind::Config,
        _ => FailureKind::ProviderUnavailable,
    }
}

/// `Retry-After` in seconds or as a date (RFC 9110 §10.2.3).
pub(crate) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
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

    fn judge(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Result<Answer, Failure> {
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
        for (status, body) in [(401, r#"{"data":{"id":7}}"#), (200, r#"{"data":{"id":""}}"#), (200, "{}"), (200, "<p>")]
        {
            assert_eq!(judge(status, body), None, "{body}");
        }
    }
}
