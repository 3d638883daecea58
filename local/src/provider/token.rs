//! The token and the revocation endpoint.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::corrupt_response::{corrupted, overridden};
use super::digest::Digest;
use super::faults::{Delay, Malformed, Status};
use super::grants::{Consent, Issued, Refused, Shown};
use super::log::Entry;
use super::request::{Problem, Request};
use super::{Book, Shared, assertion, broken, dpop, now, salesforce, scopes};
use crate::server::Lost;

const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// The supported grant types.
pub(super) const GRANT_TYPES: [&str; 6] =
    ["authorization_code", "refresh_token", "client_credentials", DEVICE, JWT_BEARER, TOKEN_EXCHANGE];

/// The format of a token response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Plain,
    Salesforce,
}

/// `POST /oauth/token`
pub(super) async fn token(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    in_a_task(shared, headers, body, Shape::Plain).await
}

/// `POST /services/oauth2/token`
pub(super) async fn salesforce(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    in_a_task(shared, headers, body, Shape::Salesforce).await
}

/// Runs a request to its end, even if the client has gone.
async fn in_a_task(shared: Arc<Shared>, headers: HeaderMap, body: Bytes, shape: Shape) -> Response {
    let answer = tokio::spawn(async move { answer(&shared, &headers, &body, shape).await });
    answer.await.unwrap_or_else(|error| broken(&error.into()))
}

async fn answer(shared: &Shared, headers: &HeaderMap, body: &[u8], shape: Shape) -> Response {
    let (delay, lose_request, status) = {
        let faults = &mut shared.book().faults;
        let delay = Delay::take(&mut faults.delay);
        let lose = faults.lose_request.take();
        (delay, lose, if lose { None } else { Status::take(&mut faults.status) })
    };
    pause(delay.as_ref().map(|delay| delay.before)).await;
    let request = Request::read(headers, body);
    let grant_type = request.as_ref().ok().and_then(|request| request.optional("grant_type").map(str::to_owned));
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
        carry_out(shared, headers, request, entry, shape)
    };
    pause(delay.as_ref().map(|delay| delay.after)).await;
    response
}

/// Issues tokens, and returns the response unless a switch loses it.
fn carry_out(
    shared: &Shared,
    headers: &HeaderMap,
    request: Result<Request, Problem>,
    mut entry: Entry,
    shape: Shape,
) -> Response {
    let mut book = shared.book();
    let url = format!("{}{}", shared.issuer, if shape == Shape::Plain { "/oauth/token" } else { salesforce::TOKEN });
    let key = match dpop::proved(shared, &mut book, headers, ("POST", &url), None) {
        Ok(key) => key,
        Err(refusal) => {
            (entry.outcome, entry.answer, entry.error) = ("refused", "sent", Some(refusal.error().into()));
            book.log.token_request(entry);
            return refusal.into_response(shared);
        }
    };
    let issued = match request.and_then(|request| request.carry_out(shared, &mut book, key.as_deref(), &mut entry)) {
        Ok(issued) => issued,
        Err(problem) => {
            entry.outcome = if problem.reused { "reuse_detected" } else { "refused" };
            (entry.answer, entry.error) = ("sent", Some(problem.error.into()));
            book.log.token_request(entry);
            return problem.into_response();
        }
    };
    if let Some(key) = &key {
        book.grants.bind(&issued.access_token, key);
    }
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
    let mut body = match shape {
        Shape::Plain => written(issued, key.is_some(), entry.grant_type == TOKEN_EXCHANGE),
        Shape::Salesforce => salesforce::answer(shared, issued),
    };
    for (name, value) in &book.faults.answer {
        body[name] = value.clone();
    }
    book.log.token_request(entry);
    match malformed {
        _ if lost => Lost.into_response(),
        Some(malformed) => corrupted(malformed.kind, StatusCode::OK, &body),
        None => Json(body).into_response(),
    }
}

fn written(issued: Issued, bound: bool, exchanged: bool) -> Value {
    let mut body = json!({
        "access_token": issued.access_token,
        "token_type": if bound { "DPoP" } else { "Bearer" },
        "scope": issued.scope,
        "created_at": issued.created_at.as_second(),
    });
    if let Some(seconds) = issued.expires_in {
        body["expires_in"] = json!(seconds);
    }
    if let Some(token) = issued.refresh_token {
        body["refresh_token"] = json!(token);
    }
    if exchanged {
        body["issued_token_type"] = json!(ACCESS_TOKEN);
    }
    body
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
    // RFC 7009 §2.2: an unknown token counts as revoked.
    book.grants.revoke(&client, &token);
    match shared.keep(&book.grants) {
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) => broken(&error),
    }
}

