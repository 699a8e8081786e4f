//! `sources.yaml`: sources with their tables.

use super::checks;
use super::privacy;
use super::reader::{Fields, Reader};
use super::yaml::{Node, NodeKind};
use crate::diagnostic::{Code, Diagnostic, Spanned};
use crate::model::{Column, Dedupe, Format, Source, SourceTable, TableSelect, Vanished};

pub(super) const FILE_KEYS: [&str; 1] = ["sources"];
pub(super) const SOURCE_KEYS: [&str; 7] =
    ["name", "description", "location", "labels", "regions", "freshness", "tables"];
pub(super) const TABLE_KEYS: [&str; 17] = [
    "name",
    "description",
    "path",
    "format",
    "time",
    "row_id",
    "version",
    "dedupe",
    "append_only",
    "vanished",
    "enabled",
    "freshness",
    "select",
    "columns",
    "labels",
    "label",
    "tests",
];
pub(super) const SELECT_KEYS: [&str; 3] = ["where", "include", "exclude"];
pub(super) const DEDUPE_KEYS: [&str; 2] = ["by", "within"];
pub(super) const COLUMN_KEYS: [&str; 4] = ["type", "label", "description", "tests"];
const FORMATS: [(&str, Format); 4] =
    [("parquet", Format::Parquet), ("csv", Format::Csv), ("ndjson", Format::Ndjson), ("delta", Format::Delta)];

/// Reads all documents of `sources.yaml`.
pub(super) fn read(reader: &mut Reader<'_>, documents: &[Node]) -> Vec<Source> {
    let mut sources: Vec<Source> = Vec::new();
    for document in documents {
        let Some(fields) = reader.fields(document, "sources.yaml", &FILE_KEYS) else { continue };
        let Some(items) = fields.require(reader, "sources").and_then(|n| reader.list("sources", n)) else { continue };
        for item in items {
            let Some(source) = source(reader, item) else { continue };
            match sources.iter().find(|s| s.name.value == source.name.value) {
                Some(first) => reader.duplicate_name("the source", &source.name, first.name.span),
                None => sources.push(source),
            }
        }
    }
    sources
}

fn source(reader: &mut Reader<'_>, node: &Node) -> Option<Source> {
    let fields = reader.fields(node, "a source", &SOURCE_KEYS)?;
    fields.no_effect(reader, &["freshness"]);
    let name = fields.require(reader, "name").and_then(|n| reader.name("name", n));
    let location = fields.require(reader, "location").and_then(|n| reader.filled("location", n));
    let description = fields.get("description").and_then(|n| reader.text("description", n)).map(|t| t.value);
    let labels_required = fields.get("labels").is_some_and(|n| reader.word("labels", n, &[("required", ())]).is_some());
    let regions = fields.get("regions").map(|n| reader.text_list("regions", n)).unwrap_or_default();
    let source_name = name.as_ref().map_or("", |n| n.value.as_str());
    let mut tables: Vec<SourceTable> = Vec::new();
    let items = fields.require(reader, "tables").and_then(|n| reader.list("tables", n)).unwrap_or_default();
    for item in items {
        let Some(table) = table(reader, item, source_name) else { continue };
        match tables.iter().find(|t| t.name.value == table.name.value) {
            Some(first) => reader.duplicate_name("the table", &table.name, first.name.span),
            None => tables.push(table),
        }
    }
    if name.is_none() {
        reader.incomplete = true;
    }
    let name = name?;
    if location.is_none() {
        reader.undecided.insert(format!("{}.", name.value));
    }
    Some(Source { name, description, location: location?, regions, labels_required, tables })
}

fn table(reader: &mut Reader<'_>, node: &Node, source: &str) -> Option<SourceTable> {
    let fields = reader.fields(node, "a table", &TABLE_KEYS)?;
    fields.no_effect(reader, &["freshness"]);
    let vanished = vanished(reader, &fields);
    let mut tests = fields.get("tests").map(|n| checks::of_table(reader, n)).unwrap_or_default();
    let name = fields.require(reader, "name").and_then(|n| reader.name("name", n));
    let path = fields.require(reader, "path").and_then(|n| reader.filled("path", n));
    let format = fields.get("format").and_then(|n| reader.word("format", n, &FORMATS));
    let columns = fields.get("columns").map(|n| columns(reader, n, &mut tests)).unwrap_or_default();
    let mut column = |key: &str| fields.get(key).and_then(|n| reader.filled(key, n));
    let (time, row_id, version) = (column("time"), column("row_id"), column("version"));
    let dedupe = fields.get("dedupe").and_then(|n| dedupe(reader, n, fields.get("time").is_some()));
    if let (Some(span), None) = (fields.key_span("version"), fields.get("row_id")) {
        reader.findings.push(
            Diagnostic::error(Code::MissingKey, span, "`version` needs the key `row_id`")
                .with_label("versions of which record?")
                .with_help("add `row_id:`, the column that names a record"),
        );
    }
    if name.is_none() {
        reader.incomplete = true;
    }
    let name = name?;
    if path.is_none() {
        reader.undecided.insert(format!("{source}.{}", name.value));
    }
    let table_path = path?;
    if format == Some(Format::Delta) {
        of_delta(reader, &fields, &table_path);
    }
    let tests = checks::named(reader, tests);
    Some(SourceTable {
        name,
        format: format.unwrap_or_else(|| format_of(&table_path.value)),
        path: table_path,
        time,
        row_id,
        version,
        dedupe,
        append_only: fields.get("append_only").and_then(|n| reader.boolean("append_only", n)).unwrap_or(false),
        vanished,
        enabled: fields.get("enabled").and_then(|n| reader.boolean("enabled", n)).unwrap_or(true),
        select: fields.get("select").map(|n| select(reader, n)).unwrap_or_default(),
        columns,
        labels: privacy::of_rows(reader, &fields),
        tests,
    })
}

