use std::{error::Error as _, fmt, future::poll_fn, sync::Arc, time::Duration};

use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::sync::{Mutex, broadcast};
use tokio_postgres::{AsyncMessage, Client, Config, Row, error::SqlState};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::Parameter;
use crate::{secrets::Secrets, store::StoreError};

const URL: &str = "etl-oauth-postgres-url";
/// Of one statement, the connection before it included.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the store keeps in a database. Asked for first: `IF NOT EXISTS` alone wants the right to create, and replicas that
/// start together would trip over each other's catalogue entries.
const IS_THERE: &str = "SELECT to_regclass('etl_oauth_lease') IS NOT NULL";
const SCHEMA: &str = "SELECT pg_advisory_xact_lock(7272727001);
    CREATE SEQUENCE IF NOT EXISTS etl_oauth_version;
    CREATE TABLE IF NOT EXISTS etl_oauth_record (
        function text NOT NULL,
        account text NOT NULL,
        version bigint NOT NULL DEFAULT nextval('etl_oauth_version'),
        record text NOT NULL,
        written_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (function, account)
    );
    CREATE TABLE IF NOT EXISTS etl_oauth_lease (
        function text NOT NULL,
        account text NOT NULL,
        owner text NOT NULL,
        until timestamptz NOT NULL,
        PRIMARY KEY (function, account)
    );";

/// What came over the connection unasked.
#[derive(Clone, Debug)]
pub(super) enum Told {
    /// `FUNCTION/ACCOUNT` was written.
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
        Err(StoreError::Unavailable(format!("PostgreSQL did not answer in {} s", PATIENCE.as_secs())))
    }

    fn config(&self) -> Result<Config, StoreError> {
        let url = self.secrets.require(URL).map_err(|err| StoreError::Config(err.to_string()))?;
        // The parser's own words may quote the URL.
        let mut config: Config = url.expose().parse().map_err(|_| {
            let name = self.secrets.name(URL);
            StoreError::Config(format!(
                "the secret {name} is not a URL like postgres://USER:PASSWORD@HOST/DATABASE?sslmode=require (or prefer, or \
                 disable: a certificate is always verified, by the roots that SSL_CERT_FILE names)"
            ))
        })?;
        if config.get_application_name().is_none() {
            config.application_name("etl-oauth");
        }
        config.connect_timeout(PATIENCE / 2).keepalives_idle(PATIENCE * 3).tcp_user_timeout(PATIENCE);
        Ok(config)
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

/// TLS where the URL's `sslmode` wants it: certificates are always verified, against the system's roots.
fn tls() -> Result<MakeRustlsConnect, StoreError> {
    let no_tls = |err: rustls::Error| StoreError::Unavailable(format!("the TLS library does not start: {err}"));
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
        return StoreError::Unavailable(format!("PostgreSQL: {cause}"));
    };
    // Not its detail, which may quote a row.
    let what = format!("PostgreSQL answered {}: {}", answer.code().code(), answer.message());
    let class = answer.code().code().get(..2).unwrap_or_default();
    // Connections, transactions that lost, resources, locks, operators, a standby that takes no writes.
    if matches!(class, "08" | "40" | "53" | "55" | "57") || *answer.code() == SqlState::READ_ONLY_SQL_TRANSACTION {
        StoreError::Unavailable(what)
    } else {
        StoreError::Refused(what)
    }
}
