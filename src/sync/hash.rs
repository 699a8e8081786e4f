//! Hashes of rows: equal rows have equal hashes, in every version and on every machine.
//!
//! The hash is SHA-256, cut to 128 bits, over the columns sorted by name: name, then value, each with its
//! length. Values are written in a form of our own (not Arrow's, which may change): integers of every
//! width as decimal text, so that a column that widens is not sent again; floats by their bits, with one NaN and one
//! zero. A column that is added, renamed or removed changes every hash, so that its rows are sent again; a changed
//! order of columns changes none.

use crate::error::{Error, ErrorKind, Result};
use crate::warehouse::storable_batch;
use deltalake_core::arrow::array::{Array, ArrayRef, AsArray as _, RecordBatch};
use deltalake_core::arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use sha2::{Digest as _, Sha256};

/// 128 bits that stand for a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowHash([u8; 16]);

impl RowHash {
    /// As 32 hexadecimal digits.
    pub fn to_hex(self) -> String {
        let mut text = vec![0; 32];
        // Cannot fail: the buffer fits and the digits are ASCII.
        let _ = hex::encode_to_slice(self.0, &mut text);
        String::from_utf8(text).unwrap_or_default()
    }

    /// From 32 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

/// Hashes of the rows of a batch, over all columns but the first (the key).
///
/// # Errors
/// `Data` naming the column when a type cannot be stored.
pub(super) fn row_hashes(batch: &RecordBatch) -> Result<Vec<RowHash>> {
    let batch = storable_batch(batch)?;
    let schema = batch.schema();
    let mut columns: Vec<(&str, &ArrayRef)> =
        schema.fields().iter().map(|f| f.name().as_str()).zip(batch.columns()).skip(1).collect();
    columns.sort_unstable_by_key(|(name, _)| *name);
    let mut value = Vec::new();
    let mut hashes = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        let mut digest = Sha256::new();
        for (name, column) in &columns {
            value.clear();
            encode(column.as_ref(), row, &mut value)?;
            framed(&mut digest, name.as_bytes());
            framed(&mut digest, &value);
        }
        let mut hash = [0; 16];
        for (to, from) in hash.iter_mut().zip(digest.finalize()) {
            *to = from;
        }
        hashes.push(RowHash(hash));
    }
    Ok(hashes)
}

fn framed(digest: &mut Sha256, bytes: &[u8]) {
    digest.update((bytes.len() as u64).to_le_bytes());
    digest.update(bytes);
}

/// Writes one value: a letter for its kind, then its content.
fn encode(array: &dyn Array, row: usize, out: &mut Vec<u8>) -> Result<()> {
    use DataType as T;
    if array.is_null(row) {
        out.push(b'n');
        return Ok(());
    }
    match array.data_type() {
        T::Boolean => out.extend_from_slice(if array.as_boolean().value(row) { b"b1" } else { b"b0" }),
        T::Int8 => integer(i64::from(array.as_primitive::<Int8Type>().value(row)), out),
        T::Int16 => integer(i64::from(array.as_primitive::<Int16Type>().value(row)), out),
        T::Int32 => integer(i64::from(array.as_primitive::<Int32Type>().value(row)), out),
        T::Int64 => integer(array.as_primitive::<Int64Type>().value(row), out),
        T::Float32 => float(f64::from(array.as_primitive::<Float32Type>().value(row)), out),
        T::Float64 => float(array.as_primitive::<Float64Type>().value(row), out),
        T::Decimal128(_, scale) => {
            let value = array.as_primitive::<Decimal128Type>().value(row);
            out.extend_from_slice(format!("d{value}e-{scale}").as_bytes());
        }
        T::Date32 => out.extend_from_slice(format!("D{}", array.as_primitive::<Date32Type>().value(row)).as_bytes()),
        T::Timestamp(_, _) => {
            let value = array.as_primitive::<TimestampMicrosecondType>().value(row);
            out.extend_from_slice(format!("t{value}").as_bytes());
        }
        T::Utf8 => tagged(b's', array.as_string::<i32>().value(row).as_bytes(), out),
        T::Binary => tagged(b'x', array.as_binary::<i32>().value(row), out),
        T::List(_) => sequence(b'l', array.as_list::<i32>().value(row).as_ref(), out)?,
        T::Map(_, _) => sequence(b'm', &array.as_map().value(row), out)?,
        T::Struct(fields) => {
            out.push(b'{');
            for (field, column) in fields.iter().zip(array.as_struct().columns()) {
                tagged(b'k', field.name().as_bytes(), out);
                element(column.as_ref(), row, out)?;
            }
        }
        other => return Err(Error::new(ErrorKind::Failed, format!("a value of type {other} has no hash"))),
    }
    Ok(())
}

