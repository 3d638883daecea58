//! The client that a job uses: the provider's API with the account's token put on.

mod api_spec;
mod body;
mod certificate;
mod error;
mod forward;
pub mod json;
mod message;
mod multipart;
mod pace;
mod pages;
mod paging;
mod peek;
mod request;
mod response;
mod shape;
mod target;
mod timing;

pub use api_spec::{Facts, Later, Limits, Windows};
pub use error::ApiError;
pub use forward::{Forward, Forwarded, Payload};
pub use multipart::Multipart;
pub use pages::Pages;
pub use paging::{Bookmark, Paging};
pub use request::Request;
pub use response::{Download, Response};
pub use timing::Timing;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use url::Url;

use crate::{
    grant::{ApiExtras, Certificate, Client, HttpLimits, api_extras, client_builder},
    provider::Provider,
    renewal::{Keeper, Token},
};
use certificate::{ByCertificate, Clients};
use pace::Pace;

/// The API of one account. Cheap to clone; clones and [`Api::with`] share the limits of each account.
///
/// ```no_run
/// # async fn f(api: token_keeper::api::Api) -> Result<(), token_keeper::api::ApiError> {
/// use token_keeper::api::Paging;
///
/// #[derive(serde::Deserialize)]
/// struct Sales { sales: Vec<serde_json::Value> }
/// let sales: Sales = api.get("/v2/sales").query("after", "2026-01-31").json().await?;
///
/// let mut pages = api.get("/v2/users").pages(Paging::Link, 100);
/// while let Some(page) = pages.next().await {
///     println!("{} bytes", page?.body.len());
/// }
///
/// let order = serde_json::json!({ "item": "a", "count": 2 });
/// api.post("/v2/orders").header("X-Region", "eu").body_json(&order).send().await?;
/// # Ok(()) }
/// ```
///
/// What it does for a job: the token goes to the API's own origin alone; an expired one is renewed once, and the request
/// sent again; the API's limits are kept, by all callers of an account together; requests that can be sent again are, after
/// a pause.
#[derive(Clone, Debug)]
pub struct Api {
    shared: Arc<Shared>,
    keeper: Keeper,
    pace: Arc<Pace>,
}

#[derive(Debug)]
struct Shared {
    clients: Arc<Clients>,
    by_certificate: ByCertificate,
    base: Option<Url>,
    options: ApiOptions,
    paces: Mutex<BTreeMap<String, Arc<Pace>>>,
}

/// The options of an [`Api`].
#[derive(Clone, Debug)]
pub struct ApiOptions {
    /// Where the API leaves the common ways.
    pub facts: Facts,
    /// How long one request may wait for its turn and between its tries, altogether.
    pub patience: Duration,
    /// Time and chance.
    pub timing: Timing,
    /// The provider, where an account's token answer may have moved the API to another host.
    pub provider: Option<Arc<Provider>>,
}

impl Default for ApiOptions {
    fn default() -> Self {
        Self { facts: Facts::default(), patience: Duration::from_secs(60), timing: Timing::default(), provider: None }
    }
}

impl Api {
    /// The API at `base`, with the tokens of `keeper`.
    ///
    /// # Errors
    /// When the TLS library does not start.
    pub fn new(base: Url, keeper: Keeper) -> Result<Self, ApiError> {
        Self::open(Some(base), keeper, ApiOptions::default())
    }

    /// The same with options. Without a `base` the token endpoint's answer must have one.
    ///
    /// # Errors
    /// When the TLS library does not start.
    pub fn open(base: Option<Url>, keeper: Keeper, options: ApiOptions) -> Result<Self, ApiError> {
        let clients = Arc::new(clients(None)?);
        let pace = Arc::new(Pace::of(&options.facts.limits));
        let paces = Mutex::new(BTreeMap::from([(keeper.account().to_owned(), Arc::clone(&pace))]));
        Ok(Self {
            shared: Arc::new(Shared { clients, by_certificate: ByCertificate::default(), base, options, paces }),
            keeper,
            pace,
        })
    }

    /// The API of a provider, called as its definition says.
    ///
    /// # Errors
    /// When the definition holds what no header can carry, or the TLS library does not start.
    pub fn of(provider: Arc<Provider>, client_id: &str, keeper: Keeper) -> Result<Self, String> {
        let facts = Facts::of(&provider, client_id)?;
        let base = provider.api_url.clone();
        let options = ApiOptions { facts, provider: Some(provider), ..ApiOptions::default() };
        Self::open(base, keeper, options).map_err(|err| err.to_string())
    }

    /// How the provider's lists come in pages, where its definition says so.
    #[must_use]
    pub fn paging(&self) -> Option<Paging> {
        self.options().provider.as_ref()?.api.paging.clone().map(Paging::from)
    }

    /// A GET of `path` below the API's base URL. The path may carry a query; it never leads to another origin.
    pub fn get(&self, path: &str) -> Request {
        self.request(Method::GET, path)
    }

    /// A POST to `path` below the API's base URL.
    pub fn post(&self, path: &str) -> Request {
        self.request(Method::POST, path)
    }

