//! Gauges of what ends by itself, and only the operator replaces: the client's certificate and its secret.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::App;
use token_keeper::grant::Certificate;

/// How often they are looked at: a secret that is replaced is mounted anew while the function runs.
const EVERY: Duration = Duration::from_secs(600);

impl App {
    /// Shows the ends in the metrics for as long as the process runs.
    pub(super) async fn follow_expiry(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(EVERY);
        loop {
            ticks.tick().await;
            self.show_expiry();
        }
    }

    fn show_expiry(&self) {
        for connection in self.connections.values() {
            let certificate = connection.config.secrets.read("oauth2-client-certificate").ok().flatten();
            let not_after = certificate.as_ref().and_then(Certificate::not_after);
            for (name, end) in [
                ("etl_oauth_client_certificate_expiry_timestamp_seconds", not_after),
                ("etl_oauth_client_secret_expiry_timestamp_seconds", connection.config.client_secret_expires_at),
            ] {
                if let Some(end) = end {
                    metrics::gauge!(name, "connection" => connection.name().to_owned()).set(seconds(end));
                }
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds of the calendar are exact in a double")]
fn seconds(at: Timestamp) -> f64 {
    at.as_second() as f64
}
