//! The token and the revocation endpoint.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::faults::{Delay, Malformed, Status};
use super::garble::{garbled, overridden};
use super::grants::{Digest, Issued, Refused};
use super::log::Entry;
use super::{Book, Shared, broken, now};
use crate::server::Lost;

/// `POST /oauth/token`
pub(super) async fn token(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    // In a task of its own: a server that got a request carries it out, whether or not the client is still there.
    let answer = tokio::spawn(async move { answer(&shared, &headers, &body).await });
    answer.await.unwrap_or_else(|error| broken(&error.into()))
}

async fn answer(shared: &Shared, headers: &HeaderMap, body: &[u8]) -> Response {
    let (delay, lose_request, status) = {
        let faults = &mut shared.book().faults;
        let delay = Delay::take(&mut faults.delay);
        let lose = faults.lose_request.take();
        (delay, lose, if lose { None } else { Status::take(&mut faults.status) })
    };
    pause(delay.as_ref().map(|delay| delay.before)).await;
    let request = Request::read(headers, body);
    let grant_type = request.as_ref().ok().and_then(|request| request.form.get("grant_type").cloned());
    let mut entry = Entry { at: now(), grant_type: grant_type.unwrap_or_else(|| "none".into()), ..Entry::default() };
    let response = if lose_request {
        (entry.outcome, entry.answer) = ("none", "lost_request");
        shared.book().log.token_request(entry);
        Lost.into_response()
    } else if let Some(status) = status {
        (entry.outcome, entry.answer, entry.error) = ("none", "status", status.error.clone());
        shared.book().log.token_request(entry);
        overridden(&status)
    } else {
        carry_out(shared, request, entry)
    };
    pause(delay.as_ref().map(|delay| delay.after)).await;
    response
}

/// The effect, and the answer that says so, unless a switch takes it away.
fn carry_out(shared: &Shared, request: Result<Request, Problem>, mut entry: Entry) -> Response {
    let mut book = shared.book();
    let issued = match request.and_then(|request| request.carry_out(shared, &mut book, &mut entry)) {
        Ok(issued) => issued,
        Err(problem) => {
            entry.outcome = if problem.reused { "reuse_detected" } else { "refused" };
            (entry.answer, entry.error) = ("sent", Some(problem.error.into()));
            book.log.token_request(entry);
            return problem.into_response();
        }
    };
    if let Err(error) = shared.keep(&book.grants) {
        return broken(&error);
    }
    entry.outcome = if issued.replayed { "replayed" } else { "issued" };
    entry.grant = Some(issued.grant);
    entry.issued_access_token = Some(Digest::of(&issued.access_token).short().into());
    entry.issued_refresh_token = issued.refresh_token.as_deref().map(|token| Digest::of(token).short().into());
    let lost = book.faults.lose_answer.take();
    let malformed = if lost { None } else { Malformed::take(&mut book.faults.malformed) };
    entry.answer = match (lost, &malformed) {
        (true, _) => "lost_answer",
        (_, Some(_)) => "malformed",
        _ => "sent",
    };
    book.log.token_request(entry);
    if lost {
        return Lost.into_response();
    }
    let mut body = json!({
        "access_token": issued.access_token,
        "token_type": "Bearer",
        "scope": issued.scope,
        "created_at": issued.created_at.as_second(),
    });
    if let Some(seconds) = issued.expires_in {
        body["expires_in"] = json!(seconds);
    }
    if let Some(token) = issued.refresh_token {
        body["refresh_token"] = json!(token);
    }
    for (name, value) in &book.faults.answer {
        body[name] = value.clone();
    }
    match malformed {
        Some(malformed) => garbled(malformed.kind, StatusCode::OK, &body),
        None => Json(body).into_response(),
    }
}

/// `POST /oauth/revoke`
pub(super) async fn revoke(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let mut entry = Entry::default();
    let authenticated = Request::read(&headers, &body).and_then(|request| {
        let client = request.client(&shared, &mut entry)?.to_owned();
        Ok((client, request.needed("token")?.to_owned()))
    });
    let (client, token) = match authenticated {
        Ok(request) => request,
        Err(problem) => return problem.into_response(),
    };
    let mut book = shared.book();
    // RFC 7009 §2.2: a token that nobody knows is as good as revoked.
    book.grants.revoke(&client, &token);
    match shared.keep(&book.grants) {
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) => broken(&error),
    }
}

