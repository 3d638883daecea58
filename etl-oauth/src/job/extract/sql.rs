//! The statements of the PostgreSQL sink, as texts.
#![cfg(feature = "postgres")]

use std::{borrow::Cow, collections::BTreeMap, fmt::Write as _};

use super::{
    column::{ColumnType, Schema},
    record::column_of,
    resource::Resource,
};
use crate::job::JobError;

/// The longest name that PostgreSQL keeps whole, in bytes.
const LONGEST: usize = 63;

/// What the sink keeps for itself: checkpoints, and records that do not fit.
pub(super) fn own_tables(schema: &str) -> String {
    let create_schema = match schema.strip_suffix('.') {
        Some(name) => format!("CREATE SCHEMA IF NOT EXISTS {name};"),
        None => String::new(),
    };
    // One at a time: `IF NOT EXISTS` of two sessions trips over the catalogue.
    format!(
        "BEGIN; SELECT pg_advisory_xact_lock(7272727003); {create_schema}
         CREATE TABLE IF NOT EXISTS {schema}etl_oauth_extract (
             account text NOT NULL, resource text NOT NULL, checkpoint jsonb NOT NULL,
             written_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (account, resource));
         CREATE TABLE IF NOT EXISTS {schema}etl_oauth_dead_letter (
             account text NOT NULL, resource text NOT NULL, record text NOT NULL, reason text NOT NULL,
             written_at timestamptz NOT NULL DEFAULT now()); COMMIT"
    )
}

/// A name as an identifier.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The type that PostgreSQL writes so, where it is one that the sink makes.
pub(super) fn type_of(kind: &str) -> Option<ColumnType> {
    Some(match kind {
        "boolean" => ColumnType::Boolean,
        "bigint" => ColumnType::Integer,
        "numeric" => ColumnType::Decimal,
        "timestamp with time zone" => ColumnType::Timestamp,
        "date" => ColumnType::Date,
        "text" => ColumnType::Text,
        "jsonb" => ColumnType::Json,
        _ => return None,
    })
}

fn name_of(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::Boolean => "boolean",
        ColumnType::Integer => "bigint",
        ColumnType::Decimal => "numeric",
        ColumnType::Timestamp => "timestamp with time zone",
        ColumnType::Date => "date",
        ColumnType::Text => "text",
        ColumnType::Json => "jsonb",
    }
}

/// Makes the table, or gives it the columns and types that are missing. A type that the sink does not make is its owner's, and
/// stays.
///
/// # Errors
/// When a column's name is longer than PostgreSQL keeps: two of them could become one.
pub(super) fn alter(
    table: &str,
    resource: &Resource,
    there: &BTreeMap<String, String>,
    schema: &Schema,
) -> Result<String, JobError> {
    if let Some(long) = schema.keys().find(|name| name.len() > LONGEST || *name == "_account") {
        let why = format!("{}: the field {long} can be no column's name: choose another one in rename", resource.name);
        return Err(JobError::Sink(why));
    }
    let key = resource.key.as_deref().map(|key| column_of(resource, key));
    let mut statement = String::new();
    if there.is_empty() {
        let columns = schema.iter().map(|(name, kind)| format!(", {} {}", quoted(name), name_of(*kind)));
        let columns: String = columns.collect();
        let key = key.map(|key| format!(", PRIMARY KEY (_account, {})", quoted(&key))).unwrap_or_default();
        let _ = write!(statement, "CREATE TABLE {table} (_account text NOT NULL{columns}{key})");
        return Ok(statement);
    }
    for (name, kind) in schema {
        let (column, wanted) = (quoted(name), name_of(*kind));
        match there.get(name).map(|is| (is, type_of(is))) {
            None => drop(write!(statement, "ALTER TABLE {table} ADD COLUMN {column} {wanted};")),
            Some((_, Some(is))) if is != *kind => {
                let using = match (is, kind) {
                    (_, ColumnType::Json) => format!("to_jsonb({column})"),
                    (ColumnType::Timestamp, _) => {
                        format!("to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
                    }
                    _ => format!("{column}::{wanted}"),
                };
                let _ = write!(statement, "ALTER TABLE {table} ALTER COLUMN {column} TYPE {wanted} USING {using};");
            }
            Some(_) => {}
        }
    }
    Ok(statement)
}

/// Writes rows: `$1` is a JSON array of them, `$2` the account.
pub(super) fn insert(table: &str, resource: &Resource, there: &BTreeMap<String, String>, schema: &Schema) -> String {
    let columns: Vec<_> = schema.keys().filter(|name| there.contains_key(*name)).map(|name| quoted(name)).collect();
    let typed = there.iter().filter(|(name, _)| schema.contains_key(*name));
    let typed: Vec<_> = typed.map(|(name, kind)| format!("{} {kind}", quoted(name))).collect();
    let names = columns.join(", ");
    let mut statement = format!(
        "INSERT INTO {table} (_account, {names}) SELECT $2::text, {names} FROM json_to_recordset($1::text::json) AS record ({})",
        typed.join(", ")
    );
    if let Some(key) = resource.key.as_deref().map(|key| quoted(&column_of(resource, key))) {
        let changes = columns.iter().filter(|name| **name != key).map(|name| format!("{name} = excluded.{name}"));
        let changes = changes.collect::<Vec<_>>().join(", ");
        let action = if changes.is_empty() { "NOTHING".into() } else { format!("UPDATE SET {changes}") };
        let _ = write!(statement, " ON CONFLICT (_account, {key}) DO {action}");
    }
    statement
}

/// JSON without the character U+0000, which no text of PostgreSQL can hold.
pub(super) fn without_nul(json: &str) -> Cow<'_, str> {
    if !json.contains("\\u0000") {
        return Cow::Borrowed(json);
    }
    let (mut shown, mut rest) = (String::with_capacity(json.len()), json);
    while let Some(at) = rest.find('\\') {
        shown.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("\\u0000") {
            rest = after;
        } else {
            // A backslash and what it escapes, which may be another one.
            shown.push_str(&rest[..2]);
            rest = &rest[2..];
        }
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_and_what_cannot_be_kept_is_refused() {
        assert_eq!(quoted("a\"; DROP TABLE b; --"), "\"a\"\"; DROP TABLE b; --\"");
        let resource = toml::from_str("name = 'a'\npath = '/a'").unwrap();
        for name in ["x".repeat(64), "_account".into()] {
            let schema = Schema::from([(name, ColumnType::Text)]);
            assert!(alter("t", &resource, &BTreeMap::new(), &schema).is_err());
        }
    }

    #[test]
    fn a_type_of_the_owners_own_stays() {
        let resource = toml::from_str("name = 'a'\npath = '/a'").unwrap();
        let there = BTreeMap::from([("a".to_owned(), "character varying(20)".to_owned())]);
        let schema = Schema::from([("a".to_owned(), ColumnType::Text)]);
        assert_eq!(alter("t", &resource, &there, &schema).unwrap(), "");
    }

    #[test]
    fn the_character_zero_is_left_out_and_its_name_is_not() {
        assert_eq!(without_nul(r#"{"a":"x\u0000y"}"#), r#"{"a":"xy"}"#);
        assert_eq!(without_nul(r#"{"a":"x\\u0000y\\"}"#), r#"{"a":"x\\u0000y\\"}"#);
        assert_eq!(without_nul(r#"\\\u0000"#), r#"\\"#);
    }
}
