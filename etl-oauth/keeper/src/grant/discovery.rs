//! The metadata of a provider's server (RFC 8414, OpenID Connect Discovery), read in the background.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::{HttpClient, TokenRequest, count};
use crate::{
    provider::{ClientAuth, Metadata, MetadataError, Provider, well_known},
    token::{Failure, FailureKind},
};

/// How long what was read counts as new.
const HOUR: Duration = Duration::from_secs(3600);
/// The longest wait between two tries while nothing is known.
const LONGEST: Duration = Duration::from_secs(60);

/// A provider, completed by its server's metadata.
#[derive(Debug)]
pub(super) struct Known {
    /// As it is configured: what is said here stays.
    said: Provider,
    provider: ArcSwap<Provider>,
    told: watch::Sender<Told>,
}

#[derive(Clone, Debug)]
enum Told {
    /// Not read yet.
    Nothing,
    /// All that is needed.
    Enough,
    /// Why not.
    Failed(Failure),
}

impl Known {
    pub(super) fn of(said: Provider) -> Self {
        let told = if said.discovers { Told::Nothing } else { Told::Enough };
        Self { provider: ArcSwap::from_pointee(said.clone()), said, told: watch::Sender::new(told) }
    }

    pub(super) fn provider(&self) -> Arc<Provider> {
        self.provider.load_full()
    }

    /// Waits for the first look, which takes no longer than two calls may.
    pub(super) async fn ready(&self) -> Result<Arc<Provider>, Failure> {
        let mut told = self.told.subscribe();
        let told = told.wait_for(|told| !matches!(told, Told::Nothing)).await.map(|told| told.clone());
        match told {
            Ok(Told::Failed(failure)) => Err(failure),
            _ => Ok(self.provider()),
        }
    }

