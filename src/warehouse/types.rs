//! Which types a table stores, and how others are brought to them without loss.
//!
//! Delta (reader 1, writer 2) has signed integers, floats, decimals, text, bytes, booleans, dates, UTC
//! timestamps in microseconds, lists, structs and maps. Other Arrow types become the next larger of these:
//!
//! | from | to | a value that does not fit |
//! |---|---|---|
//! | unsigned 8, 16, 32 bits | `Int16`, `Int32`, `Int64` | cannot happen |
//! | `UInt64` | `Int64` | is an error |
//! | `Float16` | `Float32` | cannot happen |
//! | timestamps in s, ms | microseconds, UTC | is an error |
//! | timestamps in ns | microseconds, UTC | with a part below a microsecond: is an error |
//! | `Date64` | `Date32` | with a time of day: is an error |
//! | text, binary views, large, dictionary, run-end encoded | the plain type | cannot happen |
//! | small decimals | `Decimal128` of the same precision | cannot happen |
//! | `LargeList`, `ListView`, `FixedSizeList` | `List` | cannot happen |
//!
//! A timestamp without a zone is taken as UTC, as DataFusion compares it. Times, durations, intervals,
//! 256-bit decimals, unions and columns of only NULL are refused. All columns are nullable, and lists call
//! their element `element`, as Spark does.
//!
//! Text, binary and their dictionaries have one form on disk; a batch is written in the form in which it
//! came, and only the table's schema says `Utf8`.

use crate::error::{Error, ErrorKind, Result};
use deltalake_core::arrow::array::{
    Array, ArrayRef, AsArray as _, ListArray, MapArray, RecordBatch, RecordBatchOptions, StructArray,
    TimestampNanosecondArray,
};
use deltalake_core::arrow::compute::{CastOptions, cast_with_options};
use deltalake_core::arrow::datatypes::{
    DataType, Date64Type, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit, TimestampNanosecondType,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Characters that Delta without column mapping (and Parquet readers) refuse in column names.
const FORBIDDEN: &[char] = &[' ', ',', ';', '{', '}', '(', ')', '\n', '\t', '='];
const MS_PER_DAY: i64 = 86_400_000;

/// The schema a table has after rows of `schema` were stored in it.
///
/// # Errors
/// `Data` naming the column when a type or a name cannot be stored.
pub fn storable_schema(schema: &Schema) -> Result<SchemaRef> {
    convert_schema(schema, Form::Stored)
}

/// A batch as it would be read back from a table.
///
/// # Errors
/// `Data` naming the column when a type, a name or a value cannot be stored.
pub fn storable_batch(batch: &RecordBatch) -> Result<RecordBatch> {
    let schema = storable_schema(batch.schema_ref())?;
    let columns = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| convert_array(column, field.data_type(), field.name()))
        .collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema, columns, &options).map_err(|e| unfit("*", e))
}

/// The schema in which batches are handed to the Parquet writer: as stored, except that text and binary
/// keep the form in which they came.
pub(super) fn written_schema(schema: &Schema) -> Result<SchemaRef> {
    convert_schema(schema, Form::Written)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Stored,
    Written,
}

fn convert_schema(schema: &Schema, form: Form) -> Result<SchemaRef> {
    if schema.fields().is_empty() {
        return Err(Error::new(ErrorKind::Data, "a table needs at least one column"));
    }
    check_names(schema.fields())?;
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .map(|f| Ok(Field::new(f.name(), convert_type(f.data_type(), f.name(), form)?, true)))
        .collect::<Result<_>>()?;
    Ok(Arc::new(Schema::new(fields)))
}

fn check_names(fields: &Fields) -> Result<()> {
    let mut seen = BTreeMap::new();
    for field in fields {
        let name = field.name();
        if name.is_empty() || name.contains(FORBIDDEN) {
            return Err(Error::new(ErrorKind::Data, format!("column `{name}` cannot be stored under this name"))
                .with_help("give it a name without spaces and brackets, as in `count(*) AS visits`"));
        }
        if let Some(other) = seen.insert(name.to_lowercase(), name) {
            return Err(Error::new(ErrorKind::Data, format!("columns `{other}` and `{name}` differ only in case"))
                .with_help("name one of them differently: tables do not tell case apart"));
        }
        if let DataType::Struct(inner) = field.data_type() {
            check_names(inner)?;
        }
    }
    Ok(())
}

