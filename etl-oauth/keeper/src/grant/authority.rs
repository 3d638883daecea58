//! The provider's authorization server, as this client talks to it: here each request is built, sent, counted and judged.

mod calls;

use std::{borrow::Cow, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use url::Url;

pub(crate) use calls::count;
use calls::{For, Held, bound};

use super::{
    Client, Code, Credentials, DeviceCodes, HttpClient, KeyError, Nonces, Polled, Polling, SigningKey, ask,
    bearer_assertion, consented, device, discovery::Known, judge_revocation, judge_userinfo, par, request,
    response::as_asked,
};
use crate::{
    provider::{Grant, Pkce, Provider, TokenKind, Values},
    token::{ClientRef, Failure, FailureKind, IdTokenError, Secret, Subject, TokenResponse, Tokens},
};

/// The authorization server of one provider. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Authority(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    known: Known,
    credentials: Credentials,
    wire: HttpClient,
    nonces: Nonces,
}

impl Authority {
    /// The server of `provider`, for the client of `credentials`. Where the endpoints come from metadata, a task must
    /// run [`Authority::follow`].
    #[must_use]
    pub fn new(provider: Provider, credentials: Credentials, wire: HttpClient) -> Self {
        Self(Arc::new(Inner { known: Known::of(provider), credentials, wire, nonces: Nonces::default() }))
    }

    /// The provider as far as it is known.
    #[must_use]
    pub fn provider(&self) -> Arc<Provider> {
        self.0.known.provider()
    }

    /// The provider, once its endpoints are known.
    ///
    /// # Errors
    /// Why they are not: the last try to read the server's metadata, which goes on by itself.
    pub async fn ready(&self) -> Result<Arc<Provider>, Failure> {
        self.0.known.ready().await
    }

    /// Reads the server's metadata, again and again: until it is there, then once an hour. Ends at once where nothing is to
    /// be read.
    pub async fn follow(&self) {
        let inner = &self.0;
        inner.known.follow(&inner.wire, |auth| inner.credentials.suffice_for(auth)).await;
    }

    /// The newest nonces of the server and the API.
    #[must_use]
    pub fn nonces(&self) -> &Nonces {
        &self.0.nonces
    }

    /// Names the client, as records do; `None` while its id cannot be read.
    #[must_use]
    pub fn client_ref(&self) -> Option<ClientRef> {
        Some(ClientRef::new(&self.provider().identity(), &self.0.credentials.id()?))
    }

    /// Digest of the client's credentials.
    #[must_use]
    pub fn credentials_digest(&self) -> String {
        self.0.credentials.digest()
    }

    /// The client's id, for an authorization request.
    ///
    /// # Errors
    /// When the secret is missing.
    pub fn client(&self, now: Timestamp) -> Result<Client, Failure> {
        self.0.credentials.client(&self.provider(), now)
    }

    /// A code becomes tokens (RFC 6749 §4.1.3); `seed` is that of [`Authority::bind`], `kept` what the redirect brought
    /// beside the code. Sent once whatever happens: a code that is sent twice revokes what the first one brought.
    ///
    /// # Errors
    /// The [`Failure`].
    pub async fn exchange(
        &self,
        code: impl Into<Code<'_>>,
        redirect_uri: &str,
        verifier: &Secret,
        seed: &Secret,
        kept: &Values,
        now: Timestamp,
    ) -> Result<TokenResponse, Failure> {
        let provider = self.ready().await?;
        if let Some(missing) = provider.redirect_must_bring().into_iter().find(|name| !kept.contains_key(*name)) {
            let detail = format!(
                "the redirect brings no {}, which is a part of the token endpoint's address: nothing was sent",
                provider.variables[missing].at(missing)
            );
            return Err(Failure::new(FailureKind::Config, detail));
        }
        let provider = provider.with(kept);
        let verifier = (provider.pkce == Pkce::S256).then_some(verifier);
        let (key, code) = (seeded_key(&provider, seed)?, code.into());
        let build = |client: &Client| Ok(request::authorization_code(&provider, client, code, redirect_uri, verifier));
        let answer =
            self.token(&provider, For::Code, Held { key: key.as_ref(), kept, access_token: None }, now, build).await?;
        Ok(consented(&provider, answer, kept))
    }