/// An error of RFC 6749 §5.2.
struct Problem {
    status: StatusCode,
    error: &'static str,
    description: String,
    reused: bool,
    /// The client tried Basic, so that a 401 must say that this is the way.
    challenge: bool,
}

impl Problem {
    fn invalid_request(description: impl Into<String>) -> Self {
        let (error, description) = ("invalid_request", description.into());
        Self { status: StatusCode::BAD_REQUEST, error, description, reused: false, challenge: false }
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

/// A token request as it was sent.
struct Request {
    basic: Option<(String, String)>,
    form: BTreeMap<String, String>,
}

impl Request {
    fn read(headers: &HeaderMap, body: &[u8]) -> Result<Self, Problem> {
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let mime = content_type.split(';').next().unwrap_or_default().trim();
        if !mime.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(Problem::invalid_request("The body must be application/x-www-form-urlencoded"));
        }
        let mut form = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(body) {
            // RFC 6749 §3.1: an empty parameter is an absent one, and none may come twice.
            if !value.is_empty() && form.insert(name.to_string(), value.into_owned()).is_some() {
                return Err(Problem::invalid_request(format!("The parameter {name} came twice")));
            }
        }
        let basic = headers.get(header::AUTHORIZATION).map(basic).transpose()?;
        Ok(Self { basic, form })
    }

    fn needed(&self, name: &str) -> Result<&str, Problem> {
        self.form
            .get(name)
            .map(String::as_str)
            .ok_or_else(|| Problem::invalid_request(format!("The parameter {name} is missing")))
    }

    fn optional(&self, name: &str) -> Option<&str> {
        self.form.get(name).map(String::as_str)
    }

    /// Which client this is, proved by its secret.
    fn client(&self, shared: &Shared, entry: &mut Entry) -> Result<&str, Problem> {
        let posted = self.optional("client_secret");
        let (id, secret) = match (&self.basic, posted) {
            (Some(_), Some(_)) => return Err(Problem::invalid_request("The client authenticated in two ways")),
            (Some((id, secret)), None) => {
                entry.client_auth = "basic";
                (id.as_str(), Some(secret.as_str()))
            }
            (None, secret) => {
                entry.client_auth = if secret.is_some() { "post" } else { "none" };
                (self.optional("client_id").unwrap_or_default(), secret)
            }
        };
        match shared.client(id) {
            // Digests, so that the time taken tells nothing of the secret.
            Some(client) if secret.is_some_and(|secret| Digest::of(secret) == Digest::of(&client.secret)) => {
                entry.client = Some(client.id.clone());
                Ok(id)
            }
            _ => Err(Problem {
                status: StatusCode::UNAUTHORIZED,
                error: "invalid_client",
                description: "Client authentication failed: unknown client, no secret, or a wrong one".into(),
                reused: false,
                challenge: self.basic.is_some(),
            }),
        }
    }

    fn carry_out(&self, shared: &Shared, book: &mut Book, entry: &mut Entry) -> Result<Issued, Problem> {
        let client = self.client(shared, entry)?;
        let Book { grants, faults, .. } = book;
        let outcome = match self.needed("grant_type")? {
            "authorization_code" => grants.redeem(
                client,
                self.needed("code")?,
                self.optional("redirect_uri"),
                self.optional("code_verifier"),
                faults,
                now(),
            ),
            "refresh_token" => {
                let token = self.needed("refresh_token")?;
                entry.refresh_token = Some(Digest::of(token).short().into());
                grants.renew(client, token, self.optional("scope"), faults, now()).map(|renewed| {
                    renewed.map(|mut issued| {
                        // Where tokens do not rotate, most providers say the same one again.
                        if !faults.rotation {
                            issued.refresh_token.get_or_insert_with(|| token.to_owned());
                        }
                        issued
                    })
                })
            }
            _ => {
                let known = "The grant types are authorization_code and refresh_token";
                return Err(Refused::new("unsupported_grant_type", known).into());
            }
        };
        let outcome = outcome.map_err(|error| Problem {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            error: "server_error",
            description: error.to_string(),
            reused: false,
            challenge: false,
        })?;
        if outcome.as_ref().is_err_and(|refused| refused.reused) {
            // The family's end must outlive a restart; when it cannot be written down it still holds until then.
            let _ = shared.keep(grants);
        }
        Ok(outcome?)
    }
}

/// RFC 6749 §2.3.1: both halves were form-encoded before they were joined.
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

async fn pause(seconds: Option<f64>) {
    if let Some(seconds) = seconds.filter(|seconds| *seconds > 0.0) {
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    }
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