fn convert_type(from: &DataType, column: &str, form: Form) -> Result<DataType> {
    use DataType as T;
    let stored = form == Form::Stored;
    Ok(match from {
        T::Boolean | T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::Float32 | T::Float64 | T::Date32 => from.clone(),
        T::UInt8 => T::Int16,
        T::UInt16 => T::Int32,
        T::UInt32 | T::UInt64 => T::Int64,
        T::Float16 => T::Float32,
        T::Date64 => T::Date32,
        T::Timestamp(_, _) => T::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        T::Utf8 | T::LargeUtf8 | T::Utf8View => {
            if stored {
                T::Utf8
            } else {
                from.clone()
            }
        }
        T::Binary | T::LargeBinary | T::BinaryView => {
            if stored {
                T::Binary
            } else {
                from.clone()
            }
        }
        T::FixedSizeBinary(_) => T::Binary,
        T::Decimal32(p, s) | T::Decimal64(p, s) | T::Decimal128(p, s) if *s >= 0 => T::Decimal128(*p, *s),
        T::Dictionary(_, values) if is_text(values) && !stored => from.clone(),
        T::Dictionary(_, values) => convert_type(values, column, form)?,
        T::RunEndEncoded(_, values) => convert_type(values.data_type(), column, form)?,
        T::List(e) | T::LargeList(e) | T::ListView(e) | T::LargeListView(e) | T::FixedSizeList(e, _) => {
            T::List(element(e, column, form)?)
        }
        T::Struct(fields) if !fields.is_empty() => T::Struct(
            fields
                .iter()
                .map(|f| {
                    let inner = convert_type(f.data_type(), &format!("{column}.{}", f.name()), form)?;
                    Ok(Field::new(f.name(), inner, true))
                })
                .collect::<Result<Vec<_>>>()?
                .into(),
        ),
        T::Map(entries, _) => map_type(entries, column, form)?,
        _ => return Err(refused(column, from)),
    })
}

fn is_text(data_type: &DataType) -> bool {
    use DataType as T;
    matches!(data_type, T::Utf8 | T::LargeUtf8 | T::Utf8View | T::Binary | T::LargeBinary | T::BinaryView)
}

fn element(field: &FieldRef, column: &str, form: Form) -> Result<FieldRef> {
    Ok(Arc::new(Field::new("element", convert_type(field.data_type(), column, form)?, true)))
}

fn map_type(entries: &FieldRef, column: &str, form: Form) -> Result<DataType> {
    let DataType::Struct(fields) = entries.data_type() else {
        return Err(refused(column, entries.data_type()));
    };
    let [key, value] = fields.as_ref() else {
        return Err(refused(column, entries.data_type()));
    };
    let key = Field::new("key", convert_type(key.data_type(), column, form)?, false);
    let value = Field::new("value", convert_type(value.data_type(), column, form)?, true);
    let entries = Field::new("key_value", DataType::Struct(vec![key, value].into()), false);
    Ok(DataType::Map(Arc::new(entries), false))
}

fn refused(column: &str, data_type: &DataType) -> Error {
    let help = match data_type {
        DataType::Null => "say which type it has, as in `CAST(NULL AS VARCHAR)`",
        DataType::Time32(_) | DataType::Time64(_) => "store it as text, or as a timestamp with its date",
        DataType::Duration(_) | DataType::Interval(_) => {
            "store it as a number with its unit, as in `EXTRACT(EPOCH FROM x) AS wait_s`"
        }
        DataType::Decimal128(..) | DataType::Decimal256(..) => "cast it to DECIMAL(38, s) with s of 0 or more",
        _ => "cast it to a number, text, date or timestamp",
    };
    Error::new(ErrorKind::Data, format!("column `{column}` has the type {data_type}, which a table cannot store"))
        .with_help(help)
}

