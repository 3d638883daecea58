//! Requests of grants without a person: client credentials (RFC 6749 §4.4), JWT bearer (RFC 7523), token exchange (RFC 8693).

use jiff::Timestamp;

use super::{Client, KeyError, SigningKey, TokenRequest, assertion::bearer_assertion, request::resources};
use crate::{
    provider::Provider,
    token::{Failure, FailureKind, Secret, TokenResponse},
};

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// RFC 6749 §4.4.2: the client asks for itself.
#[must_use]
pub fn client_credentials(provider: &Provider, client: &Client) -> TokenRequest {
    ask(provider, client, &[("grant_type", "client_credentials")], true)
}

/// RFC 7523 §2.1: a signed statement for a token. The scope goes into the statement where the definition has a claim for it.
///
/// # Errors
/// When the system has no randomness.
pub fn jwt_bearer(
    provider: &Provider,
    client: &Client,
    key: &SigningKey,
    now: Timestamp,
) -> Result<TokenRequest, KeyError> {
    let assertion = bearer_assertion(provider, key, &client.id, now)?;
    let fields = [("grant_type", JWT_BEARER), ("assertion", assertion.expose())];
    // Who signed it is in the statement.
    let anonymous = Client { id: String::new(), ..client.clone() };
    let client = if client.secret.is_none() && client.assertion.is_none() { &anonymous } else { client };
    Ok(ask(provider, client, &fields, provider.assertion.scope_claim.is_none()))
}

/// RFC 8693 §2.1: a token of another issuer for one of the provider's.
#[must_use]
pub fn token_exchange(provider: &Provider, client: &Client, subject: &Secret) -> TokenRequest {
    let terms = &provider.exchange;
    let mut fields = vec![
        ("grant_type", TOKEN_EXCHANGE),
        ("subject_token", subject.expose()),
        ("subject_token_type", &terms.subject_token_type),
    ];
    fields.extend(terms.audience.iter().map(|audience| ("audience", audience.as_str())));
    ask(provider, client, &fields, true)
}

fn ask<'a>(provider: &'a Provider, client: &Client, fields: &[(&'a str, &'a str)], scope: bool) -> TokenRequest {
    let text = provider.scope_text();
    let mut fields: Vec<(&str, &str)> = fields.to_vec();
    fields.extend((scope && !text.is_empty()).then_some(("scope", text.as_str())));
    fields.extend(resources(provider));
    TokenRequest::new(&provider.token_url, &provider.token, provider, client, &fields)
}

/// The answer to a grant without a person. A refused grant is a configuration error, and is retried later. The refresh token
/// (RFC 6749 §4.4.3) and its lifetime are ignored; Keycloak reports 0 for a token it never issues.
///
/// # Errors
/// The [`Failure`]; never one that a person could end by authorising.
pub fn unattended(answer: Result<TokenResponse, Failure>) -> Result<TokenResponse, Failure> {
    match answer {
        Ok(answer) => {
            Ok(TokenResponse { refresh_token: None, refresh_lifetime: None, refresh_expires_at: None, ..answer })
        }
        Err(failure) => Err(not_a_persons(failure)),
    }
}

