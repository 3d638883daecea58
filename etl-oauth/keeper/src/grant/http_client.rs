//! HTTP to the provider: the one client builder, and the seam behind which the network lies.

use std::{sync::Arc, time::Duration};

use futures_core::future::BoxFuture;
use jiff::Timestamp;

use super::{HttpResponse, TokenRequest, network_error::describe};
use crate::token::{Failure, FailureKind};

/// The longest answer that is read: a token answer is a few kilobytes.
const BODY_LIMIT: usize = 1 << 20;

/// The limits of an HTTP client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// For a whole call, its body included; `None` where bodies are streams of any length.
    pub whole: Option<Duration>,
    /// For a connection.
    pub connect: Duration,
    /// Between two parts of an answer.
    pub read: Option<Duration>,
}

/// The one builder of HTTP clients: rustls, these limits, no redirects, a user agent. A redirect may lead to a host that
/// nothing here has named, with what the request carries.
#[doc(hidden)]
pub fn client_builder(limits: HttpLimits) -> reqwest::ClientBuilder {
    let builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(limits.connect)
        .user_agent(concat!("etl-oauth/", env!("CARGO_PKG_VERSION")));
    let builder = limits.whole.into_iter().fold(builder, reqwest::ClientBuilder::timeout);
    limits.read.into_iter().fold(builder, reqwest::ClientBuilder::read_timeout)
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// Nothing was sent: the same request may be sent again.
    NotSent,
    /// It was sent, and no whole answer came: the provider may have acted on it.
    Ambiguous,
}

impl SendError {
    /// The failure that it is.
    #[must_use]
    pub fn into_failure(self) -> Failure {
        Unanswered::from(self).into_failure()
    }
}

/// A request without an answer, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unanswered {
    /// Whether the provider can have seen it.
    pub error: SendError,
    /// The host and the cause, for people; empty where nothing is known.
    pub reason: String,
}

impl From<SendError> for Unanswered {
    fn from(error: SendError) -> Self {
        Self { error, reason: String::new() }
    }
}

impl Unanswered {
    /// The failure that it is: [`FailureKind::NetworkNotSent`] or [`FailureKind::NetworkAmbiguous`], with the cause.
    #[must_use]
    pub fn into_failure(self) -> Failure {
        let (class, what) = match self.error {
            SendError::NotSent => (FailureKind::NetworkNotSent, "the provider could not be reached"),
            SendError::Ambiguous => (FailureKind::NetworkAmbiguous, "the provider did not answer"),
        };
        let cause = if self.reason.is_empty() { String::new() } else { format!(": {}", self.reason) };
        Failure::new(class, format!("{what}{cause}"))
    }
}

/// The way to the provider's endpoints: the seam behind which the network lies.
#[derive(Clone)]
pub struct HttpClient(Arc<dyn Fn(TokenRequest) -> BoxFuture<'static, Result<HttpResponse, Unanswered>> + Send + Sync>);

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HttpClient(..)")
    }
}

impl HttpClient {
    /// HTTP with a time limit for a whole call, without redirects: a redirected token request would carry the client's
    /// secret to a host that is not configured.
    ///
    /// # Errors
    /// When the TLS library does not start.
    pub fn http(timeout: Duration) -> Result<Self, reqwest::Error> {
        Self::over(move || Self::builder(timeout))
    }

    pub(super) fn builder(timeout: Duration) -> reqwest::ClientBuilder {
        let connect = timeout.min(Duration::from_secs(5));
        client_builder(HttpLimits { whole: Some(timeout), connect, read: None })
            // A connection of its own for each call: an idle one that the provider closes at the same moment would make a
            // request that never arrived look like one whose answer was lost.
            .pool_max_idle_per_host(0)
    }

    pub(super) fn over(
        builder: impl Fn() -> reqwest::ClientBuilder + Send + Sync + 'static,
    ) -> Result<Self, reqwest::Error> {
        let plain = builder().build()?;
        Ok(Self(Arc::new(move |request: TokenRequest| {
            // A certificate is the connection's, and is read anew for each call as every secret is.
            let client = match request.certificate() {
                Some(certificate) => builder().identity(certificate.identity()).build(),
                None => Ok(plain.clone()),
            };
            Box::pin(async move {
                let unusable = |_| Unanswered {
                    error: SendError::NotSent,
                    reason: "the client's certificate cannot be used".to_owned(),
                };
                send(client.map_err(unusable)?, request).await
            })
        })))
    }

    /// A way of one's own: for tests and simulations.
    pub fn new<F, R>(send: F) -> Self
    where
        F: Fn(TokenRequest) -> R + Send + Sync + 'static,
        R: Future<Output = Result<HttpResponse, SendError>> + Send + 'static,
    {
        Self(Arc::new(move |request| {
            let answer = send(request);
            Box::pin(async { answer.await.map_err(Unanswered::from) })
        }))
    }

    /// Sends one request, once.
    ///
    /// # Errors
    /// [`Unanswered`] says whether the provider can have seen it, and why no answer came.
    pub async fn send(&self, request: TokenRequest) -> Result<HttpResponse, Unanswered> {
        (self.0)(request).await
    }
}

async fn send(client: reqwest::Client, request: TokenRequest) -> Result<HttpResponse, Unanswered> {
    let mut builder = client
        .request(request.method().clone(), request.url().clone())
        .headers(request.headers().clone())
        .headers(crate::trace_context::headers());
    if !request.body().is_empty() {
        builder = builder.body(request.body().to_owned());
    }
    let sort = |err: reqwest::Error| {
        let error = if err.is_connect() || err.is_builder() { SendError::NotSent } else { SendError::Ambiguous };
        Unanswered { error, reason: describe(request.url(), &err) }
    };
    let mut response = builder.send().await.map_err(sort)?;
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(sort)? {
        if body.len() + chunk.len() > BODY_LIMIT {
            break;
        }
        body.extend_from_slice(&chunk);
    }
    Ok(HttpResponse { status, headers, body, at: Timestamp::now() })
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;
    use crate::{
        grant::{Client, refresh_token},
        provider::{Definition, Overrides, Provider},
        token::Secret,
    };

    /// The result of a renewal at a server that answers one request so, and then sends blanks until the client hangs up.
    async fn answered(head: &'static str, endless: bool) -> HttpResponse {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let token_url = format!("http://{}/token", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            drop(listener);
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(head.as_bytes()).await;
            while endless && stream.write_all(&[b' '; 65536]).await.is_ok() {}
        });
        let definition = Definition { token_url: Some(token_url), ..Definition::default() };
        let provider = Provider::new("custom", definition, Overrides::default()).unwrap();
        let client = Client { id: "id".into(), ..Client::default() };
        let wire = HttpClient::http(Duration::from_secs(60)).unwrap();
        wire.send(refresh_token(&provider, &client, &Secret::new("r"))).await.unwrap()
    }

    #[tokio::test]
    async fn an_endless_answer_is_read_up_to_the_limit() {
        let answer = answered("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", true).await;
        assert!(answer.body.len() <= BODY_LIMIT && answer.body.len() > BODY_LIMIT / 2, "{}", answer.body.len());
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_is_not_followed() {
        // The client has hung up, and the listener ends with it.
        let head = "HTTP/1.1 307 Temporary Redirect\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(answered(head, false).await.status, 307);
    }
}
