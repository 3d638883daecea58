//! Values as rows of a PostgreSQL database.

mod link;
mod statements;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::sync::broadcast::error::RecvError;
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};

#[doc(hidden)]
pub use self::link::connect_postgres;
use self::link::{Link, Told};
use super::{
    Acquired, ByteStore, Capabilities, Changes, Claim, Codec, DEFAULT_CONNECTION, Due, Key, Kind, Meta, Page, Scan,
    StoreError, StoreOptions, Value, Version,
    watch::{self, follow},
};

/// How many keys are named at once when a watch begins.
const BATCH: usize = 1000;

/// Sealed values in the table `etl_oauth_record`, leases by the database's clock in `etl_oauth_lease`; both are made when
/// missing, in the first schema of the `search_path`. Any number of functions share them.
///
/// The version comes from a sequence, so that a row that was deleted and written anew has no old row's version. Statements
/// are sent unprepared: a pooler between may give each one another connection.
///
/// What is due is an index over `due_at`, which every write sets with the value, in the same row. A claim is one statement:
/// it takes the leases of due rows that no other owner has, and skips the rows that another claim is taking.
#[derive(Clone, Debug)]
pub struct Postgres(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    codec: Codec,
    link: Link,
}

type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

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
}

impl Inner {
    fn space(&self, kind: Kind) -> String {
        kind.space(self.codec.function())
    }

