//! The statements. All are sent unprepared: a pooler between may give each one another connection.

/// Whether nothing is to be made. Asked for first: `IF NOT EXISTS` alone wants the right to create, and replicas that start
/// together would trip over each other's catalogue entries. Tables of another program with our names are left as they are.
pub(super) const IS_THERE: &str = "SELECT to_regclass('etl_oauth_lease') IS NOT NULL \
     AND to_regclass('etl_oauth_record') IS NOT NULL AND NOT EXISTS (\
       SELECT FROM pg_attribute ours WHERE attrelid = to_regclass('etl_oauth_record') AND attname = 'written_at' \
       AND NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = ours.attrelid AND attname = 'due_at'))";

/// `function` is the space of a kind of keys ([`Kind::space`](crate::store::Kind::space)), `account` a key's path. The
/// columns of the index are younger than the table: a row of version 0.1, or of a replica that still runs it, has no `tag`,
/// and is due at once.
pub(super) const SCHEMA: &str = "SELECT pg_advisory_xact_lock(7272727001);
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
    );
    DO $$ BEGIN
        IF EXISTS (SELECT FROM pg_attribute
                   WHERE attrelid = to_regclass('etl_oauth_record') AND attname = 'written_at') THEN
            ALTER TABLE etl_oauth_record
                ADD COLUMN IF NOT EXISTS connection text NOT NULL DEFAULT 'default',
                ADD COLUMN IF NOT EXISTS generation bigint NOT NULL DEFAULT 0,
                ADD COLUMN IF NOT EXISTS tag text,
                ADD COLUMN IF NOT EXISTS due_at timestamptz DEFAULT '-infinity';
            CREATE INDEX IF NOT EXISTS etl_oauth_record_due ON etl_oauth_record (function, connection, due_at)
                WHERE due_at IS NOT NULL;
            CREATE INDEX IF NOT EXISTS etl_oauth_record_name
                ON etl_oauth_record (function, connection COLLATE \"C\", account COLLATE \"C\");
        END IF;
    END $$;";

pub(super) const GET: &str = "SELECT record, version, generation, tag, \
     CASE WHEN isfinite(due_at) THEN (extract(epoch FROM due_at) * 1000000)::bigint END FROM etl_oauth_record WHERE function = $1 AND account = $2";
/// Writer and announcement are one statement, hence one transaction: a replica that is notified finds the write.
pub(super) const INSERT: &str = "WITH written AS (\
       INSERT INTO etl_oauth_record (function, account, record, connection, generation, tag, due_at) \
       VALUES ($1, $2, $3, $4, $5, $6, coalesce('epoch'::timestamptz + $7 * interval '1 microsecond', \
         CASE WHEN $6 IS NULL THEN '-infinity'::timestamptz END)) \
       ON CONFLICT DO NOTHING RETURNING version\
     ) SELECT version, pg_notify('etl_oauth', $1 || '/' || $2)::text FROM written";
pub(super) const UPDATE: &str = "WITH written AS (\
       UPDATE etl_oauth_record SET record = $3, connection = $4, generation = $5, tag = $6, \
         due_at = coalesce('epoch'::timestamptz + $7 * interval '1 microsecond', \
         CASE WHEN $6 IS NULL THEN '-infinity'::timestamptz END), \
         version = nextval('etl_oauth_version'), written_at = now() \
       WHERE function = $1 AND account = $2 AND version = $8 RETURNING version\
     ) SELECT version, pg_notify('etl_oauth', $1 || '/' || $2)::text FROM written";
pub(super) const DELETE: &str = "WITH written AS (\
       DELETE FROM etl_oauth_record WHERE function = $1 AND account = $2 AND version = $3 RETURNING version\
     ) SELECT version, pg_notify('etl_oauth', $1 || '/' || $2)::text FROM written";

pub(super) const COUNTS: &str = "SELECT coalesce(tag, ''), count(*) FROM etl_oauth_record \
     WHERE function = $1 AND ($2::text IS NULL OR connection = $2) GROUP BY 1";
pub(super) const DUE: &str = "SELECT account, CASE WHEN isfinite(due_at) THEN (extract(epoch FROM due_at) * 1000000)::bigint END FROM etl_oauth_record \
     WHERE function = $1 AND connection = $2 AND due_at <= 'epoch'::timestamptz + $3 * interval '1 microsecond' ORDER BY due_at, account LIMIT $4";
/// The rows that are due and that no other owner holds, with their leases. `SKIP LOCKED`: claims at the same moment take
/// different rows instead of waiting for each other. `clock_timestamp()`: `now()` stands still while a statement waits for
/// another one's row.
pub(super) const CLAIM: &str = "WITH ready AS (\
       SELECT account, due_at FROM etl_oauth_record \
       WHERE function = $1 AND connection = $2 AND due_at <= 'epoch'::timestamptz + $3 * interval '1 microsecond' AND NOT EXISTS (\
         SELECT FROM etl_oauth_lease held WHERE held.function = $1 AND held.account = etl_oauth_record.account \
           AND held.until > clock_timestamp()) \
       ORDER BY due_at LIMIT $4 FOR UPDATE SKIP LOCKED\
     ), taken AS (\
       INSERT INTO etl_oauth_lease AS held (function, account, owner, until) \
       SELECT $1, account, $5, clock_timestamp() + make_interval(secs => $6) FROM ready ORDER BY account \
       ON CONFLICT (function, account) DO UPDATE SET owner = excluded.owner, until = greatest(held.until, excluded.until) \
       WHERE held.owner = excluded.owner OR held.until <= clock_timestamp() RETURNING account\
     ) SELECT ready.account, CASE WHEN isfinite(due_at) THEN (extract(epoch FROM due_at) * 1000000)::bigint END \
       FROM ready JOIN taken USING (account) ORDER BY ready.due_at, ready.account";

pub(super) const ACQUIRE: &str = "INSERT INTO etl_oauth_lease AS held (function, account, owner, until) \
     VALUES ($1, $2, $3, clock_timestamp() + make_interval(secs => $4)) \
     ON CONFLICT (function, account) DO UPDATE SET owner = excluded.owner, until = greatest(held.until, excluded.until) \
     WHERE held.owner = excluded.owner OR held.until <= clock_timestamp() RETURNING 1";
pub(super) const RELEASE: &str = "DELETE FROM etl_oauth_lease WHERE function = $1 AND account = $2 AND owner = $3";
