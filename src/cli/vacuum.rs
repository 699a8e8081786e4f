//! `kinfold vacuum`

use super::args::OutputFormat;
use super::exit::Exit;
use super::printer::Printer;
use super::summary::{bytes, counted, grouped, table};
use crate::runner::{Options, Vacuumed, vacuum as execute};
use clap::Args;
use std::fmt::Write;

#[derive(Debug, Args)]
pub(super) struct VacuumArguments {
    /// Do it; without this it is only said.
    #[arg(long)]
    apply: bool,
    /// Format of the answer.
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
}

pub(super) async fn vacuum(arguments: &VacuumArguments, options: &Options, printer: &Printer) -> Exit {
    match execute(options, arguments.apply).await {
        Ok(vacuumed) => {
            printer.data(&match arguments.output {
                OutputFormat::Text => text(&vacuumed),
                OutputFormat::Json => format!("{:#}\n", serde_json::json!(vacuumed)),
            });
            Exit::Ok
        }
        Err(failure) => printer.not_loaded("vacuum", &failure),
    }
}

fn text(vacuumed: &Vacuumed) -> String {
    let Some(first) = vacuumed.first_kept else {
        return "no runs yet: there is nothing to remove\n".to_owned();
    };
    let what = &vacuumed.what;
    let mut out = format!("kept: {} from run {first} on\n", counted(vacuumed.kept, "run"));
    if what.is_empty() {
        out.push_str("nothing else is there\n");
        return out;
    }
    let (removed, joined) = if vacuumed.applied { ("removed", "joined") } else { ("would remove", "would join") };
    if let (Some(oldest), Some(newest)) = (what.runs.first(), what.runs.last()) {
        let _ = writeln!(out, "{removed}: {}, {oldest} to {newest}", counted(what.runs.len(), "run"));
    }
    if !what.tables.is_empty() {
        let size = bytes(what.tables.iter().map(|t| t.bytes).sum());
        let files = counted(what.tables.iter().map(|t| t.files).sum(), "data file");
        let _ = writeln!(out, "{removed}: {files}, {size}\n");
        let row = |t: &crate::warehouse::VacuumedTable| {
            vec![t.table.clone(), grouped(t.files as u64), bytes(t.bytes), grouped(t.log_entries as u64)]
        };
        table(&mut out, &["table", "files", "size", "log entries"], &what.tables.iter().map(row).collect::<Vec<_>>());
        out.push('\n');
    }
    for one in &what.compacted {
        let _ = writeln!(out, "{joined}: {} of {}, {}", counted(one.files, "small file"), one.table, bytes(one.bytes));
    }
    if !vacuumed.applied {
        out.push_str("nothing was changed; `kinfold vacuum --apply` does it\n");
    }
    out
}
