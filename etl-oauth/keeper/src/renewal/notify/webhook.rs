//! The announcement of a change of an account's state: a log event, a counter, and a message to a webhook.

use std::{sync::Arc, time::Duration};

use futures_core::future::BoxFuture;
use http::header;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Origin, signature::WebhookKey};
use crate::{
    provider::checked_url,
    token::{Failure, LastRenewal, Secret, State},
};

/// How urgent an announcement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nothing is to be done.
    Info,
    /// It may pass by itself.
    Warning,
    /// A person must act, or tokens may be lost.
    Critical,
}

impl Severity {
    /// That of a state.
    #[must_use]
    pub fn of(state: State) -> Self {
        match state {
            State::Enabled | State::Disabled => Self::Info,
            State::Degraded => Self::Warning,
            State::NeedsAuthorisation => Self::Critical,
        }
    }
}

/// A change of an account's state, or of what keeps it degraded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Announcement {
    /// The connection that the account is at.
    pub connection: String,
    /// The account.
    pub account: String,
    /// Its state before.
    pub from: State,
    /// Its state now.
    pub to: State,
    /// How urgent it is.
    pub severity: Severity,
    /// What it came of, where that was a failure.
    pub failure: Option<Failure>,
    /// When.
    pub at: Timestamp,
}

impl Announcement {
    /// Writes it to the log, and counts a change of state.
    pub(in crate::renewal) fn log(&self) {
        let (account, from, to) = (&self.account, self.from.as_str(), self.to.as_str());
        let failure = self.failure.as_ref().map(tracing::field::display);
        let next = self.failure.as_ref().map(|failure| failure.class().next_step());
        let reason = self.failure.as_ref().and_then(Failure::reason);
        if self.severity == Severity::Critical {
            tracing::error!(account, from, to, failure, reason, next, "the account's state changed");
        } else {
            tracing::info!(account, from, to, failure, reason, next, "the account's state changed");
        }
        if self.from != self.to {
            let connection = self.connection.clone();
            metrics::counter!(
                "etl_oauth_state_changes_total",
                "connection" => connection, "account" => account.clone(), "to" => to
            )
            .increment(1);
        }
    }

    /// What happened and what to do next, for people.
    #[must_use]
    pub fn text(&self) -> String {
        let (account, from, to) = (&self.account, self.from.as_str(), self.to.as_str());
        let before = if from == to { "for another reason".to_owned() } else { format!("was {from}") };
        match &self.failure {
            Some(failure) => {
                let next = failure.class().next_step();
                format!("etl-oauth: account {account} is {to} ({before}): {failure}. {next}")
            }
            None => format!("etl-oauth: account {account} is {to} ({before})."),
        }
    }

    /// The body of a webhook: `text` is what Slack shows, `content` what Discord does; the rest is for programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let text = self.text();
        // Slack reads `<!channel>` and links out of a text, Discord `@everyone`: an error code comes from outside.
        let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        json!({
            "text": escaped,
            "content": text,
            "allowed_mentions": { "parse": [] },
            "connection": self.connection,
            "account": self.account,
            "from": self.from,
            "to": self.to,
            "state": self.to,
            "severity": self.severity,
            "failure": self.failure.as_ref().map(|failure| failure.class().as_str()),
            "class": self.failure.as_ref().map(|failure| failure.class().as_str()),
            "reason": self.failure.as_ref().and_then(Failure::reason),
            "next": self.failure.as_ref().map(|failure| failure.class().next_step()),
            "at": self.at,
        })
    }
}

/// Delivers announcements; by default nowhere.
#[derive(Clone, Default)]
pub struct Announcer {
    ear: Option<Arc<Ear>>,
    observer: Option<Arc<Observer>>,
}

/// The outcome that an observer sees of an authorisation from a device.
pub const AUTHORISED: &str = "authorised";

/// Sees every renewal of an account that has ended, and every authorisation from a device.
type Observer = dyn Fn(&str, &LastRenewal) + Send + Sync;

struct Ear {
    is_open: Box<dyn Fn() -> bool + Send + Sync>,
    deliver: Box<dyn Fn(Announcement) -> BoxFuture<'static, bool> + Send + Sync>,
}

impl std::fmt::Debug for Announcer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Announcer(..)")
    }
}