    /// A refresh token becomes the next tokens (RFC 6749 §6). Those that are bound to a key stay bound to it.
    ///
    /// # Errors
    /// The [`Failure`].
    pub async fn refresh(
        &self,
        refresh_token: &Secret,
        tokens: Option<&Tokens>,
        now: Timestamp,
    ) -> Result<TokenResponse, Failure> {
        let provider = self.ready().await?;
        let provider = tokens.map_or(Cow::Borrowed(&*provider), |tokens| provider.with(&tokens.kept));
        let key = kept_key(&provider, tokens)?;
        let build = |client: &Client| Ok(request::refresh_token(&provider, client, refresh_token));
        let kept = tokens.map_or_else(Values::new, |tokens| tokens.kept.clone());
        let access_token = tokens.filter(|tokens| tokens.is_usable()).map(|tokens| &tokens.access_token);
        let held = Held { key: key.as_ref(), kept: &kept, access_token };
        self.token(&provider, For::Renewal, held, now, build).await
    }

    /// Asks for tokens by a grant without a person; `tokens` are the previous ones.
    ///
    /// # Errors
    /// The [`Failure`]; never one that a person could end by authorising.
    pub async fn ask(&self, tokens: Option<&Tokens>, now: Timestamp) -> Result<TokenResponse, Failure> {
        let provider = self.ready().await?;
        let credentials = &self.0.credentials;
        let kept = tokens.map_or_else(Values::new, |tokens| tokens.kept.clone());
        let made = match provider.grant {
            Grant::Static => Some(TokenResponse::made(credentials.secret("api-token")?, "Bearer")),
            Grant::Basic => {
                let (user, password) = (credentials.secret("api-user")?, credentials.secret("api-password")?);
                let pair = format!("{}:{}", user.expose(), password.expose());
                Some(TokenResponse::made(Secret::new(STANDARD.encode(pair)), "Basic"))
            }
            Grant::JwtBearer if provider.is_self_signed() => {
                let id = credentials.client(&provider, now)?.id;
                let signed = bearer_assertion(&provider, &credentials.key(&provider)?, &id, now).map_err(unsigned)?;
                Some(TokenResponse::made(signed, "Bearer"))
            }
            _ => None,
        };
        if let Some(made) = made {
            return Ok(self.looked_up(&provider, made, &kept, now).await);
        }
        let key = kept_key(&provider, tokens)?;
        let build = |client: &Client| match provider.grant {
            Grant::JwtBearer => ask::jwt_bearer(&provider, client, &credentials.key(&provider)?, now).map_err(unsigned),
            Grant::TokenExchange => Ok(ask::token_exchange(&provider, client, &subject_token(&provider)?)),
            _ => Ok(ask::client_credentials(&provider, client)),
        };
        let answer = self
            .token(&provider, For::Renewal, Held { key: key.as_ref(), kept: &kept, access_token: None }, now, build)
            .await;
        ask::unattended(answer.map(|answer| as_asked(&provider, answer)))
    }

    /// Whether what is mounted is no longer what the account's token was made of: a rotated secret.
    #[must_use]
    pub fn is_outdated(&self, tokens: &Tokens) -> bool {
        let credentials = &self.0.credentials;
        let made = match self.provider().grant {
            Grant::Static => credentials.secret("api-token").ok(),
            Grant::Basic => credentials.secret("api-user").ok().zip(credentials.secret("api-password").ok()).map(
                |(user, password)| Secret::new(STANDARD.encode(format!("{}:{}", user.expose(), password.expose()))),
            ),
            _ => None,
        };
        made.is_some_and(|made| !made.same(&tokens.access_token))
    }

