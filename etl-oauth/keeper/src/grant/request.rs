//! Requests to the provider's endpoints, laid over by its definition.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use secrecy::zeroize::Zeroizing;
use url::{Url, form_urlencoded};

use super::{Certificate, Client, hmac::sign, template_vars::TemplateVars};
use crate::{
    provider::{CLIENT_ID, Call, ClientAuth, Format, Provider, TokenKind, Verb, fill},
    token::{Secret, TokenResponse},
};

/// A request to one of the provider's endpoints.
#[derive(Clone)]
pub struct TokenRequest {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Zeroizing<String>,
    certificate: Option<Certificate>,
}

impl std::fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenRequest").field("host", &self.url.host_str()).finish_non_exhaustive()
    }
}

impl TokenRequest {
    /// A request of `fields`, with what the provider's definition says of it laid over.
    pub(super) fn new(url: &Url, call: &Call, provider: &Provider, client: &Client, fields: &[(&str, &str)]) -> Self {
        let bearer = fields.iter().find(|(name, _)| call.bearer && *name == "token").map(|(_, token)| *token);
        let auth = call.client_auth.unwrap_or(provider.client_auth);
        let proof = if call.bearer { Vec::new() } else { client.fields(auth) };
        let standard: Vec<(&str, &str)> = fields.iter().copied().chain(proof).collect();
        let blanks = TemplateVars::new(provider, client, fields);
        let mut params = laid_over(&standard, &call.params, &blanks);
        if let Some(how) = &call.sign {
            let key = Zeroizing::new(fill(&how.key, |name| blanks.value(name)).unwrap_or_default());
            let before = fill(&how.before, |name| if name == "path" { Some(url.path()) } else { blanks.value(name) });
            let signature = sign(how, &key, &before.unwrap_or_default(), &params);
            params.push((how.parameter.clone(), signature));
        }
        let authorization = match bearer {
            Some(token) => Some(Secret::new(format!("Bearer {token}"))),
            None if call.bearer => None,
            None => client.authorization(auth),
        };
        let mut headers = headers(call, &blanks);
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.extend(authorization.as_ref().and_then(sensitive).map(|value| (header::AUTHORIZATION, value)));
        let certificate = client.certificate.clone().filter(|_| auth == ClientAuth::TlsClientAuth && !call.bearer);
        let (method, url) = (method(call), with_client_id(url, &client.id));
        let mut it = Self { method, url, headers, body: Zeroizing::default(), certificate };
        it.write(call, &params);
        it
    }

    /// What is read without telling who asks: a server's metadata.
    #[must_use]
    pub fn get(url: Url) -> Self {
        let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static("application/json"))]);
        Self { method: Method::GET, url, headers, body: Zeroizing::default(), certificate: None }
    }

    /// The same request with a proof of possession (RFC 9449 §5), and the token that it is of (§7.1).
    #[must_use]
    pub fn with_proof(mut self, proof: HeaderValue, token: Option<&Secret>) -> Self {
        self.headers.insert(super::dpop::HEADER, proof);
        if let Some(shown) = token.and_then(|token| sensitive(&Secret::new(format!("DPoP {}", token.expose())))) {
            self.headers.insert(header::AUTHORIZATION, shown);
        }
        self
    }

    fn write(&mut self, call: &Call, params: &[(String, String)]) {
        if params.is_empty() {
            // The URL and a header say it all.
            return;
        }
        let format = if call.method == Some(Verb::Get) { Format::Query } else { call.format.unwrap_or_default() };
        let kind = match format {
            Format::Query => {
                self.url.query_pairs_mut().extend_pairs(params);
                return;
            }
            Format::Json => {
                let object: serde_json::Map<_, _> =
                    params.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
                *self.body = serde_json::Value::Object(object).to_string();
                "application/json"
            }
            Format::Form => {
                *self.body = form_urlencoded::Serializer::new(String::new()).extend_pairs(params).finish();
                "application/x-www-form-urlencoded"
            }
        };
        self.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }

    /// The HTTP method.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Where it goes. For some providers its query holds secrets: it belongs into no log.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The headers; those with secrets are marked so that nothing prints them.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The form, or the JSON.
    #[must_use]
    pub fn body(&self) -> &str {
        &self.body
    }

    /// What the connection shows of the client, where that is how it proves itself.
    #[must_use]
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_ref()
    }

    /// The `Authorization` header.
    #[must_use]
    pub fn authorization(&self) -> Option<HeaderValue> {
        self.headers.get(header::AUTHORIZATION).cloned()
    }
}

