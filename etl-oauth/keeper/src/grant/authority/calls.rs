//! How a request is sent, and sent again where nothing speaks against it; and what has to be asked besides.

use std::time::Duration;

use jiff::Timestamp;

use super::{Authority, unknown, unsigned};
use crate::{
    grant::{
        Client, HttpResponse, SigningKey, TokenRequest, Unanswered, ask, dpop, judge_introspection, judge_lookup,
        judge_renewal, judge_token, request,
    },
    provider::{Provider, Values},
    token::{Failure, FailureKind, Secret, TokenResponse},
};

/// How long an answer that is not saved yet waits to hear when its token ends.
const PATIENCE: Duration = Duration::from_secs(3);

impl Authority {
    /// Asks the token endpoint; then makes the second exchange, where the provider's definition has one.
    ///
    /// When the second one fails, the first one's answer is given, and its access token is not to be used: what was spent
    /// for it, a code or a refresh token, has its successor there alone. A later use renews again.
    pub(super) async fn token(
        &self,
        provider: &Provider,
        purpose: For,
        held: Held<'_>,
        now: Timestamp,
        build: impl Fn(&Client) -> Result<TokenRequest, Failure>,
    ) -> Result<TokenResponse, Failure> {
        let Held { key, kept, access_token } = held;
        let raw = self.call("token", provider, key, now, build).await?;
        let answer = judge_renewal(provider, &raw, access_token).map(|answer| bound(answer, key))?;
        let provider = provider.with(&answer.kept);
        let once = purpose == For::Renewal && !provider.second_on_renewal;
        if provider.second_url.is_none() || once || answer.unfinished.is_some() {
            let answer = self.looked_up(&provider, answer, kept, now).await;
            return Ok(self.dated(&provider, answer, now).await);
        }
        let build = |client: &Client| request::second(&provider, client, &answer).ok_or_else(|| unknown("second_url"));
        let raw = self.call("token", &provider, key, now, build).await;
        match raw.and_then(|raw| judge_token(&provider, &raw)) {
            Ok(second) => {
                let answer = self.looked_up(&provider, answer.followed_by(bound(second, key)), kept, now).await;
                Ok(self.dated(&provider, answer, now).await)
            }
            // The grant is not in question: what it renews with was given a moment ago.
            Err(failure) => Ok(answer.unfinished(ask::not_a_persons(failure))),
        }
    }

