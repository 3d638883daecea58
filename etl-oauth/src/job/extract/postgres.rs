//! Tables of a PostgreSQL database, by the feature `postgres`.

#[cfg(not(feature = "postgres"))]
pub(super) use disabled::Postgres;
#[cfg(feature = "postgres")]
pub(super) use imp::Postgres;

#[cfg(feature = "postgres")]
mod imp {
    use std::collections::BTreeMap;

    use tokio::sync::Mutex;
    use tokio_postgres::{Client, Transaction};

    use super::super::{
        batch::Batch,
        checkpoint::Checkpoint,
        column::{ColumnType, Schema},
        record::DELETED,
        resource::Mode,
        sink::{Part, Written},
        sql,
    };
    use crate::job::JobError;
    use token_keeper::{secrets::Secrets, store};

    /// The secret with the database's URL.
    const URL: &str = "etl-oauth-sink-url";

    /// Tables of a database. A part and the checkpoint after it are one transaction: neither is there without the other.
    #[derive(Debug)]
    pub(in crate::job::extract) struct Postgres {
        secrets: Secrets,
        /// The schema, quoted, with its dot; empty for the first of the `search_path`.
        schema: String,
        client: Mutex<Option<Client>>,
    }

    impl Postgres {
        pub(in crate::job::extract) fn open(schema: Option<&str>, secrets: &Secrets) -> Self {
            let schema = schema.map(|schema| format!("{}.", sql::quoted(schema))).unwrap_or_default();
            Self { secrets: secrets.clone(), schema, client: Mutex::default() }
        }

        /// How far a resource is copied; `None` where the database knows nothing of it.
        pub(in crate::job::extract) async fn position(
            &self,
            account: &str,
            resource: &str,
        ) -> Result<Option<Checkpoint>, JobError> {
            let mut held = self.client.lock().await;
            let client = self.client(&mut held).await?;
            let statement = format!(
                "SELECT checkpoint::text FROM {}etl_oauth_extract WHERE account = $1 AND resource = $2",
                self.schema
            );
            let row = client.query_opt(&statement, &[&account, &resource]).await.map_err(|err| failed(&err))?;
            row.map(|row| checkpoint(row.get(0))).transpose()
        }

        /// Writes a part and the checkpoint after it.
        pub(in crate::job::extract) async fn put(&self, part: &Part<'_>) -> Result<Written, JobError> {
            let mut held = self.client.lock().await;
            let client = self.client(&mut held).await?;
            let transaction = client.transaction().await.map_err(|err| failed(&err))?;
            let written = self.put_in(&transaction, part).await?;
            transaction.commit().await.map_err(|err| failed(&err))?;
            Ok(written)
        }

        async fn put_in(&self, on: &Transaction<'_>, part: &Part<'_>) -> Result<Written, JobError> {
            let run = async |statement: &str| on.batch_execute(statement).await.map_err(|err| failed(&err));
            let (name, account) = (&part.resource.name, part.account);
            // Accounts that write side by side change the table one after the other.
            let lock = "SELECT pg_advisory_xact_lock(hashtextextended($1, 7272727003))";
            on.execute(lock, &[&format!("{}{name}", self.schema)]).await.map_err(|err| failed(&err))?;
            self.is_turn(on, part).await?;
            let table = format!("{}{}", self.schema, sql::quoted(name));
            let staging = format!("{}{}", self.schema, sql::quoted(&format!("{name}__new")));
            let there = columns(on, &table).await?;
            let mut schema: Schema = there
                .iter()
                .map(|(name, kind)| (name.clone(), sql::type_of(kind).unwrap_or(ColumnType::Text)))
                .collect();
            let batch = Batch::read(&part.bytes, part.resource, &mut schema)
                .map_err(|why| JobError::Sink(format!("{name} does not fit its table: {why}")))?;
            let replaces = part.resource.mode == Mode::Replace;
            let target = if replaces { &staging } else { &table };
            if !batch.rows.is_empty() {
                run(&sql::alter(&table, part.resource, &there, &schema)?).await?;
                if replaces {
                    let there = columns(on, &staging).await?;
                    run(&sql::alter(&staging, part.resource, &there, &schema)?).await?;
                }
            }
            if replaces && part.before.1 == 0 && !columns(on, &staging).await?.is_empty() {
                let statement = format!("DELETE FROM {staging} WHERE _account = $1");
                on.execute(&statement, &[&account]).await.map_err(|err| failed(&err))?;
            }
            if !batch.rows.is_empty() {
                // As they are now: a type of the owner's own is cast to.
                let there = columns(on, target).await?;
                let statement = sql::insert(target, part.resource, &there, &schema);
                let rows = serde_json::to_string(&batch.rows)?;
                let rows = sql::without_nul(&rows);
                on.execute(&statement, &[&rows.as_ref(), &account]).await.map_err(|err| failed(&err))?;
            }
            if replaces && part.last {
                self.swap(on, &table, &staging, account).await?;
            }
            if part.resource.remove_deleted && schema.contains_key(DELETED) {
                let statement = format!("DELETE FROM {table} WHERE _account = $1 AND {DELETED}");
                on.execute(&statement, &[&account]).await.map_err(|err| failed(&err))?;
            }
            self.bury(on, part, &batch).await?;
            self.write_checkpoint(on, part).await?;
            Ok(Written { schema, dead: batch.dead.len() as u64, discarded: batch.discarded })
        }