    /// Whose a fresh answer is, where the provider says so: in an ID token that was asked for, where its definition says that
    /// it can be asked, or in an ID token that came unasked.
    ///
    /// # Errors
    /// When an ID token that was asked for is not right.
    pub async fn owner(&self, answer: &TokenResponse, now: Timestamp) -> Result<Option<Subject>, Failure> {
        let provider = self.provider();
        let provider = provider.with(&answer.kept);
        let asked = provider.scope.iter().any(|scope| scope == "openid");
        let id_token = answer.rest.get("id_token").and_then(serde_json::Value::as_str);
        if let Some(token) = id_token.filter(|_| asked || provider.userinfo_url.is_none()) {
            let id = self.0.credentials.client(&provider, now)?.id;
            match Subject::of_id_token(token, provider.issuer.as_deref(), &id, now) {
                Ok(owner) => return Ok(Some(owner)),
                // One of another issuer or for another client says that the tokens are not this account's (OpenID Connect
                // Core §3.1.3.7): they are refused, whatever they cost.
                Err(err @ (IdTokenError::Issuer | IdTokenError::Audience)) if asked => {
                    return Err(Failure::new(FailureKind::MalformedAnswer, err.to_string()));
                }
                // The tokens are good all the same, and the code is spent: they are kept, of an unknown account.
                Err(err) if asked => {
                    tracing::warn!(error = %err, "the account that granted the tokens is not known");
                }
                Err(err) => tracing::debug!(error = %err, "an ID token that was not asked for is ignored"),
            }
        }
        // A token that must not be used is not shown to that endpoint, either.
        if provider.userinfo_url.is_none() || answer.unfinished.is_some() {
            return Ok(None);
        }
        let build = |client: &Client| {
            request::userinfo(&provider, client, &answer.access_token).ok_or_else(|| unknown("userinfo_url"))
        };
        let key = answer.bound_to.as_ref().filter(|_| answer.is_bound()).map(SigningKey::from_text);
        let key = key.transpose().map_err(unsigned)?;
        let raw =
            self.send("userinfo", &provider, key.as_ref().map(|key| (key, Some(&answer.access_token))), now, build);
        let raw = raw.await;
        let owner = raw.ok().and_then(|raw| judge_userinfo(&provider, &raw));
        if owner.is_none() {
            tracing::warn!(
                "the account that granted the tokens is not known: the userinfo endpoint does not identify it"
            );
        }
        Ok(owner)
    }

    /// Ends one of an account's tokens at the provider; `None` where that cannot be done there, or the token was not made
    /// there.
    pub async fn revoke(
        &self,
        token: &Secret,
        kind: TokenKind,
        kept: &Values,
        now: Timestamp,
    ) -> Option<Result<(), Failure>> {
        let provider = match self.ready().await {
            Ok(provider) => provider,
            // Whether it can be done there is not known, and that is no "no".
            Err(failure) if self.provider().revoke_url.is_none() => return Some(Err(failure)),
            Err(_) => self.provider(),
        };
        let provider = provider.with(kept);
        let possible = provider.revoke_url.is_some() && provider.revoke_tokens.contains(&kind);
        if !possible || !provider.grant.uses_token_endpoint() {
            return None;
        }
        let build =
            |client: &Client| request::revocation(&provider, client, token, kind).ok_or_else(|| unknown("revoke_url"));
        let raw = self.call("revoke", &provider, None, now, build).await;
        Some(raw.and_then(|raw| judge_revocation(&provider, &raw)))
    }

    /// The authorization request `url` for a code that is good with one key alone (RFC 9449 §10), where tokens are bound to
    /// one: that key follows from `seed`, which must be secret and another one each time.
    ///
    /// # Errors
    /// When no key follows from it.
    pub fn bind(&self, mut url: Url, seed: &Secret) -> Result<Url, Failure> {
        if let Some(thumbprint) = seeded_key(&self.provider(), seed)?.and_then(|key| key.thumbprint()) {
            url.query_pairs_mut().append_pair("dpop_jkt", &thumbprint);
        }
        Ok(url)
    }

