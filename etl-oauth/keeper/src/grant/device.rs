//! The device grant (RFC 8628): a person types a code on any device; no redirect URI is needed.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use url::Url;

use super::{Client, HttpResponse, TokenRequest, judge_revocation, judge_token, request::resources};
use crate::{
    provider::{Call, Provider, checked_url},
    token::{Failure, FailureKind, Secret, TokenResponse, Unit, first},
};

/// How often a server is asked that does not say (§3.2).
const INTERVAL: Duration = Duration::from_secs(5);
/// What `slow_down` adds, for good (§3.5).
const SLOWER: Duration = Duration::from_secs(5);
/// The longest wait between two polls, unless the server asks for more.
const LONGEST: Duration = Duration::from_secs(60);

/// What a server gives a device (§3.2).
#[derive(Clone, Debug)]
pub struct DeviceCodes {
    /// What the device asks with. A secret.
    pub device_code: Secret,
    /// What the person types.
    pub user_code: String,
    /// Where the person types it.
    pub verification_uri: Url,
    /// The same with the code in it: for a link.
    pub verification_uri_complete: Option<Url>,
    /// How long both are good for.
    pub lifetime: Duration,
    /// How long to wait between two questions.
    pub interval: Duration,
}

/// §3.1; `None` where the provider has no device authorization endpoint.
#[must_use]
pub fn device_codes(provider: &Provider, client: &Client) -> Option<TokenRequest> {
    let mut fields = Vec::new();
    let scope = provider.scope_text();
    fields.extend((!scope.is_empty()).then_some(("scope", scope.as_str())));
    fields.extend(resources(provider));
    // §3.1 wants the client's id in the body, even where it proves itself in a header.
    let auth = provider.device.request.client_auth.unwrap_or(provider.client_auth);
    fields.extend((!client.names_itself(auth)).then_some(("client_id", client.id.as_str())));
    Some(TokenRequest::new(provider.device_url.as_ref()?, &provider.device.request, provider, client, &fields))
}

/// Reads the answer to [`device_codes`].
///
/// # Errors
/// The [`Failure`], also for an address that a person must not be sent to.
pub fn judge_device_codes(provider: &Provider, raw: &HttpResponse) -> Result<DeviceCodes, Failure> {
    judge_revocation(provider, raw)?;
    let malformed =
        || Failure::new(FailureKind::MalformedAnswer, "the answer of the device authorization endpoint is none");
    let fields = crate::token::object(&raw.body).ok_or_else(malformed)?;
    let shape = &provider.device;
    let text = |paths: &[String]| {
        let word = |value: &Value| match value {
            Value::String(_) | Value::Number(_) => Some(crate::token::text(value)).filter(|text| !text.is_empty()),
            _ => None,
        };
        first(&fields, paths, word)
    };
    // A link that people are shown: nothing but an address of the web.
    let link = |paths: &[String]| first(&fields, paths, |value| checked_url(value.as_str()?).ok());
    let page = || shape.page.as_deref().and_then(|page| checked_url(page).ok());
    let seconds = |paths: &[String], unit| first(&fields, paths, |value| crate::token::seconds(value, unit));
    let lifetime = seconds(&shape.expires_in, shape.unit);
    let lifetime = lifetime.or(shape.lifetime.map(Duration::from_secs)).ok_or_else(malformed)?;
    let whole = |value: &Value| value.as_u64().map(Duration::from_secs);
    let interval =
        first(&fields, &shape.interval, |value| whole(value).or(crate::token::seconds(value, Unit::Seconds)));
    let at_once = Duration::from_secs(1);
    Ok(DeviceCodes {
        device_code: Secret::new(text(&shape.device_code).ok_or_else(malformed)?),
        user_code: text(&shape.user_code).ok_or_else(malformed)?,
        verification_uri: link(&shape.verification_uri).or_else(page).ok_or_else(malformed)?,
        verification_uri_complete: link(&shape.verification_uri_complete),
        lifetime,
        // An interval beyond the codes' lifetime would block the next codes.
        interval: interval.unwrap_or(INTERVAL).clamp(at_once, lifetime.max(at_once)),
    })
}

/// §3.4: has the person decided?
#[must_use]
pub fn device_token(provider: &Provider, client: &Client, device_code: &Secret) -> TokenRequest {
    let mut fields =
        vec![("grant_type", "urn:ietf:params:oauth:grant-type:device_code"), ("device_code", device_code.expose())];
    let mut call = provider.device.poll.or(&provider.token);
    if provider.device.poll == Call::default() {
        call.params.clone_from(&provider.token.params);
    }
    let named = !client.names_itself(call.client_auth.unwrap_or(provider.client_auth));
    fields.extend(named.then_some(("client_id", client.id.as_str())));
    fields.extend(resources(provider));
    let url = provider.device_poll_url.as_ref().unwrap_or(&provider.token_url);
    if provider.device.poll_url.as_deref().is_some_and(|url| url.contains("{device_code}")) {
        call.params.entry("device_code".to_owned()).or_default();
    }
    TokenRequest::new(url, &call, provider, client, &fields)
}

