//! `kinfold status`, also called `kinfold runs`

use super::args::{OutputFormat, StatusArguments};
use super::exit::Exit;
use super::printer::Printer;
use super::summary::{bytes, counted, grouped, seconds};
use crate::runner::{Options, last_runs};
use crate::warehouse::{RunRecord, RunStatus};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use std::fmt::Write;

pub(super) async fn status(arguments: &StatusArguments, options: Options, printer: &Printer) -> Exit {
    match last_runs(&options, arguments.limit).await {
        Ok(records) => {
            printer.data(&match arguments.output {
                OutputFormat::Text => text(&records),
                OutputFormat::Json => format!("{:#}\n", records.iter().map(object).collect::<Value>()),
            });
            Exit::Ok
        }
        Err(failure) => printer.not_loaded("status", &failure),
    }
}

fn text(records: &[RunRecord]) -> String {
    if records.is_empty() {
        return "no runs yet: `kinfold run` makes the first\n".to_owned();
    }
    let mut out = String::new();
    for record in records {
        line(&mut out, record);
    }
    out
}

/// A run for machines: what its record says of it, and what was kept with it.
fn object(record: &RunRecord) -> Value {
    let mut object: Map<String, Value> = record.content.as_object().cloned().unwrap_or_default();
    let tables = record.tables.values().map(|t| (t.name.clone(), json!({ "version": t.version, "run": t.run })));
    let more = [
        ("tables_changed", json!(record.changed().collect::<Vec<_>>())),
        ("rows", json!(rows(record))),
        ("run", json!(record.run)),
        ("status", json!(record.status)),
        ("committed_at", json!(record.committed_at)),
        ("note", json!(record.note)),
        ("tables", tables.collect()),
    ];
    object.extend(more.map(|(key, value)| (key.to_owned(), value)));
    Value::Object(object)
}

/// Rows of the models' main tables; none where no model was built.
fn rows(record: &RunRecord) -> Option<u64> {
    let nodes = record.content.get("nodes")?.as_array()?;
    Some(nodes.iter().filter_map(|node| node.get("rows")?.as_u64()).sum())
}

/// How long a run took until its tables were staged.
fn took(record: &RunRecord) -> Option<String> {
    let started: DateTime<Utc> = record.content.get("started_at")?.as_str()?.parse().ok()?;
    let took = (record.committed_at - started).num_milliseconds();
    Some(format!(", took {}", seconds(took as f64 / 1000.0)))
}

fn line(out: &mut String, record: &RunRecord) {
    let word = match record.status {
        RunStatus::Committed => "committed",
        RunStatus::Abandoned => "abandoned",
    };
    let at = record.committed_at.format("%Y-%m-%d %H:%M:%S UTC");
    let content = &record.content;
    let text = |key: &str| content.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let number = |value: &Value, key: &str| value.get(key).and_then(Value::as_u64).unwrap_or(0);
    if content.get("kind").and_then(Value::as_str) == Some("sync") {
        let _ = writeln!(out, "run {:<5} {word} {at}  syncs of run {}", record.run, number(content, "of_run"));
        for sync in content.get("syncs").and_then(Value::as_array).into_iter().flatten() {
            let name = sync.get("sync").and_then(Value::as_str).unwrap_or_default();
            let result = sync.get("result").and_then(Value::as_str).unwrap_or_default();
            let again = number(sync, "again");
            let next = if again > 0 { format!("; the next run tries {} again", grouped(again)) } else { String::new() };
            let _ = writeln!(
                out,
                "  {name}: {result}; {} rows, {} sent, {} unchanged, {} rejected, {} withheld{next}",
                grouped(number(sync, "read")),
                grouped(number(sync, "sent")),
                grouped(number(sync, "unchanged")),
                grouped(number(sync, "rejected")),
                grouped(number(sync, "withheld"))
            );
        }
        return;
    }
    if content.get("kind").and_then(Value::as_str) == Some("vacuum") {
        let (files, freed) = (number(content, "files_removed"), bytes(number(content, "bytes_removed")));
        let (run, first) = (record.run, number(content, "first_kept"));
        let _ =
            writeln!(out, "run {run:<5} {word} {at}  vacuum: {} files, {freed}, before run {first}", grouped(files));
        return;
    }
    if content.get("kind").and_then(Value::as_str) == Some("erasure") {
        let tables = grouped(number(content, "tables"));
        let _ = writeln!(out, "run {:<5} {word} {at}  erasure: rows of {tables} tables", record.run);
        return;
    }
    let unchanged = content.get("unchanged").and_then(Value::as_array).map_or(0, Vec::len);
    let _ = writeln!(
        out,
        "run {:<5} {word} {at}{}  as of {}, {} models{}, {}, {} rows",
        record.run,
        took(record).unwrap_or_default(),
        text("as_of"),
        number(content, "models"),
        if unchanged > 0 { format!(" and {unchanged} unchanged") } else { String::new() },
        counted(record.changed().count(), "changed table"),
        grouped(rows(record).unwrap_or(0))
    );
    let withheld = content.get("withheld").and_then(Value::as_array).map_or(0, Vec::len);
    if withheld > 0 || number(content, "failed_tests") > 0 {
        let failed = usize::try_from(number(content, "failed_tests")).unwrap_or(usize::MAX);
        let _ = writeln!(out, "  {} failed, {} withheld", counted(failed, "test"), counted(withheld, "model"));
    }
    if let Some(note) = &record.note {
        let _ = writeln!(out, "  {note}");
    }
}