    pub(super) async fn follow(&self, wire: &HttpClient, usable: impl Fn(ClientAuth) -> bool) {
        let mut pause = Duration::from_secs(1);
        let Some(issuer) = self.said.issuer.as_deref().filter(|_| self.said.discovers) else { return };
        loop {
            let wait = match self.look(issuer, wire, &usable).await {
                Ok(provider) => {
                    self.provider.store(Arc::new(provider));
                    if !matches!(self.told.send_replace(Told::Enough), Told::Enough) {
                        tracing::info!(issuer, "the provider's metadata was read");
                    }
                    pause = Duration::from_secs(1);
                    HOUR
                }
                Err(failure) => {
                    let old = matches!(*self.told.borrow(), Told::Enough);
                    tracing::warn!(issuer, error = %failure, old, "the provider's metadata cannot be read; trying on");
                    // What was known an hour ago is better than nothing, and so is what the configuration says.
                    if !old {
                        self.told.send_replace(if self.said.whole { Told::Enough } else { Told::Failed(failure) });
                    }
                    pause = (pause * 2).min(LONGEST);
                    pause
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    async fn look(
        &self,
        issuer: &str,
        wire: &HttpClient,
        usable: impl Fn(ClientAuth) -> bool,
    ) -> Result<Provider, Failure> {
        let metadata = read_metadata(issuer, wire).await?;
        self.said.learned(&metadata, usable).map_err(|missing| {
            let grant = self.said.grant.name();
            Failure::new(
                FailureKind::Config,
                format!("the metadata of {issuer} names no {missing}, which grant={grant} needs"),
            )
        })
    }
}

/// Reads an issuer's document, at either of its places.
pub(super) async fn read_metadata(issuer: &str, wire: &HttpClient) -> Result<Metadata, Failure> {
    // Checked by the configuration.
    let url = issuer.parse().map_err(|_| Failure::new(FailureKind::Config, "issuer is no URL"))?;
    let mut worst: Option<Failure> = None;
    for url in well_known(&url) {
        let place = format!("{}{}", url.origin().ascii_serialization(), url.path());
        let result = wire.send(TokenRequest::get(url)).await;
        count("metadata", result.as_ref().ok().map(|answer| answer.status));
        let failure = match result {
            Ok(raw) if raw.status.is_success() => match Metadata::read(issuer, &raw.body) {
                Ok(metadata) => return Ok(metadata),
                Err(err @ MetadataError::NotADocument) => not_sent(format!("what is at {place} {err}")),
                // The server there is misconfigured or another one: the other place is not asked.
                Err(err) => return Err(Failure::new(FailureKind::Config, format!("the document at {place} {err}"))),
            },
            Ok(raw) => {
                let status = raw.status.as_u16();
                not_sent(format!("there is no document at {place} (HTTP {status})"))
            }
            Err(unanswered) => not_sent(format!("no answer from {place}: {}", unanswered.reason)),
        };
        worst = worst.or(Some(failure));
    }
    Err(worst.unwrap_or_else(|| Failure::new(FailureKind::Config, "issuer is no URL")))
}

/// The token request was not sent, so it may be tried again.
fn not_sent(detail: String) -> Failure {
    Failure::new(FailureKind::NetworkNotSent, detail)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use http::{HeaderMap, StatusCode};
    use jiff::Timestamp;

    use super::*;
    use crate::{
        grant::HttpResponse,
        provider::{Definition, Overrides},
    };

    const ISSUER: &str = "https://a.example/tenant";

    /// A server with these documents, by path; and what it was asked for.
    fn server(documents: Arc<Mutex<Vec<(&'static str, String)>>>) -> (HttpClient, Arc<Mutex<Vec<String>>>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let wire = HttpClient::new(move |request: TokenRequest| {
            log.lock().unwrap().push(request.url().path().to_owned());
            let body = documents.lock().unwrap().iter().find(|it| it.0 == request.url().path()).map(|it| it.1.clone());
            async move {
                let status = if body.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
                let body = body.unwrap_or_default().into();
                Ok(HttpResponse { status, headers: HeaderMap::new(), body, at: Timestamp::UNIX_EPOCH })
            }
        });
        (wire, asked)
    }

    fn document(token_endpoint: &str) -> String {
        serde_json::json!({"issuer": ISSUER, "token_endpoint": token_endpoint}).to_string()
    }

    fn known() -> Known {
        let grant = Some(crate::provider::Grant::ClientCredentials);
        let overrides = Overrides { issuer: Some(ISSUER.into()), grant, ..Overrides::default() };
        Known::of(Provider::new("custom", Definition::default(), overrides).unwrap())
    }

    fn token_url(known: &Known) -> String {
        known.provider().token_url.to_string()
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_away_is_asked_on_until_it_is_there_and_what_it_told_is_kept_when_it_goes() {
        let documents = Arc::new(Mutex::new(Vec::new()));
        let (wire, asked) = server(Arc::clone(&documents));
        let known = known();
        let follow = known.follow(&wire, |_| true);
        let script = async {
            let failure = known.ready().await.unwrap_err();
            assert_eq!(failure.class(), FailureKind::NetworkNotSent);
            assert!(failure.to_string().contains("/tenant/.well-known/openid-configuration (HTTP 404)"), "{failure}");
            let place = "/.well-known/oauth-authorization-server/tenant";
            documents.lock().unwrap().push((place, document("https://a.example/one")));
            tokio::time::sleep(Duration::from_secs(3)).await;
            assert_eq!(known.ready().await.unwrap().token_url.path(), "/one");

            documents.lock().unwrap().clear();
            let before = asked.lock().unwrap().len();
            tokio::time::sleep(HOUR + Duration::from_secs(1)).await;
            assert!(asked.lock().unwrap().len() > before, "it is read again");
            assert_eq!((known.ready().await.is_ok(), token_url(&known).as_str()), (true, "https://a.example/one"));
            documents.lock().unwrap().push((place, document("https://a.example/two")));
            tokio::time::sleep(LONGEST).await;
            assert_eq!(token_url(&known), "https://a.example/two");
        };
        tokio::select! { () = follow => panic!("it never ends"), () = script => {} }
    }

    #[tokio::test(start_paused = true)]
    async fn a_document_of_another_issuer_is_not_believed_and_says_so() {
        let other = r#"{"issuer":"https://evil.example","token_endpoint":"https://evil.example/t"}"#;
        let place = "/tenant/.well-known/openid-configuration";
        let (wire, _) = server(Arc::new(Mutex::new(vec![(place, other.to_owned())])));
        let known = known();
        tokio::select! {
            () = known.follow(&wire, |_| true) => panic!("it never ends"),
            ready = known.ready() => {
                let failure = ready.unwrap_err();
                assert_eq!((failure.class(), token_url(&known).as_str()), (FailureKind::Config, "https://unknown.invalid/"));
                assert!(failure.to_string().contains("issuer") && !failure.to_string().contains("evil"), "{failure}");
            }
        }
    }

    #[tokio::test]
    async fn nothing_is_asked_where_all_is_said() {
        let definition = Definition { token_url: Some("https://a.example/t".into()), ..Definition::default() };
        let known = Known::of(Provider::new("custom", definition, Overrides::default()).unwrap());
        let (wire, asked) = server(Arc::default());
        known.follow(&wire, |_| true).await;
        assert!(known.ready().await.is_ok() && asked.lock().unwrap().is_empty());
    }
}