/// Brings an array to `target`, the written form of its type.
///
/// # Errors
/// `Data` naming the column when a value does not fit.
pub(super) fn convert_array(array: &ArrayRef, target: &DataType, column: &str) -> Result<ArrayRef> {
    use DataType as T;
    let from = array.data_type();
    if from == target {
        return Ok(Arc::clone(array));
    }
    match (from, target) {
        (T::Dictionary(_, values), _) => convert_array(&cast(array, values, column)?, target, column),
        (T::RunEndEncoded(_, values), _) => convert_array(&cast(array, values.data_type(), column)?, target, column),
        (T::List(_), T::List(to)) => {
            let list = array.as_list::<i32>();
            let values = convert_array(list.values(), to.data_type(), column)?;
            let made = ListArray::try_new(Arc::clone(to), list.offsets().clone(), values, list.nulls().cloned());
            made.map(|a| Arc::new(a) as ArrayRef).map_err(|e| unfit(column, e))
        }
        (T::LargeList(e) | T::ListView(e) | T::LargeListView(e) | T::FixedSizeList(e, _), T::List(_)) => {
            convert_array(&cast(array, &T::List(Arc::clone(e)), column)?, target, column)
        }
        (T::Struct(_), T::Struct(to)) => convert_struct(array.as_struct(), to, column).map(|a| Arc::new(a) as ArrayRef),
        (T::Map(_, _), T::Map(to, _)) => convert_map(array.as_map(), to, column),
        (T::Timestamp(TimeUnit::Nanosecond, _), _) => {
            whole_microseconds(array.as_primitive::<TimestampNanosecondType>(), column)?;
            cast(array, target, column)
        }
        (T::Date64, _) => {
            if array.as_primitive::<Date64Type>().iter().flatten().any(|ms| ms % MS_PER_DAY != 0) {
                return Err(Error::new(ErrorKind::Data, format!("column `{column}` is a date with a time of day"))
                    .with_help("cast it to TIMESTAMP, or to DATE if the time does not matter"));
            }
            cast(array, target, column)
        }
        _ => cast(array, target, column),
    }
}

fn convert_struct(array: &StructArray, to: &Fields, column: &str) -> Result<StructArray> {
    let columns = array
        .columns()
        .iter()
        .zip(to)
        .map(|(a, f)| convert_array(a, f.data_type(), &format!("{column}.{}", f.name())))
        .collect::<Result<Vec<_>>>()?;
    StructArray::try_new(to.clone(), columns, array.nulls().cloned()).map_err(|e| unfit(column, e))
}

fn convert_map(array: &MapArray, to: &FieldRef, column: &str) -> Result<ArrayRef> {
    let DataType::Struct(fields) = to.data_type() else { return Err(refused(column, to.data_type())) };
    let entries = convert_struct(array.entries(), fields, column)?;
    let made = MapArray::try_new(Arc::clone(to), array.offsets().clone(), entries, array.nulls().cloned(), false);
    made.map(|a| Arc::new(a) as ArrayRef).map_err(|e| unfit(column, e))
}

fn whole_microseconds(array: &TimestampNanosecondArray, column: &str) -> Result<()> {
    if array.iter().flatten().all(|ns| ns % 1000 == 0) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Data, format!("column `{column}` has timestamps finer than a microsecond"))
        .with_help(format!("round them, as in `date_trunc('microsecond', {column}) AS {column}`")))
}

/// Casts; a value that does not fit is an error, never NULL.
pub(super) fn cast(array: &dyn Array, to: &DataType, column: &str) -> Result<ArrayRef> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(array, to, &options).map_err(|e| unfit(column, e))
}

fn unfit(column: &str, e: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Data, format!("column `{column}` has a value that a table cannot store")).caused_by(e)
}

#[cfg(test)]
mod tests {
    use super::*;
    use deltalake_core::arrow::array::*;
    use deltalake_core::arrow::datatypes::{Int32Type, IntervalUnit};

    fn one(data_type: DataType) -> Result<DataType> {
        let schema = Schema::new(vec![Field::new("c", data_type, false)]);
        storable_schema(&schema).map(|s| s.field(0).data_type().clone())
    }

    fn stored(array: ArrayRef) -> Result<ArrayRef> {
        let schema = Schema::new(vec![Field::new("c", array.data_type().clone(), true)]);
        convert_array(&array, written_schema(&schema)?.field(0).data_type(), "c")
    }

    fn utc() -> DataType {
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
    }

    #[test]
    fn types_become_the_next_larger_one() {
        use DataType as T;
        let text = T::Dictionary(Box::new(T::Int32), Box::new(T::Utf8View));
        let cases = [
            (T::UInt8, T::Int16),
            (T::UInt32, T::Int64),
            (T::UInt64, T::Int64),
            (T::Float16, T::Float32),
            (T::Utf8View, T::Utf8),
            (text, T::Utf8),
            (T::BinaryView, T::Binary),
            (T::Date64, T::Date32),
            (T::Decimal64(10, 2), T::Decimal128(10, 2)),
            (T::Timestamp(TimeUnit::Nanosecond, None), utc()),
            (T::Timestamp(TimeUnit::Second, Some("+02:00".into())), utc()),
        ];
        for (from, to) in cases {
            assert_eq!(one(from.clone()).unwrap(), to, "{from}");
        }
        let list = T::LargeList(Arc::new(Field::new("item", T::UInt16, false)));
        assert_eq!(one(list).unwrap(), T::List(Arc::new(Field::new("element", T::Int32, true))));
    }

