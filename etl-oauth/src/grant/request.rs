use http::{HeaderValue, Method};
use secrecy::zeroize::Zeroizing;
use url::{Url, form_urlencoded};

use super::Client;
use crate::{provider::Provider, token::Secret};

/// A form to be posted to one of the provider's endpoints.
#[derive(Clone)]
pub struct TokenRequest {
    method: Method,
    url: Url,
    authorization: Option<Secret>,
    body: Zeroizing<String>,
    proof: Option<HeaderValue>,
}

impl std::fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenRequest").field("host", &self.url.host_str()).finish_non_exhaustive()
    }
}

impl TokenRequest {
    pub(super) fn new(url: &Url, provider: &Provider, client: &Client, fields: &[(&str, &str)]) -> Self {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(fields).extend_pairs(client.fields(provider.client_auth()));
        Self {
            method: Method::POST,
            url: url.clone(),
            authorization: client.authorization(provider.client_auth()),
            body: Zeroizing::new(form.finish()),
            proof: None,
        }
    }

    /// What is read without telling who asks: a server's metadata.
    #[must_use]
    pub fn get(url: Url) -> Self {
        Self { method: Method::GET, url, authorization: None, body: Zeroizing::default(), proof: None }
    }

    /// The HTTP method.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The same request with a proof of possession (RFC 9449 §5).
    #[must_use]
    pub fn with_proof(self, proof: HeaderValue) -> Self {
        Self { proof: Some(proof), ..self }
    }

    /// The proof of possession.
    #[must_use]
    pub fn proof(&self) -> Option<&HeaderValue> {
        self.proof.as_ref()
    }

    /// Where it goes.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The form.
    #[must_use]
    pub fn body(&self) -> &str {
        &self.body
    }

    /// The `Authorization` header, marked so that nothing prints it.
    #[must_use]
    pub fn authorization(&self) -> Option<HeaderValue> {
        // Base64 is made of visible ASCII alone.
        let mut value = HeaderValue::from_str(self.authorization.as_ref()?.expose()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// `resource` of RFC 8707 §2, once for each.
pub(super) fn resources(provider: &Provider) -> impl Iterator<Item = (&str, &str)> {
    provider.resource.iter().map(|resource| ("resource", resource.as_str()))
}

/// RFC 6749 §4.1.3 with RFC 7636 §4.5: the code, the very redirect URI of the authorization request, the verifier. `None`
/// where no token endpoint is known.
#[must_use]
pub fn authorization_code(
    provider: &Provider,
    client: &Client,
    code: &str,
    redirect_uri: &str,
    verifier: Option<&Secret>,
) -> Option<TokenRequest> {
    let mut fields = vec![("grant_type", "authorization_code"), ("code", code), ("redirect_uri", redirect_uri)];
    fields.extend(verifier.map(|verifier| ("code_verifier", verifier.expose())));
    fields.extend(provider.token_params.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    fields.extend(resources(provider));
    Some(TokenRequest::new(provider.token_url.as_ref()?, provider, client, &fields))
}

/// RFC 6749 §6. The scope is left out unless the provider's definition puts it among `refresh_params`. `None` where no token
/// endpoint is known.
#[must_use]
pub fn refresh_token(provider: &Provider, client: &Client, refresh_token: &Secret) -> Option<TokenRequest> {
    let mut fields = vec![("grant_type", "refresh_token"), ("refresh_token", refresh_token.expose())];
    fields.extend(provider.refresh_params.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    fields.extend(resources(provider));
    let url = provider.refresh_url.as_ref().or(provider.token_url.as_ref())?;
    Some(TokenRequest::new(url, provider, client, &fields))
}

/// RFC 7009 §2.1; `None` where the provider has no revocation endpoint.
#[must_use]
pub fn revocation(provider: &Provider, client: &Client, token: &Secret, hint: &str) -> Option<TokenRequest> {
    let fields = [("token", token.expose()), ("token_type_hint", hint)];
    Some(TokenRequest::new(provider.revoke_url.as_ref()?, provider, client, &fields))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{ClientAuth, Definition, Overrides};

    fn provider(definition: Definition) -> Provider {
        let token_url = Some("https://p.example/token".into());
        Provider::new("custom", Definition { token_url, ..definition }, Overrides::default()).unwrap()
    }

    fn client() -> Client {
        Client { id: "id".into(), secret: Some(Secret::new("s&s")), assertion: None }
    }

    #[test]
    fn the_code_exchange_has_the_fields_of_rfc_6749_and_7636() {
        let provider = provider(Definition { client_auth: Some(ClientAuth::Post), ..Definition::default() });
        let request =
            authorization_code(&provider, &client(), "c:1", "https://f.example/cb", Some(&Secret::new("verifier")));
        let request = request.unwrap();
        assert_eq!(
            request.body(),
            "grant_type=authorization_code&code=c%3A1&redirect_uri=https%3A%2F%2Ff.example%2Fcb&code_verifier=verifier\
             &client_id=id&client_secret=s%26s"
        );
        assert_eq!(request.authorization(), None);
    }

    #[test]
    fn f8_extra_refresh_parameters_go_along_and_the_refresh_url_is_honoured() {
        let provider = provider(Definition {
            refresh_url: Some("https://p.example/refresh".into()),
            refresh_params: [("scope".to_owned(), "a b".to_owned())].into(),
            resource: vec!["https://one.example/".into(), "urn:two".into()],
            ..Definition::default()
        });
        let request = refresh_token(&provider, &client(), &Secret::new("r")).unwrap();
        assert_eq!(request.url().as_str(), "https://p.example/refresh");
        assert_eq!(
            request.body(),
            "grant_type=refresh_token&refresh_token=r&scope=a+b\
                    &resource=https%3A%2F%2Fone.example%2F&resource=urn%3Atwo"
        );
        assert!(request.authorization().unwrap().is_sensitive());
    }

    #[test]
    fn debug_shows_neither_body_nor_header() {
        let request = refresh_token(&provider(Definition::default()), &client(), &Secret::new("marker"));
        assert!(!format!("{request:?}").contains("marker"));
    }

    #[test]
    fn without_a_revocation_endpoint_there_is_no_request() {
        assert!(revocation(&provider(Definition::default()), &client(), &Secret::new("r"), "refresh_token").is_none());
    }
}
