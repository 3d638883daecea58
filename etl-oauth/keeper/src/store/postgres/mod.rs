//! Records as rows of a PostgreSQL database.

mod link;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::sync::broadcast::error::RecvError;
use tokio_postgres::types::{ToSql, Type};

#[doc(hidden)]
pub use self::link::connect_postgres;
use self::link::{Link, Told};
use super::{
    Acquired, Capabilities, Changes, Codec, StoreError, StoreOptions, Stored, TokenStore, Version, check_account,
    watch::{self, follow},
};
use crate::token::Record;

const LOAD: &str = "SELECT record, version FROM etl_oauth_record WHERE function = $1 AND account = $2";
const LIST: &str = "SELECT account FROM etl_oauth_record WHERE function = $1 ORDER BY account";
/// Writer and announcement are one statement, hence one transaction: whoever is told finds the write.
const INSERT: &str = "WITH written AS (\
       INSERT INTO etl_oauth_record (function, account, record) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING version\
     ) SELECT version, pg_notify('etl_oauth', $1 || '/' || $2)::text FROM written";
const UPDATE: &str = "WITH written AS (\
       UPDATE etl_oauth_record SET record = $3, version = nextval('etl_oauth_version'), written_at = now() \
       WHERE function = $1 AND account = $2 AND version = $4 RETURNING version\
     ) SELECT version, pg_notify('etl_oauth', $1 || '/' || $2)::text FROM written";
/// `clock_timestamp()`: `now()` stands still while a statement waits for another one's row.
const ACQUIRE: &str = "INSERT INTO etl_oauth_lease AS held (function, account, owner, until) \
     VALUES ($1, $2, $3, clock_timestamp() + make_interval(secs => $4)) \
     ON CONFLICT (function, account) DO UPDATE SET owner = excluded.owner, until = greatest(held.until, excluded.until) \
     WHERE held.owner = excluded.owner OR held.until <= clock_timestamp() RETURNING 1";
const RELEASE: &str = "DELETE FROM etl_oauth_lease WHERE function = $1 AND account = $2 AND owner = $3";

/// Sealed records in the table `etl_oauth_record`, leases by the database's clock in `etl_oauth_lease`; both are made when
/// missing, in the first schema of the `search_path`. Any number of functions share them.
///
/// The version comes from a sequence, so that a row that was deleted and written anew has no old row's version. Statements
/// are sent unprepared: a pooler between may give each one another connection.
#[derive(Clone, Debug)]
pub struct Postgres(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    codec: Codec,
    link: Link,
}

impl Postgres {
    /// The store in the database of the secret `etl-oauth-postgres-url`, which is read for every connection.
    ///
    /// # Errors
    /// [`StoreError::Config`] when that is no PostgreSQL URL, or there are no keys to seal with.
    pub fn open(options: &StoreOptions) -> Result<Self, StoreError> {
        Ok(Self(Arc::new(Inner {
            link: Link::new(options.secrets.clone())?,
            codec: Codec::sealed(&options.function, options.secrets.clone())?,
        })))
    }

    async fn write(&self, statement: &str, account: &str, more: &[Parameter<'_>]) -> Result<Version, StoreError> {
        let function = self.0.codec.function();
        let mut parameters: Vec<Parameter<'_>> = vec![(&function, Type::TEXT), (&account, Type::TEXT)];
        parameters.extend_from_slice(more);
        let rows = self.0.link.query(statement, &parameters).await?;
        rows.first().map(|row| Version::new(row.get::<_, i64>(0))).ok_or(StoreError::Conflict)
    }
}

type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

impl Inner {
    async fn accounts(&self) -> Result<Vec<String>, StoreError> {
        let rows = self.link.query(LIST, &[(&self.codec.function(), Type::TEXT)]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Tells of every account, then of those that are written, until the connection ends.
    async fn watch(&self, sender: &watch::Told) -> Result<(), StoreError> {
        let mut told = self.link.listen();
        for account in self.accounts().await? {
            let _ = sender.send(account).await;
        }
        loop {
            match told.recv().await {
                Ok(Told::Written(what)) => {
                    let account = what.split_once('/').filter(|(function, _)| *function == self.codec.function());
                    if let Some((_, account)) = account {
                        let _ = sender.send(account.to_owned()).await;
                    }
                }
                Ok(Told::Gap) | Err(RecvError::Lagged(_) | RecvError::Closed) => return Ok(()),
            }
        }
    }
}

impl TokenStore for Postgres {
    fn capabilities(&self) -> Capabilities {
        Capabilities { read_back: true, compare_and_swap: true, lease: true, accounts: true }
    }

    async fn load(&self, account: &str) -> Result<Option<Stored>, StoreError> {
        check_account(account)?;
        let function = self.0.codec.function();
        let rows = self.0.link.query(LOAD, &[(&function, Type::TEXT), (&account, Type::TEXT)]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let version = Version::new(row.get::<_, i64>(1));
        match self.0.codec.decode(account, row.get::<_, &str>(0).as_bytes()) {
            Ok(record) => Ok(Some(Stored { record, version })),
            Err(err) => Err(err.at(version)),
        }
    }

    async fn save(&self, account: &str, record: &Record, was: Option<&Version>) -> Result<Version, StoreError> {
        check_account(account)?;
        let bytes = self.0.codec.encode(account, record)?;
        // Sealed text is ASCII.
        let text = std::str::from_utf8(&bytes).unwrap_or_default();
        let Some(was) = was else { return self.write(INSERT, account, &[(&text, Type::TEXT)]).await };
        // A version that is no number was never one of ours.
        let was: i64 = was.as_str().parse().map_err(|_| StoreError::Conflict)?;
        self.write(UPDATE, account, &[(&text, Type::TEXT), (&was, Type::INT8)]).await
    }

    async fn accounts(&self) -> Result<Vec<String>, StoreError> {
        self.0.accounts().await
    }

    async fn acquire(&self, account: &str, owner: &str, ttl: Duration, now: Timestamp) -> Result<Acquired, StoreError> {
        check_account(account)?;
        let (function, seconds) = (self.0.codec.function(), ttl.as_secs_f64());
        let parameters: [Parameter<'_>; 4] =
            [(&function, Type::TEXT), (&account, Type::TEXT), (&owner, Type::TEXT), (&seconds, Type::FLOAT8)];
        let rows = self.0.link.query(ACQUIRE, &parameters).await?;
        // By our clock, from before the database's began to count.
        let until = now.checked_add(ttl).unwrap_or(Timestamp::MAX);
        Ok(if rows.is_empty() { Acquired::Busy } else { Acquired::Until(until) })
    }

    async fn release(&self, account: &str, owner: &str) -> Result<(), StoreError> {
        check_account(account)?;
        let function = self.0.codec.function();
        let parameters: [Parameter<'_>; 3] = [(&function, Type::TEXT), (&account, Type::TEXT), (&owner, Type::TEXT)];
        self.0.link.query(RELEASE, &parameters).await.map(drop)
    }

    fn changes(&self) -> Option<Changes> {
        let inner = Arc::clone(&self.0);
        Some(follow("the table", move |told| {
            let inner = Arc::clone(&inner);
            async move { inner.watch(&told).await }
        }))
    }
}
