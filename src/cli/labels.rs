//! `kinfold labels`

use super::args::{OutputFormat, SelectArguments};
use super::exit::Exit;
use super::printer::Printer;
use crate::privacy::Labels;
use crate::runner::{LabelledTable, Options, SuggestedLabel, label_map, suggest_labels};
use clap::{Args, Subcommand};
use serde_json::json;
use std::fmt::Write as _;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct LabelsArguments {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    select: SelectArguments,
    /// Format of the map.
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
}

/// What else is done with labels.
#[derive(Debug, Subcommand)]
enum Action {
    /// Propose labels for source columns of which nothing is said, from the first rows of each table.
    #[command(after_help = "Example: kinfold labels suggest --rows 500")]
    Suggest(SuggestArguments),
}

#[derive(Debug, Args)]
struct SuggestArguments {
    /// How many rows of each table are looked at.
    #[arg(long, default_value_t = 1000)]
    rows: usize,
    /// Format of the list.
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
}

async fn suggest(arguments: &SuggestArguments, options: &Options, printer: &Printer) -> Exit {
    match suggest_labels(options, arguments.rows).await {
        Ok(found) => {
            printer.data(&match arguments.output {
                OutputFormat::Text => proposed(&found),
                OutputFormat::Json => format!("{:#}\n", json!(found)),
            });
            Exit::Ok
        }
        Err(failure) => printer.not_loaded("labels suggest", &failure),
    }
}

/// By table, what could be written under its `columns`.
fn proposed(found: &[SuggestedLabel]) -> String {
    if found.is_empty() {
        return "no column looks as if it needed a label that it has not\n".to_owned();
    }
    let mut out = String::new();
    let mut table = "";
    for one in found {
        if table != one.table {
            let _ = writeln!(out, "{}:", one.table);
            table = &one.table;
        }
        let SuggestedLabel { column, label, percent, values, .. } = one;
        let _ = writeln!(out, "  {column}: {{label: {label}}}  # {percent} % of {values} values");
    }
    out
}

pub(super) async fn labels(arguments: &LabelsArguments, options: Options, printer: &Printer) -> Exit {
    if let Some(Action::Suggest(arguments)) = &arguments.action {
        return suggest(arguments, &options, printer).await;
    }
    match label_map(&arguments.select.apply(options)).await {
        Ok(tables) => {
            printer.data(&match arguments.output {
                OutputFormat::Text => text(&tables),
                OutputFormat::Json => json(&tables),
            });
            Exit::Ok
        }
        Err(failure) => printer.failure(&failure),
    }
}

fn listed(labels: &Labels) -> String {
    labels.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// Tables with the columns that have labels; of the others only how many there are.
fn text(tables: &[LabelledTable]) -> String {
    let mut out = String::new();
    for table in tables {
        let to = table.to.as_ref().map_or_else(String::new, |to| format!(" to {to}"));
        let labelled: Vec<_> = table.columns.iter().filter(|c| !c.labels.is_empty()).collect();
        let free = table.columns.len() - labelled.len();
        let _ = writeln!(out, "{}: {}{to}", table.name, table.kind);
        let width = labelled.iter().map(|c| c.name.chars().count()).max().unwrap_or(0).max(4);
        if !table.rows.is_empty() {
            let _ = writeln!(out, "  {:width$}  {}", "rows", listed(&table.rows));
        }
        for column in labelled {
            let _ = writeln!(out, "  {:width$}  {}", column.name, listed(&column.labels));
        }
        if free > 0 {
            let (count, noun) = (free, if free == 1 { "column" } else { "columns" });
            let _ = writeln!(out, "  ({count} {noun} without a label)");
        }
    }
    out
}

fn json(tables: &[LabelledTable]) -> String {
    let table = |table: &LabelledTable| {
        let columns: Vec<_> = table.columns.iter().map(|c| json!({"name": c.name, "labels": c.labels})).collect();
        json!({"table": table.name, "kind": table.kind, "to": table.to, "rows": table.rows, "columns": columns})
    };
    format!("{:#}\n", json!(tables.iter().map(table).collect::<Vec<_>>()))
}
