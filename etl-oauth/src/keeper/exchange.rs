//! One call to the token endpoint, and the one that some providers want after it.

use crate::{
    grant::{self, Client, SendError, TokenRequest, Wire, judge_token},
    provider::Provider,
    token::{Answer, Failure},
};

/// What the tokens are asked for with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum For {
    /// A code, which is good once: the person has just been here.
    Code,
    /// A refresh token.
    Renewal,
}

/// Sends a token request and reads the answer; then makes the second exchange, where the provider's definition has one.
///
/// When the second one fails in a renewal, the first one's answer is given without its access token: the refresh token that
/// it brought must be kept, and the next use renews again.
pub(crate) async fn exchange(
    wire: &Wire,
    provider: &Provider,
    client: &Client,
    request: TokenRequest,
    purpose: For,
) -> Result<Answer, Failure> {
    let answer = ask(wire, provider, request).await?;
    let provider = provider.with(&answer.kept);
    let wanted = purpose == For::Code || provider.second_on_renewal;
    let Some(request) = grant::second(&provider, client, &answer).filter(|_| wanted) else { return Ok(answer) };
    match ask(wire, &provider, request).await {
        Ok(second) => Ok(answer.followed_by(second)),
        Err(failure) if purpose == For::Code => Err(failure),
        Err(failure) => {
            tracing::warn!(class = failure.class().as_str(), error = %failure, "the exchange after the renewal failed");
            Ok(answer.unfinished())
        }
    }
}

async fn ask(wire: &Wire, provider: &Provider, request: TokenRequest) -> Result<Answer, Failure> {
    let result = wire.send(request).await;
    super::count("token", result.as_ref().ok().map(|answer| answer.status));
    judge_token(provider, &result.map_err(SendError::into_failure)?)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};
    use jiff::Timestamp;

    use super::*;
    use crate::{
        grant::RawAnswer,
        provider::{Definition, Overrides},
        token::{Class, Secret},
    };

    /// What a provider with a second exchange says to it.
    async fn with_second(status: u16, body: &'static str, purpose: For) -> (Result<Answer, Failure>, usize) {
        let text = "token_url = 'https://p.example/token'\nsecond_url = 'https://p.example/long'\n\
                    second_on_renewal = true\nsecond.params = { short = '{access_token}' }";
        let definition = Definition::read("acme.toml", text).unwrap();
        let provider = Provider::new("acme", definition, Overrides::default()).unwrap();
        let calls = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let seen = std::sync::Arc::clone(&calls);
        let wire = Wire::new(move |request: TokenRequest| {
            seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let first = r#"{"access_token":"short","refresh_token":"r2","expires_in":60}"#;
            let second = request.url().path() == "/long";
            assert!(!second || request.body() == "short=short", "{}", request.body());
            let (status, body) = if second { (status, body) } else { (200, first) };
            let status = StatusCode::from_u16(status).unwrap();
            async move { Ok(RawAnswer { status, headers: HeaderMap::new(), body: body.into(), at: Timestamp::now() }) }
        });
        let client = Client { id: "id".into(), secret: Some(Secret::new("secret")) };
        let request = grant::refresh_token(&provider, &client, &Secret::new("r1"));
        let answer = exchange(&wire, &provider, &client, request, purpose).await;
        (answer, calls.load(std::sync::atomic::Ordering::Relaxed))
    }

    #[tokio::test]
    async fn the_second_exchange_brings_the_access_token_and_the_first_one_the_refresh_token() {
        for purpose in [For::Code, For::Renewal] {
            let (answer, calls) = with_second(200, r#"{"access_token":"long","expires_in":5000000}"#, purpose).await;
            let answer = answer.unwrap();
            assert_eq!((answer.access_token.expose(), answer.refresh_token.unwrap().expose()), ("long", "r2"));
            assert_eq!((answer.lifetime.unwrap().as_secs(), calls), (5_000_000, 2));
        }
    }

    #[tokio::test]
    async fn a_second_exchange_that_fails_loses_no_refresh_token() {
        let (answer, calls) = with_second(503, "", For::Renewal).await;
        let answer = answer.unwrap();
        assert_eq!((answer.access_token.expose(), answer.refresh_token.unwrap().expose()), ("", "r2"));
        assert_eq!((answer.expires_at, calls), (Some(Timestamp::UNIX_EPOCH), 2));
        let (answer, _) = with_second(503, "", For::Code).await;
        assert_eq!(answer.unwrap_err().class(), Class::ProviderUnavailable, "the person is still here");
    }
}
