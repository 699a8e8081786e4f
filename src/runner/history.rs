//! What runs did, as tables: `kinfold.runs`, `kinfold.nodes`, `kinfold.columns`, `kinfold.syncs`.

use super::report::{NodeReport, SyncReport};
use crate::engine::{Engine, Facts, Output};
use crate::error::{Context, ErrorKind, Result};
use crate::graph::Columns;
use crate::warehouse::WriteMode;
use chrono::{DateTime, Utc};
use deltalake_core::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
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

/// The word for a node's kind.
pub(super) fn kind(facts: &Facts) -> &'static str {
    match facts {
        Facts::Sql { .. } => "sql",
        Facts::Identity { .. } => "identity",
        Facts::Profile { .. } => "profile",
        Facts::Audience { .. } => "audience",
    }
}

/// A row of `kinfold.columns`.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct ColumnRow {
    model: String,
    position: u64,
    name: String,
    data_type: String,
    /// Direct lineage, as names with commas between them; of a run before there was any it is not known.
    values_from: Option<String>,
    rows_from: Option<String>,
}

/// Columns of every built model; those of models that this run did not build stay as they were.
pub(super) fn columns(engine: &Engine, nodes: &[NodeReport], before: &[RecordBatch]) -> Result<Output> {
    let mut rows: Vec<ColumnRow> = Vec::new();
    for batch in before {
        kept_columns(batch, nodes, &mut rows);
    }
    let lineage = engine.lineage_graph();
    let listed = |columns: &Columns| columns.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    for node in nodes {
        let table = lineage.tables().get(&node.model);
        for (position, (name, data_type)) in engine.columns(&node.model).into_iter().enumerate() {
            let column = table.and_then(|t| t.column(&name));
            rows.push(ColumnRow {
                model: node.model.clone(),
                position: position as u64 + 1,
                values_from: column.map(|c| listed(&c.values)),
                rows_from: column.map(|c| listed(&c.rows)),
                name,
                data_type,
            });
        }
    }
    rows.sort();
    Rows::new()
        .texts("model", rows.iter().map(|r| Some(r.model.as_str())))
        .numbers("position", rows.iter().map(|r| Some(r.position)))
        .texts("column_name", rows.iter().map(|r| Some(r.name.as_str())))
        .texts("data_type", rows.iter().map(|r| Some(r.data_type.as_str())))
        .texts("values_from", rows.iter().map(|r| r.values_from.as_deref()))
        .texts("rows_from", rows.iter().map(|r| r.rows_from.as_deref()))
        .output("kinfold.columns", WriteMode::Overwrite)
}

/// Rows of an earlier run about models that are not among `nodes`.
fn kept_columns(batch: &RecordBatch, nodes: &[NodeReport], rows: &mut Vec<ColumnRow>) {
    let texts = |name: &str| batch.column_by_name(name).map(AsArray::as_string::<i32>);
    let (Some(models), Some(names), Some(types)) = (texts("model"), texts("column_name"), texts("data_type")) else {
        return;
    };
    let positions = batch.column_by_name("position").map(AsArray::as_primitive::<Int64Type>);
    let (values, decided) = (texts("values_from"), texts("rows_from"));
    for row in (0..batch.num_rows()).filter(|r| nodes.iter().all(|n| n.model != models.value(*r))) {
        let text = |of: &StringArray| of.value(row).to_owned();
        let known = |of: Option<&StringArray>| of.filter(|c| c.is_valid(row)).map(text);
        rows.push(ColumnRow {
            model: text(models),
            position: positions.map_or(0, |p| p.value(row).cast_unsigned()),
            name: text(names),
            data_type: text(types),
            values_from: known(values),
            rows_from: known(decided),
        });
    }
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
