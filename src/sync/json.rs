//! Rows as JSON.

use crate::error::{Context, ErrorKind, Result};
use crate::model::JsonRow;
use deltalake_core::arrow::array::RecordBatch;
use deltalake_core::arrow::json::WriterBuilder;
use deltalake_core::arrow::json::writer::LineDelimited;

/// Rows as JSON objects, NULL written as `null`.
pub(super) fn objects(rows: &RecordBatch) -> Result<Vec<JsonRow>> {
    let doing = || "rows cannot be written as JSON".to_owned();
    let mut bytes = Vec::new();
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut bytes);
    writer.write(rows).or_fail(ErrorKind::Data, doing)?;
    writer.finish().or_fail(ErrorKind::Data, doing)?;
    drop(writer);
    let lines = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).or_fail(ErrorKind::Data, doing)).collect()
}
