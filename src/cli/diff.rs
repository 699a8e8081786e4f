//! `kinfold diff`

use super::args::OutputFormat;
use super::exit::Exit;
use super::printer::Printer;
use super::summary::{counted, grouped, table};
use crate::engine::{JsonRow, RowChange};
use crate::runner::{Options, RunDifference, RunPair, TableBetween, difference};
use clap::Args;
use serde_json::Value;
use std::fmt::Write;

#[derive(Debug, Args)]
pub(super) struct DiffArguments {
    /// The run to compare with, by its number.
    #[arg(value_name = "RUN")]
    before: u64,
    /// The run to compare.
    #[arg(value_name = "RUN")]
    now: u64,
    /// Tables; by default all but those about runs (`kinfold.*`).
    #[arg(value_name = "TABLE")]
    tables: Vec<String>,
    /// How many rows of each sort are shown of each table.
    #[arg(long, short = 'n', default_value_t = 3)]
    limit: usize,
    /// Format of the answer.
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
}

pub(super) async fn diff(arguments: &DiffArguments, options: &Options, printer: &Printer) -> Exit {
    let DiffArguments { before, now, ref tables, limit, output } = *arguments;
    match difference(options, &RunPair { before, now, tables: tables.clone(), examples: limit }).await {
        Ok(difference) => {
            printer.data(&match output {
                OutputFormat::Text => text(&difference),
                OutputFormat::Json => format!("{:#}\n", serde_json::json!(difference)),
            });
            Exit::Ok
        }
        Err(failure) => printer.not_loaded("diff", &failure),
    }
}

fn text(difference: &RunDifference) -> String {
    let mut out = String::new();
    if !difference.tables.is_empty() {
        table(
            &mut out,
            &["table", "added", "removed", "changed"],
            &difference.tables.iter().map(row).collect::<Vec<_>>(),
        );
        out.push('\n');
    }
    for one in &difference.tables {
        details(&mut out, one);
    }
    let (before, now) = (difference.before, difference.now);
    match difference.equal.as_slice() {
        [] => {}
        equal => {
            let tables = counted(equal.len(), "table");
            let _ = writeln!(out, "the same after run {before} and run {now}: {tables}");
            let _ = writeln!(out, "  {}", equal.join(", "));
        }
    }
    out
}

fn row(one: &TableBetween) -> Vec<String> {
    let changes = &one.changes;
    let changed = if changes.key.is_empty() { "-".to_owned() } else { grouped(changes.changed) };
    vec![one.table.clone(), grouped(changes.added), grouped(changes.removed), changed]
}

fn details(out: &mut String, one: &TableBetween) {
    let changes = &one.changes;
    let told = match (one.versions, changes.key.as_slice()) {
        ([None, _], _) => "new".to_owned(),
        ([_, None], _) => "gone".to_owned(),
        (_, []) => "whole rows".to_owned(),
        (_, key) => format!("by {}", key.join(", ")),
    };
    let _ = writeln!(out, "{} ({told})", one.table);
    for (sign, columns) in [("+", &changes.columns_added), ("-", &changes.columns_removed)] {
        if !columns.is_empty() {
            let _ = writeln!(
                out,
                "  {sign} {} {}",
                if columns.len() == 1 { "column" } else { "columns" },
                columns.join(", ")
            );
        }
    }
    for example in &changes.examples {
        let _ = writeln!(out, "  {}", example_text(example, &changes.columns));
    }
    let shown = changes.examples.len() as u64;
    let all = changes.added + changes.removed + changes.changed;
    if shown < all && shown > 0 {
        let _ = writeln!(out, "  and {} more", grouped(all - shown));
    }
    out.push('\n');
}

/// `+ id=1`, `- id=1`, `~ id=1: name Ann -> Anne`.
fn example_text(example: &RowChange, columns: &[String]) -> String {
    let named = listed(&example.key, columns);
    match (&example.before, &example.now) {
        (Some(before), Some(now)) => {
            let value = |row: &JsonRow, column: &String| row.get(column).map_or_else(|| "null".to_owned(), plain);
            let differs = columns.iter().filter(|c| before.contains_key(*c) || now.contains_key(*c));
            let each: Vec<String> = differs.map(|c| format!("{c} {} -> {}", value(before, c), value(now, c))).collect();
            format!("~ {named}: {}", each.join(", "))
        }
        (None, _) => format!("+ {named}"),
        (Some(_), None) => format!("- {named}"),
    }
}

fn listed(row: &JsonRow, columns: &[String]) -> String {
    let cells = columns.iter().filter_map(|c| Some(format!("{c}={}", plain(row.get(c)?))));
    cells.collect::<Vec<_>>().join(" ")
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