/// Puts the client's id into its place, where the path or the query has one. It can be nothing but one segment or one value.
pub(super) fn with_client_id(url: &Url, id: &str) -> Url {
    let mut url = url.clone();
    // A parser encodes the braces in a path, and leaves them in a query.
    let places = [CLIENT_ID, "{client_id}"];
    let encoded = || form_urlencoded::byte_serialize(id.as_bytes()).collect::<String>();
    if url.path().contains(CLIENT_ID) {
        url.set_path(&url.path().replace(CLIENT_ID, &encoded()));
    }
    if let Some(query) = url.query().filter(|query| places.iter().any(|place| query.contains(place))) {
        let filled = places.iter().fold(query.to_owned(), |query, place| query.replace(place, &encoded()));
        url.set_query(Some(&filled));
    }
    url
}

fn method(call: &Call) -> Method {
    match call.method.unwrap_or_default() {
        Verb::Post => Method::POST,
        Verb::Get => Method::GET,
        Verb::Delete => Method::DELETE,
    }
}

fn headers(call: &Call, blanks: &TemplateVars<'_>) -> HeaderMap {
    let header = |(name, text): (&String, &String)| {
        let value = fill(text, |name| blanks.value(name)).filter(|value| !value.is_empty())?;
        Some((HeaderName::try_from(name).ok()?, sensitive(&Secret::new(value))?))
    };
    call.headers.iter().filter_map(header).collect()
}

fn sensitive(value: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value.expose()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The standard parameters with a definition's laid over: one of the same name takes its place, and one that comes out
/// empty is left out. What cannot be filled in counts as empty.
pub(super) fn laid_over(
    standard: &[(&str, &str)],
    params: &BTreeMap<String, String>,
    blanks: &TemplateVars<'_>,
) -> Vec<(String, String)> {
    let kept = standard.iter().filter(|(name, _)| !params.contains_key(*name));
    let mut all: Vec<_> = kept.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    all.extend(
        params.iter().map(|(name, text)| (name.clone(), fill(text, |name| blanks.value(name)).unwrap_or_default())),
    );
    all.retain(|(_, value)| !value.is_empty());
    all
}

/// `resource` of RFC 8707 §2, once for each.
pub(super) fn resources(provider: &Provider) -> impl Iterator<Item = (&str, &str)> {
    provider.resource.iter().map(|resource| ("resource", resource.as_str()))
}

/// RFC 6749 §4.1.3 with RFC 7636 §4.5: the code, the very redirect URI of the authorization request, the verifier.
#[must_use]
pub fn authorization_code(
    provider: &Provider,
    client: &Client,
    code: &str,
    redirect_uri: &str,
    verifier: Option<&Secret>,
) -> TokenRequest {
    let mut fields = vec![("grant_type", "authorization_code"), ("code", code), ("redirect_uri", redirect_uri)];
    fields.extend(verifier.map(|verifier| ("code_verifier", verifier.expose())));
    fields.extend(resources(provider));
    TokenRequest::new(&provider.token_url, &provider.token, provider, client, &fields)
}

/// Asks whose a fresh access token is, with the token put on as the provider's API wants it; `None` where the definition
/// names no such place.
#[must_use]
pub fn userinfo(provider: &Provider, client: &Client, token: &Secret) -> Option<TokenRequest> {
    let facts = &provider.api;
    let blanks = TemplateVars::new(provider, client, &[]);
    let call = Call { headers: facts.headers.clone(), ..Call::default() };
    let mut headers = headers(&call, &blanks);
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    let value = Secret::new(format!("{} {}", facts.scheme, token.expose()).trim_start());
    headers.insert(HeaderName::try_from(&facts.header).ok()?, sensitive(&value)?);
    let url = with_client_id(provider.userinfo_url.as_ref()?, &client.id);
    Some(TokenRequest { headers, ..TokenRequest::get(url) })
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
