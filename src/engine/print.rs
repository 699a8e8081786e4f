//! Rows for people and programs: text tables, CSV, JSON.

use crate::error::{Context, ErrorKind, Result};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::arrow::util::pretty::pretty_format_batches_with_schema;

/// A rectangle of texts, for summaries.
pub type TextTable = Vec<Vec<String>>;

const NULL: &str = "";

fn options() -> FormatOptions<'static> {
    FormatOptions::default().with_null(NULL).with_timestamp_tz_format(Some("%Y-%m-%dT%H:%M:%S%.fZ"))
}

/// An aligned table with a header.
///
/// # Errors
/// When a value cannot be shown.
pub fn to_text(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<String> {
    let doing = || "cannot print the rows".to_owned();
    let stripped: Vec<RecordBatch> = batches.to_vec();
    let table = pretty_format_batches_with_schema(std::sync::Arc::clone(schema), &stripped)
        .or_fail(ErrorKind::Failed, doing)?;
    Ok(format!("{table}\n"))
}

/// CSV with a header line; null is empty.
///
/// # Errors
/// When a value cannot be shown.
pub fn to_csv(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<String> {
    let doing = || "cannot print the rows".to_owned();
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(schema.fields().iter().map(|f| f.name())).or_fail(ErrorKind::Failed, doing)?;
    let options = options();
    for batch in batches {
        let columns = batch
            .columns()
            .iter()
            .map(|c| ArrayFormatter::try_new(c.as_ref(), &options))
            .collect::<std::result::Result<Vec<_>, _>>()
            .or_fail(ErrorKind::Failed, doing)?;
        for row in 0..batch.num_rows() {
            let values = columns.iter().map(|c| c.value(row).to_string());
            writer.write_record(values).or_fail(ErrorKind::Failed, doing)?;
        }
    }
    let bytes = writer.into_inner().or_fail(ErrorKind::Failed, doing)?;
    String::from_utf8(bytes).or_fail(ErrorKind::Failed, doing)
}

/// One JSON array of objects; null values are written as null.
///
/// # Errors
/// When a type has no JSON form.
pub fn to_json(batches: &[RecordBatch]) -> Result<String> {
    use datafusion::arrow::json::writer::{JsonArray, WriterBuilder};
    let doing = || "cannot print the rows as JSON".to_owned();
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, JsonArray>(Vec::new());
    let references: Vec<&RecordBatch> = batches.iter().collect();
    writer.write_batches(&references).or_fail(ErrorKind::Failed, doing)?;
    writer.finish().or_fail(ErrorKind::Failed, doing)?;
    let text = String::from_utf8(writer.into_inner()).or_fail(ErrorKind::Failed, doing)?;
    Ok(if text.is_empty() { "[]\n".to_owned() } else { format!("{text}\n") })
}