    /// Runs a statement whose first parameters are the key's.
    async fn on(&self, key: &Key, statement: &str, more: &[Parameter<'_>]) -> Result<Vec<Row>, StoreError> {
        let (space, path) = (self.space(key.kind()), key.path());
        let mut parameters: Vec<Parameter<'_>> = vec![(&space, Type::TEXT), (&path, Type::TEXT)];
        parameters.extend_from_slice(more);
        self.link.query(statement, &parameters).await
    }

    async fn list(&self, scan: &Scan) -> Result<Page, StoreError> {
        let space = self.space(scan.kind);
        let limit = i64::try_from(scan.limit).unwrap_or(i64::MAX).saturating_add(1);
        let after = scan.after.as_ref().map(|key| (key.connection().to_owned(), key.path()));
        // Of one connection the names that begin so lie together; `~` comes after all that names consist of.
        let first = scan.connection.as_deref().map(|connection| match connection {
            DEFAULT_CONNECTION => scan.prefix.clone(),
            _ => format!("{connection}.{}", scan.prefix),
        });
        let last = first.as_ref().map(|first| format!("{first}~"));
        let mut wanted =
            Conditions { text: String::new(), parameters: vec![(&space, Type::TEXT), (&limit, Type::INT8)] };
        if let (Some(connection), Some(first), Some(last)) = (&scan.connection, &first, &last) {
            wanted.also(r#"connection COLLATE "C" = ?"#, &[connection]);
            wanted.also(r#"account COLLATE "C" BETWEEN ? AND ?"#, &[first, last]);
        } else if !scan.prefix.is_empty() {
            wanted.also(
                "starts_with(CASE WHEN connection = 'default' THEN account ELSE split_part(account, '.', 2) END, ?)",
                &[&scan.prefix],
            );
        }
        if let Some(tag) = &scan.tag {
            wanted.also("tag = ?", &[tag]);
        }
        if let Some((connection, path)) = &after {
            wanted.also(r#"(connection COLLATE "C", account COLLATE "C") > (?, ?)"#, &[connection, path]);
        }
        let Conditions { text: conditions, parameters } = wanted;
        let statement = format!(
            "SELECT account FROM etl_oauth_record WHERE function = $1{conditions} \
             ORDER BY connection COLLATE \"C\", account COLLATE \"C\" LIMIT $2"
        );
        let rows = self.link.query(&statement, &parameters).await?;
        let keys = rows.iter().filter_map(|row| Key::from_path(scan.kind, row.get(0)).ok()).collect();
        Ok(Page::of(keys, scan.limit))
    }

    /// Names every key, then those that are written, until the connection ends.
    async fn watch(&self, kind: Kind, sender: &watch::Told) -> Result<(), StoreError> {
        let (mut told, space, mut scan) = (self.link.listen(), self.space(kind), Scan::of(kind, BATCH));
        loop {
            let page = self.list(&scan).await?;
            for key in page.keys {
                let _ = sender.send(key).await;
            }
            if page.next.is_none() {
                break;
            }
            scan.after = page.next;
        }
        loop {
            match told.recv().await {
                Ok(Told::Written(what)) => {
                    let path = what.split_once('/').filter(|(its, _)| *its == space).map(|(_, path)| path);
                    if let Some(key) = path.and_then(|path| Key::from_path(kind, path).ok()) {
                        let _ = sender.send(key).await;
                    }
                }
                Ok(Told::Gap) | Err(RecvError::Lagged(_) | RecvError::Closed) => return Ok(()),
            }
        }
    }
}

/// What a statement wants of its rows, with the values that it names.
struct Conditions<'a> {
    text: String,
    parameters: Vec<Parameter<'a>>,
}

impl<'a> Conditions<'a> {
    /// Adds a condition, in which each `?` stands for a value.
    fn also(&mut self, condition: &str, values: &[&'a (dyn ToSql + Sync)]) {
        let mut condition = condition.to_owned();
        for value in values {
            self.parameters.push((*value, Type::TEXT));
            condition = condition.replacen('?', &format!("${}", self.parameters.len()), 1);
        }
        self.text.push_str(" AND ");
        self.text.push_str(&condition);
    }
}

fn due(kind: Kind, row: &Row) -> Option<Due> {
    let at = row.get::<_, Option<i64>>(1).and_then(|micros| Timestamp::from_microsecond(micros).ok());
    Some(Due { key: Key::from_path(kind, row.get(0)).ok()?, at: at.unwrap_or(Timestamp::MIN) })
}

/// Within what the database's own times can hold.
fn micros(at: Timestamp) -> i64 {
    at.as_microsecond().clamp(Timestamp::UNIX_EPOCH.as_microsecond(), Timestamp::MAX.as_microsecond())
}

fn version(rows: &[Row]) -> Result<Version, StoreError> {
    rows.first().map(|row| Version::new(row.get::<_, i64>(0))).ok_or(StoreError::Conflict)
}

/// A version that is no number was never one of ours.
fn number(version: &Version) -> Result<i64, StoreError> {
    version.as_str().parse().map_err(|_| StoreError::Conflict)
}

impl ByteStore for Postgres {
    fn capabilities(&self) -> Capabilities {
        Capabilities { read_back: true, compare_and_swap: true, lease: true, accounts: true, index: true }
    }

    async fn get(&self, key: &Key) -> Result<Option<Value>, StoreError> {
        let rows = self.0.on(key, statements::GET, &[]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let version = Version::new(row.get::<_, i64>(1));
        let meta = Meta {
            generation: u64::try_from(row.get::<_, i64>(2)).unwrap_or_default(),
            due_at: row.get::<_, Option<i64>>(4).and_then(|micros| Timestamp::from_microsecond(micros).ok()),
            tag: row.get(3),
        };
        match self.0.codec.decode(key, row.get::<_, &str>(0).as_bytes()) {
            Ok((generation, bytes)) => {
                let generation = meta.generation.max(generation);
                Ok(Some(Value { bytes, version, meta: Meta { generation, ..meta } }))
            }
            Err(err) => Err(err.at(version)),
        }
    }

    async fn put(&self, key: &Key, bytes: &[u8], meta: &Meta, was: Option<&Version>) -> Result<Version, StoreError> {
        let sealed = self.0.codec.encode(key, meta.generation, bytes)?;
        // Sealed text is ASCII.
        let text = std::str::from_utf8(&sealed).unwrap_or_default();
        let generation = i64::try_from(meta.generation).unwrap_or(i64::MAX);
        let (connection, due) = (key.connection(), meta.due_at.map(micros));
        let was = was.map(number).transpose()?;
        let mut parameters: Vec<Parameter<'_>> = vec![
            (&text, Type::TEXT),
            (&connection, Type::TEXT),
            (&generation, Type::INT8),
            (&meta.tag, Type::TEXT),
            (&due, Type::INT8),
        ];
        let statement = match &was {
            None => statements::INSERT,
            Some(was) => {
                parameters.push((was, Type::INT8));
                statements::UPDATE
            }
        };
        version(&self.0.on(key, statement, &parameters).await?)
    }

    async fn delete(&self, key: &Key, was: &Version) -> Result<(), StoreError> {
        let was = number(was)?;
        version(&self.0.on(key, statements::DELETE, &[(&was, Type::INT8)]).await?).map(drop)
    }

    async fn list(&self, scan: &Scan) -> Result<Page, StoreError> {
        self.0.list(scan).await
    }

    async fn counts(&self, kind: Kind, connection: Option<&str>) -> Result<BTreeMap<String, u64>, StoreError> {
        let space = self.0.space(kind);
        let parameters: [Parameter<'_>; 2] = [(&space, Type::TEXT), (&connection, Type::TEXT)];
        let rows = self.0.link.query(statements::COUNTS, &parameters).await?;
        Ok(rows.iter().map(|row| (row.get(0), u64::try_from(row.get::<_, i64>(1)).unwrap_or_default())).collect())
    }

    async fn due(&self, kind: Kind, connection: &str, before: Timestamp, limit: usize) -> Result<Vec<Due>, StoreError> {
        let (space, before) = (self.0.space(kind), micros(before));
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let parameters: [Parameter<'_>; 4] =
            [(&space, Type::TEXT), (&connection, Type::TEXT), (&before, Type::INT8), (&limit, Type::INT8)];
        let rows = self.0.link.query(statements::DUE, &parameters).await?;
        Ok(rows.iter().filter_map(|row| due(kind, row)).collect())
    }

    async fn claim(&self, claim: &Claim<'_>) -> Result<Vec<Due>, StoreError> {
        let (space, before, seconds) = (self.0.space(claim.kind), micros(claim.before), claim.ttl.as_secs_f64());
        let limit = i64::try_from(claim.limit).unwrap_or(i64::MAX);
        let parameters: [Parameter<'_>; 6] = [
            (&space, Type::TEXT),
            (&claim.connection, Type::TEXT),
            (&before, Type::INT8),
            (&limit, Type::INT8),
            (&claim.owner, Type::TEXT),
            (&seconds, Type::FLOAT8),
        ];
        let rows = self.0.link.query(statements::CLAIM, &parameters).await?;
        Ok(rows.iter().filter_map(|row| due(claim.kind, row)).collect())
    }

    async fn acquire(&self, key: &Key, owner: &str, ttl: Duration, now: Timestamp) -> Result<Acquired, StoreError> {
        let seconds = ttl.as_secs_f64();
        let rows = self.0.on(key, statements::ACQUIRE, &[(&owner, Type::TEXT), (&seconds, Type::FLOAT8)]).await?;
        // By our clock, from before the database's began to count.
        let until = now.checked_add(ttl).unwrap_or(Timestamp::MAX);
        Ok(if rows.is_empty() { Acquired::Busy } else { Acquired::Until(until) })
    }

    async fn release(&self, key: &Key, owner: &str) -> Result<(), StoreError> {
        self.0.on(key, statements::RELEASE, &[(&owner, Type::TEXT)]).await.map(drop)
    }

    fn changes(&self, kind: Kind) -> Option<Changes> {
        let inner = Arc::clone(&self.0);
        Some(follow("the table", move |told| {
            let inner = Arc::clone(&inner);
            async move { inner.watch(kind, &told).await }
        }))
    }
}
