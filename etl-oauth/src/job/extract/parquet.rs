//! Parquet files with typed columns, by the feature `parquet`.

#[cfg(feature = "parquet")]
pub(super) use imp::encode;

#[cfg(feature = "parquet")]
mod imp {
    use std::sync::Arc;

    use jiff::{Timestamp, civil::Date};
    use parquet::{
        basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical},
        data_type::{
            BoolType, ByteArray, ByteArrayType, FixedLenByteArray, FixedLenByteArrayType, Int32Type, Int64Type,
        },
        errors::Result,
        file::{
            properties::WriterProperties,
            writer::{SerializedColumnWriter, SerializedFileWriter},
        },
        schema::types::Type,
    };

    use super::super::{
        batch::Batch,
        column::{ColumnType, Schema},
    };

    /// The digits that a Parquet decimal may have.
    const DIGITS: usize = 38;

    /// A column of a file: its type there, with the values as they came; `None` for a null.
    struct Column<'a> {
        name: &'a str,
        kind: Kind,
        values: Vec<Option<&'a str>>,
    }

    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Kind {
        Boolean,
        Integer,
        /// So many digits, and so many of them behind the point.
        Decimal(i32, i32),
        Timestamp,
        Date,
        Text,
        Json,
    }

    /// A file of the rows. A column has the type that the schema says; decimals have the digits that the file's values need,
    /// and are text where those are more than Parquet has.
    ///
    /// # Errors
    /// What the library says.
    pub(in crate::job::extract) fn encode(batch: &Batch<'_>, schema: &Schema) -> std::result::Result<Vec<u8>, String> {
        let columns: Vec<_> = schema.iter().map(|(name, kind)| column(batch, name, *kind)).collect();
        write(&columns).map_err(|err| format!("a Parquet file can't be made: {err}"))
    }

    fn column<'a>(batch: &Batch<'a>, name: &'a str, kind: ColumnType) -> Column<'a> {
        let values = batch.rows.iter().map(|row| row.get(name).map(|value| value.get()));
        let values: Vec<_> = values.map(|value| value.filter(|value| *value != "null")).collect();
        let kind = match kind {
            ColumnType::Boolean => Kind::Boolean,
            ColumnType::Integer => Kind::Integer,
            ColumnType::Decimal => digits(&values).map_or(Kind::Text, |(all, places)| Kind::Decimal(all, places)),
            ColumnType::Timestamp => Kind::Timestamp,
            ColumnType::Date => Kind::Date,
            ColumnType::Text => Kind::Text,
            ColumnType::Json => Kind::Json,
        };
        Column { name, kind, values }
    }

    fn write(columns: &[Column<'_>]) -> Result<Vec<u8>> {
        let fields = columns.iter().map(|column| field(column).map(Arc::new)).collect::<Result<_>>()?;
        let schema = Type::group_type_builder("record").with_fields(fields).build()?;
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let mut file = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties))?;
        let mut group = file.next_row_group()?;
        for column in columns {
            let Some(mut writer) = group.next_column()? else { break };
            fill(column, &mut writer)?;
            writer.close()?;
        }
        group.close()?;
        file.into_inner()
    }

    fn field(column: &Column<'_>) -> Result<Type> {
        let (physical, logical) = match column.kind {
            Kind::Boolean => (Physical::BOOLEAN, None),
            Kind::Integer => (Physical::INT64, None),
            Kind::Decimal(digits, places) => {
                (Physical::FIXED_LEN_BYTE_ARRAY, Some(LogicalType::decimal(places, digits)))
            }
            Kind::Timestamp => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MICROS))),
            Kind::Date => (Physical::INT32, Some(LogicalType::Date)),
            Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Kind::Json => (Physical::BYTE_ARRAY, Some(LogicalType::Json)),
        };
        let mut builder = Type::primitive_type_builder(column.name, physical)
            .with_repetition(Repetition::OPTIONAL)
            .with_logical_type(logical);
        if let Kind::Decimal(digits, places) = column.kind {
            builder = builder.with_length(16).with_precision(digits).with_scale(places);
        }
        builder.build()
    }

    fn fill(column: &Column<'_>, writer: &mut SerializedColumnWriter<'_>) -> Result<()> {
        let there: Vec<i16> = column.values.iter().map(|value| value.is_some().into()).collect();
        let values = column.values.iter().flatten();
        let text = |value: &&str| unquoted(value);
        match column.kind {
            Kind::Boolean => {
                let values: Vec<bool> = values.map(|value| *value == "true").collect();
                writer.typed::<BoolType>().write_batch(&values, Some(&there), None)?;
            }
            Kind::Integer => {
                let values: Vec<i64> = values.map(|value| text(value).parse().unwrap_or_default()).collect();
                writer.typed::<Int64Type>().write_batch(&values, Some(&there), None)?;
            }
            Kind::Decimal(_, places) => {
                let unscaled = |value: &&str| unscaled(&text(value), places).unwrap_or_default().to_be_bytes().to_vec();
                let values: Vec<FixedLenByteArray> =
                    values.map(|value| ByteArray::from(unscaled(value)).into()).collect();
                writer.typed::<FixedLenByteArrayType>().write_batch(&values, Some(&there), None)?;
            }
            Kind::Timestamp => {
                let micros = |value: &&str| text(value).parse().map_or(0, Timestamp::as_microsecond);
                let values: Vec<i64> = values.map(micros).collect();
                writer.typed::<Int64Type>().write_batch(&values, Some(&there), None)?;
            }
            Kind::Date => {
                let values: Vec<i32> = values.map(|value| days(&text(value))).collect();
                writer.typed::<Int32Type>().write_batch(&values, Some(&there), None)?;
            }
            Kind::Text => {
                let values: Vec<ByteArray> = values.map(|value| text(value).into_bytes().into()).collect();
                writer.typed::<ByteArrayType>().write_batch(&values, Some(&there), None)?;
            }
            Kind::Json => {
                let values: Vec<ByteArray> = values.map(|value| value.as_bytes().to_vec().into()).collect();
                writer.typed::<ByteArrayType>().write_batch(&values, Some(&there), None)?;
            }
        }
        Ok(())
    }

    /// A JSON string's text; anything else as it is written.
    fn unquoted(value: &str) -> String {
        if value.starts_with('"') { serde_json::from_str(value).unwrap_or_default() } else { value.to_owned() }
    }

    fn days(text: &str) -> i32 {
        let epoch = Date::constant(1970, 1, 1);
        text.parse::<Date>().ok().and_then(|day| epoch.until(day).ok()).map_or(0, |span| span.get_days())
    }

    /// The digits of the values altogether and behind the point; `None` where one has more than there may be.
    fn digits(values: &[Option<&str>]) -> Option<(i32, i32)> {
        let (mut whole, mut places) = (1, 0);
        for value in values.iter().flatten() {
            let (_, digits, scale) = parts(&unquoted(value))?;
            places = places.max(scale);
            whole = whole.max(digits.len().saturating_sub(scale));
        }
        let all = whole + places;
        (all <= DIGITS).then_some((i32::try_from(all).ok()?, i32::try_from(places).ok()?))
    }

    /// Sign, digits, and how many of them are behind the point, of a JSON number.
    fn parts(number: &str) -> Option<(bool, String, usize)> {
        let (negative, number) = number.strip_prefix('-').map_or((false, number), |rest| (true, rest));
        let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
        let exponent: i32 = exponent.parse().ok().filter(|exponent: &i32| exponent.abs() <= 64)?;
        let (whole, behind) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits = format!("{whole}{behind}");
        let mut scale = i32::try_from(behind.len()).ok()? - exponent;
        while scale < 0 {
            digits.push('0');
            scale += 1;
        }
        let scale = usize::try_from(scale).ok()?;
        let digits = digits.trim_start_matches('0').to_owned();
        Some((negative, digits, scale))
    }

    fn unscaled(number: &str, places: i32) -> Option<i128> {
        let (negative, digits, scale) = parts(number)?;
        let missing = usize::try_from(places).ok()?.checked_sub(scale)?;
        let all = digits + &"0".repeat(missing);
        let value: i128 = if all.is_empty() { 0 } else { all.parse().ok()? };
        Some(if negative { -value } else { value })
    }

    #[cfg(test)]
    mod tests {
        use parquet::{
            file::reader::{FileReader, SerializedFileReader},
            record::{Field, RowAccessor},
        };

        use super::*;

        const LINES: &str = r#"{"id":9223372036854775807,"big":18446744073709551615,"price":12.50,"at":"2026-11-21T12:00:00.5Z","day":"2026-11-21","ok":true,"name":"ü\n","tags":[1, 2]}
{"id":-1,"big":1,"price":-0.125,"ok":null,"name":null}
"#;

        #[test]
        fn a_file_has_typed_columns_and_exact_numbers() {
            let resource = toml::from_str("name = 'a'\npath = '/a'\nkey = 'id'").unwrap();
            let mut schema = Schema::new();
            let batch = Batch::read(LINES.as_bytes(), &resource, &mut schema).unwrap();
            let file = bytes::Bytes::from(encode(&batch, &schema).unwrap());
            let reader = SerializedFileReader::new(file).unwrap();
            let columns = reader.metadata().file_metadata().schema_descr().columns().to_vec();
            let of = |name: &str| columns.iter().position(|column| column.name() == name).unwrap();
            let decimal = |name: &str| (columns[of(name)].type_precision(), columns[of(name)].type_scale());
            assert_eq!((decimal("big"), decimal("price")), ((20, 0), (5, 3)));
            assert_eq!(columns[of("day")].logical_type_ref(), Some(&LogicalType::Date));
            let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
            let number = |bytes: &[u8]| i128::from_be_bytes(bytes.try_into().unwrap());
            assert_eq!(rows[0].get_long(of("id")).unwrap(), i64::MAX);
            assert_eq!(number(rows[0].get_decimal(of("big")).unwrap().data()), i128::from(u64::MAX));
            assert_eq!(number(rows[1].get_decimal(of("price")).unwrap().data()), -125);
            assert_eq!(rows[0].get_timestamp_micros(of("at")).unwrap(), 1_795_262_400_500_000);
            let day = rows[0].get_column_iter().nth(of("day")).unwrap().1;
            assert_eq!(*day, Field::Date(20_778));
            assert!(rows[0].get_bool(of("ok")).unwrap());
            assert_eq!(rows[0].get_string(of("name")).unwrap(), "ü\n");
            assert_eq!(rows[0].get_string(of("tags")).unwrap(), "[1, 2]");
            assert!(rows[1].get_string(of("name")).is_err(), "a null");
        }

        #[test]
        fn a_decimal_with_more_digits_than_parquet_has_is_text() {
            assert_eq!(digits(&[Some("1e3"), Some("1.5e-3"), None]), Some((8, 4)));
            assert_eq!(unscaled("1.5e-3", 4), Some(15));
            assert_eq!(unscaled("-0", 2), Some(0));
            assert_eq!(digits(&[Some("1e50")]), None);
            assert_eq!(digits(&[Some("0.1"), Some("12345678901234567890123456789012345678")]), None);
        }
    }
}
