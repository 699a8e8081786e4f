//! What runs did, as tables: `kinfold.runs`, `kinfold.nodes`, `kinfold.checks`, `kinfold.test_failures`,
//! `kinfold.columns`, `kinfold.syncs`.

use super::report::{NodeReport, SyncReport};
use crate::engine::{CheckResult, Engine, Facts, Output};
use crate::error::{Context, ErrorKind, Result};
use crate::warehouse::WriteMode;
use chrono::{DateTime, Utc};
use deltalake_core::arrow::array::{
    ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use deltalake_core::arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit};
use std::sync::Arc;

/// A table built column by column.
struct Rows {
    fields: Vec<Field>,
    columns: Vec<ArrayRef>,
}

impl Rows {
    fn new() -> Self {
        Self { fields: Vec::new(), columns: Vec::new() }
    }

    fn texts<'a>(mut self, name: &str, values: impl Iterator<Item = Option<&'a str>>) -> Self {
        self.fields.push(Field::new(name, DataType::Utf8, true));
        self.columns.push(Arc::new(values.collect::<StringArray>()));
        self
    }

    fn numbers(mut self, name: &str, values: impl Iterator<Item = Option<u64>>) -> Self {
        self.fields.push(Field::new(name, DataType::Int64, true));
        self.columns.push(Arc::new(values.map(|v| v.map(u64::cast_signed)).collect::<Int64Array>()));
        self
    }

    fn seconds(mut self, name: &str, values: impl Iterator<Item = f64>) -> Self {
        self.fields.push(Field::new(name, DataType::Float64, true));
        self.columns.push(Arc::new(values.map(Some).collect::<Float64Array>()));
        self
    }

    fn times(mut self, name: &str, values: impl Iterator<Item = DateTime<Utc>>) -> Self {
        self.fields.push(Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true));
        let values: TimestampMicrosecondArray = values.map(|t| Some(t.timestamp_micros())).collect();
        self.columns.push(Arc::new(values.with_timezone("UTC")));
        self
    }

    fn output(self, table: &str, mode: WriteMode) -> Result<Output> {
        let schema = Arc::new(Schema::new(self.fields));
        let batch = RecordBatch::try_new(Arc::clone(&schema), self.columns)
            .or_fail(ErrorKind::Failed, || format!("cannot write `{table}`"))?;
        Ok(Output { table: table.to_owned(), schema, batches: vec![batch], mode })
    }
}

/// One row for the run.
pub(super) fn runs(
    run: u64,
    as_of: DateTime<Utc>,
    started: DateTime<Utc>,
    ended: DateTime<Utc>,
    nodes: usize,
) -> Result<Output> {
    use std::iter::once;
    Rows::new()
        .numbers("run", once(Some(run)))
        .times("as_of", once(as_of))
        .times("started_at", once(started))
        .times("ended_at", once(ended))
        .numbers("models", once(Some(nodes as u64)))
        .texts("version", once(Some(env!("CARGO_PKG_VERSION"))))
        .output("kinfold.runs", WriteMode::Append)
}

/// One row per built model.
pub(super) fn nodes(run: u64, nodes: &[NodeReport]) -> Result<Output> {
    let facts: Vec<Option<String>> = nodes.iter().map(|n| serde_json::to_string(&n.facts).ok()).collect();
    Rows::new()
        .numbers("run", nodes.iter().map(|_| Some(run)))
        .texts("model", nodes.iter().map(|n| Some(n.model.as_str())))
        .texts("kind", nodes.iter().map(|n| Some(kind(&n.facts))))
        .numbers("rows", nodes.iter().map(|n| Some(n.rows)))
        .numbers("rows_before", nodes.iter().map(|n| n.rows_before))
        .seconds("seconds", nodes.iter().map(|n| n.seconds))
        .texts("facts", facts.iter().map(Option::as_deref))
        .output("kinfold.nodes", WriteMode::Append)
}

/// One row per data test.
pub(super) fn checks(run: u64, checks: &[CheckResult]) -> Result<Output> {
    Rows::new()
        .numbers("run", checks.iter().map(|_| Some(run)))
        .texts("model", checks.iter().map(|c| Some(c.model.as_str())))
        .texts("test", checks.iter().map(|c| Some(c.test.as_str())))
        .texts("kind", checks.iter().map(|c| Some(c.kind)))
        .texts("column_name", checks.iter().map(|c| c.column.as_deref()))
        .texts("severity", checks.iter().map(|c| Some(c.severity.word())))
        .texts("status", checks.iter().map(|c| Some(c.status.word())))
        .numbers("failures", checks.iter().map(|c| Some(c.failures)))
        .numbers("rows", checks.iter().map(|c| c.rows))
        .seconds("seconds", checks.iter().map(|c| c.seconds))
        .texts("detail", checks.iter().map(|c| c.detail.as_deref()))
        .output("kinfold.checks", WriteMode::Append)
}