/// What asking brought.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one at a time, handed over at once")]
pub enum Polled {
    /// Ask again after this long.
    Wait(Duration),
    /// The person has allowed it.
    Allowed(TokenResponse),
    /// It is over without a token.
    Over(Failure),
}

/// The pace of asking (§3.5), until the codes end.
#[derive(Clone, Debug)]
pub struct Polling {
    interval: Duration,
    ends_at: Timestamp,
}

impl Polling {
    /// The pace for codes that were asked for at `sent_at`.
    #[must_use]
    pub fn of(codes: &DeviceCodes, sent_at: Timestamp) -> Self {
        let lifetime = SignedDuration::try_from(codes.lifetime).unwrap_or(SignedDuration::MAX);
        Self { interval: codes.interval, ends_at: sent_at.checked_add(lifetime).unwrap_or(Timestamp::MAX) }
    }

    /// The polling interval that another replica has reached.
    #[must_use]
    pub fn again(interval: Duration, ends_at: Timestamp) -> Self {
        Self { interval, ends_at }
    }

    /// When the codes end.
    #[must_use]
    pub fn ends_at(&self) -> Timestamp {
        self.ends_at
    }

    /// How long to wait between two questions, and before the first one.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// The failure of codes that expired unused.
    #[must_use]
    pub fn expired() -> Failure {
        over("the code was not typed in time", "expired_token")
    }

    /// Takes an answer, or its absence, and says how to go on.
    pub fn judge(&mut self, provider: &Provider, answer: Result<HttpResponse, Failure>, now: Timestamp) -> Polled {
        let told = answer.as_ref().ok().and_then(|raw| told(provider, raw));
        let answer = match told {
            Some((code, class)) => Err(Failure::new(class, "the person has not decided yet").with_code(code)),
            None => answer.and_then(|raw| judge_token(provider, &raw)),
        };
        let failure = match answer {
            Ok(answer) => return Polled::Allowed(answer),
            Err(failure) => failure,
        };
        match (failure.code(), failure.class()) {
            (Some("authorization_pending"), _) => {}
            (Some("slow_down"), _) => self.interval = self.interval.saturating_add(SLOWER),
            (Some("access_denied"), _) => return Polled::Over(over("it was not allowed", "access_denied")),
            (Some("expired_token"), _) => return Polled::Over(Self::expired()),
            // §3.5: after a timeout, slower.
            (
                _,
                FailureKind::NetworkNotSent
                | FailureKind::NetworkAmbiguous
                | FailureKind::ProviderUnavailable
                | FailureKind::RateLimited,
            ) => {
                self.interval = self.interval.saturating_mul(2).min(LONGEST).max(self.interval);
            }
            _ => return Polled::Over(failure),
        }
        let wait = self.interval.max(failure.retry_after().unwrap_or_default());
        let next = SignedDuration::try_from(wait).ok().and_then(|wait| now.checked_add(wait).ok());
        if next.is_some_and(|next| next < self.ends_at) { Polled::Wait(wait) } else { Polled::Over(Self::expired()) }
    }
}

/// The standard's code for what the signs of an answer say.
fn told(provider: &Provider, raw: &HttpResponse) -> Option<(&'static str, FailureKind)> {
    let shape = &provider.device;
    [
        (&shape.pending, "authorization_pending", FailureKind::Config),
        (&shape.slow_down, "slow_down", FailureKind::RateLimited),
        (&shape.denied, "access_denied", FailureKind::InvalidGrant),
        (&shape.expired, "expired_token", FailureKind::InvalidGrant),
    ]
    .into_iter()
    .find(|(marks, ..)| marks.iter().any(|mark| mark.is_on_answer(raw.status.as_u16(), &raw.body)))
    .map(|(_, code, class)| (code, class))
}

