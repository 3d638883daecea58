//! The values of placeholders in a request.

use std::cell::OnceCell;

use jiff::Timestamp;

use super::{Client, key::random_text};
use crate::{provider::Provider, token::Secret};

/// What the placeholders of a request stand for: its own standard parameters, the client, and the provider's variables.
pub(super) struct TemplateVars<'a> {
    provider: &'a Provider,
    client: &'a Client,
    fields: &'a [(&'a str, &'a str)],
    scope: String,
    /// Seconds since 1970, for signed requests.
    timestamp: String,
    /// The same in milliseconds.
    timestamp_ms: String,
    /// 128 bits, the same ones wherever the request names them.
    random: OnceCell<Option<String>>,
}

impl<'a> TemplateVars<'a> {
    pub(super) fn new(provider: &'a Provider, client: &'a Client, fields: &'a [(&'a str, &'a str)]) -> Self {
        let now = Timestamp::now();
        let (timestamp, timestamp_ms) = (now.as_second().to_string(), now.as_millisecond().to_string());
        Self {
            provider,
            client,
            fields,
            scope: provider.scope_text(),
            timestamp,
            timestamp_ms,
            random: OnceCell::new(),
        }
    }

    pub(super) fn value(&self, name: &str) -> Option<&str> {
        if let Some((_, value)) = self.fields.iter().find(|(field, _)| *field == name) {
            return Some(value);
        }
        match name {
            "client_id" => Some(&self.client.id),
            "client_secret" => self.client.secret.as_ref().map(Secret::expose),
            "client_assertion" => self.client.assertion.as_ref().map(Secret::expose),
            "scope" => Some(&self.scope),
            "timestamp" => Some(&self.timestamp),
            "timestamp_ms" => Some(&self.timestamp_ms),
            "random" => self.random.get_or_init(|| random_text().ok()).as_deref(),
            name => self.client.secrets.get(name).map(Secret::expose).or_else(|| self.provider.value(name)),
        }
    }
}