/// What a table may not say whose files a log names.
fn of_delta(reader: &mut Reader<'_>, fields: &Fields<'_>, path: &Spanned<String>) {
    fields.meaningless(reader, &["vanished"], "a Delta table's log says which rows are gone");
    if path.value.contains(['*', '?', '[']) {
        reader.findings.push(
            Diagnostic::error(Code::Conflict, path.span, format!("`{}` is a pattern", path.value))
                .with_label("of one Delta table")
                .with_help("name the folder that has `_delta_log` in it; write a table for each, and a SQL model that unites them"),
        );
    }
}

fn vanished(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Vanished {
    let words = [("error", Vanished::Error), ("keep", Vanished::Keep), ("forget", Vanished::Forget)];
    fields.get("vanished").and_then(|node| reader.word("vanished", node, &words)).unwrap_or_default()
}

/// The format that a path's ending shows, else Parquet.
fn format_of(path: &str) -> Format {
    let ending = path.trim_end_matches(".gz").rsplit('.').next().unwrap_or("");
    match ending.to_ascii_lowercase().as_str() {
        "csv" => Format::Csv,
        "ndjson" | "jsonl" | "json" => Format::Ndjson,
        _ => Format::Parquet,
    }
}

fn dedupe(reader: &mut Reader<'_>, node: &Node, has_time: bool) -> Option<Dedupe> {
    let fields = reader.fields(node, "dedupe", &DEDUPE_KEYS)?;
    let by = fields.require(reader, "by").and_then(|n| reader.filled("by", n));
    let within = fields.get("within").and_then(|n| reader.duration("within", n));
    if let (Some(span), false) = (fields.key_span("within"), has_time) {
        reader.findings.push(
            Diagnostic::error(Code::WindowWithoutTime, span, "`within` needs the table's `time`")
                .with_label("counts from the time of a row")
                .with_help("add `time:` to the table, or remove `within`"),
        );
    }
    Some(Dedupe { by: by?, within })
}

fn select(reader: &mut Reader<'_>, node: &Node) -> TableSelect {
    let Some(fields) = reader.fields(node, "select", &SELECT_KEYS) else { return TableSelect::default() };
    if let (Some(exclude), Some(include)) = (fields.key_span("exclude"), fields.key_span("include")) {
        reader.conflict(exclude, "exclude", include, "include", "columns outside `include` are left out anyway");
    }
    TableSelect {
        filter: fields.get("where").and_then(|n| reader.sql("where", n)),
        include: fields.get("include").map(|n| reader.column_list("include", n)),
        exclude: fields.get("exclude").map(|n| reader.column_list("exclude", n)).unwrap_or_default(),
    }
}

fn columns(reader: &mut Reader<'_>, node: &Node, tests: &mut Vec<checks::Draft>) -> Vec<Column> {
    let mut columns = Vec::new();
    for entry in reader.entries(node, "columns").unwrap_or_default() {
        let name = entry.key.clone();
        let bare = Column { name, data_type: None, labels: None, description: None };
        if matches!(entry.value.kind, NodeKind::Null) {
            columns.push(bare);
            continue;
        }
        let Some(fields) = reader.fields(&entry.value, "a column", &COLUMN_KEYS) else { continue };
        if let Some(node) = fields.get("tests") {
            tests.extend(checks::of_column(reader, &bare.name, node));
        }
        columns.push(Column {
            data_type: fields.get("type").and_then(|n| reader.filled("type", n)),
            labels: fields.get("label").map(|n| privacy::labels(reader, "label", n)),
            description: fields.get("description").and_then(|n| reader.text("description", n)).map(|t| t.value),
            ..bare
        });
    }
    columns
}