impl Announcer {
    /// Delivers every change by `deliver`, which returns whether it has arrived: else any replica tries again later. That
    /// disturbs no renewal.
    pub fn new<F, R>(deliver: F) -> Self
    where
        F: Fn(Announcement) -> R + Send + Sync + 'static,
        R: Future<Output = bool> + Send + 'static,
    {
        Self::with(|| true, deliver)
    }

    fn with<F, R>(is_open: impl Fn() -> bool + Send + Sync + 'static, deliver: F) -> Self
    where
        F: Fn(Announcement) -> R + Send + Sync + 'static,
        R: Future<Output = bool> + Send + 'static,
    {
        let deliver = Box::new(move |news| -> BoxFuture<'static, bool> { Box::pin(deliver(news)) });
        Self { ear: Some(Arc::new(Ear { is_open: Box::new(is_open), deliver })), observer: None }
    }

    /// Shows every renewal that has ended in this process, and every authorisation from a device ([`AUTHORISED`]), to `observer`, with the account's name, in the task of the
    /// renewal: [`actor`](crate::trace_context::actor) says on whose behalf it was.
    #[must_use]
    pub fn observed_by(self, observer: impl Fn(&str, &LastRenewal) + Send + Sync + 'static) -> Self {
        Self { observer: Some(Arc::new(observer)), ..self }
    }

    /// Shows a renewal to the observer.
    pub(in crate::renewal) fn renewed(&self, account: &str, last: &LastRenewal) {
        if let Some(observer) = &self.observer {
            observer(account, last);
        }
    }

    /// Posts every change to the webhook whose URL `source` reads, anew each time; nowhere while there is none. The URL must
    /// be https, or http on a loopback host. What fails there is logged.
    ///
    /// # Errors
    /// When the TLS library does not start.
    pub fn webhook(
        origin: Origin,
        source: impl Fn() -> Option<Secret> + Send + Sync + 'static,
    ) -> Result<Self, reqwest::Error> {
        Self::signed_webhook(origin, source, || None)
    }

    /// The same, signed as Standard Webhooks has it where `key` gives a key: `whsec_` and base64 of 24 to 64 bytes. With a key
    /// that cannot be read nothing is sent: a receiver would take it for a forgery.
    ///
    /// # Errors
    /// When the TLS library does not start.
    pub fn signed_webhook(
        origin: Origin,
        source: impl Fn() -> Option<Secret> + Send + Sync + 'static,
        key: impl Fn() -> Option<Secret> + Send + Sync + 'static,
    ) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(10))
            .user_agent(concat!("etl-oauth/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let source = Arc::new(source);
        let is_open = {
            let source = Arc::clone(&source);
            move || source().is_some()
        };
        Ok(Self::with(is_open, move |news| {
            let (client, secret, key) = (client.clone(), source(), key());
            let id = origin.id(&news);
            let body = origin.sign(news.to_json()).to_string();
            async move {
                let key = match key.map(|key| WebhookKey::read(&key).ok_or(())) {
                    None => None,
                    Some(Ok(key)) => Some(key),
                    Some(Err(())) => {
                        tracing::warn!(
                            "the secret etl-oauth-notify-key is not `whsec_` and base64 of 24 to 64 bytes; no notification is sent"
                        );
                        return false;
                    }
                };
                // The path of such a URL is a password: no part of it is ever logged.
                match secret.map(|secret| checked_url(secret.expose())) {
                    Some(Ok(url)) => match post_webhook(&client, &url, &id, &body, key.as_ref()).await {
                        Ok(()) => true,
                        Err(reason) => {
                            tracing::warn!(
                                reason,
                                "the webhook of etl-oauth-notify-url did not take the notification; retrying later"
                            );
                            false
                        }
                    },
                    Some(Err(err)) => {
                        tracing::warn!("the secret etl-oauth-notify-url {err}; no notification is sent");
                        false
                    }
                    None => false,
                }
            }
        }))
    }

    /// Both: a change has arrived once each has taken it that listens.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let (one, two) = (self.clone(), other.clone());
        Self::with(
            move || self.is_heard() || other.is_heard(),
            move |news| {
                let deliveries: Vec<_> =
                    [&one, &two].into_iter().filter(|it| it.is_heard()).map(|it| it.deliver(news.clone())).collect();
                async move {
                    let mut arrived = true;
                    for delivery in deliveries {
                        arrived &= delivery.await;
                    }
                    arrived
                }
            },
        )
    }

    /// Whether there is a receiver.
    pub(in crate::renewal) fn is_heard(&self) -> bool {
        self.ear.as_ref().is_some_and(|ear| (ear.is_open)())
    }

    /// Delivers one announcement; returns whether it has arrived.
    pub(in crate::renewal) fn deliver(&self, news: Announcement) -> BoxFuture<'static, bool> {
        match &self.ear {
            Some(ear) => (ear.deliver)(news),
            None => Box::pin(std::future::ready(false)),
        }
    }
}

