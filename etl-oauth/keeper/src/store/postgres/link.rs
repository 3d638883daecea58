use std::{error::Error as _, fmt, future::poll_fn, sync::Arc, time::Duration};

use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::sync::{Mutex, broadcast};
use tokio_postgres::{
    AsyncMessage, Client, Config, Row,
    config::{Host, SslMode},
    error::SqlState,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    Parameter,
    statements::{IS_THERE, SCHEMA},
};
use crate::{secrets::Secrets, store::StoreError};

const URL: &str = "etl-oauth-postgres-url";
/// Of one statement, the connection before it included.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came over the connection unasked.
#[derive(Clone, Debug)]
pub(super) enum Told {
    /// `SPACE/PATH` was written.
    Written(String),
    /// The connection ended: from here on something may have been missed.
    Gap,
}

/// One connection, made when it is needed, and anew when it has ended. Statements of all callers are pipelined over it.
pub(super) struct Link {
    secrets: Secrets,
    client: Mutex<Option<Arc<Client>>>,
    told: broadcast::Sender<Told>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

impl Link {
    pub(super) fn new(secrets: Secrets) -> Result<Self, StoreError> {
        let link = Self { secrets, client: Mutex::default(), told: broadcast::Sender::new(256) };
        link.config()?;
        Ok(link)
    }

    /// What comes unasked from now on, as long as there is a connection.
    pub(super) fn listen(&self) -> broadcast::Receiver<Told> {
        self.told.subscribe()
    }

    pub(super) async fn query(&self, statement: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, StoreError> {
        let work = async {
            let client = self.client().await?;
            client.query_typed(statement, parameters).await.map_err(|err| failed(&err))
        };
        if let Ok(result) = tokio::time::timeout(PATIENCE, work).await {
            return result;
        }
        // A connection that swallows one statement would swallow the next.
        *self.client.lock().await = None;
        Err(StoreError::unavailable(format!("PostgreSQL did not answer in {} s", PATIENCE.as_secs())))
    }

    fn config(&self) -> Result<Config, StoreError> {
        config(&self.secrets, URL)
    }

    async fn client(&self) -> Result<Arc<Client>, StoreError> {
        let mut held = self.client.lock().await;
        if let Some(client) = held.as_ref().filter(|client| !client.is_closed()) {
            return Ok(Arc::clone(client));
        }
        let (client, mut connection) = self.config()?.connect(tls()?).await.map_err(|err| failed(&err))?;
        let told = self.told.clone();
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notification(notification) = message {
                    let _ = told.send(Told::Written(notification.payload().to_owned()));
                }
            }
            let _ = told.send(Told::Gap);
        });
        let is_there = client.query_typed(IS_THERE, &[]).await.map_err(|err| failed(&err))?;
        if !is_there.first().is_some_and(|row| row.get(0)) {
            client.batch_execute(SCHEMA).await.map_err(|err| failed(&err))?;
        }
        client.batch_execute("LISTEN etl_oauth").await.map_err(|err| failed(&err))?;
        Ok(Arc::clone(held.insert(Arc::new(client))))
    }
}

/// How the database of a secret is reached.
fn config(secrets: &Secrets, secret: &str) -> Result<Config, StoreError> {
    let url = secrets.require(secret).map_err(|err| StoreError::config(err.to_string()).because(err))?;
    // The parser's own words may quote the URL.
    let mut config: Config = url.expose().parse().map_err(|_| {
        let name = secrets.name(secret);
        StoreError::config(format!(
            "the secret {name} is not a URL like postgres://USER:PASSWORD@HOST/DATABASE (TLS as by \
             sslmode=require, unless it says sslmode=disable; the certificate is always verified, by the roots that \
             SSL_CERT_FILE names)"
        ))
    })?;
    // The client's own default goes on in clear where the other side offers no TLS, and that may be anyone.
    if !names_sslmode(url.expose()) && !is_local(&config) {
        config.ssl_mode(SslMode::Require);
    }
    if config.get_application_name().is_none() {
        config.application_name("etl-oauth");
    }
    config.connect_timeout(PATIENCE / 2).keepalives_idle(PATIENCE * 3).tcp_user_timeout(PATIENCE);
    Ok(config)
}