    /// Where a person goes with the authorization request `url`: there, or with a reference to it where the request was
    /// pushed (RFC 9126). A request that may be pushed and need not be is pushed for `known` callers alone: an anonymous one
    /// costs the provider no call.
    ///
    /// # Errors
    /// The [`Failure`].
    pub async fn push(&self, url: Url, known: bool, now: Timestamp) -> Result<Url, Failure> {
        let provider = self.ready().await?;
        if provider.par_url.is_none() || !(known || provider.par_required) {
            return Ok(url);
        }
        let build = |client: &Client| par::pushed(&provider, client, &url).ok_or_else(|| unknown("par_url"));
        let raw = self.call("par", &provider, None, now, build).await?;
        par::judge_pushed(&provider, &self.client(now)?, &raw)
    }

    /// Asks for the codes of the device grant (RFC 8628 §3.1).
    ///
    /// # Errors
    /// The [`Failure`].
    pub async fn device_codes(&self, now: Timestamp) -> Result<DeviceCodes, Failure> {
        let provider = self.ready().await?;
        let build = |client: &Client| device::device_codes(&provider, client).ok_or_else(|| unknown("device_url"));
        let raw = self.call("device", &provider, None, now, build).await?;
        device::judge_device_codes(&provider, &raw)
    }

    /// Asks once whether the person has decided (RFC 8628 §3.4).
    pub async fn poll(&self, device_code: &Secret, polling: &mut Polling, now: Timestamp) -> Polled {
        // A replica that goes on where another ended may have yet to learn the endpoints.
        let provider = match self.ready().await {
            Ok(provider) => provider,
            Err(failure) => return polling.judge(&self.provider(), Err(failure), now),
        };
        // Each question may have a key of its own: what is bound is what the answer brings.
        let key = match new_key(&provider) {
            Ok(key) => key,
            Err(failure) => return Polled::Over(failure),
        };
        let build = |client: &Client| Ok(device::device_token(&provider, client, device_code));
        let answer = self.call("token", &provider, key.as_ref(), now, build).await;
        match polling.judge(&provider, answer, now) {
            Polled::Allowed(answer) => {
                let answer = as_asked(&provider, bound(answer, key.as_ref()));
                let answer = self.looked_up(&provider, answer, &Values::new(), now).await;
                Polled::Allowed(self.dated(&provider, answer, now).await)
            }
            other => other,
        }
    }
}

fn new_key(provider: &Provider) -> Result<Option<SigningKey>, Failure> {
    provider.dpop.then(SigningKey::generate).transpose().map_err(unsigned)
}

/// The key of an authorisation that was begun with `seed`, whichever replica ends it.
fn seeded_key(provider: &Provider, seed: &Secret) -> Result<Option<SigningKey>, Failure> {
    provider.dpop.then(|| SigningKey::derived(seed)).transpose().map_err(unsigned)
}

/// The account's key: a public client's refresh token is good with that one alone (RFC 9449 §5).
fn kept_key(provider: &Provider, tokens: Option<&Tokens>) -> Result<Option<SigningKey>, Failure> {
    match tokens.and_then(|tokens| tokens.bound_to.as_ref()) {
        Some(text) => SigningKey::from_text(text).map(Some).map_err(unsigned),
        None => new_key(provider),
    }
}

/// An endpoint that neither configuration nor metadata names.
fn unknown(variable: &str) -> Failure {
    Failure::new(FailureKind::Config, format!("where the provider does this is not known: set the variable {variable}"))
}

fn unsigned(err: KeyError) -> Failure {
    Failure::new(FailureKind::Config, format!("the key {err}"))
}

fn subject_token(provider: &Provider) -> Result<Secret, Failure> {
    let file = &provider.exchange.subject_token_file;
    let failed = |why: String| {
        Failure::new(
            FailureKind::Config,
            format!("the subject token in {file} {why}: set the variable subject_token_file"),
        )
    };
    let text = std::fs::read_to_string(file).map_err(|err| failed(format!("cannot be read ({})", err.kind())))?;
    Some(text.trim()).filter(|text| !text.is_empty()).map(Secret::new).ok_or_else(|| failed("is empty".into()))
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod lookup_tests;
