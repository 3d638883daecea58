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
