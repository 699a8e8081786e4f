//! Rows as the text that `COPY ... FROM STDIN` reads: one line a row, values parted by tabs, `\N` for NULL.

use super::or_unwritable;
use crate::error::Result;
use crate::sync::destination::Batch;
use crate::sync::json::objects;
use bytes::Bytes;
use deltalake_core::arrow::array::{Array, ArrayRef, AsArray as _};
use deltalake_core::arrow::compute::{CastOptions, cast_with_options};
use deltalake_core::arrow::datatypes::DataType;
use deltalake_core::arrow::util::display::FormatOptions;

/// Bytes that are sent at once.
const PART: usize = 1 << 20;

/// The lines of a batch, in parts.
pub(super) struct Lines<'b> {
    batch: &'b Batch,
    columns: Vec<Column<'b>>,
    /// Operation, number, idempotency key and epoch stand before the columns; else the operation only.
    changes: bool,
    next: usize,
}

/// How the values of a column become text.
enum Column<'b> {
    Text(ArrayRef),
    Binary(&'b ArrayRef),
    Json(Vec<Option<String>>),
}

/// A value that has no text is an error, not NULL.
const STRICT: CastOptions<'static> = CastOptions { safe: false, format_options: FormatOptions::new() };

impl<'b> Lines<'b> {
    pub(super) fn new(batch: &'b Batch, changes: bool) -> Result<Self> {
        let mut columns = Vec::new();
        for (index, array) in batch.rows.columns().iter().enumerate() {
            columns.push(match array.data_type() {
                DataType::Binary => Column::Binary(array),
                nested if nested.is_nested() => Column::Json(json(batch, index)?),
                _ => Column::Text(or_unwritable(cast_with_options(array, &DataType::Utf8, &STRICT))?),
            });
        }
        Ok(Self { batch, columns, changes, next: 0 })
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) {
        let batch = self.batch;
        // in mode `replace` no row has an operation
        let operation = batch.operations.get(row).map_or("insert", |o| o.word());
        out.extend_from_slice(operation.as_bytes());
        if self.changes {
            let (number, key) = (batch.changes.get(row), batch.idempotency_keys.get(row));
            let (number, key) = (number.copied().unwrap_or_default(), key.map_or("", String::as_str));
            out.extend_from_slice(format!("\t{number}\t{key}\t{}", batch.id.epoch).as_bytes());
        }
        for column in &self.columns {
            out.push(b'\t');
            match column {
                Column::Text(array) if array.is_null(row) => out.extend_from_slice(b"\\N"),
                Column::Binary(array) if array.is_null(row) => out.extend_from_slice(b"\\N"),
                Column::Text(array) => escaped(array.as_string::<i32>().value(row), out),
                Column::Binary(array) => {
                    out.extend_from_slice(b"\\\\x");
                    out.extend_from_slice(hex::encode(array.as_binary::<i32>().value(row)).as_bytes());
                }
                Column::Json(texts) => match texts.get(row).and_then(Option::as_deref) {
                    Some(text) => escaped(text, out),
                    None => out.extend_from_slice(b"\\N"),
                },
            }
        }
        out.push(b'\n');
    }
}

impl Iterator for Lines<'_> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Self::Item> {
        let mut out = Vec::with_capacity(PART + (PART >> 3));
        while self.next < self.batch.rows.num_rows() && out.len() < PART {
            self.write(self.next, &mut out);
            self.next += 1;
        }
        (!out.is_empty()).then(|| out.into())
    }
}

fn escaped(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            other => out.push(other),
        }
    }
}

/// The values of a nested column as JSON.
fn json(batch: &Batch, column: usize) -> Result<Vec<Option<String>>> {
    let one = or_unwritable(batch.rows.project(&[column]))?;
    let rows = objects(&one)?;
    Ok(rows.iter().map(|row| row.values().next().filter(|v| !v.is_null()).map(ToString::to_string)).collect())
}
