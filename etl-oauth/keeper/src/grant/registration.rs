//! Dynamic client registration (RFC 7591), and the way from an API's address to the server that issues its tokens (RFC 9728).

use http::header;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use url::Url;

use super::{HttpClient, HttpResponse, TokenRequest, discovery::read_metadata};
use crate::{
    provider::{ClientAuth, Metadata, MetadataError, ProtectedResource, named_in_challenge, resource_well_known},
    token::{Failure, FailureKind, Secret},
};

/// What a client says of itself when it registers (RFC 7591 §2).
#[derive(Clone, Debug)]
pub struct ClientMetadata<'a> {
    /// `client_name`
    pub name: &'a str,
    /// `redirect_uris`
    pub redirect_uri: &'a str,
    /// `scope`, separated by spaces; none where it is empty.
    pub scope: &'a str,
    /// `token_endpoint_auth_method`
    pub client_auth: ClientAuth,
}

/// A client that a server has registered (RFC 7591 §3.2.1).
#[derive(Clone, Debug)]
pub struct RegisteredClient {
    /// `client_id`
    pub id: String,
    /// `client_secret`
    pub secret: Option<Secret>,
    /// `client_secret_expires_at`; `None` where it does not end.
    pub secret_ends_at: Option<Timestamp>,
    /// `token_endpoint_auth_method`, where the server has chosen another one that is known here.
    pub client_auth: Option<ClientAuth>,
}

/// What there is behind the address of an API.
#[derive(Clone, Debug)]
pub struct Discovered {
    /// The API's own document, where it has one.
    pub resource: Option<ProtectedResource>,
    /// The issuer of its tokens.
    pub issuer: String,
    /// The issuer's metadata.
    pub metadata: Metadata,
}

/// The methods of client authentication by their registered names (RFC 7591 §2).
const METHODS: [(&str, ClientAuth); 5] = [
    ("client_secret_basic", ClientAuth::Basic),
    ("client_secret_post", ClientAuth::Post),
    ("none", ClientAuth::None),
    ("private_key_jwt", ClientAuth::PrivateKeyJwt),
    ("tls_client_auth", ClientAuth::TlsClientAuth),
];

/// The way to prove itself that a client registers for: the first of a secret in a header, a secret in the body, and none, that
/// the server knows.
#[must_use]
pub fn wanted_auth(metadata: &Metadata) -> ClientAuth {
    let wanted = [ClientAuth::Basic, ClientAuth::Post, ClientAuth::None];
    wanted.into_iter().find(|auth| metadata.client_auth.contains(auth)).unwrap_or_default()
}

