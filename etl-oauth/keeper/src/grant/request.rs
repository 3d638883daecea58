//! The requests of a grant, each for what it is made for.

use url::Url;

use super::{Client, TokenRequest};
use crate::{
    provider::{Call, Provider, TokenKind, Verb},
    token::{Secret, TokenResponse},
};

/// `resource` of RFC 8707 §2, once for each.
pub(super) fn resources(provider: &Provider) -> impl Iterator<Item = (&str, &str)> {
    provider.resource.iter().map(|resource| ("resource", resource.as_str()))
}

/// A code, and the state that it came with: some providers want both back.
#[derive(Clone, Copy)]
#[allow(missing_debug_implementations, reason = "both are secrets")]
pub struct Code<'a> {
    /// The code.
    pub code: &'a str,
    /// The state; empty where it is not known.
    pub state: &'a str,
}

impl<'a> From<&'a str> for Code<'a> {
    fn from(code: &'a str) -> Self {
        Self { code, state: "" }
    }
}

/// RFC 6749 §4.1.3 with RFC 7636 §4.5: the code, the very redirect URI of the authorization request, the verifier.
#[must_use]
pub fn authorization_code<'a>(
    provider: &Provider,
    client: &Client,
    code: impl Into<Code<'a>>,
    redirect_uri: &str,
    verifier: Option<&Secret>,
) -> TokenRequest {
    let Code { code, state } = code.into();
    let mut fields = vec![("grant_type", "authorization_code"), ("code", code), ("redirect_uri", redirect_uri)];
    fields.extend(verifier.map(|verifier| ("code_verifier", verifier.expose())));
    fields.extend(resources(provider));
    fields.push(("state", state));
    // It is there to be named.
    let mut call = provider.token.clone();
    call.params.entry("state".to_owned()).or_default();
    TokenRequest::new(&provider.token_url, &call, provider, client, &fields)
}

/// Asks whose a fresh access token is, with the token put on as the provider's API wants it; `None` where the definition
/// names no such place.
#[must_use]
pub fn userinfo(provider: &Provider, client: &Client, token: &Secret) -> Option<TokenRequest> {
    let url = provider.userinfo_url.as_ref()?;
    TokenRequest::of_account(url, &Call { method: Some(Verb::Get), ..Call::default() }, provider, client, (token, None))
}

/// Asks for more of an account with its fresh token; `None` where the definition names no such place.
#[must_use]
pub fn lookup(provider: &Provider, client: &Client, answer: &TokenResponse) -> Option<TokenRequest> {
    let url = provider.lookup_url.as_ref().or(provider.userinfo_url.as_ref())?;
    let terms = &provider.lookup;
    let call =
        Call { method: terms.method, params: terms.params.clone(), headers: terms.headers.clone(), ..Call::default() };
    let scheme = answer.token_type.eq_ignore_ascii_case("basic").then_some("Basic");
    TokenRequest::of_account(url, &call, provider, client, (&answer.access_token, scheme))
}

/// RFC 6749 §6. The scope is left out unless the provider's definition puts it among `refresh.params`.
#[must_use]
pub fn refresh_token(provider: &Provider, client: &Client, refresh_token: &Secret) -> TokenRequest {
    let mut fields = vec![("grant_type", "refresh_token"), ("refresh_token", refresh_token.expose())];
    fields.extend(resources(provider));
    let call = provider.refresh.or(&provider.token);
    TokenRequest::new(&provider.refresh_url, &call, provider, client, &fields)
}

/// The exchange that follows an answer, where the provider has one: the definition's parameters, and what proves the
/// client.
#[must_use]
pub fn second(provider: &Provider, client: &Client, answer: &TokenResponse) -> Option<TokenRequest> {
    let mut fields = vec![("access_token", answer.access_token.expose())];
    fields.extend(answer.refresh_token.as_ref().map(|token| ("refresh_token", token.expose())));
    let url = provider.second_url.as_ref()?;
    // Only what the definition writes is sent: the two tokens are there to be named.
    let mut call = provider.second.clone();
    for (name, _) in &fields {
        call.params.entry((*name).to_owned()).or_default();
    }
    Some(TokenRequest::new(url, &call, provider, client, &fields))
}

/// Asks when an access token ends (RFC 7662 §2.1); `None` where the definition names no such place.
#[must_use]
pub fn introspection(provider: &Provider, client: &Client, token: &Secret) -> Option<TokenRequest> {
    let url = provider.introspect_url.as_ref()?;
    Some(about(url, &provider.introspect, provider, client, token, TokenKind::AccessToken))
}

/// RFC 7009 §2.1, or the provider's own way; `None` where the provider cannot revoke such a token.
#[must_use]
pub fn revocation(provider: &Provider, client: &Client, token: &Secret, kind: TokenKind) -> Option<TokenRequest> {
    let url = provider.revoke_url.as_ref().filter(|_| provider.revoke_tokens.contains(&kind))?;
    Some(about(url, &provider.revoke, provider, client, token, kind))
}

/// A request that is about a token.
fn about(
    url: &Url,
    call: &Call,
    provider: &Provider,
    client: &Client,
    token: &Secret,
    kind: TokenKind,
) -> TokenRequest {
    let fields = [("token", token.expose()), ("token_type_hint", kind.as_str())];
    let mut call = call.clone();
    if call.bearer {
        // The header says it all, unless the definition wants more.
        for (name, _) in &fields {
            call.params.entry((*name).to_owned()).or_default();
        }
    }
    TokenRequest::new(url, &call, provider, client, &fields)
}

#[cfg(test)]
mod tests;
