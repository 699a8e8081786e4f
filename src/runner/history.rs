//! What runs did, as tables: `kinfold.runs`, `kinfold.nodes`, `kinfold.checks`, `kinfold.test_failures`,
//! `kinfold.columns`, `kinfold.syncs`, and what they did it from: `kinfold.definitions`, `kinfold.files`,
//! `kinfold.inputs`, `kinfold.partials`, `kinfold.kept`.

use super::kept::KEPT_FILES;
use super::report::{NodeReport, SyncReport, UnchangedReport};
use crate::engine::{CheckResult, Copy, Engine, Facts, KeptFile, Output, SourceFileAt};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::graph::{ColumnRef, Columns};
use crate::model::Project;
use crate::plan::{Entry, Made, Manifest, PartialSet};
use crate::privacy::{LabelMap, Labels};
use crate::warehouse::WriteMode;
use chrono::{DateTime, Utc};
use deltalake_core::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use deltalake_core::arrow::compute::filter_record_batch;
use deltalake_core::arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit, TimestampMicrosecondType};
use deltalake_core::arrow::util::display::{ArrayFormatter, FormatOptions};
use std::collections::{BTreeMap, BTreeSet};
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

    /// Files of source tables, with the names of these.
    fn files(self, files: &[(&String, &SourceFileAt)]) -> Self {
        self.texts("table_name", files.iter().map(|(table, _)| Some(table.as_str())))
            .texts("path", files.iter().map(|(_, f)| Some(f.path.as_str())))
            .numbers("bytes", files.iter().map(|(_, f)| Some(f.bytes)))
            .times("modified_at", files.iter().map(|(_, f)| f.modified_at))
            .texts("content", files.iter().map(|(_, f)| Some(f.content.as_str())))
            .texts("stamp", files.iter().map(|(_, f)| Some(f.stamp.as_str())))
            .texts("place", files.iter().map(|(_, f)| Some(f.place.as_str())))
            .times("read_at", files.iter().map(|(_, f)| f.read_at))
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

/// One row per model that was built or stays as it was.
pub(super) fn nodes(run: u64, nodes: &[NodeReport], unchanged: &[UnchangedReport]) -> Result<Output> {
    let facts: Vec<Option<String>> = nodes.iter().map(|n| serde_json::to_string(&n.facts).ok()).collect();
    let same = unchanged.iter();
    let (models, kinds) = (nodes.iter().map(|n| n.model.as_str()), nodes.iter().map(|n| kind(&n.facts)));
    Rows::new()
        .numbers("run", nodes.iter().map(|_| Some(run)).chain(same.clone().map(|_| Some(run))))
        .texts("model", models.chain(same.clone().map(|u| u.model.as_str())).map(Some))
        .texts("kind", kinds.chain(same.clone().map(|u| u.kind)).map(Some))
        .numbers("rows", nodes.iter().map(|n| n.rows).chain(same.clone().map(|u| u.rows)).map(Some))
        .numbers("rows_before", nodes.iter().map(|n| n.rows_before).chain(same.clone().map(|u| Some(u.rows))))
        .seconds("seconds", nodes.iter().map(|n| n.seconds).chain(same.clone().map(|_| 0.0)))
        .texts("facts", facts.iter().map(Option::as_deref).chain(same.clone().map(|_| None)))
        .texts("status", nodes.iter().map(|_| "built").chain(same.map(|_| "unchanged")).map(Some))
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
        Facts::Identity(_) => "identity",
        Facts::Profile { .. } => "profile",
        Facts::Audience(_) => "audience",
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
    /// Privacy labels, those of the table's rows included.
    labels: Option<String>,
}

/// Columns of every built model; those of models that this run did not build stay as they were, with their labels of
/// now where they are known: a label changes no table.
pub(super) fn columns(
    engine: &Engine,
    project: &Project,
    nodes: &[NodeReport],
    before: &[RecordBatch],
) -> Result<Output> {
    let mut rows: Vec<ColumnRow> = Vec::new();
    for batch in before {
        kept_columns(batch, nodes, &mut rows);
    }
    let lineage = engine.lineage_graph();
    let map = LabelMap::new(project, &lineage);
    let labels = |model: &str, column: &str| {
        let of_rows = map.of(&ColumnRef::rows_of(model));
        let all: Labels = map.of(&ColumnRef::new(model, column)).union(&of_rows).cloned().collect();
        all.into_iter().collect::<Vec<_>>().join(", ")
    };
    for kept in rows.iter_mut().filter(|r| lineage.tables().contains_key(&r.model)) {
        kept.labels = Some(labels(&kept.model, &kept.name));
    }
    let listed = |columns: &Columns| columns.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    for node in nodes {
        let table = lineage.tables().get(&node.model);
        for (position, (name, data_type)) in engine.columns(&node.model).into_iter().enumerate() {
            let column = table.and_then(|t| t.column(&name));
            rows.push(ColumnRow {
                labels: Some(labels(&node.model, &name)),
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
        .texts("labels", rows.iter().map(|r| r.labels.as_deref()))
        .output("kinfold.columns", WriteMode::Overwrite)
}

/// The name of a destination among the definitions: models have a name space of their own.
pub(super) fn destination(name: &str) -> String {
    format!("{DESTINATION}{name}")
}

const DESTINATION: &str = "destination:";

/// The manifest that the last runs left in `kinfold.definitions`, as far as definitions go.
pub(super) fn manifest_of(rows: &[RecordBatch]) -> Manifest {
    let mut manifest = Manifest::default();
    for batch in rows {
        let texts = |name: &str| batch.column_by_name(name).and_then(|c| c.as_string_opt::<i32>());
        let (Some(names), Some(kinds), Some(zones), Some(prints), Some(definitions)) =
            (texts("name"), texts("kind"), texts("timezone"), texts("fingerprint"), texts("definition"))
        else {
            continue;
        };
        for row in 0..batch.num_rows() {
            let Ok(definition) = serde_json::from_str(definitions.value(row)) else { continue };
            let entry = Entry::recorded(kinds.value(row), prints.value(row), definition);
            let name = names.value(row);
            zones.value(row).clone_into(&mut manifest.timezone);
            match (kinds.value(row), name.strip_prefix(DESTINATION)) {
                (_, Some(name)) => manifest.destinations.insert(name.to_owned(), entry),
                ("source", None) => manifest.sources.insert(name.to_owned(), entry),
                _ => manifest.models.insert(name.to_owned(), entry),
            };
        }
    }
    manifest
}

/// Files by source table that the last runs left in `kinfold.files`.
pub(super) fn files_of(rows: &[RecordBatch]) -> BTreeMap<String, Vec<SourceFileAt>> {
    let mut files: BTreeMap<String, Vec<SourceFileAt>> = BTreeMap::new();
    for (table, file) in rows.iter().flat_map(files_in) {
        files.entry(table).or_default().push(file);
    }
    files
}

/// The files that a batch of `kinfold.files` or `kinfold.kept` names, row by row, with their tables.
fn files_in(batch: &RecordBatch) -> Vec<(String, SourceFileAt)> {
    let mut files = Vec::new();
    {
        let texts = |name: &str| batch.column_by_name(name).and_then(|c| c.as_string_opt::<i32>());
        let times = |name: &str| {
            let column = batch.column_by_name(name).and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
            column.cloned().unwrap_or_else(|| TimestampMicrosecondArray::new_null(batch.num_rows()))
        };
        let bytes = batch.column_by_name("bytes").and_then(|c| c.as_primitive_opt::<Int64Type>());
        let (Some(tables), Some(paths), Some(bytes)) = (texts("table_name"), texts("path"), bytes) else {
            return files;
        };
        let (modified, read) = (times("modified_at"), times("read_at"));
        // an older version wrote fewer columns: then nothing is known of the content
        let text = |name: &str, row: usize| texts(name).map(|c| c.value(row).to_owned()).unwrap_or_default();
        let time = |of: &TimestampMicrosecondArray, row| DateTime::from_timestamp_micros(of.value(row));
        for row in 0..batch.num_rows() {
            let file = SourceFileAt {
                path: paths.value(row).to_owned(),
                bytes: bytes.value(row).cast_unsigned(),
                modified_at: time(&modified, row).unwrap_or_default(),
                content: text("content", row),
                stamp: text("stamp", row),
                place: text("place", row),
                read_at: time(&read, row).unwrap_or_default(),
            };
            files.push((tables.value(row).to_owned(), file));
        }
    }
    files
}

/// The copies of source files that the last runs left in `kinfold.kept`.
///
/// # Errors
/// `Data` when it does not say what a copy has: without that rows would be missed.
pub(super) fn kept_of(rows: &[RecordBatch]) -> Result<Vec<KeptFile>> {
    let doing = || "`kinfold.kept` is damaged".to_owned();
    let mut kept = Vec::new();
    for batch in rows {
        let texts = |name: &str| batch.column_by_name(name).and_then(|c| c.as_string_opt::<i32>());
        let (Some(copies), Some(parts)) = (texts("copy"), texts("parts")) else {
            return Err(Error::new(ErrorKind::Data, doing()));
        };
        for (row, (table, file)) in files_in(batch).into_iter().enumerate() {
            let copy: Copy = serde_json::from_str(copies.value(row)).or_fail(ErrorKind::Data, doing)?;
            let parts = serde_json::from_str(parts.value(row)).or_fail(ErrorKind::Data, doing)?;
            kept.push(KeptFile { table, file, copy: Copy { parts, ..copy } });
        }
    }
    Ok(kept)
}

/// The copies of source files that there are.
pub(super) fn kept(kept: &[KeptFile], run: u64) -> Result<Output> {
    let json = |value: serde_json::Result<String>| value.or_fail(ErrorKind::Failed, || "a copy has no text".to_owned());
    let copies = kept.iter().map(|k| json(serde_json::to_string(&k.copy))).collect::<Result<Vec<_>>>()?;
    let parts = kept.iter().map(|k| json(serde_json::to_string(&k.copy.parts))).collect::<Result<Vec<_>>>()?;
    let files: Vec<(&String, &SourceFileAt)> = kept.iter().map(|kept| (&kept.table, &kept.file)).collect();
    Rows::new()
        .files(&files)
        .numbers("rows", kept.iter().map(|k| Some(k.copy.rows)))
        .texts("parts", parts.iter().map(|text| Some(text.as_str())))
        .texts("copy", copies.iter().map(|text| Some(text.as_str())))
        .numbers("run", kept.iter().map(|_| Some(run)))
        .output(KEPT_FILES, WriteMode::Overwrite)
}

/// What the last runs left in `kinfold.inputs`: results of stages, and what they were made from.
pub(super) fn made_of(rows: &[RecordBatch]) -> BTreeMap<String, Made> {
    let mut made = BTreeMap::new();
    for batch in rows {
        let texts = |name: &str| batch.column_by_name(name).and_then(|c| c.as_string_opt::<i32>());
        let numbers = |name: &str| batch.column_by_name(name).and_then(|c| c.as_primitive_opt::<Int64Type>());
        let (Some(stages), Some(inputs), Some(runs), Some(counts)) =
            (texts("stage"), texts("inputs"), numbers("run"), numbers("rows"))
        else {
            continue;
        };
        for row in 0..batch.num_rows() {
            // what another version wrote is not understood, and its stage runs again
            let Ok(inputs) = serde_json::from_str(inputs.value(row)) else { continue };
            let (run, rows) = (runs.value(row).cast_unsigned(), counts.value(row).cast_unsigned());
            made.insert(stages.value(row).to_owned(), Made { run, rows, inputs });
        }
    }
    made
}

/// Results of stages, and what they were made from.
pub(super) fn inputs(made: &BTreeMap<String, Made>) -> Result<Output> {
    let texts: Vec<Option<String>> = made.values().map(|m| serde_json::to_string(&m.inputs).ok()).collect();
    Rows::new()
        .texts("stage", made.keys().map(|stage| Some(stage.as_str())))
        .numbers("rows", made.values().map(|m| Some(m.rows)))
        .texts("inputs", texts.iter().map(Option::as_deref))
        .numbers("run", made.values().map(|m| Some(m.run)))
        .output("kinfold.inputs", WriteMode::Overwrite)
}

/// The sets of partial states that the last runs left in `kinfold.partials`.
pub(super) fn partials_of(rows: &[RecordBatch]) -> Vec<PartialSet> {
    let mut sets = Vec::new();
    for batch in rows {
        let texts = |name: &str| batch.column_by_name(name).and_then(|c| c.as_string_opt::<i32>());
        let numbers = |name: &str| batch.column_by_name(name).and_then(|c| c.as_primitive_opt::<Int64Type>());
        let (Some(tables), Some(columns), Some(files), Some(parts)) =
            (texts("table_name"), texts("columns"), texts("files"), texts("parts"))
        else {
            continue;
        };
        let (Some(counts), Some(bytes), Some(idle), Some(runs)) =
            (numbers("rows"), numbers("bytes"), numbers("idle"), numbers("run"))
        else {
            continue;
        };
        for row in 0..batch.num_rows() {
            let number = |of: &Int64Array| of.value(row).cast_unsigned();
            // what another version wrote is not understood, and its files are read again
            let (Ok(columns), Ok(files), Ok(parts)) = (
                serde_json::from_str(columns.value(row)),
                serde_json::from_str(files.value(row)),
                serde_json::from_str(parts.value(row)),
            ) else {
                continue;
            };
            let table = tables.value(row).to_owned();
            let (rows, bytes, idle, run) = (number(counts), number(bytes), number(idle), number(runs));
            sets.push(PartialSet { table, columns, files, parts, rows, bytes, run, idle });
        }
    }
    // taken in one order, whichever way the table is read
    sets.sort_by(|a, b| (&a.table, a.run, &a.parts, &a.files).cmp(&(&b.table, b.run, &b.parts, &b.files)));
    sets
}

/// The sets of partial states that there are.
pub(super) fn partials(sets: &[PartialSet]) -> Result<Output> {
    let lists = |of: fn(&PartialSet) -> serde_json::Value| sets.iter().map(|s| of(s).to_string()).collect::<Vec<_>>();
    let (columns, files) = (lists(|s| s.columns.clone().into()), lists(|s| serde_json::json!(s.files)));
    let parts = lists(|s| s.parts.clone().into());
    Rows::new()
        .texts("table_name", sets.iter().map(|s| Some(s.table.as_str())))
        .numbers("rows", sets.iter().map(|s| Some(s.rows)))
        .numbers("bytes", sets.iter().map(|s| Some(s.bytes)))
        .texts("parts", parts.iter().map(|t| Some(t.as_str())))
        .texts("files", files.iter().map(|t| Some(t.as_str())))
        .texts("columns", columns.iter().map(|t| Some(t.as_str())))
        .numbers("idle", sets.iter().map(|s| Some(s.idle)))
        .numbers("run", sets.iter().map(|s| Some(s.run)))
        .output("kinfold.partials", WriteMode::Overwrite)
}

/// Definitions as this run used them; those that it did not use stay as they were, those of things that are no
/// longer defined go.
pub(super) fn definitions(
    manifest: &Manifest,
    used: &BTreeSet<String>,
    run: u64,
    before: &[RecordBatch],
) -> Result<Output> {
    let destinations = manifest.destinations.iter().map(|(name, entry)| (destination(name), entry));
    let entries = manifest.models.iter().chain(&manifest.sources).map(|(name, entry)| (name.clone(), entry));
    let entries: Vec<(String, &Entry)> = entries.chain(destinations).collect();
    let now: Vec<&(String, &Entry)> = entries.iter().filter(|(name, _)| used.contains(name)).collect();
    let texts: Vec<String> = now.iter().map(|(_, e)| e.definition.to_string()).collect();
    let zone = manifest.timezone.as_str();
    let output = Rows::new()
        .texts("name", now.iter().map(|(name, _)| Some(name.as_str())))
        .texts("kind", now.iter().map(|(_, e)| Some(e.kind.as_str())))
        .texts("path", now.iter().map(|(_, e)| Some(e.path.as_str())))
        .texts("timezone", now.iter().map(|_| Some(zone)))
        .texts("fingerprint", now.iter().map(|(_, e)| Some(e.fingerprint.as_str())))
        .texts("definition", texts.iter().map(|t| Some(t.as_str())))
        .numbers("run", now.iter().map(|_| Some(run)))
        .output("kinfold.definitions", WriteMode::Overwrite)?;
    let defined: BTreeSet<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
    keep(output, before, "name", |name| defined.contains(name) && !used.contains(name))
}

/// Files of the source tables that this run read or found as they were; those of other tables stay as they were.
pub(super) fn files(read: &BTreeMap<String, Vec<SourceFileAt>>, run: u64, before: &[RecordBatch]) -> Result<Output> {
    let files: Vec<(&String, &SourceFileAt)> =
        read.iter().flat_map(|(table, files)| files.iter().map(move |f| (table, f))).collect();
    let output = Rows::new()
        .files(&files)
        .numbers("run", files.iter().map(|_| Some(run)))
        .output("kinfold.files", WriteMode::Overwrite)?;
    keep(output, before, "table_name", |table| !read.contains_key(table))
}

/// Whether a table would be written with the rows that it has, whichever run wrote them.
pub(super) fn is_same(output: &Output, before: &[RecordBatch]) -> bool {
    let lines = |batches: &[RecordBatch]| -> Option<Vec<String>> {
        let mut lines = Vec::new();
        for batch in batches {
            let told = |f: &&Arc<Field>| f.name() != "run";
            let columns = output.schema.fields().iter().filter(told).map(|f| batch.column_by_name(f.name()));
            let columns: Vec<&ArrayRef> = columns.collect::<Option<_>>()?;
            let options = FormatOptions::new().with_null("\u{0}");
            let cells = columns.iter().map(|c| ArrayFormatter::try_new(c, &options).ok());
            let cells: Vec<ArrayFormatter<'_>> = cells.collect::<Option<_>>()?;
            for row in 0..batch.num_rows() {
                lines.push(cells.iter().map(|c| c.value(row).to_string()).collect::<Vec<_>>().join("\u{1}"));
            }
        }
        lines.sort_unstable();
        Some(lines)
    };
    let now = lines(&output.batches);
    now.is_some() && now == lines(before)
}

/// Adds the rows of an earlier state of a table whose `column` says so; rows of another shape go.
fn keep(mut output: Output, before: &[RecordBatch], column: &str, stays: impl Fn(&str) -> bool) -> Result<Output> {
    let doing = || "cannot read what earlier runs left".to_owned();
    for batch in before {
        let Some(names) = batch.column_by_name(column).and_then(|c| c.as_string_opt::<i32>()) else { continue };
        let chosen: BooleanArray = names.iter().map(|name| Some(name.is_some_and(&stays))).collect();
        let kept = filter_record_batch(batch, &chosen).or_fail(ErrorKind::Data, doing)?;
        // an older version may have written fewer columns
        if let Ok(kept) = RecordBatch::try_new(Arc::clone(&output.schema), kept.columns().to_vec()) {
            output.batches.push(kept);
        }
    }
    Ok(output)
}

/// Rows of an earlier run about models that are not among `nodes`.
fn kept_columns(batch: &RecordBatch, nodes: &[NodeReport], rows: &mut Vec<ColumnRow>) {
    let texts = |name: &str| batch.column_by_name(name).map(AsArray::as_string::<i32>);
    let (Some(models), Some(names), Some(types)) = (texts("model"), texts("column_name"), texts("data_type")) else {
        return;
    };
    let positions = batch.column_by_name("position").map(AsArray::as_primitive::<Int64Type>);
    let (values, decided, labels) = (texts("values_from"), texts("rows_from"), texts("labels"));
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
            labels: known(labels),
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
        .texts("note", syncs.iter().map(|s| s.note.as_deref()))
        .seconds("delivery_seconds", syncs.iter().map(|s| s.delivery_seconds))
        .numbers("again", count(|s| s.again))
        .output("kinfold.syncs", WriteMode::Append)
}
