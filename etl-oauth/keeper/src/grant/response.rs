//! Answers of the endpoints, judged by status, headers and body.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;
use serde_json::Value;

use crate::{
    provider::{Provider, Source, Values},
    text,
    token::{Failure, FailureKind, Secret, Subject, TokenResponse, verified_email},
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
pub fn judge_token(provider: &Provider, raw: &HttpResponse) -> Result<TokenResponse, Failure> {
    judge_renewal(provider, raw, None)
}

/// The same for the renewal of `renewed`, which an answer without a token prolongs, where the definition says so.
///
/// # Errors
/// As [`judge_token`].
pub fn judge_renewal(
    provider: &Provider,
    raw: &HttpResponse,
    renewed: Option<&Secret>,
) -> Result<TokenResponse, Failure> {
    let (status, shape) = (raw.status.as_u16(), &provider.answer);
    let error = shape.error(status, &raw.body);
    let refused = shape.is_limited(status, &raw.body) || shape.is_refused(status, &raw.body);
    if raw.status.is_success() && error.is_none() && !refused {
        // 200 is RFC 6749's, 201 is seen too.
        let renewed = renewed.filter(|_| provider.renewal_keeps_token);
        let answer = provider.answer.read_answer(&raw.headers, &raw.body, renewed);
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
pub fn consented(provider: &Provider, answer: TokenResponse, redirect: &Values) -> TokenResponse {
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
pub(super) fn as_asked(provider: &Provider, answer: TokenResponse) -> TokenResponse {
    let asked = || (!provider.scope.is_empty()).then(|| provider.scope.join(" "));
    TokenResponse { scope: answer.scope.or_else(asked), ..answer }
}

/// Takes the values of variables out of an answer. One that may not stand in a URL is not kept, and the access token is not
/// used: it would be sent to whatever host the value names. The refresh token counts all the same.
fn keep(provider: &Provider, mut answer: TokenResponse) -> TokenResponse {
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
    let error = provider.answer.error(raw.status.as_u16(), &raw.body);
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
    let email = verified_email(&answer);
    Some(Subject { email, ..Subject::new(&id, text(&provider.userinfo_name).as_deref()) })
}

fn refusal(provider: &Provider, raw: &HttpResponse, code: Option<&str>) -> Failure {
    let retry_after = retry_after(&raw.headers, raw.at);
    let class = match () {
        () if provider.answer.is_limited(raw.status.as_u16(), &raw.body) => FailureKind::RateLimited,
        () if provider.answer.is_refused(raw.status.as_u16(), &raw.body) => FailureKind::InvalidGrant,
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
    let says_nothing = class == FailureKind::ProviderUnavailable && code.is_none() && raw.status.is_client_error();
    let says_nothing = says_nothing && !matches!(raw.status.as_u16(), 408 | 425);
    let failure = if says_nothing { failure.as_denial() } else { failure };
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
        Some(code) if provider.limit_errors.iter().any(|known| known == code) => return FailureKind::RateLimited,
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
mod tests;
