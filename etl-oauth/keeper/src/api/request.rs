//! One request to the API: token, limits, retries.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde::{Serialize, de::DeserializeOwned};
use url::Url;

use super::{
    Api, ApiError, Bookmark, Pages, Paging,
    paging::{Place, Step},
};
use crate::renewal::Token;

/// The longest answer that is read into memory.
const BODY_LIMIT: usize = 32 << 20;

/// The first pause between two tries; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(500);

/// How often a request that broke is sent again.
const RETRIES: u32 = 3;

/// A request under construction.
#[derive(Clone, Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct Request {
    pub(super) api: Api,
    method: Method,
    target: Target,
    headers: HeaderMap,
    body: Option<Bytes>,
}

#[derive(Clone, Debug)]
enum Target {
    /// Below the base URL.
    Path { path: String, query: Vec<(String, String)> },
    /// An address that the API gave in its answer to this path.
    Url { url: Url, path: String },
}

/// An answer of the API, whole.
#[derive(Clone, Debug)]
pub struct Response {
    /// The HTTP status, a success.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    url: Url,
    next: Option<Bookmark>,
}

/// An attempt that brought no answer.
struct Broken {
    error: ApiError,
    /// The API can have acted on it.
    sent: bool,
}

impl From<ApiError> for Broken {
    fn from(error: ApiError) -> Self {
        Self { error, sent: true }
    }
}

impl Request {
    pub(super) fn new(api: Api, method: Method, path: &str) -> Self {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let query = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let target = Target::Path { path: path.to_owned(), query };
        let mut headers = api.fixed_headers();
        headers.entry(header::ACCEPT).or_insert(HeaderValue::from_static("application/json"));
        Self { api, method, target, headers, body: None }
    }

    /// Adds a query parameter.
    pub fn query(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.target.add(name, value.as_ref());
        self
    }

    /// Sets a header. The one that carries the token is not the caller's.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Gives it a body.
    pub fn body(self, kind: &'static str, body: impl Into<Bytes>) -> Self {
        let mut with = self.header(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        with.body = Some(body.into());
        with
    }

    /// Gives it a JSON body.
    ///
    /// # Errors
    /// When `value` is nothing that JSON can say.
    pub fn body_json(self, value: &impl Serialize) -> Result<Self, serde_json::Error> {
        Ok(self.body("application/json", serde_json::to_vec(value)?))
    }

    /// Reads a list page by page; while one is read the next is fetched. More pages than `max_pages` are an error.
    pub fn pages(self, paging: Paging, max_pages: usize) -> Pages {
        self.pages_from(paging, max_pages, None)
    }

    /// The same, from a page on that an earlier walk came to; [`Response::next_page`] gave it.
    pub fn pages_from(mut self, paging: Paging, max_pages: usize, from: Option<Bookmark>) -> Pages {
        for (name, value) in paging.first() {
            self.target.set(&name, &value);
        }
        Pages::walk(self, paging, max_pages, from)
    }

    /// The request for the page that `step` leads to; addresses are absolute by now.
    pub(super) fn at(&self, step: &Step) -> Result<Self, ApiError> {
        let (mut next, path) = (self.clone(), self.path());
        match step {
            Step::Set(name, value) => next.target.set(name, value),
            Step::Url(url) => match url.parse() {
                Ok(url) => next.target = Target::Url { url, path },
                Err(_) => return Err(ApiError::Paging { path, why: "the next one's address is none" }),
            },
        }
        Ok(next)
    }

    /// The path, for messages.
    pub(super) fn path(&self) -> String {
        match &self.target {
            Target::Path { path, .. } | Target::Url { path, .. } => path.clone(),
        }
    }

    /// Sends it.
    ///
    /// A token that has ended is renewed once, and the request sent again. A refusal for going too fast is waited for. A
    /// request that broke is sent again where it is safe (RFC 9110 §9.2.1) or was never sent; so is a safe one that met a
    /// failure of the server.
    ///
    /// # Errors
    /// [`ApiError`]: no token, no answer, or a status that is no success.
    pub async fn send(self) -> Result<Response, ApiError> {
        let Api { keeper, pace, .. } = &self.api;
        let timing = &self.api.options().timing;
        let facts = &self.api.options().facts;
        let mut token = keeper.token().await?;
        let (mut renewed, mut tries, mut waited) = (false, 0, Duration::ZERO);
        loop {
            self.turn(&mut waited).await?;
            let (error, again) = match self.once(&token).await {
                Ok(response) => {
                    let now = timing.now();
                    let status = response.status;
                    let limit_told =
                        facts.limits.told_in.iter().any(|mark| mark.is_on_answer(status.as_u16(), &response.body));
                    // A limit in the body counts, whatever the status is.
                    let paced = if limit_told { StatusCode::TOO_MANY_REQUESTS } else { status };
                    let limited = pace.note(paced, &response.headers, &facts.limits, now);
                    let retry_after = crate::grant::retry_after(&response.headers, now);
                    let scope = ApiError::insufficient_scope(keeper.account(), self.path(), status, &response.headers);
                    let error = scope.unwrap_or_else(|| ApiError::Status { status, path: self.path(), retry_after });
                    let told = facts.expired_in.iter().any(|mark| mark.is_on_answer(status.as_u16(), &response.body));
                    if status.is_success() && !told && !limited {
                        keeper.worked(token.generation());
                        pace.worked();
                        return Ok(response);
                    } else if limited {
                        // The pause is in `turn`; what was refused has done nothing.
                        if self.method.is_safe() || paced == StatusCode::TOO_MANY_REQUESTS {
                            continue;
                        }
                        return Err(error);
                    } else if told || facts.expired.contains(&status) {
                        let refused = || ApiError::Refused { account: keeper.account().to_owned() };
                        let error = if told || status == StatusCode::UNAUTHORIZED { refused() } else { error };
                        if renewed {
                            return Err(error);
                        }
                        token = keeper.token_instead_of(token.generation()).await?;
                        renewed = true;
                        continue;
                    }
                    let passing = status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED;
                    (error, passing && self.method.is_safe())
                }
                Err(broken) => (broken.error, !broken.sent || self.method.is_safe()),
            };
            let pause = PAUSE.saturating_mul(1 << tries).mul_f64(0.5 + timing.chance() / 2.0);
            let may = matches!(error, ApiError::Unreachable { .. } | ApiError::Status { .. });
            if !(again && may && tries < RETRIES) || waited + pause > self.api.options().patience || !pace.may_retry() {
                return Err(error);
            }
            tries += 1;
            waited += pause;
            timing.sleep(pause).await;
        }
    }

    /// Sends it and reads the answer as JSON.
    ///
    /// # Errors
    /// As [`Request::send`], and when the answer is no JSON of that shape.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T, ApiError> {
        let path = self.path();
        self.send().await?.json().map_err(|err| ApiError::malformed(path, &err))
    }