/// RFC 7591 §3.1.
#[must_use]
pub fn registration(url: &Url, client: &ClientMetadata<'_>) -> TokenRequest {
    let method = METHODS.iter().find(|(_, auth)| *auth == client.client_auth).map_or("none", |(name, _)| name);
    let mut body = json!({
        "client_name": client.name,
        "redirect_uris": [client.redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": method,
    });
    if !client.scope.is_empty() {
        body["scope"] = client.scope.into();
    }
    TokenRequest::post_json(url.clone(), &body)
}

/// Reads the answer to [`registration`].
///
/// # Errors
/// The [`Failure`]: registration is refused, or the answer is none.
pub fn judge_registration(raw: &HttpResponse) -> Result<RegisteredClient, Failure> {
    let fields: Map<String, Value> = serde_json::from_slice(&raw.body).unwrap_or_default();
    let text = |name: &str| fields.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    if !raw.status.is_success() {
        let status = raw.status.as_u16();
        let failure =
            Failure::new(FailureKind::Config, format!("the server does not register this client (HTTP {status})"));
        return Err(text("error").map_or(failure.clone(), |code| failure.with_code(code)));
    }
    let id = text("client_id");
    let id =
        id.ok_or_else(|| Failure::new(FailureKind::MalformedAnswer, "the registration's answer holds no client_id"))?;
    let ends_at = fields.get("client_secret_expires_at").and_then(Value::as_i64).filter(|end| *end > 0);
    let method = text("token_endpoint_auth_method");
    Ok(RegisteredClient {
        id: id.to_owned(),
        secret: text("client_secret").map(Secret::new),
        secret_ends_at: ends_at.and_then(|end| Timestamp::from_second(end).ok()),
        client_auth: METHODS.iter().find(|(name, _)| Some(*name) == method).map(|(_, auth)| *auth),
    })
}

/// Finds the server that issues the tokens of the API at `url`: by the document that a refusal names, by the document at its
/// well-known places, else at its own host, as servers had it before RFC 9728.
///
/// # Errors
/// The [`Failure`], with the places that were looked at.
pub async fn discover(url: &Url, wire: &HttpClient) -> Result<Discovered, Failure> {
    let resource = match find_resource(url, wire).await? {
        Some(resource) if resource.issuers.is_empty() => {
            let detail = format!("the document of {} names no authorization server", resource.resource);
            return Err(Failure::new(FailureKind::Config, detail));
        }
        found => found,
    };
    let issuers = resource.as_ref().map_or_else(
        || {
            let origin = url.origin().ascii_serialization();
            vec![origin.clone(), format!("{origin}/")]
        },
        |resource| resource.issuers.clone(),
    );
    let mut why = None;
    for issuer in issuers {
        match read_metadata(&issuer, wire).await {
            Ok(metadata) => return Ok(Discovered { resource, issuer, metadata }),
            Err(failure) => why = why.or(Some(failure)),
        }
    }
    Err(why.unwrap_or_else(|| Failure::new(FailureKind::Config, "there is no authorization server")))
}

/// Reads an issuer's metadata (RFC 8414, OpenID Connect Discovery), at either of its places.
///
/// # Errors
/// The [`Failure`].
pub async fn metadata(issuer: &str, wire: &HttpClient) -> Result<Metadata, Failure> {
    read_metadata(issuer, wire).await
}

async fn find_resource(url: &Url, wire: &HttpClient) -> Result<Option<ProtectedResource>, Failure> {
    let asked = wire.send(TokenRequest::get(url.clone())).await.map_err(super::Unanswered::into_failure)?;
    let challenges = asked.headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    // One at another host would be another's word on this one.
    let named = challenges.filter_map(named_in_challenge).find(|named| named.origin() == url.origin());
    for place in named.into_iter().chain(resource_well_known(url)) {
        let Ok(raw) = wire.send(TokenRequest::get(place.clone())).await else { continue };
        if !raw.status.is_success() {
            continue;
        }
        match ProtectedResource::read(url, &raw.body) {
            Ok(found) => return Ok(Some(found)),
            Err(MetadataError::NotADocument) => {}
            Err(err) => {
                let detail = format!("the document at {}{} {err}", place.origin().ascii_serialization(), place.path());
                return Err(Failure::new(FailureKind::Config, detail));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::{HeaderMap, StatusCode};

    use super::*;

    /// A server that answers these paths; what else is asked for is not there.
    fn server(
        answers: &'static [(&'static str, u16, &'static str, &'static str)],
    ) -> (HttpClient, Arc<Mutex<Vec<String>>>) {
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let log = Arc::clone(&seen);
        let wire = HttpClient::new(move |request: TokenRequest| {
            log.lock().unwrap().push(request.url().path().to_owned());
            let found = answers.iter().find(|(path, ..)| *path == request.url().path());
            let (_, status, challenge, body) = found.copied().unwrap_or(("", 404, "", ""));
            let mut headers = HeaderMap::new();
            if !challenge.is_empty() {
                headers.insert(header::WWW_AUTHENTICATE, challenge.parse().unwrap());
            }
            let status = StatusCode::from_u16(status).unwrap();
            async move { Ok(HttpResponse { status, headers, body: body.into(), at: Timestamp::UNIX_EPOCH }) }
        });
        (wire, seen)
    }

    const METADATA: &str = r#"{"issuer":"https://a.example/","token_endpoint":"https://a.example/token",
        "authorization_endpoint":"https://a.example/authorize","registration_endpoint":"https://a.example/register",
        "token_endpoint_auth_methods_supported":["client_secret_post","none"]}"#;
    const RESOURCE: &str = r#"{"resource":"https://a.example/mcp","authorization_servers":["https://a.example/"]}"#;

    #[tokio::test]
    async fn the_server_is_found_by_the_refusal_by_the_well_known_place_and_at_the_apis_own_host() {
        let url: Url = "https://a.example/mcp".parse().unwrap();
        let challenge = "Bearer resource_metadata=\"https://a.example/elsewhere\"";
        let evil = "Bearer resource_metadata=\"https://evil.example/elsewhere\"";
        let server_at = "/.well-known/oauth-authorization-server";
        for answers in [
            &[("/mcp", 401, challenge, ""), ("/elsewhere", 200, "", RESOURCE), (server_at, 200, "", METADATA)][..],
            &[
                ("/mcp", 401, evil, ""),
                ("/.well-known/oauth-protected-resource/mcp", 200, "", RESOURCE),
                (server_at, 200, "", METADATA),
            ],
            &[("/.well-known/oauth-protected-resource", 200, "", RESOURCE), (server_at, 200, "", METADATA)],
        ] {
            let answers: &'static _ = Box::leak(answers.to_vec().into_boxed_slice());
            let (wire, _) = server(answers);
            let found = discover(&url, &wire).await.unwrap();
            assert_eq!((found.issuer.as_str(), found.resource.is_some()), ("https://a.example/", true));
            assert_eq!(found.metadata.registration_url.as_ref().unwrap().path(), "/register");
            assert_eq!(wanted_auth(&found.metadata), ClientAuth::Post);
        }
        let (wire, _) = server(&[("/.well-known/oauth-authorization-server", 200, "", METADATA)]);
        let found = discover(&url, &wire).await.unwrap();
        assert_eq!((found.issuer.as_str(), found.resource.is_none()), ("https://a.example/", true));
        let (wire, seen) = server(&[]);
        assert!(discover(&url, &wire).await.is_err());
        assert!(seen.lock().unwrap().len() > 3, "every place was looked at");
    }

    #[test]
    fn a_client_registers_and_reads_what_it_is_given() {
        let client = ClientMetadata {
            name: "etl-oauth",
            redirect_uri: "https://f.example/cb",
            scope: "a b",
            client_auth: ClientAuth::Post,
        };
        let request = registration(&"https://a.example/register".parse().unwrap(), &client);
        let body: Value = serde_json::from_str(request.body()).unwrap();
        assert_eq!((&body["redirect_uris"], &body["scope"]), (&json!(["https://f.example/cb"]), &json!("a b")));
        assert_eq!(
            (&body["token_endpoint_auth_method"], request.method().as_str()),
            (&json!("client_secret_post"), "POST")
        );
        let raw = |status, body: &str| HttpResponse {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: body.into(),
            at: Timestamp::UNIX_EPOCH,
        };
        let answer = r#"{"client_id":"i","client_secret":"s","client_secret_expires_at":60,"token_endpoint_auth_method":"none"}"#;
        let registered = judge_registration(&raw(201, answer)).unwrap();
        assert_eq!((registered.id.as_str(), registered.secret.unwrap().expose()), ("i", "s"));
        assert_eq!(
            (registered.secret_ends_at.unwrap().as_second(), registered.client_auth),
            (60, Some(ClientAuth::None))
        );
        let forever = judge_registration(&raw(201, r#"{"client_id":"i","client_secret_expires_at":0}"#)).unwrap();
        assert!(forever.secret_ends_at.is_none() && forever.secret.is_none());
        let refused = judge_registration(&raw(400, r#"{"error":"invalid_redirect_uri"}"#)).unwrap_err();
        assert_eq!(refused.code(), Some("invalid_redirect_uri"));
        assert_eq!(judge_registration(&raw(201, "{}")).unwrap_err().class(), FailureKind::MalformedAnswer);
    }
}
