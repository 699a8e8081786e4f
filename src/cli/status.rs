//! `kinfold status`

use super::args::StatusArguments;
use super::exit::Exit;
use super::printer::Printer;
use super::summary::{counted, grouped};
use crate::runner::{Failure, Options, last_runs};
use crate::warehouse::{RunRecord, RunStatus};
use serde_json::Value;
use std::fmt::Write;

pub(super) async fn status(arguments: &StatusArguments, options: Options, printer: &Printer) -> Exit {
    match text(arguments.limit, &options).await {
        Ok(text) => {
            printer.data(&text);
            Exit::Ok
        }
        Err(failure) => printer.failure(&failure),
    }
}

async fn text(limit: usize, options: &Options) -> Result<String, Failure> {
    let records = last_runs(options, limit).await?;
    if records.is_empty() {
        return Ok("no runs yet: `kinfold run` makes the first\n".to_owned());
    }
    let mut out = String::new();
    for record in &records {
        line(&mut out, record);
    }
    Ok(out)
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
            let _ = writeln!(
                out,
                "  {name}: {result}; {} rows, {} sent, {} unchanged, {} rejected, {} withheld",
                grouped(number(sync, "read")),
                grouped(number(sync, "sent")),
                grouped(number(sync, "unchanged")),
                grouped(number(sync, "rejected")),
                grouped(number(sync, "withheld"))
            );
        }
        return;
    }
    let _ = writeln!(
        out,
        "run {:<5} {word} {at}  as of {}, {} models",
        record.run,
        text("as_of"),
        number(content, "models")
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
