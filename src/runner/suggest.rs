//! Proposes labels for source columns of which nothing is said, from samples of their rows.

use super::prepare::{Failure, Options};
use super::reading::reader;
use crate::engine::Reader;
use crate::error::{Context, ErrorKind, Result};
use crate::privacy::suggest;
use deltalake_core::arrow::array::{Array as _, AsArray as _, RecordBatch};
use deltalake_core::arrow::compute::cast;
use deltalake_core::arrow::datatypes::DataType;
use serde::Serialize;

/// A label that a column may need.
#[derive(Debug, Clone, Serialize)]
pub struct SuggestedLabel {
    /// The source table.
    pub table: String,
    /// The column.
    pub column: String,
    /// The label.
    pub label: &'static str,
    /// Share of the sample's values that look like it, in percent.
    pub percent: f64,
    /// How many values were looked at.
    pub values: usize,
}

/// Reads the first rows of every source table. No value leaves this function.
///
/// # Errors
/// Findings when the project does not load; an error when a table cannot be read.
pub async fn suggest_labels(options: &Options, rows: usize) -> Result<Vec<SuggestedLabel>, Failure> {
    let reader = reader(options, None).await?;
    let mut found = Vec::new();
    for source in &reader.project().clone().sources {
        for table in source.tables.iter().filter(|t| t.enabled) {
            let name = format!("{}.{}", source.name.value, table.name.value);
            let said = |column: &str| table.columns.iter().any(|c| c.name.value == column && c.labels.is_some());
            if let Some(batch) = sample(&reader, (&source.name.value, &table.name.value), rows).await? {
                found.extend(of_batch(&name, &batch, &said)?);
            }
        }
    }
    Ok(found)
}

/// The first rows as one batch; nothing of an empty table.
async fn sample(reader: &Reader, (source, table): (&str, &str), rows: usize) -> Result<Option<RecordBatch>> {
    let sql = format!("SELECT * FROM \"{source}\".\"{table}\" LIMIT {rows}");
    reader.open_tables(&sql).await?;
    let answer = reader.answer(&sql).await?;
    let together = || format!("the rows of `{source}.{table}` cannot be put together");
    if answer.rows() == 0 {
        return Ok(None);
    }
    let all = deltalake_core::arrow::compute::concat_batches(&answer.schema, &answer.batches);
    all.map(Some).or_fail(ErrorKind::Failed, together)
}

fn of_batch(table: &str, batch: &RecordBatch, said: &dyn Fn(&str) -> bool) -> Result<Vec<SuggestedLabel>> {
    let mut found = Vec::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if said(field.name()) || column.data_type().is_nested() {
            continue;
        }
        let doing = || format!("`{table}.{}` cannot be written as text", field.name());
        let texts = cast(column, &DataType::Utf8).or_fail(ErrorKind::Data, doing)?;
        let texts = texts.as_string::<i32>();
        let values: Vec<&str> = texts.iter().flatten().filter(|v| !v.trim().is_empty()).collect();
        found.extend(suggest(field.name(), &values).map(|suggestion| SuggestedLabel {
            table: table.to_owned(),
            column: field.name().clone(),
            label: suggestion.label,
            percent: (suggestion.share * 1000.0).round() / 10.0,
            values: values.len(),
        }));
    }
    Ok(found)
}