    /// Waits until the account's limits let one more request go.
    async fn turn(&self, waited: &mut Duration) -> Result<(), ApiError> {
        let options = self.api.options();
        while let Err(wait) = self.api.pace.turn(options.timing.now()) {
            // All waiting calls wake at the same moment: spread out, the first ones find out for the others.
            let wait = wait + (wait / 10).min(Duration::from_secs(1)).mul_f64(options.timing.chance());
            if *waited + wait > options.patience {
                let account = self.api.keeper.account().to_owned();
                return Err(ApiError::Limited { account, retry_after: wait });
            }
            *waited += wait;
            options.timing.sleep(wait).await;
        }
        Ok(())
    }

    /// Sends it once; twice where the API only wants its nonce in the proof of possession.
    async fn once(&self, token: &Token) -> Result<Response, Broken> {
        let (response, wants_nonce) = self.attempt(token).await?;
        if wants_nonce { Ok(self.attempt(token).await?.0) } else { Ok(response) }
    }

    async fn attempt(&self, token: &Token) -> Result<(Response, bool), Broken> {
        let base = self.api.base(token)?;
        let mut url = self.target.url(&base);
        if url.origin() != base.origin() {
            return Err(ApiError::Elsewhere { path: self.path() }.into());
        }
        let (name, value) = self.api.authorization(token)?;
        let extras = self.api.extras(token)?;
        self.api.add_params(&mut url, &extras);
        let failed = |err: reqwest::Error| Broken {
            error: self.api.unreachable(&url, &err),
            sent: !(err.is_connect() || err.is_builder()),
        };
        let mut headers = extras.headers;
        // What the caller sets takes the place of what the definition says.
        headers.extend(self.headers.clone());
        headers.insert(name, value);
        headers.extend(self.api.proof(token, &self.method, &url)?);
        let mut request = self.api.clients()?.http.request(self.method.clone(), url.clone()).headers(headers);
        if let Some(body) = &self.body {
            request = request.body(body.clone());
        }
        let mut response = request.send().await.map_err(failed)?;
        let (status, headers, at) = (response.status(), response.headers().clone(), response.url().clone());
        crate::grant::count("api", Some(status));
        let wants_nonce = self.api.keeper.wants_nonce(token, &url, status, &headers);
        let expected = response.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
        let mut body = Vec::with_capacity(expected.min(BODY_LIMIT));
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > BODY_LIMIT {
                return Err(ApiError::TooLarge { path: self.path() }.into());
            }
            body.extend_from_slice(&chunk);
        }
        Ok((Response { status, headers, body: body.into(), url: at, next: None }, wants_nonce))
    }
}

impl Target {
    fn add(&mut self, name: &str, value: &str) {
        match self {
            Self::Path { query, .. } => query.push((name.to_owned(), value.to_owned())),
            Self::Url { url, .. } => drop(url.query_pairs_mut().append_pair(name, value)),
        }
    }

    fn set(&mut self, name: &str, value: &str) {
        if let Self::Path { query, .. } = self {
            query.retain(|(other, _)| other != name);
        }
        self.add(name, value);
    }

    fn url(&self, base: &Url) -> Url {
        match self {
            Self::Path { path, query } => {
                let mut url = base.clone();
                // Only path and query are ever set, so the origin is the configured one whatever the path says.
                url.set_path(&format!("{}/{}", base.path().trim_end_matches('/'), path.trim_start_matches('/')));
                if !query.is_empty() {
                    url.query_pairs_mut().extend_pairs(query);
                }
                url
            }
            Self::Url { url, .. } => url.clone(),
        }
    }
}

impl Response {
    /// The page after this one, of those that [`Pages`] gave; `None` for the last.
    #[must_use]
    pub fn next_page(&self) -> Option<&Bookmark> {
        self.next.as_ref()
    }

    /// Takes note of the page after this one. Its address may be relative to this one's.
    pub(super) fn lead_to(&mut self, step: Step, place: Place) {
        let step = match step {
            Step::Url(url) => Step::Url(self.url.join(&url).map_or(url, String::from)),
            set @ Step::Set(..) => set,
        };
        self.next = Some(Bookmark { step, place });
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is no JSON of that shape.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }
}