fn over(detail: &str, code: &str) -> Failure {
    Failure::new(FailureKind::InvalidGrant, detail).with_code(code)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::*;
    use crate::provider::{ClientAuth, Definition, Overrides};

    fn provider(client_auth: ClientAuth) -> Provider {
        let definition = Definition {
            token_url: Some("https://p.example/token".into()),
            device_url: Some("https://p.example/device".into()),
            scope: vec!["a".into()],
            client_auth,
            ..Definition::default()
        };
        Provider::new("custom", definition, Overrides::default()).unwrap()
    }

    fn raw(status: u16, body: &str) -> HttpResponse {
        let status = StatusCode::from_u16(status).unwrap();
        HttpResponse { status, headers: HeaderMap::new(), body: body.into(), at: Timestamp::UNIX_EPOCH }
    }

    fn codes() -> DeviceCodes {
        let body =
            r#"{"device_code":"d","user_code":"AB-CD","verification_uri":"https://p.example/go","expires_in":60}"#;
        judge_device_codes(&provider(ClientAuth::None), &raw(200, body)).unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_device_names_its_client_once_however_it_proves_itself() {
        let client = Client { id: "id".into(), secret: Some(Secret::new("s")), ..Client::default() };
        for auth in [ClientAuth::None, ClientAuth::Basic, ClientAuth::Post] {
            let body = device_codes(&provider(auth), &client).unwrap().body().to_owned();
            assert_eq!(body.matches("client_id=id").count(), 1, "{auth:?}: {body}");
            assert!(body.starts_with("scope=a&"), "{body}");
        }
        let request = device_token(&provider(ClientAuth::None), &client, &Secret::new("d"));
        assert_eq!(
            request.body(),
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code&device_code=d&client_id=id"
        );
    }

    #[test]
    fn codes_are_read_and_an_address_that_is_none_of_the_webs_is_refused() {
        let codes = codes();
        assert_eq!((codes.user_code.as_str(), codes.interval), ("AB-CD", Duration::from_secs(5)));
        let body = r#"{"device_code":"d","user_code":"A","verification_uri":"javascript:alert(1)","expires_in":60}"#;
        let failure = judge_device_codes(&provider(ClientAuth::None), &raw(200, body)).unwrap_err();
        assert_eq!(failure.class(), FailureKind::MalformedAnswer);
        let failure = judge_device_codes(&provider(ClientAuth::None), &raw(400, r#"{"error":"invalid_scope"}"#));
        assert_eq!(failure.unwrap_err().code(), Some("invalid_scope"));
    }

    #[test]
    fn the_pace_slows_down_for_good_when_told_to_and_ends_with_the_codes() {
        let (provider, mut polling) = (provider(ClientAuth::None), Polling::of(&codes(), at(0)));
        let mut judge =
            |error: &str, now| polling.judge(&provider, Ok(raw(400, &format!(r#"{{"error":"{error}"}}"#))), at(now));
        let wait = |polled| if let Polled::Wait(wait) = polled { wait.as_secs() } else { panic!("{polled:?}") };
        assert_eq!(wait(judge("authorization_pending", 5)), 5);
        assert_eq!(wait(judge("slow_down", 10)), 10);
        assert_eq!(wait(judge("authorization_pending", 20)), 10);
        let Polled::Over(failure) = judge("authorization_pending", 50) else { panic!("it has ended") };
        assert_eq!(failure.code(), Some("expired_token"));
        for (error, class) in
            [("access_denied", FailureKind::InvalidGrant), ("expired_token", FailureKind::InvalidGrant)]
        {
            let Polled::Over(failure) = judge(error, 1) else { panic!("{error}") };
            assert_eq!((failure.class(), failure.code()), (class, Some(error)));
        }
        assert!(matches!(judge("invalid_client", 1), Polled::Over(_)));
    }

    #[test]
    fn a_server_that_wants_long_waits_gets_them() {
        let body = r#"{"device_code":"d","user_code":"A","verification_uri":"https://p.example/","expires_in":900,
                       "interval":120}"#;
        let provider = provider(ClientAuth::None);
        let codes = judge_device_codes(&provider, &raw(200, body)).unwrap();
        let mut polling = Polling::of(&codes, at(0));
        let wait = |polled| if let Polled::Wait(wait) = polled { wait.as_secs() } else { panic!("{polled:?}") };
        assert_eq!(wait(polling.judge(&provider, Ok(raw(400, r#"{"error":"slow_down"}"#)), at(1))), 125);
        let mut busy = raw(429, "");
        busy.headers.insert("retry-after", 300.into());
        assert_eq!(wait(polling.judge(&provider, Ok(busy.clone()), at(1))), 300);
        assert_eq!(polling.interval().as_secs(), 125, "that was for once");
        // A wait beyond the codes' end ends the polling.
        assert!(matches!(polling.judge(&provider, Ok(busy), at(700)), Polled::Over(_)));
    }

    #[test]
    fn a_pace_beyond_all_clocks_is_the_end_and_no_panic() {
        let body = format!(
            r#"{{"device_code":"d","user_code":"A","verification_uri":"https://p.example/","expires_in":900,"interval":{}}}"#,
            u64::MAX
        );
        let provider = provider(ClientAuth::None);
        let codes = judge_device_codes(&provider, &raw(200, &body)).unwrap();
        assert_eq!(codes.interval, codes.lifetime);
        for (status, body) in [(400, r#"{"error":"slow_down"}"#), (503, "")] {
            for mut polling in [Polling::of(&codes, at(0)), Polling::again(Duration::MAX, at(900))] {
                let polled = polling.judge(&provider, Ok(raw(status, body)), at(1));
                assert!(matches!(polled, Polled::Over(_)), "{polled:?}");
            }
        }
    }

    #[test]
    fn an_outage_is_waited_out_ever_slower() {
        let (provider, mut polling) = (provider(ClientAuth::None), Polling::of(&codes(), at(0)));
        let gone = || Err(Failure::new(FailureKind::NetworkAmbiguous, "x"));
        for expected in [10, 20, 40] {
            let Polled::Wait(wait) = polling.judge(&provider, gone(), at(1)) else { panic!() };
            assert_eq!(wait.as_secs(), expected);
        }
        let ok = polling.judge(&provider, Ok(raw(200, r#"{"access_token":"a"}"#)), at(50));
        assert!(matches!(ok, Polled::Allowed(_)));
    }
}