    /// A PUT to `path` below the API's base URL.
    pub fn put(&self, path: &str) -> Request {
        self.request(Method::PUT, path)
    }

    /// A PATCH of `path` below the API's base URL.
    pub fn patch(&self, path: &str) -> Request {
        self.request(Method::PATCH, path)
    }

    /// A DELETE of `path` below the API's base URL.
    pub fn delete(&self, path: &str) -> Request {
        self.request(Method::DELETE, path)
    }

    /// A HEAD of `path` below the API's base URL.
    pub fn head(&self, path: &str) -> Request {
        self.request(Method::HEAD, path)
    }

    /// A request of any method.
    pub fn request(&self, method: Method, path: &str) -> Request {
        Request::new(self.clone(), method, path)
    }

    /// The same API with the tokens of another account.
    #[must_use]
    pub fn with(&self, keeper: Keeper) -> Self {
        let mut paces = self.shared.paces.lock().unwrap_or_else(PoisonError::into_inner);
        let pace = paces.entry(keeper.account().to_owned());
        let pace = Arc::clone(pace.or_insert_with(|| Arc::new(Pace::of(&self.options().facts.limits))));
        Self { shared: Arc::clone(&self.shared), keeper, pace }
    }

    /// The keeper of the account's tokens.
    #[must_use]
    pub fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    fn options(&self) -> &ApiOptions {
        &self.shared.options
    }

    /// Where the API is for the account of this token.
    fn base(&self, token: &Token) -> Result<Url, ApiError> {
        let provider = self.options().provider.as_ref();
        let told = provider.and_then(|provider| provider.with(&token.tokens().kept).api_url.clone());
        told.or_else(|| self.shared.base.clone()).ok_or(ApiError::NotConfigured)
    }

    /// The header with the token.
    fn authorization(&self, token: &Token) -> Result<(HeaderName, HeaderValue), ApiError> {
        let facts = &self.options().facts;
        let (prefix, suffix) = match token.scheme() {
            Some(scheme) => (format!("{scheme} "), ""),
            None => (facts.prefix.clone(), &*facts.suffix),
        };
        let mut value = HeaderValue::try_from(format!("{prefix}{}{suffix}", token.tokens().access_token.expose()))
            .map_err(|_| ApiError::Unsendable { account: self.keeper.account().to_owned() })?;
        value.set_sensitive(true);
        Ok((facts.header.clone(), value))
    }

    /// The header that proves the possession of the token's key, where it has one.
    fn proof(&self, token: &Token, method: &Method, url: &Url) -> Result<Option<(HeaderName, HeaderValue)>, ApiError> {
        let proof = self.keeper.proof(token, method, url)?;
        Ok(proof.map(|(name, value)| (HeaderName::from_static(name), value)))
    }

    /// What the definition adds to a request of this token's account, as far as that is not known before.
    fn extras(&self, token: &Token) -> Result<ApiExtras, ApiError> {
        let options = self.options();
        let Some(provider) = options.provider.as_ref().filter(|_| options.facts.later != Later::Nothing) else {
            return Ok(ApiExtras::default());
        };
        let client = match options.facts.later {
            Later::Secrets => self.keeper.client()?,
            _ => Client { id: options.facts.client_id.clone(), ..Client::default() },
        };
        Ok(api_extras(&provider.with(&token.tokens().kept), &client))
    }

    /// The parameters that the definition adds to every query, unless the address has them.
    fn add_params(&self, url: &mut Url, extras: &ApiExtras) {
        for (name, value) in extras.params.iter().chain(&self.options().facts.params) {
            if !url.query_pairs().any(|(known, _)| known == *name) {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
    }

    fn unreachable(&self, url: &Url, err: &reqwest::Error) -> ApiError {
        crate::grant::count("api", None);
        ApiError::unreachable(url, err)
    }

    fn fixed_headers(&self) -> HeaderMap {
        let mut headers = self.options().facts.headers.clone();
        headers.extend(crate::trace_context::headers());
        headers
    }
}

/// The HTTP clients; with a certificate they show it on each connection.
fn clients(certificate: Option<&Certificate>) -> Result<Clients, ApiError> {
    let client = |whole| {
        let (connect, read) = (Duration::from_secs(5), Some(Duration::from_secs(30)));
        let builder = client_builder(HttpLimits { whole, connect, read });
        certificate.into_iter().fold(builder, |builder, it| builder.identity(it.identity()))
    };
    let failed = |_| ApiError::NoTls;
    let http = client(Some(Duration::from_secs(120))).redirect(same_origin()).build().map_err(failed)?;
    let plain = client(None).no_gzip().build().map_err(failed)?;
    Ok(Clients { http, plain })
}

/// A redirect to another origin could carry the token there (RFC 6750 §5.3): it is the answer then, and no success.
fn same_origin() -> reqwest::redirect::Policy {
    reqwest::redirect::Policy::custom(|attempt| {
        let known = attempt.previous();
        if known.len() > 5 || known.last().is_none_or(|last| last.origin() != attempt.url().origin()) {
            attempt.stop()
        } else {
            attempt.follow()
        }
    })
}

#[cfg(test)]
mod tests;
