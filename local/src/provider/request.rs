//! A token request, and the authentication of its client.

use std::collections::BTreeMap;

use axum::Json;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::grants::Refused;
use super::log::Entry;
use super::{Client, Shared, assertion, now};

/// An error of RFC 6749 §5.2.
pub(super) struct Problem {
    status: StatusCode,
    pub(super) error: &'static str,
    description: String,
    pub(super) reused: bool,
    /// The client used Basic: the 401 must name that scheme.
    challenge: bool,
}

impl Problem {
    pub(super) fn invalid_request(description: impl Into<String>) -> Self {
        let (error, description) = ("invalid_request", description.into());
        Self { status: StatusCode::BAD_REQUEST, error, description, reused: false, challenge: false }
    }
}

impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Self {
        let (status, description) = (StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
        Self { status, error: "server_error", description, reused: false, challenge: false }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let Refused { error, description, reused } = refused;
        Self { status: StatusCode::BAD_REQUEST, error, description: description.into(), reused, challenge: false }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({"error": self.error, "error_description": self.description});
        let mut response = (self.status, Json(body)).into_response();
        if self.challenge {
            let challenge = HeaderValue::from_static("Basic realm=\"sandbox\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// A token request as received.
pub(super) struct Request {
    basic: Option<(String, String)>,
    form: BTreeMap<String, String>,
}

impl Request {
    pub(super) fn read(headers: &HeaderMap, body: &[u8]) -> Result<Self, Problem> {
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let mime = content_type.split(';').next().unwrap_or_default().trim();
        if !mime.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(Problem::invalid_request("The body must be application/x-www-form-urlencoded"));
        }
        let mut form = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(body) {
            // RFC 6749 §3.1: an empty parameter is an absent one, and none may come twice, but for those of RFC 8693 §2.1.
            let many = matches!(&*name, "audience" | "resource");
            if !value.is_empty() && form.insert(name.to_string(), value.into_owned()).is_some() && !many {
                return Err(Problem::invalid_request(format!("The parameter {name} came twice")));
            }
        }
        let basic = headers.get(header::AUTHORIZATION).map(basic).transpose()?;
        Ok(Self { basic, form })
    }

    pub(super) fn needed(&self, name: &str) -> Result<&str, Problem> {
        self.form
            .get(name)
            .map(String::as_str)
            .ok_or_else(|| Problem::invalid_request(format!("The parameter {name} is missing")))
    }

    pub(super) fn optional(&self, name: &str) -> Option<&str> {
        self.form.get(name).map(String::as_str)
    }

    /// The client, authenticated by its secret or key unless it has neither.
    pub(super) fn client(&self, shared: &Shared, entry: &mut Entry) -> Result<&str, Problem> {
        let known = |id: &str, secret: &str| shared.client(id).is_some_and(|client| client.has_secret(secret));
        let id = || self.optional("client_id").unwrap_or_default();
        let assertion = self.optional("client_assertion");
        let (method, id, proved) = match (&self.basic, self.optional("client_secret"), assertion) {
            (Some((id, secret)), None, None) => ("basic", id.as_str(), known(id, secret)),
            (None, Some(secret), None) => ("post", id(), known(id(), secret)),
            (None, None, Some(jwt)) => {
                let speaker = assertion::verify(shared, jwt, now());
                (
                    "private_key_jwt",
                    id(),
                    speaker.is_ok_and(|(client, claims)| client.id == id() && claims["sub"] == id()),
                )
            }
            (None, None, None) => ("none", id(), shared.client(id()).is_some_and(Client::is_public)),
            _ => return Err(Problem::invalid_request("The client authenticated in two ways")),
        };
        entry.client_auth = method;
        if proved {
            entry.client = Some(id.to_owned());
            return Ok(id);
        }
        Err(Problem {
            status: StatusCode::UNAUTHORIZED,
            error: "invalid_client",
            description: "Client authentication failed: unknown client, no secret or key, or a wrong one".into(),
            reused: false,
            challenge: self.basic.is_some(),
        })
    }

    /// Whether the client named itself in any way.
    pub(super) fn has_credentials(&self) -> bool {
        self.basic.is_some() || ["client_secret", "client_assertion"].iter().any(|name| self.optional(name).is_some())
    }
}

/// Basic credentials (RFC 6749 §2.3.1): both halves are form-encoded.
fn basic(value: &HeaderValue) -> Result<(String, String), Problem> {
    let malformed = || Problem::invalid_request("The header Authorization is not well-formed Basic");
    let (scheme, credentials) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(malformed)?;
    let decoded = STANDARD.decode(credentials.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"));
    let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(malformed)?;
    let (id, secret) = text.split_once(':').ok_or_else(malformed)?;
    Ok((form_decoded(id), form_decoded(secret)))
}

fn form_decoded(text: &str) -> String {
    // As a name without a value: `=` and `&` cannot be in it, for they would have been encoded.
    let escaped = text.replace('&', "%26").replace('=', "%3D");
    url::form_urlencoded::parse(escaped.as_bytes()).map(|(name, _)| name.into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_credentials_are_form_decoded() {
        // The same id `a:b` and secret `s3cr:et+/% &x%20`, with a space as `%20` and as `+`.
        for encoded in ["a%3Ab:s3cr%3Aet%2B%2F%25%20%26x%2520", "a%3Ab:s3cr%3Aet%2B%2F%25+%26x%2520"] {
            let value = HeaderValue::try_from(format!("basic {}", STANDARD.encode(encoded))).unwrap();
            let pair = basic(&value).unwrap_or_else(|_| panic!("{encoded}"));
            assert_eq!(pair, ("a:b".to_owned(), "s3cr:et+/% &x%20".to_owned()));
        }
    }

    #[test]
    fn a_header_that_is_not_basic_is_an_invalid_request() {
        for text in ["Bearer abc", "Basic", "Basic !!!", "Basic YWJj"] {
            assert!(basic(&HeaderValue::from_static(text)).is_err(), "{text}");
        }
    }
}
