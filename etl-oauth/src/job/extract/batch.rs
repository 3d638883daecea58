//! Records of a part as rows of typed columns: what fits, what changes the columns, what is left out.

use std::collections::HashMap;

use super::{
    column::{ColumnType, Schema},
    record::{Fields, column_of},
    resource::{Drift, Resource},
};

/// The rows of a part.
#[derive(Debug, Default)]
pub(super) struct Batch<'a> {
    /// The newest record of each key, in order; without a key all.
    pub(super) rows: Vec<Fields<'a>>,
    /// Lines that do not fit, with the reason of each.
    pub(super) dead: Vec<(&'a str, String)>,
    /// Values that were left out, by `drift = "discard"`.
    pub(super) discarded: u64,
}

impl<'a> Batch<'a> {
    /// Reads lines of JSON; `schema` becomes what they need.
    ///
    /// # Errors
    /// A sentence that names record and field, when one does not fit and there are no dead letters.
    pub(super) fn read(lines: &'a [u8], resource: &Resource, schema: &mut Schema) -> Result<Self, String> {
        let lines = std::str::from_utf8(lines).map_err(|_| "its records are not UTF-8".to_owned())?;
        let key = resource.key.as_deref().map(|key| column_of(resource, key));
        // The first part says what the columns are, whatever the policy.
        let drift = if schema.is_empty() { Drift::Evolve } else { resource.drift };
        for (name, stated) in &resource.types {
            schema.insert(name.clone(), *stated);
        }
        let (mut batch, mut places) = (Self::default(), HashMap::<&str, usize>::new());
        for line in lines.lines() {
            let id = |fields: &Fields<'a>| key.as_deref().and_then(|key| fields.get(key)).map(|value| value.get());
            let (fields, misfit) = match Fields::read(line) {
                Ok(fields) => batch.fit(fields, resource, drift, schema),
                Err(_) => (Fields::default(), Some("it is no object".to_owned())),
            };
            let id = id(&fields).filter(|id| *id != "null");
            let misfit = misfit.or_else(|| {
                let key = key.as_ref().filter(|_| id.is_none())?;
                Some(format!("{key}: the key is missing"))
            });
            match (misfit, id) {
                (Some(why), _) if resource.dead_letters => batch.dead.push((line, why)),
                (Some(why), id) => return Err(format!("the record {}: {why}", id.unwrap_or("without a key"))),
                (None, Some(id)) => match places.get(id) {
                    Some(at) => batch.rows[*at] = fields,
                    None => {
                        places.insert(id, batch.rows.len());
                        batch.rows.push(fields);
                    }
                },
                (None, None) => batch.rows.push(fields),
            }
        }
        Ok(batch)
    }

    /// The fields that go into columns, and why the record does not fit, where it does not.
    fn fit(
        &mut self,
        fields: Fields<'a>,
        resource: &Resource,
        drift: Drift,
        schema: &mut Schema,
    ) -> (Fields<'a>, Option<String>) {
        let (mut kept, mut misfit) = (Vec::with_capacity(fields.0.len()), None);
        for (name, value) in fields.0 {
            let Some(is) = ColumnType::of(value) else { continue };
            let known = schema.get(name.as_ref()).copied();
            let stated = resource.types.contains_key(name.as_ref());
            let wanted = match known {
                Some(known) if stated => known,
                Some(known) => known.join(is),
                None => is,
            };
            let fits = if stated { wanted.takes(value) } else { known == Some(wanted) };
            match drift {
                _ if fits => kept.push((name, value)),
                Drift::Evolve if !stated => {
                    schema.insert(name.to_string(), wanted);
                    kept.push((name, value));
                }
                Drift::Discard => self.discarded += 1,
                _ => {
                    let column =
                        known.map_or("there is no such column".into(), |known| format!("the column is {known}"));
                    misfit.get_or_insert(format!("{name}: the value is {is}, and {column}"));
                    kept.push((name, value));
                }
            }
        }
        (Fields(kept), misfit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(more: &str) -> Resource {
        toml::from_str(&format!("name = 'a'\npath = '/a'\nkey = 'id'\n{more}")).unwrap()
    }

    fn read<'a>(resource: &Resource, lines: &'a str, schema: &mut Schema) -> Result<Batch<'a>, String> {
        Batch::read(lines.as_bytes(), resource, schema)
    }

    const FIRST: &str = "{\"id\":1,\"n\":1}\n{\"id\":2,\"n\":null}\n{\"id\":1,\"n\":3}\n";

    #[test]
    fn a_record_twice_is_one_row_and_the_last_one_counts() {
        let mut schema = Schema::new();
        let batch = read(&resource(""), FIRST, &mut schema).unwrap();
        let rows: Vec<_> = batch.rows.iter().map(|row| serde_json::to_string(row).unwrap()).collect();
        assert_eq!(rows, [r#"{"id":1,"n":3}"#, r#"{"id":2}"#]);
    }

    #[test]
    fn columns_evolve_freeze_or_discard() {
        let drifted = "{\"id\":3,\"n\":1.5,\"new\":\"x\"}\n";
        let begin = |resource: &Resource| {
            let mut schema = Schema::new();
            read(resource, FIRST, &mut schema).unwrap();
            schema
        };
        let evolve = resource("");
        let mut schema = begin(&evolve);
        read(&evolve, drifted, &mut schema).unwrap();
        assert_eq!((schema["n"], schema["new"]), (ColumnType::Decimal, ColumnType::Text));
        // Never narrowed.
        read(&evolve, FIRST, &mut schema).unwrap();
        assert_eq!(schema["n"], ColumnType::Decimal);

        let freeze = resource("drift = 'freeze'");
        let mut schema = begin(&freeze);
        let before = schema.clone();
        let err = read(&freeze, drifted, &mut schema).unwrap_err();
        assert_eq!(err, "the record 3: n: the value is decimal, and the column is integer");
        let dead = resource("drift = 'freeze'\ndead_letters = true");
        let batch = read(&dead, drifted, &mut schema).unwrap();
        assert_eq!((batch.rows.len(), batch.dead[0].0), (0, drifted.trim()));
        assert_eq!(schema, before);

        let discard = resource("drift = 'discard'");
        let batch = read(&discard, drifted, &mut schema).unwrap();
        assert_eq!((batch.rows.len(), batch.discarded), (1, 2));
        assert_eq!(serde_json::to_string(&batch.rows[0]).unwrap(), r#"{"id":3}"#);
        assert_eq!(schema, before);
    }

    #[test]
    fn a_stated_type_is_kept_and_a_missing_key_is_an_error() {
        let stated = resource("types = { n = 'decimal' }");
        let mut schema = Schema::new();
        read(&stated, "{\"id\":1,\"n\":\"1.50\"}\n", &mut schema).unwrap();
        assert_eq!(schema["n"], ColumnType::Decimal);
        let err = read(&stated, "{\"id\":1,\"n\":\"much\"}\n", &mut schema).unwrap_err();
        assert_eq!(err, "the record 1: n: the value is text, and the column is decimal");
        for line in ["{\"n\":1}", "{\"id\":null}"] {
            let err = read(&stated, line, &mut schema).unwrap_err();
            assert_eq!(err, "the record without a key: id: the key is missing");
        }
        assert!(read(&stated, "[1]\n", &mut schema).unwrap_err().contains("no object"));
    }
}
