//! One request to the API: token, limits, retries.

use std::{error::Error, time::Duration};

use bytes::Bytes;
use futures_core::Stream;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::OwnedSemaphorePermit;
use url::Url;

use super::{
    Api, ApiError, Bookmark, Download, Multipart, Pages, Paging, Response, body::Body, message, paging::Step,
    target::Target,
};
use crate::renewal::Token;

/// The longest answer that is read into memory.
const BODY_LIMIT: usize = 32 << 20;

/// The first pause between two tries; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(500);

/// How often a request that broke is sent again.
const RETRIES: u32 = 3;

/// How long a body that streams may take altogether; that nothing comes for 30 s ends it sooner.
const STREAMING: Duration = Duration::from_secs(24 * 3600);

/// A request under construction. A mistake in it, such as a header that no request can carry, is the error of sending it.
#[derive(Clone, Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct Request {
    pub(super) api: Api,
    method: Method,
    target: Target,
    headers: HeaderMap,
    body: Body,
    /// It changes nothing, whatever its method is.
    reads_only: bool,
    fault: Option<String>,
}

/// An answer of the API. Its body may not have arrived yet.
struct Answer {
    head: Response,
    open: Option<(reqwest::Response, Option<OwnedSemaphorePermit>)>,
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
        let mut headers = api.fixed_headers();
        headers.entry(header::ACCEPT).or_insert(HeaderValue::from_static("application/json"));
        Self {
            api,
            method,
            target: Target::below_base(path),
            headers,
            body: Body::None,
            reads_only: false,
            fault: None,
        }
    }

    /// Adds a query parameter.
    pub fn query(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.target.add(name, value.as_ref());
        self
    }

    /// Sets a query parameter in the place of one of that name; a name that begins with a slash is a place in the JSON body
    /// (RFC 6901).
    pub fn set(mut self, name: &str, value: &str) -> Self {
        match self.body.with_field(name, value) {
            Some(body) => self.body = body,
            None => self.target.set(name, value),
        }
        self
    }

    /// Says that it changes nothing, although its method may: it is sent again like a GET.
    pub fn reads_only(mut self) -> Self {
        self.reads_only = true;
        self
    }

    /// Sets a header, given as `&str` or as the types of [`http`]. The one that carries the token is not the caller's.
    pub fn header<N, V>(mut self, name: N, value: V) -> Self
    where
        HeaderName: TryFrom<N>,
        HeaderValue: TryFrom<V>,
    {
        match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            (Ok(name), Ok(value)) => drop(self.headers.insert(name, value)),
            (Ok(name), Err(_)) => self.fails(format!("the value of the header {name} is none that HTTP can carry")),
            (Err(_), _) => self.fails("a header's name is none".into()),
        }
        self
    }

    /// Gives it a body of that media type.
    pub fn body(self, media_type: &str, body: impl Into<Bytes>) -> Self {
        let mut with = self.header(header::CONTENT_TYPE, media_type);
        with.body = Body::Whole(body.into());
        with
    }

    /// Gives it a JSON body.
    pub fn body_json(mut self, value: &(impl Serialize + ?Sized)) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => self.body("application/json", body),
            Err(err) => {
                self.fails(format!("its body is nothing that JSON can say: {err}"));
                self
            }
        }
    }

    /// Gives it a form of names and values, `application/x-www-form-urlencoded`.
    pub fn body_form<N: AsRef<str>, V: AsRef<str>>(self, fields: impl IntoIterator<Item = (N, V)>) -> Self {
        let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.body("application/x-www-form-urlencoded", form)
    }

    /// Gives it a form with files.
    pub fn body_multipart(self, form: &Multipart) -> Self {
        let (media_type, body) = form.encode();
        self.body(&media_type, body)
    }

    /// Gives it a body that comes piece by piece. It is sent once: a request with it is not sent again with a new token, nor
    /// after it broke.
    pub fn body_stream<S, E>(self, media_type: &str, body: S) -> Self
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>> + 'static,
    {
        let mut with = self.header(header::CONTENT_TYPE, media_type);
        with.body = Body::stream(body);
        with
    }

    /// Gives it the key by which the API knows it when it comes a second time, for a job that may send it in two runs: an
    /// order's number. Where the provider's definition names the header (`api.idempotency`), POST and PATCH have a random key
    /// without this, and are sent again when they break; where it does not, the header is `Idempotency-Key`.
    pub fn idempotency_key(self, key: &str) -> Self {
        let name = self.api.options().facts.idempotency.clone();
        self.header(name.unwrap_or(HeaderName::from_static("idempotency-key")), key)
    }

    fn fails(&mut self, what: String) {
        self.fault.get_or_insert(what);
    }

    /// Reads a list page by page; while one is read the next is fetched. More pages than `max_pages` are an error.
    pub fn pages(self, paging: Paging, max_pages: usize) -> Pages {
        self.pages_from(paging, max_pages, None)
    }

    /// The same, from a page on that an earlier walk came to; [`Response::next_page`] gave it.
    pub fn pages_from(mut self, paging: Paging, max_pages: usize, from: Option<Bookmark>) -> Pages {
        for (name, value) in paging.first() {
            self = self.set(&name, &value);
        }
        Pages::walk(self, paging, max_pages, from)
    }

    /// The request for the page that `step` leads to; addresses are absolute by now.
    pub(super) fn at(&self, step: &Step) -> Result<Self, ApiError> {
        let (mut next, path) = (self.clone(), self.path());
        match step {
            Step::Set(name, value) => next = next.set(name, value),
            Step::Url(url) => match url.parse() {
                Ok(url) => next.target = Target::Url { url, path },
                Err(_) => return Err(ApiError::Paging { path, why: "the next one's address is none" }),
            },
        }
        Ok(next)
    }

    /// The path, for messages.
    pub(super) fn path(&self) -> String {
        self.target.path().to_owned()
    }

    pub(super) fn method(&self) -> &Method {
        &self.method
    }

    /// Sends it.
    ///
    /// A token that has ended is renewed once, and the request sent again. A refusal for going too fast is waited for. A
    /// request that broke is sent again where it is idempotent (RFC 9110 §9.2.2), has a key by which the API knows it, or was
    /// never sent; so is such a one that met a failure of the server.
    ///
    /// # Errors
    /// [`ApiError`]: no token, no answer, or a status that is no success.
    pub async fn send(self) -> Result<Response, ApiError> {
        Ok(self.exchange(false).await?.head)
    }

    /// Sends it and reads the answer as JSON.
    ///
    /// # Errors
    /// As [`Request::send`], and [`ApiError::Malformed`], which names the field, when the answer has another shape.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T, ApiError> {
        self.send().await?.json()
    }

    /// Sends it and gives the answer's body.
    ///
    /// # Errors
    /// As [`Request::send`].
    pub async fn bytes(self) -> Result<Bytes, ApiError> {
        Ok(self.send().await?.body)
    }

    /// Sends it and gives the answer's body piece by piece, however long it is. What the definition finds in bodies of
    /// successes (`api.expired_in`, `api.limits.told_in`) is not looked for.
    ///
    /// # Errors
    /// As [`Request::send`], until the body begins.
    pub async fn stream(self) -> Result<Download, ApiError> {
        let Answer { head, open } = self.exchange(true).await?;
        // A success is open where it was asked for so.
        let (body, place) = open.ok_or(ApiError::NotConfigured)?;
        Ok(Download::new(head, body.bytes_stream(), place))
    }

    /// Sends it until there is an answer, or a reason to give up.
    async fn exchange(mut self, streaming: bool) -> Result<Answer, ApiError> {
        if let Some(what) = self.fault.take() {
            return Err(ApiError::Request { method: self.method, path: self.target.path().to_owned(), what });
        }
        let safe = self.method.is_safe() || self.reads_only;
        let idempotent = safe || self.method.is_idempotent() || self.put_key();
        let Api { keeper, pace, .. } = &self.api;
        let timing = &self.api.options().timing;
        let facts = &self.api.options().facts;
        let mut token = keeper.token().await?;
        let (mut renewed, mut tries, mut waited) = (false, 0, Duration::ZERO);
        loop {
            self.turn(&mut waited).await?;
            let (error, again) = match self.once(&token, streaming).await {
                Ok(answer) => {
                    let now = timing.now();
                    let Response { status, headers, body, .. } = &answer.head;
                    let limit_told = facts.limits.told_in.iter().any(|mark| mark.is_on_answer(status.as_u16(), body));
                    // A limit in the body counts, whatever the status is.
                    let paced = if limit_told { StatusCode::TOO_MANY_REQUESTS } else { *status };
                    let limited = pace.note(paced, headers, &facts.limits, now);
                    let told = facts.expired_in.iter().any(|mark| mark.is_on_answer(status.as_u16(), body));
                    if status.is_success() && !told && !limited {
                        keeper.worked(token.generation());
                        pace.worked();
                        return Ok(answer);
                    }
                    let error = self.refused(&answer.head, &token);
                    if limited {
                        // The pause is in `turn`; what was refused has done nothing.
                        let refused = safe || paced == StatusCode::TOO_MANY_REQUESTS;
                        if refused && self.body.is_whole() {
                            continue;
                        }
                        return Err(error);
                    } else if told || facts.expired.contains(status) {
                        let refused = || ApiError::Refused { account: keeper.account().to_owned() };
                        let error = if told || *status == StatusCode::UNAUTHORIZED { refused() } else { error };
                        if renewed {
                            return Err(error);
                        }
                        token = keeper.token_instead_of(token.generation()).await?;
                        renewed = true;
                        if !self.body.is_whole() {
                            return Err(self.gone());
                        }
                        continue;
                    }
                    let passing = status.is_server_error() && *status != StatusCode::NOT_IMPLEMENTED;
                    (error, passing && idempotent)
                }
                Err(broken) => (broken.error, !broken.sent || idempotent),
            };
            let pause = PAUSE.saturating_mul(1 << tries).mul_f64(0.5 + timing.chance() / 2.0);
            let may = matches!(error, ApiError::Unreachable { .. } | ApiError::Status { .. });
            let again = again && self.body.is_whole();
            if !(again && may && tries < RETRIES) || waited + pause > self.api.options().patience || !pace.may_retry() {
                return Err(error);
            }
            tries += 1;
            waited += pause;
            timing.sleep(pause).await;
        }
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

    /// Puts a random idempotency key on, where the API knows such a header and the caller set none; whether it has one.
    fn put_key(&mut self) -> bool {
        let Some(name) = self.api.options().facts.idempotency.clone() else { return false };
        if !self.headers.contains_key(&name) {
            let Ok(key) = HeaderValue::try_from(random_id()) else { return false };
            self.headers.insert(name, key);
        }
        true
    }

    /// The error of an answer that is no success.
    fn refused(&self, answer: &Response, token: &Token) -> ApiError {
        let options = self.api.options();
        let account = self.api.keeper.account();
        let (status, headers) = (answer.status, &answer.headers);
        ApiError::insufficient_scope(account, self.path(), status, headers).unwrap_or_else(|| ApiError::Status {
            status,
            method: self.method.clone(),
            path: self.path(),
            message: message::of(headers, &answer.body, &options.facts.message, Some(token.tokens())).map(Into::into),
            retry_after: crate::grant::retry_after(headers, options.timing.now()),
        })
    }

    fn gone(&self) -> ApiError {
        let what = "its body was a stream that is gone, and it has to be sent again: build it anew".into();
        ApiError::Request { method: self.method.clone(), path: self.path(), what }
    }

    /// Sends it once; twice where the API only wants its nonce in the proof of possession.
    async fn once(&self, token: &Token, streaming: bool) -> Result<Answer, Broken> {
        let (answer, wants_nonce) = self.attempt(token, streaming).await?;
        if wants_nonce { Ok(self.attempt(token, streaming).await?.0) } else { Ok(answer) }
    }

    async fn attempt(&self, token: &Token, streaming: bool) -> Result<(Answer, bool), Broken> {
        let base = self.api.base(token)?;
        let mut url = self.target.url(&base);
        if url.origin() != base.origin() {
            return Err(ApiError::Elsewhere { path: self.path() }.into());
        }
        let (name, value) = self.api.authorization(token)?;
        let extras = self.api.extras(token)?;
        self.api.add_params(&mut url, &extras);
        let mut headers = extras.headers;
        // What the caller sets takes the place of what the definition says.
        headers.extend(self.headers.clone());
        headers.insert(name, value);
        headers.extend(self.api.proof(token, &self.method, &url)?);
        let place = self.api.pace.place().await;
        let request = self.api.clients()?.http.request(self.method.clone(), url.clone()).headers(headers);
        let request = if streaming || !self.body.is_whole() { request.timeout(STREAMING) } else { request };
        let request = self.body.put_on(request).ok_or_else(|| self.gone())?;
        let response = request.send().await.map_err(|err| self.broken(&url, &err))?;
        let (status, headers, at) = (response.status(), response.headers().clone(), response.url().clone());
        crate::grant::count("api", Some(status));
        let wants_nonce = self.api.keeper.wants_nonce(token, &url, status, &headers);
        let (method, path, body) = (self.method.clone(), self.path(), Bytes::new());
        let mut head = Response { status, headers, body, method, path, url: at, next: None };
        if streaming && status.is_success() {
            return Ok((Answer { head, open: Some((response, place)) }, wants_nonce));
        }
        head.body = self.read(response, &url).await?;
        Ok((Answer { head, open: None }, wants_nonce))
    }

    async fn read(&self, mut response: reqwest::Response, url: &Url) -> Result<Bytes, Broken> {
        let expected = response.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
        let mut body = Vec::with_capacity(expected.min(BODY_LIMIT));
        while let Some(chunk) = response.chunk().await.map_err(|err| self.broken(url, &err))? {
            if body.len() + chunk.len() > BODY_LIMIT {
                return Err(ApiError::TooLarge { path: self.path() }.into());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.into())
    }

    fn broken(&self, url: &Url, err: &reqwest::Error) -> Broken {
        Broken { error: self.api.unreachable(url, err), sent: !(err.is_connect() || err.is_builder()) }
    }
}

/// A random UUID (RFC 9562 §5.4), which some APIs want a key to be.
pub(super) fn random_id() -> String {
    let mut bytes = [0; 16];
    // Without randomness nothing else here works either: no TLS, for one.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex::encode(bytes);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
