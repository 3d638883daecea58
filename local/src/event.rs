//! Recorded requests that reach a function without a person: of a schedule, of the queue's callback, of a webhook.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, bail};
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use crate::http::send;

/// The events that come with this program.
const RECORDED: [(&str, &str); 3] = [
    ("cron", include_str!("../events/cron.json")),
    ("callback", include_str!("../events/callback.json")),
    ("webhook", include_str!("../events/webhook.json")),
];

/// A request for a function.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    #[serde(default = "post")]
    method: String,
    /// Path and query as the function sees them.
    #[serde(default = "root")]
    path: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Text is sent as it is, anything else as JSON.
    body: Option<Value>,
    /// Bytes that are not text.
    body_base64: Option<String>,
}

fn post() -> String {
    "POST".to_owned()
}

fn root() -> String {
    "/".to_owned()
}

/// The answer to an [`Event`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The header fields in order.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// Whether the status is 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        StatusCode::from_u16(self.status).is_ok_and(|status| status.is_success())
    }
}

impl Event {
    /// Reads an event from a file, or takes the recorded one of that name: `cron`, `callback`, `webhook`.
    ///
    /// # Errors
    ///
    /// There is no such file or event, or it is not the JSON of one.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let recorded = RECORDED.iter().find(|(name, _)| file.as_os_str() == *name).filter(|_| !file.exists());
        let text = match recorded {
            Some((_, text)) => (*text).to_owned(),
            None => fs::read_to_string(file).with_context(|| {
                let names = RECORDED.map(|(name, _)| name).join(", ");
                format!("cannot read the event {}; the recorded ones are {names}", file.display())
            })?,
        };
        serde_json::from_str(&text).with_context(|| format!("{} is not the JSON of an event", file.display()))
    }

    /// Sends the event to a function through the gateway at `gateway`.
    ///
    /// # Errors
    ///
    /// The gateway cannot be reached, or the event is not a request that HTTP can carry.
    pub async fn send(&self, gateway: SocketAddr, function: &str) -> anyhow::Result<Answer> {
        if !self.path.starts_with('/') {
            bail!("path: {:?} does not begin with a slash", self.path);
        }
        let body = self.body()?;
        let mut request = Request::builder()
            .method(self.method.as_str())
            .uri(format!("/function/{function}{}", self.path))
            .header(header::CONTENT_LENGTH, body.len());
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Body::from(body)).context("the event is not a valid HTTP request")?;
        let response = send(gateway, request)
            .await
            .with_context(|| format!("cannot reach the gateway at {gateway}; start it with `cargo run`"))?;
        let (parts, body) = response.into_parts();
        let text = |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        Ok(Answer {
            status: parts.status.as_u16(),
            headers: parts.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
            body: axum::body::to_bytes(body, usize::MAX).await.context("the answer breaks off")?,
        })
    }

    fn body(&self) -> anyhow::Result<Vec<u8>> {
        match (&self.body, &self.body_base64) {
            (Some(_), Some(_)) => bail!("body and body_base64 exclude each other"),
            (None, Some(base64)) => STANDARD.decode(base64).context("body_base64 is not base64"),
            (Some(Value::String(text)), None) => Ok(text.clone().into_bytes()),
            (Some(json), None) => Ok(serde_json::to_vec(json)?),
            (None, None) => Ok(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(json: &str) -> Event {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn recorded_events_can_be_read_by_name() {
        for (name, _) in RECORDED {
            Event::read(Path::new(name)).unwrap().body().unwrap();
        }
        let message = format!("{:#}", Event::read(Path::new("nope")).unwrap_err());
        assert!(message.contains("nope") && message.contains("cron, callback, webhook"), "{message}");
    }

    #[test]
    fn a_body_is_text_json_or_bytes() {
        assert_eq!(event("{}").body().unwrap(), b"");
        assert_eq!(event(r#"{"body": "a=b"}"#).body().unwrap(), b"a=b");
        assert_eq!(event(r#"{"body": {"a": 1}}"#).body().unwrap(), br#"{"a":1}"#);
        assert_eq!(event(r#"{"body_base64": "AAH/"}"#).body().unwrap(), [0, 1, 255]);
        assert!(event(r#"{"body": "a", "body_base64": "AAH/"}"#).body().is_err());
    }
}
