//! How a token is shown to the API: under its own scheme, and where it is bound to a key with a proof (RFC 9449 §7).

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use url::Url;

use super::{Keeper, KeeperError, Token};
use crate::{
    grant::{Client, SigningKey, dpop},
    token::{Failure, FailureKind},
};

impl Token {
    /// The scheme that this token is shown under, where it has one of its own: `Basic`, `DPoP`. Others are shown as the API
    /// wants tokens shown.
    #[must_use]
    pub fn scheme(&self) -> Option<&'static str> {
        let tokens = self.tokens();
        let is = |kind: &str| tokens.token_type.eq_ignore_ascii_case(kind);
        match &tokens.bound_to {
            Some(_) if is("dpop") => Some("DPoP"),
            _ => is("basic").then_some("Basic"),
        }
    }
}

impl Keeper {
    /// The client with its secrets, for the API that wants some of them beside the token.
    pub(crate) fn client(&self) -> Result<Client, KeeperError> {
        self.0.parts.authority.client(self.now()).map_err(|failure| self.failed(failure))
    }

    /// The header that proves the possession of the token's key, for this one request; `None` for a token without one.
    ///
    /// # Errors
    /// When the key of the record cannot be used.
    pub fn proof(
        &self,
        token: &Token,
        method: &Method,
        url: &Url,
    ) -> Result<Option<(&'static str, HeaderValue)>, KeeperError> {
        let tokens = token.tokens();
        let Some(key) = tokens.bound_to.as_ref().filter(|_| token.scheme() == Some("DPoP")) else { return Ok(None) };
        let nonce = self.0.parts.authority.nonces().of(url);
        let proof = SigningKey::from_text(key)
            .and_then(|key| dpop::proof(&key, (method, url), Some(&tokens.access_token), nonce.as_deref(), self.now()));
        let proof =
            proof.map_err(|err| self.failed(Failure::new(FailureKind::Config, format!("the account's key {err}"))))?;
        Ok(Some((dpop::HEADER, proof)))
    }

    /// Takes note of the API's nonce; tells whether the request failed for want of it (RFC 9449 §9), so that it may be sent
    /// again, with the same token.
    pub fn wants_nonce(&self, token: &Token, url: &Url, status: StatusCode, headers: &HeaderMap) -> bool {
        if token.scheme() != Some("DPoP") {
            return false;
        }
        self.0.parts.authority.nonces().note(url, headers);
        dpop::asks_for_nonce(status, headers)
    }
}