/// One row per failing row that is kept. Rows of all tables are in one table, so each is a JSON object.
pub(super) fn test_failures(run: u64, checks: &[CheckResult]) -> Result<Output> {
    let rows: Vec<(&CheckResult, u64, &String)> =
        checks.iter().flat_map(|c| (1..).zip(&c.failing).map(move |(number, row)| (c, number, row))).collect();
    Rows::new()
        .numbers("run", rows.iter().map(|_| Some(run)))
        .texts("model", rows.iter().map(|r| Some(r.0.model.as_str())))
        .texts("test", rows.iter().map(|r| Some(r.0.test.as_str())))
        .numbers("number", rows.iter().map(|r| Some(r.1)))
        .texts("row_json", rows.iter().map(|r| Some(r.2.as_str())))
        .output("kinfold.test_failures", WriteMode::Append)
}

/// The word for a node's kind.
pub(super) fn kind(facts: &Facts) -> &'static str {
    match facts {
        Facts::Sql { .. } => "sql",
        Facts::Identity { .. } => "identity",
        Facts::Profile { .. } => "profile",
        Facts::Audience { .. } => "audience",
    }
}

/// Columns of every built model; those of models that this run did not build stay as they were.
pub(super) fn columns(engine: &Engine, nodes: &[NodeReport], before: &[RecordBatch]) -> Result<Output> {
    let mut rows: Vec<(String, u64, String, String)> = Vec::new();
    for batch in before {
        let texts = |name: &str| batch.column_by_name(name).map(AsArray::as_string::<i32>);
        let (Some(models), Some(names), Some(types)) = (texts("model"), texts("column_name"), texts("data_type"))
        else {
            continue;
        };
        let positions = batch.column_by_name("position").map(AsArray::as_primitive::<Int64Type>);
        for row in (0..batch.num_rows()).filter(|r| nodes.iter().all(|n| n.model != models.value(*r))) {
            let position = positions.map_or(0, |p| p.value(row).cast_unsigned());
            let text = |of: &StringArray| of.value(row).to_owned();
            rows.push((text(models), position, text(names), text(types)));
        }
    }
    for node in nodes {
        for (position, (name, data_type)) in engine.columns(&node.model).into_iter().enumerate() {
            rows.push((node.model.clone(), position as u64 + 1, name, data_type));
        }
    }
    rows.sort();
    Rows::new()
        .texts("model", rows.iter().map(|r| Some(r.0.as_str())))
        .numbers("position", rows.iter().map(|r| Some(r.1)))
        .texts("column_name", rows.iter().map(|r| Some(r.2.as_str())))
        .texts("data_type", rows.iter().map(|r| Some(r.3.as_str())))
        .output("kinfold.columns", WriteMode::Overwrite)
}

/// One row per sync.
pub(super) fn syncs(run: u64, syncs: &[SyncReport]) -> Result<Output> {
    let count = |of: fn(&SyncReport) -> u64| syncs.iter().map(move |s| Some(of(s)));
    Rows::new()
        .numbers("run", syncs.iter().map(|_| Some(run)))
        .texts("sync", syncs.iter().map(|s| Some(s.sync.as_str())))
        .texts("destination", syncs.iter().map(|s| Some(s.destination.as_str())))
        .texts("result", syncs.iter().map(|s| Some(s.result.as_str())))
        .numbers("read", count(|s| s.read))
        .numbers("inserted", count(|s| s.inserted))
        .numbers("updated", count(|s| s.updated))
        .numbers("deleted", count(|s| s.deleted))
        .numbers("unchanged", count(|s| s.unchanged))
        .numbers("sent", count(|s| s.sent))
        .numbers("acknowledged", count(|s| s.acknowledged))
        .numbers("rejected", count(|s| s.rejected))
        .numbers("withheld", count(|s| s.withheld))
        .seconds("seconds", syncs.iter().map(|s| s.seconds))
        .texts("error", syncs.iter().map(|s| s.error.as_deref()))
        .output("kinfold.syncs", WriteMode::Append)
}
