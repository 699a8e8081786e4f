//! Talk for machines: with `--log-format json` every line on stderr is one JSON object.
//!
//! Each has `level` (`error`, `warning` or `info`) and `message`, one line for people. The rest is what the line is
//! about: a finding has what `render_json` says of it (`code`, `place`, `help`, ...), an error its `kind`, `help`,
//! `causes` and whether it is `retryable`, and what a run tells has its `event` with the event's own keys. Lines have
//! no time: whoever collects them knows when they came.

use crate::diagnostic::{Diagnostic, SourceMap, render_json};
use crate::error::{Error, ErrorKind};
use crate::runner::{NodeReport, SyncReport};
use clap::error::ErrorKind as UsageKind;
use serde_json::{Map, Value, json};

/// One line: `more` is an object with the further keys.
pub(super) fn line(level: &str, message: &str, more: Value) -> String {
    let mut object = match more {
        Value::Object(object) => object,
        _ => Map::new(),
    };
    object.insert("level".to_owned(), level.into());
    object.insert("message".to_owned(), message.into());
    Value::Object(object).to_string()
}

/// A line for each finding.
pub(super) fn findings(findings: &[Diagnostic], map: &SourceMap) -> Vec<String> {
    let items: Vec<Value> = serde_json::from_str(&render_json(findings, map)).unwrap_or_default();
    let told = items.into_iter().map(|item| {
        let text = |key: &str| item.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        line(&text("severity"), &text("message"), item)
    });
    told.collect()
}

/// An error with its causes, outermost first.
pub(super) fn error(error: &Error, causes: &[String]) -> String {
    let more = json!({
        "kind": kind(error.kind()),
        "help": error.help(),
        "causes": causes,
        "retryable": error.is_retryable(),
    });
    line("error", &error.to_string(), more)
}

fn kind(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Failed => "failed",
        ErrorKind::Data => "data",
        ErrorKind::Storage => "storage",
        ErrorKind::Usage => "usage",
        ErrorKind::Refused => "refused",
        ErrorKind::Busy => "busy",
        ErrorKind::Interrupted => "interrupted",
    }
}

/// Arguments that cannot be understood.
pub(super) fn usage(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let (first, rest) = text.split_once("\n\n").unwrap_or((&text, ""));
    let first = first.split_whitespace().collect::<Vec<_>>().join(" ");
    let (message, help) = match error.kind() {
        UsageKind::MissingSubcommand | UsageKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            ("no command is given", "`kinfold --help` lists the commands")
        }
        _ => (first.strip_prefix("error: ").unwrap_or(&first), rest.trim()),
    };
    line("error", message, json!({ "kind": "usage", "help": help, "causes": [], "retryable": false }))
}

/// A run begins.
pub(super) fn run_started(message: &str, run: u64, models: usize) -> String {
    line("info", message, json!({ "event": "run_started", "run": run, "models": models }))
}

/// A model begins to be built.
pub(super) fn model_started(model: &str) -> String {
    line("info", &format!("{model} begins"), json!({ "event": "model_started", "model": model }))
}

/// A model is built.
pub(super) fn model_finished(message: &str, node: &NodeReport) -> String {
    let more = json!({
        "event": "model_finished",
        "model": node.model,
        "rows": node.rows,
        "rows_before": node.rows_before,
        "seconds": node.seconds,
    });
    line("info", message, more)
}

/// A sync is over.
pub(super) fn sync_finished(message: &str, sync: &SyncReport) -> String {
    let level = if sync.error.is_some() { "error" } else { "info" };
    let mut more = serde_json::to_value(sync).unwrap_or_default();
    more["event"] = "sync_finished".into();
    line(level, message, more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_object_whatever_the_message() {
        let text = line("info", "two\nlines and \"quotes\"", json!({ "event": "note" }));
        assert!(!text.contains('\n'), "{text}");
        let object: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(object, json!({ "level": "info", "message": "two\nlines and \"quotes\"", "event": "note" }));
    }

    #[test]
    fn causes_and_the_way_out_are_kept() {
        let failed = Error::new(ErrorKind::Busy, "another run holds the warehouse").with_help("try again later");
        let object: Value = serde_json::from_str(&error(&failed, &["it is alive".to_owned()])).unwrap();
        assert_eq!(object["kind"], "busy");
        assert_eq!(object["retryable"], true);
        assert_eq!(object["help"], "try again later");
        assert_eq!(object["causes"], json!(["it is alive"]));
    }
}
