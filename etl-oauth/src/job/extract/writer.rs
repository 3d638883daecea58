use bytes::Bytes;
use serde_json::value::RawValue;

use super::{
    plan::{Format, Formulas, Style},
    resource::Resource,
};
use token_keeper::api::json;

/// A part is closed after the page that makes it this long.
const FULL: usize = 8 << 20;

/// A file in the making.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
    pub(super) records: u64,
}

impl Format {
    pub(super) fn ending(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
        }
    }

    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Jsonl => "application/x-ndjson",
            Self::Csv => "text/csv",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }
}

impl Writer {
    /// An empty part in the memory of one that was written: what is given back to the system for each and taken again tears
    /// holes into it.
    pub(super) fn reusing(mut written: Bytes) -> Self {
        written.clear();
        Self { bytes: written.into(), records: 0 }
    }

    /// Whether it is long enough to be written.
    pub(super) fn is_full(&self, batch: Option<u64>) -> bool {
        self.bytes.len() >= FULL || batch.is_some_and(|batch| self.records >= batch)
    }

    /// Adds a record.
    pub(super) fn add(&mut self, record: &RawValue, resource: &Resource, style: Style) -> Result<(), String> {
        self.records += 1;
        if self.bytes.capacity() == 0 {
            // Once, and with room for a last page: no growing by copies.
            self.bytes.reserve(FULL + FULL / 4);
        }
        match style.format {
            // The file is made of the lines when the part is full.
            Format::Jsonl | Format::Parquet => self.line(record.get()),
            Format::Csv => self.row(record, resource, style.formulas),
        }
    }

    /// The record as it came, unless line breaks stand between its members: in a string there are none.
    fn line(&mut self, record: &str) -> Result<(), String> {
        if memchr::memchr2(b'\n', b'\r', record.as_bytes()).is_some() {
            let value: Box<RawValue> = compact(record).map_err(|err| err.to_string())?;
            self.bytes.extend_from_slice(value.get().as_bytes());
        } else {
            self.bytes.extend_from_slice(record.as_bytes());
        }
        self.bytes.push(b'\n');
        Ok(())
    }

    fn row(&mut self, record: &RawValue, resource: &Resource, formulas: Formulas) -> Result<(), String> {
        let mut writer = csv::Writer::from_writer(&mut self.bytes);
        let failed = |err: csv::Error| err.to_string();
        if self.records == 1 {
            writer.write_record(&resource.columns).map_err(failed)?;
        }
        for column in &resource.columns {
            let field = json::at(record.get().as_bytes(), column).map_err(|err| err.to_string())?;
            let text = match field.map(RawValue::get) {
                None => String::new(),
                Some(text) if text.starts_with('"') => serde_json::from_str(text).map_err(|err| err.to_string())?,
                Some(text) => text.to_owned(),
            };
            let text = if formulas == Formulas::Escape && is_formula(&text) { format!("'{text}") } else { text };
            writer.write_field(text).map_err(failed)?;
        }
        writer.write_record(None::<&[u8]>).map_err(failed)?;
        writer.flush().map_err(|err| err.to_string())
    }
}

/// Whether a spreadsheet takes a cell for a formula (OWASP, "CSV injection"). A number is none, whatever its sign.
fn is_formula(text: &str) -> bool {
    let first = text.trim_start_matches([' ', '\t', '\r', '\n']);
    first.starts_with(['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'])
        && first.parse::<f64>().is_err()
}

/// The same JSON on one line. Line breaks within strings are escapes, so that only white space goes.
fn compact(record: &str) -> serde_json::Result<Box<RawValue>> {
    let line: String = record.chars().map(|c| if matches!(c, '\n' | '\r') { ' ' } else { c }).collect();
    RawValue::from_string(line)
}

/// What a record says of its cursor and its key.
pub(super) fn text(record: &RawValue, field: &str) -> Option<String> {
    json::text(record.get().as_bytes(), field).ok().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn resource(columns: &[&str]) -> Resource {
        let mut resource: Resource = toml::from_str("name = 'a'\npath = '/a'").unwrap();
        resource.columns = columns.iter().map(|column| (*column).to_owned()).collect();
        resource
    }

    fn part(format: Format, columns: &[&str], records: &[&str]) -> String {
        written(Style { format, ..Style::default() }, columns, records)
    }

    fn written(style: Style, columns: &[&str], records: &[&str]) -> String {
        let (resource, mut part) = (resource(columns), Writer::default());
        for record in records {
            part.add(serde_json::from_str(record).unwrap(), &resource, style).unwrap();
        }
        String::from_utf8(part.bytes).unwrap()
    }

    #[test]
    fn a_record_is_a_line_and_its_numbers_stay_as_they_are() {
        let lines =
            part(Format::Jsonl, &[], &["{\"a\": 1.10}", "{\n  \"a\": \"x\\n\",\r\n  \"b\": 12345678901234567890\n}"]);
        let (one, two) = lines.trim_end().split_once('\n').unwrap();
        assert_eq!(one, "{\"a\": 1.10}");
        assert!(!two.contains('\n') && two.contains("12345678901234567890"));
        assert_eq!(serde_json::from_str::<Value>(two).unwrap()["a"], "x\n");
    }

    #[test]
    fn a_row_has_the_columns_quoted_where_they_must_be() {
        let rows = part(
            Format::Csv,
            &["id", "who.name", "tags", "gone"],
            &[r#"{"id":1,"who":{"name":"a \"b\", c"},"tags":[1,2]}"#, r#"{"id":2,"gone":null}"#],
        );
        assert_eq!(rows, "id,who.name,tags,gone\n1,\"a \"\"b\"\", c\",\"[1,2]\",\n2,,,\n");
    }

    #[test]
    fn s21_a_cell_that_a_spreadsheet_would_run_is_shown_as_text_unless_the_plan_keeps_it() {
        for (cell, escaped) in [
            ("=1+1", true),
            ("+cmd|' /C calc'!A0", true),
            ("-2+3", true),
            ("@SUM(1)", true),
            (" =1", true),
            ("\t=1", true),
            ("\u{ff1d}1", true),
            ("-12.50", false),
            ("+49", false),
            ("-1e5", false),
            ("a=b", false),
            ("", false),
        ] {
            let record = format!(r#"{{"a":{},"n":-5}}"#, serde_json::to_string(cell).unwrap());
            let read = |formulas| {
                let text = written(Style { format: Format::Csv, formulas }, &["a", "n"], &[&record]);
                let mut reader = csv::Reader::from_reader(text.as_bytes());
                let row = reader.records().next().unwrap().unwrap();
                (row[0].to_owned(), row[1].to_owned())
            };
            let wanted = if escaped { format!("'{cell}") } else { cell.to_owned() };
            assert_eq!(read(Formulas::Escape), (wanted, "-5".to_owned()));
            assert_eq!(read(Formulas::Keep).0, cell);
            let lines = written(Style::default(), &[], &[&record]);
            assert_eq!(lines.trim_end(), record, "JSON is no spreadsheet's");
        }
    }
}