/// A connection of its own to the database of a secret, for what is no store.
#[doc(hidden)]
pub async fn connect_postgres(secrets: &Secrets, secret: &str) -> Result<Client, StoreError> {
    let connected = config(secrets, secret)?.connect(tls()?).await;
    let (client, connection) = connected.map_err(|err| failed(&err))?;
    tokio::spawn(connection);
    Ok(client)
}

/// Whether the URL, or the string of `key=value`, says how TLS is used.
fn names_sslmode(text: &str) -> bool {
    match text.parse::<url::Url>() {
        Ok(url) => url.query_pairs().any(|(name, _)| name == "sslmode"),
        Err(_) => text.split_whitespace().any(|word| word.starts_with("sslmode")),
    }
}

/// Whether every host is this one: what is sent there leaves no machine.
fn is_local(config: &Config) -> bool {
    let is_loopback =
        |name: &str| name == "localhost" || name.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    let is_here = |host: &Host| match host {
        Host::Tcp(name) => is_loopback(name),
        Host::Unix(_) => true,
    };
    config.get_hosts().iter().all(is_here) && config.get_hostaddrs().iter().all(std::net::IpAddr::is_loopback)
}

/// TLS where the configuration wants it: certificates are always verified, against the system's roots.
fn tls() -> Result<MakeRustlsConnect, StoreError> {
    let no_tls = |err: rustls::Error| StoreError::unavailable(format!("the TLS library does not start: {err}"));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(no_tls)?
        .with_platform_verifier()
        .map_err(no_tls)?
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

fn failed(err: &tokio_postgres::Error) -> StoreError {
    let Some(answer) = err.as_db_error() else {
        let mut cause = err.source();
        while let Some(deeper) = cause.and_then(|cause| cause.source()) {
            cause = Some(deeper);
        }
        let cause = cause.map_or_else(|| err.to_string(), ToString::to_string);
        return StoreError::unavailable(format!("PostgreSQL: {cause}"));
    };
    // Not its detail, which may quote a row.
    let what = format!("PostgreSQL answered {}: {}", answer.code().code(), answer.message());
    let class = answer.code().code().get(..2).unwrap_or_default();
    // Connections, transactions that lost, resources, locks, operators, a standby that takes no writes.
    if matches!(class, "08" | "40" | "53" | "55" | "57") || *answer.code() == SqlState::READ_ONLY_SQL_TRANSACTION {
        StoreError::unavailable(what)
    } else {
        StoreError::refused(what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s19_tls_is_the_default_off_by_name_and_loopback_aside() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |url: &str| {
            std::fs::write(folder.path().join(URL), url).unwrap();
            let link = Link::new(Secrets::new(folder.path(), "")).unwrap();
            link.config().unwrap().get_ssl_mode()
        };
        let far = [
            "postgres://u:p@db.example/d",
            "postgres://u:sslmode=disable@db.example/d",
            "postgres://u:p@127.0.0.1,db.example/d",
            "postgres://u:p@10.0.0.1/d?connect_timeout=3",
            "host=db.example user=u",
            "host=localhost hostaddr=10.0.0.1 user=u",
        ];
        for url in far {
            assert_eq!(mode(url), SslMode::Require, "{url}");
        }
        assert_eq!(mode("postgres://u:p@db.example/d?sslmode=disable"), SslMode::Disable);
        assert_eq!(mode("host=db.example user=u sslmode=prefer"), SslMode::Prefer);
        for url in ["postgres://u:p@127.0.0.1:5432/d", "postgres://u:p@localhost/d", "host=/run/postgresql user=u"] {
            assert_eq!(mode(url), SslMode::Prefer, "{url}");
        }
    }
}