        /// Whether this part is the next one: the lease of a run may have been lost without its knowing.
        async fn is_turn(&self, on: &Transaction<'_>, part: &Part<'_>) -> Result<(), JobError> {
            let statement = format!(
                "SELECT checkpoint::text FROM {}etl_oauth_extract WHERE account = $1 AND resource = $2 FOR UPDATE",
                self.schema
            );
            let row =
                on.query_opt(&statement, &[&part.account, &part.resource.name]).await.map_err(|err| failed(&err))?;
            let there = row.map(|row| checkpoint(row.get(0))).transpose()?.unwrap_or_default();
            if (there.run, there.part) == part.before { Ok(()) } else { Err(JobError::Overtaken) }
        }

        /// Puts the rows of this run in the place of those before.
        async fn swap(&self, on: &Transaction<'_>, table: &str, staging: &str, account: &str) -> Result<(), JobError> {
            let execute =
                async |statement: String| on.execute(&statement, &[&account]).await.map_err(|err| failed(&err));
            if columns(on, table).await?.is_empty() {
                return Ok(());
            }
            execute(format!("DELETE FROM {table} WHERE _account = $1")).await?;
            let new = columns(on, staging).await?;
            if !new.is_empty() {
                let names: Vec<_> = ["_account".to_owned()].into_iter().chain(new.keys().cloned()).collect();
                let names = names.iter().map(|name| sql::quoted(name)).collect::<Vec<_>>().join(", ");
                let select = format!("SELECT {names} FROM {staging} WHERE _account = $1");
                execute(format!("INSERT INTO {table} ({names}) {select}")).await?;
                execute(format!("DELETE FROM {staging} WHERE _account = $1")).await?;
            }
            Ok(())
        }

        /// Writes the records that do not fit beside the table, with the reasons.
        async fn bury(&self, on: &Transaction<'_>, part: &Part<'_>, batch: &Batch<'_>) -> Result<(), JobError> {
            if batch.dead.is_empty() {
                return Ok(());
            }
            let (lines, reasons): (Vec<&str>, Vec<&str>) =
                batch.dead.iter().map(|(line, why)| (*line, why.as_str())).unzip();
            let statement = format!(
                "INSERT INTO {}etl_oauth_dead_letter (account, resource, record, reason) \
                 SELECT $1::text, $2::text, record, reason FROM unnest($3::text[], $4::text[]) AS dead (record, reason)",
                self.schema
            );
            let name = &part.resource.name;
            on.execute(&statement, &[&part.account, name, &lines, &reasons]).await.map_err(|err| failed(&err))?;
            Ok(())
        }

        async fn write_checkpoint(&self, on: &Transaction<'_>, part: &Part<'_>) -> Result<(), JobError> {
            let statement = format!(
                "INSERT INTO {}etl_oauth_extract (account, resource, checkpoint) VALUES ($1, $2, $3::text::jsonb) \
                 ON CONFLICT (account, resource) DO UPDATE SET checkpoint = excluded.checkpoint, written_at = now()",
                self.schema
            );
            let after = serde_json::to_string(&part.after)?;
            let name = &part.resource.name;
            on.execute(&statement, &[&part.account, name, &after]).await.map_err(|err| failed(&err))?;
            Ok(())
        }

        async fn client<'a>(&self, held: &'a mut Option<Client>) -> Result<&'a mut Client, JobError> {
            if held.as_ref().is_none_or(Client::is_closed) {
                let client = store::connect_postgres(&self.secrets, URL).await;
                let client = client.map_err(|err| JobError::Sink(err.to_string()))?;
                client.batch_execute(&sql::own_tables(&self.schema)).await.map_err(|err| failed(&err))?;
                *held = Some(client);
            }
            held.as_mut().ok_or_else(|| JobError::Sink("the database is not connected".into()))
        }
    }

    /// The columns of a table with their types, as PostgreSQL writes them, without the account's; none where there is no table.
    async fn columns(on: &Transaction<'_>, table: &str) -> Result<BTreeMap<String, String>, JobError> {
        let statement = "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute \
             WHERE attrelid = to_regclass($1::text) AND attnum > 0 AND NOT attisdropped AND attname <> '_account'";
        let rows = on.query(statement, &[&table]).await.map_err(|err| failed(&err))?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    fn checkpoint(text: &str) -> Result<Checkpoint, JobError> {
        let wrong = |err| JobError::Sink(format!("the table etl_oauth_extract holds another job's checkpoint: {err}"));
        serde_json::from_str(text).map_err(wrong)
    }

    /// The server's own words, without its detail, which may quote a row.
    fn failed(err: &tokio_postgres::Error) -> JobError {
        JobError::Sink(match err.as_db_error() {
            Some(answer) => format!("PostgreSQL answered {}: {}", answer.code().code(), answer.message()),
            None => format!("PostgreSQL: {err}"),
        })
    }
}

#[cfg(not(feature = "postgres"))]
mod disabled {
    use super::super::{
        checkpoint::Checkpoint,
        sink::{Part, Written},
    };
    use crate::job::JobError;

    /// Databases are not part of this build.
    #[derive(Debug)]
    pub(in crate::job::extract) enum Postgres {}

    #[allow(clippy::unused_async, reason = "the other one waits")]
    impl Postgres {
        pub(in crate::job::extract) async fn position(&self, _: &str, _: &str) -> Result<Option<Checkpoint>, JobError> {
            match *self {}
        }

        pub(in crate::job::extract) async fn put(&self, _: &Part<'_>) -> Result<Written, JobError> {
            match *self {}
        }
    }
}