impl Request {
    fn carry_out(
        &self,
        shared: &Shared,
        book: &mut Book,
        key: Option<&str>,
        entry: &mut Entry,
    ) -> Result<Issued, Problem> {
        let outcome = match self.needed("grant_type")? {
            JWT_BEARER => return self.by_assertion(shared, book, entry),
            "authorization_code" => {
                let client = self.client(shared, entry)?;
                let (redirect_uri, verifier) = (self.optional("redirect_uri"), self.optional("code_verifier"));
                let shown = Shown { redirect_uri, verifier, key };
                book.grants.redeem(client, self.needed("code")?, shown, &mut book.faults, now())?
            }
            "refresh_token" => {
                let client = self.client(shared, entry)?;
                let token = self.needed("refresh_token")?;
                entry.refresh_token = Some(Digest::of(token).short().into());
                let renewed = book.grants.renew(client, token, self.optional("scope"), &mut book.faults, now())?;
                renewed.map(|mut issued| {
                    // Where tokens do not rotate, most providers say the same one again.
                    if !book.faults.rotation {
                        issued.refresh_token.get_or_insert_with(|| token.to_owned());
                    }
                    issued
                })
            }
            "client_credentials" => {
                let client = self.client(shared, entry)?;
                if entry.client_auth == "none" {
                    let why = "A client that proves nothing has nothing to ask for by itself";
                    return Err(Refused::new("unauthorized_client", why).into());
                }
                let scope = scopes::requested(self.optional("scope"))?;
                let consent = Consent { client: client.to_owned(), user: client.to_owned(), scope };
                return Ok(book.grants.give(consent, false, &mut book.faults, now())?);
            }
            DEVICE => {
                let client = self.client(shared, entry)?;
                let consent = book.devices.ask(client, self.needed("device_code")?, now())?;
                return Ok(book.grants.give(consent, true, &mut book.faults, now())?);
            }
            TOKEN_EXCHANGE => return self.exchange(shared, book, entry),
            _ => {
                let known = "The metadata lists the grant types that there are";
                return Err(Refused::new("unsupported_grant_type", known).into());
            }
        };
        if outcome.as_ref().is_err_and(|refused| refused.reused) {
            // The family's end must outlive a restart; when it cannot be written down it still holds until then.
            let _ = shared.keep(&book.grants);
        }
        Ok(outcome?)
    }

    /// RFC 7523 §2.1: the assertion's signer requests a token for its subject, without further authentication.
    fn by_assertion(&self, shared: &Shared, book: &mut Book, entry: &mut Entry) -> Result<Issued, Problem> {
        if self.has_credentials() {
            self.client(shared, entry)?;
        }
        let (client, claims) = assertion::verify(shared, self.needed("assertion")?, now())
            .map_err(|why| Refused::new("invalid_grant", why))?;
        let user = claims["sub"].as_str().filter(|user| !user.is_empty());
        let user = user.ok_or_else(|| Refused::new("invalid_grant", "The assertion has no subject: sub"))?;
        entry.client = Some(client.id.clone());
        let scope = scopes::requested(self.optional("scope").or(claims["scope"].as_str()))?;
        let consent = Consent { client: client.id.clone(), user: user.to_owned(), scope };
        Ok(book.grants.give(consent, false, &mut book.faults, now())?)
    }

    /// RFC 8693: exchanges a valid token of the sandbox for one of the same person, issued to the requesting client.
    fn exchange(&self, shared: &Shared, book: &mut Book, entry: &mut Entry) -> Result<Issued, Problem> {
        let client = self.client(shared, entry)?;
        self.needed("subject_token_type")?;
        let subject = book.grants.consent_of(self.needed("subject_token")?, now());
        let subject =
            subject.map_err(|_| Refused::new("invalid_request", "The subject token is none that lives here"))?;
        let scope = self.optional("scope").unwrap_or(&subject.scope);
        if !scope.split(' ').all(|wanted| subject.scope.split(' ').any(|has| has == wanted)) {
            return Err(Refused::new("invalid_scope", "The scope is wider than the subject token's").into());
        }
        let consent = Consent { client: client.to_owned(), user: subject.user, scope: scope.to_owned() };
        Ok(book.grants.give(consent, false, &mut book.faults, now())?)
    }
}

async fn pause(seconds: Option<f64>) {
    if let Some(seconds) = seconds.filter(|seconds| *seconds > 0.0) {
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    }
}
