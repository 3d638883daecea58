use std::time::Duration;

use bytes::Bytes;
use http::header;
use url::Url;

use crate::job::JobError;
use token_keeper::{provider::checked_url, secrets::Secrets};

/// Posts of batches. One that was cut off comes again under the same `Idempotency-Key`, by which the receiver knows it.
#[derive(Clone, Debug)]
pub(super) struct Webhook {
    http: reqwest::Client,
    url: Url,
}

impl Webhook {
    pub(super) fn open(secrets: &Secrets) -> Result<Self, JobError> {
        let secret = secrets.require("etl-oauth-sink-url").map_err(|err| JobError::Sink(err.to_string()))?;
        let url = checked_url(secret.expose())
            .map_err(|err| JobError::Sink(format!("the secret etl-oauth-sink-url {err}")))?;
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(60))
            .user_agent(concat!("etl-oauth/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|_| JobError::Sink("the TLS library does not start".into()))?;
        Ok(Self { http, url })
    }

    pub(super) async fn put(&self, name: &str, kind: &'static str, bytes: Bytes) -> Result<(), JobError> {
        let mut why = String::new();
        for pause in [0, 1, 5] {
            tokio::time::sleep(Duration::from_secs(pause)).await;
            let request = self.http.post(self.url.clone()).header(header::CONTENT_TYPE, kind);
            why = match request.header("idempotency-key", name).body(bytes.clone()).send().await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer) => format!("answers {}", answer.status().as_u16()),
                // The path of such a URL is a password.
                Err(err) => err.without_url().to_string(),
            };
        }
        Err(JobError::Sink(format!("the webhook of the secret etl-oauth-sink-url did not take {name}: {why}")))
    }
}