    #[test]
    fn what_a_table_lacks_is_refused_by_name_with_a_way_out() {
        use DataType as T;
        for from in [
            T::Null,
            T::Time64(TimeUnit::Nanosecond),
            T::Duration(TimeUnit::Second),
            T::Interval(IntervalUnit::DayTime),
            T::Decimal256(40, 2),
            T::Decimal128(10, -2),
        ] {
            let error = one(from.clone()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Data);
            assert!(error.to_string().contains("`c`"), "{error}");
            assert!(error.help().is_some(), "{from}");
        }
        let inner = T::Struct(vec![Field::new("wait", T::Duration(TimeUnit::Second), true)].into());
        assert!(one(inner).unwrap_err().to_string().contains("`c.wait`"));
    }

    #[test]
    fn names_that_readers_trip_over_are_refused() {
        let schema = |names: &[&str]| {
            Schema::new(names.iter().map(|n| Field::new(*n, DataType::Int64, true)).collect::<Vec<_>>())
        };
        let error = storable_schema(&schema(&["count(*)"])).unwrap_err();
        assert!(error.help().unwrap().contains("AS"), "{error}");
        assert!(storable_schema(&schema(&["Name", "name"])).is_err());
        assert!(storable_schema(&schema(&[])).is_err());
        assert!(storable_schema(&schema(&["größe", "a.b"])).is_ok());
    }

    #[test]
    fn exact_values_pass_and_others_fail() {
        let ok = stored(Arc::new(TimestampNanosecondArray::from(vec![Some(5_000), None]))).unwrap();
        assert_eq!(ok.data_type(), &utc());
        assert_eq!(ok.as_primitive::<deltalake_core::arrow::datatypes::TimestampMicrosecondType>().value(0), 5);
        let fine = stored(Arc::new(TimestampNanosecondArray::from(vec![5_001]))).unwrap_err();
        assert!(fine.help().unwrap().contains("date_trunc"), "{fine}");
        assert!(stored(Arc::new(UInt64Array::from(vec![u64::MAX]))).is_err());
        assert!(stored(Arc::new(TimestampSecondArray::from(vec![i64::MAX]))).is_err());
        assert!(stored(Arc::new(Date64Array::from(vec![1]))).is_err());
        assert!(stored(Arc::new(Date64Array::from(vec![MS_PER_DAY]))).is_ok());
    }

    #[test]
    fn a_zone_is_an_instant() {
        let berlin = TimestampSecondArray::from(vec![3_600]).with_timezone("+01:00");
        let made = stored(Arc::new(berlin)).unwrap();
        let made = made.as_primitive::<deltalake_core::arrow::datatypes::TimestampMicrosecondType>();
        assert_eq!(made.value(0), 3_600_000_000);
    }

    #[test]
    fn nested_values_and_dictionaries_of_numbers_are_converted() {
        let list = ListArray::from_iter_primitive::<deltalake_core::arrow::datatypes::UInt32Type, _, _>(vec![
            Some(vec![Some(1), None]),
            None,
            Some(vec![Some(u32::MAX)]),
        ]);
        let made = stored(Arc::new(list.slice(1, 2))).unwrap();
        assert!(made.is_null(0));
        let last = made.as_list::<i32>().value(1);
        assert_eq!(last.as_primitive::<deltalake_core::arrow::datatypes::Int64Type>().value(0), i64::from(u32::MAX));
        let keys = Int32Array::from(vec![Some(1), None, Some(0)]);
        let dictionary = DictionaryArray::<Int32Type>::new(keys, Arc::new(UInt8Array::from(vec![7, 255])));
        let made = stored(Arc::new(dictionary)).unwrap();
        assert_eq!(
            made.as_primitive::<deltalake_core::arrow::datatypes::Int16Type>().iter().collect::<Vec<_>>(),
            [Some(255), None, Some(7)]
        );
    }
}