/// Posts a notification as JSON, up to three times within six seconds, and signs it where there is a key. Tries of one
/// notification have the same `id`.
///
/// # Errors
/// Why the receiver did not take it. The URL, whose path may be a password, is not part of the text.
pub async fn post_webhook(
    client: &reqwest::Client,
    url: &url::Url,
    id: &str,
    body: &str,
    key: Option<&WebhookKey>,
) -> Result<(), String> {
    let mut why = String::new();
    for pause in [0, 1, 5] {
        tokio::time::sleep(Duration::from_secs(pause)).await;
        let mut request = client.post(url.clone()).header(header::CONTENT_TYPE, "application/json");
        request = request.header("webhook-id", id);
        if let Some(key) = key {
            let at = Timestamp::now().as_second();
            request = request.header("webhook-timestamp", at);
            request = request.header("webhook-signature", key.sign(id, at, body));
        }
        why = match request.body(body.to_owned()).send().await {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) => format!("it answers {}", answer.status()),
            Err(err) => err.without_url().to_string(),
        };
    }
    Err(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::FailureKind;

    fn origin() -> Origin {
        let [function, connection, provider, url] =
            ["f", "default", "gumroad", "https://g.example/status"].map(String::from);
        Origin { function, connection, provider, url }
    }

    fn news() -> Announcement {
        Announcement {
            connection: "default".into(),
            account: "default".into(),
            from: State::Enabled,
            to: State::NeedsAuthorisation,
            severity: Severity::Critical,
            failure: Some(Failure::new(FailureKind::InvalidGrant, "refused").with_code("<!channel>&@everyone")),
            at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn slack_and_discord_both_find_the_text_and_nothing_in_it_calls_people() {
        let body = news().to_json();
        let text = body["text"].as_str().unwrap();
        assert!(text.contains("account default is needs_authorisation (was enabled)"), "{text}");
        assert!(text.contains("Authorise again") && text.contains("&lt;!channel&gt;&amp;"), "{text}");
        assert!(body["content"].as_str().unwrap().contains("Authorise again"));
        assert_eq!(body["allowed_mentions"]["parse"], json!([]));
        assert_eq!((&body["to"], &body["class"]), (&json!("needs_authorisation"), &json!("invalid_grant")));
    }

    #[tokio::test]
    async fn a_webhook_gets_the_news_once_it_can_take_them_and_an_unsafe_url_nothing() {
        let (sender, mut bodies) = tokio::sync::mpsc::unbounded_channel();
        let busy = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let take = move |body: axum::Json<Value>| {
            let first = busy.swap(false, std::sync::atomic::Ordering::Relaxed);
            if !first {
                sender.send(body.0).unwrap();
            }
            std::future::ready(if first { http::StatusCode::TOO_MANY_REQUESTS } else { http::StatusCode::NO_CONTENT })
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook/marker", listener.local_addr().unwrap());
        let app = axum::Router::new().route("/hook/marker", axum::routing::post(take));
        let server = tokio::spawn(async move { axum::serve(listener, app).await });
        let unsafe_one = Announcer::webhook(origin(), || Some(Secret::new("http://example.com/hook"))).unwrap();
        assert!(!unsafe_one.deliver(news()).await);
        let none = Announcer::webhook(origin(), || None).unwrap();
        assert!(!none.is_heard() && !none.deliver(news()).await);
        let hook = Announcer::webhook(origin(), move || Some(Secret::new(url.clone()))).unwrap();
        assert!(hook.is_heard() && hook.deliver(news()).await);
        assert_eq!(bodies.recv().await, Some(origin().sign(news().to_json())));
        server.abort();
    }
}