/// Where no person could end it by authorising, a grant that is refused is a matter of configuration.
pub(super) fn not_a_persons(failure: Failure) -> Failure {
    if failure.class() != FailureKind::InvalidGrant {
        return failure;
    }
    let detail = "the provider refuses what is shown to it for a token: who may ask for what is configured there";
    let plain = Failure::new(FailureKind::Config, detail)
        .with_retry_after(failure.retry_after())
        .with_reason(failure.reason().map(ToOwned::to_owned));
    match failure.code() {
        Some(code) => plain.with_code(code),
        None => plain,
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde_json::{Value, json};
    use url::form_urlencoded;

    use super::*;
    use crate::{
        provider::{AssertionTerms, ClientAuth, Definition, Overrides},
        token::{AnswerShape, Record},
    };

    fn provider(definition: Definition) -> Provider {
        let token_url = Some("https://p.example/token".into());
        let scope = vec!["a".into(), "b".into()];
        Provider::new("custom", Definition { token_url, scope, ..definition }, Overrides::default()).unwrap()
    }

    fn client(id: &str) -> Client {
        Client { id: id.into(), ..Client::default() }
    }

    fn claims(body: &str) -> Value {
        let (_, jwt) = form_urlencoded::parse(body.as_bytes()).find(|(name, _)| name == "assertion").unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1).unwrap()).unwrap()).unwrap()
    }

    #[test]
    fn a_client_asks_for_itself_with_scope_and_resource() {
        let provider = provider(Definition { resource: vec!["urn:r".into()], ..Definition::default() });
        let client = Client { secret: Some(Secret::new("s")), ..client("id") };
        let request = client_credentials(&provider, &client);
        assert_eq!(request.body(), "grant_type=client_credentials&scope=a+b&resource=urn%3Ar");
        assert!(request.authorization().is_some());
    }

    #[test]
    fn a_service_account_says_for_whom_it_asks_and_for_what_in_the_statement_itself() {
        let assertion = AssertionTerms {
            audience: Some("https://login.example".into()),
            subject: Some("person@example.com".into()),
            scope_claim: Some("scope".into()),
            lifetime: Some(300),
            ..AssertionTerms::default()
        };
        let provider = provider(Definition { assertion, client_auth: ClientAuth::None, ..Definition::default() });
        let now = Timestamp::from_second(1000).unwrap();
        let key = SigningKey::generate().unwrap();
        let request = jwt_bearer(&provider, &client("app"), &key, now).unwrap();
        let said = claims(request.body());
        assert_eq!(
            said,
            json!({"iss": "app", "sub": "person@example.com", "aud": "https://login.example", "scope": "a b",
                   "iat": 990, "exp": 1290, "jti": said["jti"]})
        );
        assert!(!request.body().contains("client_id") && !request.body().contains("&scope="), "{}", request.body());
    }

    #[test]
    fn a_statement_without_terms_is_for_the_token_endpoint_and_of_the_client_alone() {
        let provider = provider(Definition { client_auth: ClientAuth::None, ..Definition::default() });
        let request = jwt_bearer(&provider, &client("app"), &SigningKey::generate().unwrap(), Timestamp::UNIX_EPOCH);
        let request = request.unwrap();
        let said = claims(request.body());
        assert_eq!([&said["iss"], &said["sub"], &said["aud"]], ["app", "app", "https://p.example/token"]);
        assert!(request.body().ends_with("&scope=a+b"));
    }

    #[test]
    fn a_refresh_token_that_nobody_needs_is_left_with_all_that_is_said_of_its_life() {
        let body = br#"{"access_token":"a","refresh_token":"r","refresh_expires_in":0,"expires_in":60}"#;
        let answer = unattended(Ok(AnswerShape::default().read(body).unwrap())).unwrap();
        let tokens = Record::default().authorised(answer, Timestamp::UNIX_EPOCH, None).tokens.unwrap();
        assert!(tokens.refresh_token.is_none() && tokens.refresh_expires_at.is_none() && tokens.expires_at.is_some());
    }

    #[test]
    fn a_refused_grant_is_configuration_and_keeps_its_code_and_the_wish_to_be_left_alone() {
        let wait = Some(std::time::Duration::from_secs(7));
        let refused = Failure::new(FailureKind::InvalidGrant, "x").with_code("invalid_grant").with_retry_after(wait);
        let failure = unattended(Err(refused)).unwrap_err();
        assert_eq!(
            (failure.class(), failure.code(), failure.retry_after()),
            (FailureKind::Config, Some("invalid_grant"), wait)
        );
        let away = Failure::new(FailureKind::ProviderUnavailable, "x");
        assert_eq!(unattended(Err(away.clone())).unwrap_err(), away);
    }

    #[test]
    fn openfaas_gets_what_its_exchange_takes_and_no_client() {
        let mut definition = Definition { client_auth: ClientAuth::None, ..Definition::default() };
        definition.exchange.audience = vec!["openfaas-fn:one".into(), "openfaas-fn:two".into()];
        let request = token_exchange(&provider(definition), &client(""), &Secret::new("t"));
        assert_eq!(
            request.body(),
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token=t\
             &subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aid_token\
             &audience=openfaas-fn%3Aone&audience=openfaas-fn%3Atwo&scope=a+b"
        );
        assert_eq!(request.authorization(), None);
    }
}