fn integer(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("i{value}").as_bytes());
}

fn float(value: f64, out: &mut Vec<u8>) {
    let value = if value.is_nan() { f64::NAN } else { value + 0.0 };
    out.push(b'f');
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

fn tagged(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn sequence(tag: u8, values: &dyn Array, out: &mut Vec<u8>) -> Result<()> {
    out.push(tag);
    for row in 0..values.len() {
        element(values, row, out)?;
    }
    Ok(())
}

/// A value inside another, with its length, so that no two sequences read alike.
fn element(array: &dyn Array, row: usize, out: &mut Vec<u8>) -> Result<()> {
    let mut inner = Vec::new();
    encode(array, row, &mut inner)?;
    tagged(b'v', &inner, out);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use deltalake_core::arrow::array::*;
    use std::sync::Arc;

    fn hashes(columns: Vec<(&str, ArrayRef)>) -> Vec<RowHash> {
        let rows = columns[0].1.len();
        let key: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows as i64));
        let columns = std::iter::once(("key", key)).chain(columns);
        row_hashes(&RecordBatch::try_from_iter_with_nullable(columns.map(|(n, c)| (n, c, true))).unwrap()).unwrap()
    }

    fn text(values: &[Option<&str>]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    #[test]
    fn the_form_is_fixed() {
        // A change here sends every row of every sync again. Length and text of the name, length of the value, then the
        // value as `encode` says: a letter, the length of the text, the text.
        let mut digest = Sha256::new();
        for part in
            [&[1, 0, 0, 0, 0, 0, 0, 0][..], b"a", &[10, 0, 0, 0, 0, 0, 0, 0], b"s", &[1, 0, 0, 0, 0, 0, 0, 0], b"x"]
        {
            digest.update(part);
        }
        let found = hashes(vec![("a", text(&[Some("x")]))]);
        assert_eq!(found[0].to_hex(), hex::encode(&digest.finalize()[..16]));
        assert_eq!(found[0].to_hex(), "3bd352952f556a0494c9129480e7e865");
    }

    #[test]
    fn order_of_columns_and_width_of_numbers_do_not_matter() {
        let (a, b) = (text(&[Some("x")]), Arc::new(Int32Array::from(vec![5])) as ArrayRef);
        let wide: ArrayRef = Arc::new(Int64Array::from(vec![5]));
        let view: ArrayRef = Arc::new(StringViewArray::from(vec!["x"]));
        let one = hashes(vec![("a", Arc::clone(&a)), ("b", Arc::clone(&b))]);
        assert_eq!(one, hashes(vec![("b", Arc::clone(&b)), ("a", Arc::clone(&a))]));
        assert_eq!(one, hashes(vec![("a", view), ("b", wide)]));
        assert_ne!(one, hashes(vec![("a", Arc::clone(&a)), ("c", b)]));
        assert_ne!(one, hashes(vec![("a", a)]));
    }

    #[test]
    fn values_that_read_alike_differ() {
        let distinct = hashes(vec![
            ("a", text(&[Some(""), None, Some("n"), Some("xs"), Some("x")])),
            ("b", text(&[Some("x"), Some("x"), Some(""), Some("y"), Some("sy")])),
        ]);
        let set: std::collections::BTreeSet<_> = distinct.iter().collect();
        assert_eq!(set.len(), distinct.len());
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN, 1.0]));
        let found = hashes(vec![("a", floats)]);
        assert!(found[0] == found[1] && found[2] == found[3] && found[0] != found[4]);
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(vec![
            Some(vec![Some(1), Some(2)]),
            Some(vec![Some(12)]),
            Some(vec![]),
            None,
            Some(vec![None]),
        ]);
        let found = hashes(vec![("a", Arc::new(lists))]);
        assert_eq!(found.iter().collect::<std::collections::BTreeSet<_>>().len(), 5);
    }
}