    /// The answer with the values that are asked for with its token, where the account of these `kept` values has none yet.
    /// Where they do not come, the access token is not used: it would be sent to the wrong place, or without what the API
    /// wants beside it. What was spent for it is kept, and a later use renews.
    pub(super) async fn looked_up(
        &self,
        provider: &Provider,
        answer: TokenResponse,
        kept: &Values,
        now: Timestamp,
    ) -> TokenResponse {
        let mut known = kept.clone();
        known.extend(answer.kept.clone());
        if answer.unfinished.is_some() || !provider.wants_lookup(&known) {
            return answer;
        }
        let provider = provider.with(&known);
        let token = answer.access_token.clone();
        let key = answer.bound_to.as_ref().filter(|_| answer.is_bound()).map(SigningKey::from_text);
        let key = match key.transpose().map_err(unsigned) {
            Ok(key) => key,
            Err(failure) => return answer.unfinished(failure),
        };
        let build = |client: &Client| request::lookup(&provider, client, &answer).ok_or_else(|| unknown("lookup_url"));
        let asked = self.send("lookup", &provider, key.as_ref().map(|key| (key, Some(&token))), now, build);
        let late =
            || Failure::new(FailureKind::NetworkAmbiguous, "the request that tells more of the account takes too long");
        let raw = tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(late()));
        match raw.and_then(|raw| judge_lookup(&provider, &raw)) {
            Ok(values) => {
                let mut kept = answer.kept.clone();
                kept.extend(values);
                TokenResponse { kept, ..answer }
            }
            Err(failure) => answer.unfinished(failure),
        }
    }

    /// The answer with the expiry of its access token, by introspection where it is not known otherwise. The call has a short
    /// time limit, because the answer is not saved yet.
    pub(super) async fn dated(&self, provider: &Provider, answer: TokenResponse, now: Timestamp) -> TokenResponse {
        if provider.introspect_url.is_none() || provider.lifetime.is_some() || answer.tells_its_end() {
            return answer;
        }
        let build = |client: &Client| {
            request::introspection(provider, client, &answer.access_token).ok_or_else(|| unknown("introspect_url"))
        };
        let asked = self.call("introspect", provider, None, now, build);
        let raw = tokio::time::timeout(PATIENCE, asked).await;
        let expires_at = raw.ok().and_then(Result::ok).and_then(|raw| judge_introspection(provider, &raw));
        if expires_at.is_none() {
            tracing::debug!("the provider does not say when the new token ends");
        }
        TokenResponse { expires_at, ..answer }
    }

    /// [`Authority::send`] with a proof of nothing but the key.
    pub(super) async fn call(
        &self,
        endpoint: &'static str,
        provider: &Provider,
        key: Option<&SigningKey>,
        now: Timestamp,
        build: impl Fn(&Client) -> Result<TokenRequest, Failure>,
    ) -> Result<HttpResponse, Failure> {
        self.send(endpoint, provider, key.map(|key| (key, None)), now, build).await
    }

    /// Builds and sends; once more where the server only wants its nonce in the proof (RFC 9449 §8, §9), having done nothing
    /// else yet. The request is built anew then: a server takes no signed statement twice.
    pub(super) async fn send(
        &self,
        endpoint: &'static str,
        provider: &Provider,
        proof: Option<(&SigningKey, Option<&Secret>)>,
        now: Timestamp,
        build: impl Fn(&Client) -> Result<TokenRequest, Failure>,
    ) -> Result<HttpResponse, Failure> {
        let mut again = proof.is_some();
        loop {
            let client = self.0.credentials.client(provider, now)?;
            let mut request = build(&client)?;
            let url = request.url().clone();
            if let Some((key, token)) = proof {
                let nonce = self.0.nonces.of(&url);
                let proof = dpop::proof(key, (request.method(), &url), token, nonce.as_deref(), now);
                request = request.with_proof(proof.map_err(unsigned)?, token);
            }
            let result = self.0.wire.send(request).await;
            count(endpoint, result.as_ref().ok().map(|answer| answer.status));
            let raw = result.map_err(Unanswered::into_failure)?;
            if proof.is_some() {
                self.0.nonces.note(&url, &raw.headers);
            }
            if !(again && raw.wants_nonce()) {
                return Ok(raw);
            }
            again = false;
        }
    }
}

/// What an account has already.
#[derive(Clone, Copy)]
pub(super) struct Held<'a> {
    /// The key that its tokens are bound to.
    pub(super) key: Option<&'a SigningKey>,
    /// The values that are kept with them.
    pub(super) kept: &'a Values,
    /// The access token that is renewed.
    pub(super) access_token: Option<&'a Secret>,
}

/// What tokens are asked for with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    /// A code, which is good once: the person has just been here.
    Code,
    /// What can be asked for again.
    Renewal,
}

/// Counts a call to the provider.
pub(crate) fn count(endpoint: &'static str, status: Option<http::StatusCode>) {
    let code = status.map_or_else(|| "none".to_owned(), |status| status.as_u16().to_string());
    metrics::counter!("etl_oauth_provider_requests_total", "endpoint" => endpoint, "code" => code).increment(1);
}

/// With the key that they were asked for with. It is kept where the server calls the access token an ordinary one, too: a
/// public client's refresh token is bound all the same (RFC 9449 §5).
pub(super) fn bound(answer: TokenResponse, key: Option<&SigningKey>) -> TokenResponse {
    TokenResponse { bound_to: key.and_then(SigningKey::to_text), ..answer }
}

impl HttpResponse {
    /// Whether the server refuses the proof for want of its nonce (RFC 9449 §8, §9).
    fn wants_nonce(&self) -> bool {
        dpop::asks_for_nonce(self.status, &self.headers)
            || crate::token::object(&self.body)
                .is_some_and(|fields| fields.get("error") == Some(&"use_dpop_nonce".into()))
    }
}
