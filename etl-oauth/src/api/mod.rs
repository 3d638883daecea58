//! The client that a job uses: the provider's API with the account's token put on.

mod error;

pub use error::ApiError;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::de::DeserializeOwned;
use url::Url;

use crate::keeper::{Keeper, Token};

/// The longest answer that is read into memory.
const BODY_LIMIT: usize = 32 << 20;

/// The API of one account. Cheap to clone.
///
/// ```no_run
/// # async fn f(api: etl_oauth::api::Api) -> Result<(), etl_oauth::api::ApiError> {
/// #[derive(serde::Deserialize)]
/// struct Sales { sales: Vec<serde_json::Value> }
/// let sales: Sales = api.get("/v2/sales").query("after", "2026-01-31").json().await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Api {
    http: reqwest::Client,
    base: Url,
    keeper: Keeper,
}

impl Api {
    /// The API at `base`, with the tokens of `keeper`.
    ///
    /// # Errors
    /// When the TLS library does not start.
    pub fn new(base: Url, keeper: Keeper) -> Result<Self, ApiError> {
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_secs(30))
            // A redirect could carry the token to another origin (RFC 6750 §5.3).
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("etl-oauth/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|err| ApiError::unreachable(&base, &err))?;
        Ok(Self { http, base, keeper })
    }

    /// A GET of `path` below the API's base URL. The path may carry a query, as the links of a paged answer do; it never
    /// leads to another origin.
    pub fn get(&self, path: &str) -> Request {
        self.request(Method::GET, path)
    }

    /// A request of any method.
    pub fn request(&self, method: Method, path: &str) -> Request {
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        let mut url = self.base.clone();
        // Only path and query are ever set, so the origin is the configured one whatever the path says.
        url.set_path(&format!("{}/{}", self.base.path().trim_end_matches('/'), path.trim_start_matches('/')));
        url.set_query(query);
        Request { api: self.clone(), method, url }
    }

    /// The same API with the tokens of another account.
    #[must_use]
    pub fn with(&self, keeper: Keeper) -> Self {
        Self { keeper, ..self.clone() }
    }

    /// The keeper of the account's tokens.
    #[must_use]
    pub fn keeper(&self) -> &Keeper {
        &self.keeper
    }
}

/// A request under construction.
#[derive(Clone, Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct Request {
    api: Api,
    method: Method,
    url: Url,
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
}

impl Request {
    /// Adds a query parameter.
    pub fn query(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.url.query_pairs_mut().append_pair(name, value.as_ref());
        self
    }

    /// Sends it. A 401 forces one renewal of the token that it answered to, and one more try (RFC 6750 §3.1).
    ///
    /// # Errors
    /// [`ApiError`]: no token, no answer, or a status that is no success.
    pub async fn send(self) -> Result<Response, ApiError> {
        let keeper = &self.api.keeper;
        let mut token = keeper.token().await?;
        for again in [true, false] {
            let response = self.once(&token).await?;
            match response.status {
                status if status.is_success() => {
                    keeper.worked(token.generation());
                    return Ok(response);
                }
                StatusCode::UNAUTHORIZED if again => token = keeper.token_instead_of(token.generation()).await?,
                StatusCode::UNAUTHORIZED => break,
                status => {
                    let retry_after = crate::grant::retry_after(&response.headers, jiff::Timestamp::now());
                    return Err(ApiError::Status { status, path: self.url.path().to_owned(), retry_after });
                }
            }
        }
        Err(ApiError::Refused { account: keeper.account().to_owned() })
    }

    /// Sends it and reads the answer as JSON.
    ///
    /// # Errors
    /// As [`Request::send`], and when the answer is no JSON of that shape.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T, ApiError> {
        let path = self.url.path().to_owned();
        let response = self.send().await?;
        serde_json::from_slice(&response.body).map_err(|err| ApiError::Malformed {
            path,
            line: err.line(),
            column: err.column(),
        })
    }

    async fn once(&self, token: &Token) -> Result<Response, ApiError> {
        let tokens = token.tokens();
        let mut value = HeaderValue::try_from(format!("Bearer {}", tokens.access_token.expose()))
            .map_err(|_| ApiError::Unsendable { account: self.api.keeper.account().to_owned() })?;
        value.set_sensitive(true);
        let failed = |err: reqwest::Error| ApiError::unreachable(&self.url, &err);
        let mut response = self
            .api
            .http
            .request(self.method.clone(), self.url.clone())
            .header(header::AUTHORIZATION, value)
            .header(header::ACCEPT, "application/json")
            .headers(crate::trace::headers())
            .send()
            .await
            .map_err(failed)?;
        let (status, headers) = (response.status(), response.headers().clone());
        crate::grant::count("api", Some(status));
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > BODY_LIMIT {
                return Err(ApiError::TooLarge { path: self.url.path().to_owned() });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Response { status, headers, body: body.into() })
    }
}
