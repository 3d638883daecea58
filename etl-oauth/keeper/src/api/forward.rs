//! Forwarding of a caller's request, as the proxy does.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use url::Url;

use super::{Api, ApiError, Facts, peek::peek};
use crate::{renewal::Token, token::Mark};

/// A caller's request, which goes to the API as it is but for the token.
#[derive(Debug)]
pub struct Forward {
    /// The method.
    pub method: Method,
    /// The segments of the path below the base URL, decoded.
    pub path: Vec<String>,
    /// The query as it was written.
    pub query: Option<String>,
    /// The headers that go along. The one that carries the token is set over them.
    pub headers: HeaderMap,
    /// The body.
    pub body: Payload,
}

/// A body, and whether it can be sent a second time.
#[derive(Debug)]
pub enum Payload {
    /// All of it; empty for none.
    Whole(Bytes),
    /// A stream, which is gone once it was sent.
    Stream(reqwest::Body),
}

/// What came back for a [`Forward`].
#[derive(Debug)]
pub struct Forwarded {
    /// The answer, whatever its status. Where it leads to another place, that is written out in full.
    pub answer: http::Response<reqwest::Body>,
    /// The place that it leads to, where that is below the API's base URL: path and query from there on.
    pub leads_to: Option<String>,
}

impl Forwarded {
    fn of(passed: Passed) -> Self {
        let Passed { mut answer, asked, below, .. } = passed;
        let place = answer.headers().get(header::LOCATION).and_then(|place| asked.join(place.to_str().ok()?).ok());
        let Some(place) = place else { return Self { answer, leads_to: None } };
        if let Ok(value) = HeaderValue::from_str(place.as_str()) {
            answer.headers_mut().insert(header::LOCATION, value);
        }
        let is_below = place.origin() == below.origin();
        let path = place.path().strip_prefix(below.path().trim_end_matches('/')).filter(|_| is_below);
        let leads_to = path.and_then(|path| path.strip_prefix('/')).map(|path| match place.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        });
        Self { answer, leads_to }
    }
}

/// An answer of the API.
struct Passed {
    answer: http::Response<reqwest::Body>,
    /// The address that was asked.
    asked: Url,
    /// The base URL of the API that gave it.
    below: Url,
    /// The status, or a sign in the body, says that the token has ended.
    expired: bool,
    /// Neither that nor a limit: the API has taken the token and done what was asked.
    worked: bool,
    /// The API only wants its nonce in the proof of possession.
    wants_nonce: bool,
}

impl Api {
    /// Sends a caller's request with the token put on, and gives the answer as it comes, whatever its status; bodies
    /// stream both ways. A token that has ended is renewed; the request is sent again if its body can be. Redirects are
    /// answers.
    ///
    /// Where the provider's definition names signs in the body of an answer, short JSON answers are held back until they are
    /// looked at; all others stream.
    ///
    /// # Errors
    /// No token, no answer, or a rate limit that the API's earlier answers have shown.
    pub async fn forward(&self, request: Forward) -> Result<Forwarded, ApiError> {
        let (keeper, options) = (&self.keeper, self.options());
        if let Err(retry_after) = self.pace.turn(options.timing.now()) {
            return Err(ApiError::Limited { account: keeper.account().to_owned(), retry_after });
        }
        let Forward { method, path, query, headers, body } = request;
        let (first, again) = match body {
            Payload::Whole(bytes) => (reqwest::Body::from(bytes.clone()), Some(bytes)),
            Payload::Stream(body) => (body, None),
        };
        let token = keeper.token().await?;
        let send =
            async |token: &Token, body| self.pass(token, (&method, &path, query.as_deref()), &headers, body).await;
        let mut passed = send(&token, first).await?;
        if passed.wants_nonce {
            // The token is as good as it was: what cannot be sent again is no reason to renew it. The next proof bears the nonce.
            let Some(bytes) = &again else { return Ok(Forwarded::of(passed)) };
            passed = send(&token, bytes.clone().into()).await?;
        }
        if !passed.expired {
            if passed.worked {
                keeper.worked(token.generation());
            }
            return Ok(Forwarded::of(passed));
        }
        // Also where this caller cannot profit: the next one does.
        let renewed = keeper.token_instead_of(token.generation()).await;
        match (renewed, again) {
            (Ok(renewed), Some(bytes)) => {
                let passed = send(&renewed, bytes.into()).await?;
                if passed.worked {
                    keeper.worked(renewed.generation());
                }
                Ok(Forwarded::of(passed))
            }
            _ => Ok(Forwarded::of(passed)),
        }
    }

    async fn pass(
        &self,
        token: &Token,
        (method, path, query): (&Method, &[String], Option<&str>),
        headers: &HeaderMap,
        body: reqwest::Body,
    ) -> Result<Passed, ApiError> {
        let below = self.base(token)?;
        let mut url = below.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            // The base's own last slash is an empty segment.
            segments.pop_if_empty().extend(path);
        }
        url.set_query(query);
        let (name, value) = self.authorization(token)?;
        let extras = self.extras(token)?;
        self.add_params(&mut url, &extras);
        let facts = &self.options().facts;
        let mut all = headers.clone();
        if tells_in_bodies(facts) {
            // A compressed body is one that nothing is seen in.
            all.remove(header::ACCEPT_ENCODING);
        }
        all.extend(self.fixed_headers());
        all.extend(extras.headers);
        all.insert(name, value);
        all.extend(self.proof(token, method, &url)?);
        let mut request = self.clients()?.plain.request(method.clone(), url.clone()).headers(all);
        if !is_empty(&body) {
            request = request.body(body);
        }
        let response = request.send().await.map_err(|err| self.unreachable(&url, &err))?;
        let status = response.status();
        crate::grant::count("api", Some(status));
        let wants_nonce = self.keeper.wants_nonce(token, &url, status, response.headers());
        let asked = response.url().clone();
        let mut answer: http::Response<reqwest::Body> = response.into();
        let told = match tells_in_bodies(facts) {
            true => peek(&mut answer).await.map_err(|err| self.unreachable(&url, &err))?,
            false => None,
        };
        // A body that is not looked at bears no sign, and its status may be one.
        let body = told.as_deref().unwrap_or_default();
        let is_told = |marks: &[Mark]| marks.iter().any(|mark| mark.is_on_answer(status.as_u16(), body));
        let (limit_told, end_told) = (is_told(&facts.limits.told_in), is_told(&facts.expired_in));
        let paced = if limit_told { StatusCode::TOO_MANY_REQUESTS } else { status };
        let limited = self.pace.note(paced, answer.headers(), &facts.limits, self.options().timing.now());
        let expired = !limited && (end_told || facts.expired.contains(&status));
        let worked = status.is_success() && !expired && !limited;
        Ok(Passed { answer, asked, below, expired, worked, wants_nonce })
    }
}

/// Whether the definition names signs in the body of an answer.
fn tells_in_bodies(facts: &Facts) -> bool {
    facts.expired_in.iter().chain(&facts.limits.told_in).any(|mark| !mark.at.is_empty())
}

fn is_empty(body: &reqwest::Body) -> bool {
    body.as_bytes().is_some_and(<[u8]>::is_empty)
}
