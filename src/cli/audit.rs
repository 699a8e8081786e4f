//! `kinfold audit`

use super::args::OutputFormat;
use super::exit::Exit;
use super::explain_identity::time_text;
use super::printer::Printer;
use super::summary::{counted, table};
use crate::error::{Error, ErrorKind};
use crate::runner::{Options, audit_entries, verify_audit};
use crate::warehouse::{AuditEntry, AuditHead, AuditReport};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

#[derive(Debug, Args)]
pub(super) struct AuditArguments {
    #[command(subcommand)]
    action: Action,
}

/// What is done with the log.
#[derive(Debug, Subcommand)]
enum Action {
    /// Check that no entry was changed, removed, moved or cut.
    #[command(after_help = "Examples:
  kinfold audit verify
  kinfold audit verify --head 12:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    Verify(VerifyArguments),
    /// Print the newest entries.
    #[command(after_help = "Example: kinfold audit log --limit 20")]
    Log(LogArguments),
}

#[derive(Debug, Args)]
struct VerifyArguments {
    /// A head that an earlier check printed: the log must still have all that it had then.
    #[arg(long, value_name = "NUMBER:HASH")]
    head: Option<String>,
    /// Format of the answer.
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
}

#[derive(Debug, Args)]
struct LogArguments {
    /// How many entries.
    #[arg(long, short = 'n', default_value_t = 10)]
    limit: usize,
    /// Format of the list.
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
}

pub(super) async fn audit(arguments: &AuditArguments, options: &Options, printer: &Printer) -> Exit {
    match &arguments.action {
        Action::Verify(verify) => check(verify, options, printer).await,
        Action::Log(log) => match audit_entries(options, log.limit).await {
            Ok(entries) => {
                printer.data(&match log.output {
                    OutputFormat::Text => listed(&entries),
                    OutputFormat::Json => format!("{:#}\n", json!(entries)),
                });
                Exit::Ok
            }
            Err(failure) => printer.not_loaded("audit log", &failure),
        },
    }
}

async fn check(arguments: &VerifyArguments, options: &Options, printer: &Printer) -> Exit {
    let kept = match arguments.head.as_deref().map(|text| AuditHead::parse(text).ok_or(text)).transpose() {
        Ok(kept) => kept,
        Err(text) => {
            let error = Error::new(ErrorKind::Usage, format!("`{text}` is no head of the audit log"));
            return printer.error(&error.with_help("write NUMBER:HASH, as `kinfold audit verify` prints it"));
        }
    };
    match verify_audit(options, kept.as_ref()).await {
        Ok(report) => {
            printer.data(&match arguments.output {
                OutputFormat::Text => told(&report),
                OutputFormat::Json => format!("{:#}\n", json!(report)),
            });
            if report.faults.is_empty() { Exit::Ok } else { Exit::Failed }
        }
        Err(failure) => printer.not_loaded("audit verify", &failure),
    }
}

fn told(report: &AuditReport) -> String {
    let AuditReport { entries, head, faults } = report;
    let count = if *entries == 1 { "1 entry".to_owned() } else { format!("{entries} entries") };
    if faults.is_empty() {
        return format!("{count}, none changed, removed or moved\nhead: {}:{}\n", head.number, head.hash);
    }
    format!("{count}, and {}:\n  {}\n", counted(faults.len(), "fault"), faults.join("\n  "))
}

fn listed(entries: &[AuditEntry]) -> String {
    let row = |entry: &AuditEntry| {
        vec![entry.number.to_string(), time_text(entry.at), entry.by.clone(), entry.action.clone(), short(&entry.facts)]
    };
    let mut out = String::new();
    table(&mut out, &["entry", "at", "by", "action", "facts"], &entries.iter().map(row).collect::<Vec<_>>());
    out
}

/// Facts in one line: names, numbers and texts; of lists and tables the names.
fn short(facts: &Value) -> String {
    let value = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        Value::Object(fields) => fields.keys().cloned().collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    };
    let fields = facts.as_object().into_iter().flatten().filter(|(_, v)| !v.is_null());
    fields.map(|(name, v)| format!("{name}: {}", value(v))).collect::<Vec<_>>().join("; ")
}
