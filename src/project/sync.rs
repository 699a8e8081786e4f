//! `kind: sync`.

use super::reader::{Fields, Reader};
use super::values::PercentSign;
use super::yaml::{Node, NodeKind};
use crate::diagnostic::{Code, Diagnostic, Spanned};
use crate::model::{Asked, BatchLimits, Cells, SyncMode, SyncModel};

/// Keys besides those of every model.
pub(super) const KEYS: [&str; 12] = [
    "from",
    "to",
    "mode",
    "key",
    "columns",
    "cells",
    "max_delete",
    "purpose",
    "channel",
    "batch",
    "retry",
    "fail_above",
];
pub(super) const CELLS_KEYS: [&str; 3] = ["count", "by", "minimum"];
pub(super) const BATCH_KEYS: [&str; 3] = ["rows", "per_second", "concurrency"];
pub(super) const RETRY_KEYS: [&str; 1] = ["for"];
const MODES: [(&str, SyncMode); 6] = [
    ("upsert", SyncMode::Upsert),
    ("insert", SyncMode::Insert),
    ("update", SyncMode::Update),
    ("append", SyncMode::Append),
    ("mirror", SyncMode::Mirror),
    ("replace", SyncMode::Replace),
];
const MAX_DELETE_PERCENT: f64 = 10.0;
/// Fewer people than this are a small cell, unless the author says otherwise.
const MINIMUM: u32 = 11;

/// Reads a sync's own keys.
pub(super) fn read(reader: &mut Reader<'_>, fields: &Fields<'_>, enabled: bool) -> Option<SyncModel> {
    let from = fields.require(reader, "from").and_then(|n| reader.filled("from", n));
    let to = fields.require(reader, "to").and_then(|n| reader.filled("to", n));
    let mode = fields.require(reader, "mode").and_then(|n| reader.word("mode", n, &MODES));
    let key = fields.require(reader, "key").and_then(|n| reader.filled("key", n));
    let columns = fields.require(reader, "columns").and_then(|n| columns(reader, n));
    let asked = asked(reader, fields);
    let small = fields.get("cells").map(|n| cells(reader, n));
    let max_delete = fields
        .get("max_delete")
        .map_or(Some(MAX_DELETE_PERCENT), |n| reader.percent("max_delete", n, PercentSign::Required));
    let batch = fields.get("batch").map_or(Some(BatchLimits::default()), |n| batch(reader, n));
    let retry = fields.get("retry").and_then(|n| reader.fields(n, "retry", &RETRY_KEYS));
    let retry_for = retry.and_then(|fields| fields.get("for")).and_then(|n| reader.duration("for", n));
    let fail_above = fields.get("fail_above").and_then(|n| reader.percent("fail_above", n, PercentSign::Required));
    Some(SyncModel {
        from: from?,
        to: to?,
        mode: mode?,
        key: key?,
        columns: columns?,
        asked,
        cells: small.map_or(Some(None), |cells| cells.map(Some))?,
        enabled,
        max_delete_percent: max_delete?,
        fail_above_percent: fail_above,
        batch: batch?,
        retry_for,
    })
}

fn batch(reader: &mut Reader<'_>, node: &Node) -> Option<BatchLimits> {
    let fields = reader.fields(node, "batch", &BATCH_KEYS)?;
    let count =
        |reader: &mut Reader<'_>, key: &str| fields.get(key).and_then(|n| reader.count(key, n)).map(|c| c.value);
    Some(BatchLimits {
        rows: count(reader, "rows"),
        per_second: fields.get("per_second").and_then(|n| reader.rate("per_second", n)),
        concurrency: count(reader, "concurrency"),
    })
}

/// What people are asked for; a channel says nothing without a purpose.
fn asked(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Asked> {
    let purpose = fields.get("purpose").and_then(|n| reader.filled("purpose", n));
    let channel = fields.get("channel").and_then(|n| reader.filled("channel", n));
    if fields.get("purpose").is_none() {
        fields.meaningless(reader, &["channel"], "consent is looked up for a `purpose`, and there is none");
    }
    Some(Asked { purpose: purpose?, channel })
}

/// Which groups are too small to be sent.
fn cells(reader: &mut Reader<'_>, node: &Node) -> Option<Cells> {
    let fields = reader.fields(node, "cells", &CELLS_KEYS)?;
    let count = fields.require(reader, "count").and_then(|n| reader.filled("count", n));
    let by = fields.get("by").map(|n| reader.text_list("by", n)).unwrap_or_default();
    let minimum = fields.get("minimum").map_or(Some(MINIMUM), |n| {
        let minimum = reader.count("minimum", n)?;
        if minimum.value < 2 {
            reader.findings.push(
                Diagnostic::error(Code::OutOfRange, minimum.span, "with a `minimum` of 1 no cell is small")
                    .with_label("expected 2 or more")
                    .with_help("11 is the usual minimum for health data"),
            );
        }
        Some(minimum.value)
    });
    Some(Cells { count: count?, by, minimum: minimum? })
}

fn columns(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<(Spanned<String>, Spanned<String>)>> {
    if matches!(&node.kind, NodeKind::List(_) | NodeKind::Text { .. }) {
        reader.findings.push(
            Diagnostic::error(Code::SyncColumns, node.span, "`columns` must name each column and its expression")
                .with_label("expected a mapping")
                .with_help("write `columns: {email: email, name: first_name}`"),
        );
        return None;
    }
    let entries = reader.entries(node, "columns")?;
    if entries.is_empty() {
        reader.empty(node.span, "columns");
    }
    let mut columns = Vec::new();
    for entry in entries {
        if entry.key.value.trim().is_empty() {
            reader.empty(entry.key.span, "columns");
        }
        let Some(sql) = reader.sql(&entry.key.value, &entry.value) else { continue };
        if sql.value.trim() == "*" || sql.value.trim().ends_with(".*") {
            reader.findings.push(
                Diagnostic::error(Code::SyncColumns, sql.span, "a sync sends no `*`")
                    .with_label("would send whatever is added later")
                    .with_help("list each column with its expression"),
            );
        }
        columns.push((entry.key.clone(), sql));
    }
    Some(columns)
}
