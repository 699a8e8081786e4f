//! `kinfold lineage`

use super::exit::Exit;
use super::ls::GraphFormat;
use super::printer::Printer;
use crate::graph::{ColumnRef, Columns, Trace};
use crate::runner::{LineageAnswer, LineageRequest, Options, lineage as follow};
use clap::Args;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

#[derive(Debug, Args)]
pub(super) struct LineageArguments {
    /// A model, a table that a model makes, a source table, or a column of one: NAME or NAME.column.
    name: String,
    /// Only what it comes from.
    #[arg(long, conflicts_with = "down")]
    up: bool,
    /// Only what depends on it.
    #[arg(long)]
    down: bool,
    /// Only one step, not through further models.
    #[arg(long)]
    direct: bool,
    /// Format of the answer.
    #[arg(long, short, value_enum, default_value_t = GraphFormat::Text)]
    output: GraphFormat,
}

pub(super) async fn lineage(arguments: &LineageArguments, options: Options, printer: &Printer) -> Exit {
    let request = LineageRequest { name: arguments.name.clone(), direct: arguments.direct };
    match follow(&options, &request).await {
        Ok(answer) => {
            let (up, down) = (!arguments.down, !arguments.up);
            printer.data(&match arguments.output {
                GraphFormat::Text => text(&answer, up, down),
                GraphFormat::Json => json(&answer, up, down, arguments.direct),
                GraphFormat::Mermaid => mermaid(&answer, up, down),
            });
            Exit::Ok
        }
        Err(failure) => printer.failure(&failure),
    }
}

fn name(answer: &LineageAnswer) -> String {
    answer.column.as_ref().map_or_else(|| answer.table.clone(), |column| format!("{}.{column}", answer.table))
}

/// Names of columns by table; a table whose rows alone count has no names.
fn by_table<'c>(columns: impl IntoIterator<Item = &'c ColumnRef>) -> BTreeMap<&'c str, Vec<&'c str>> {
    let mut tables: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for column in columns {
        let names = tables.entry(&column.table).or_default();
        if !column.is_rows() {
            names.push(&column.column);
        }
    }
    tables
}

/// A heading and one line a table; nothing when there is nothing to say.
fn section(out: &mut String, heading: &str, columns: &Columns) {
    let tables = by_table(columns);
    let width = tables.keys().map(|t| t.chars().count()).max().unwrap_or(0);
    if !tables.is_empty() {
        let _ = writeln!(out, "\n{heading}");
    }
    for (table, names) in tables {
        let names = if names.is_empty() { "(that a row is there)".to_owned() } else { names.join(", ") };
        let _ = writeln!(out, "  {table:width$}  {names}");
    }
}

fn text(answer: &LineageAnswer, up: bool, down: bool) -> String {
    let mut out = format!("{}: {}, {}\n", name(answer), answer.kind, answer.path);
    if up {
        match (&answer.column, answer.up.as_slice()) {
            (Some(_), [(_, trace)]) => {
                section(&mut out, "values come from", &trace.values);
                section(&mut out, "rows are decided by", &trace.rows);
            }
            (_, columns) => {
                section(&mut out, "rows are decided by", &answer.rows);
                each_column(&mut out, columns, &answer.rows);
            }
        }
    }
    if down {
        section(&mut out, "values go to", &answer.down.values);
        section(&mut out, "rows decide", &answer.down.rows);
        if answer.down == Trace::default() {
            out.push_str("\nno model depends on it\n");
        }
    }
    out
}

/// Columns in one line.
fn listed<'c>(columns: impl IntoIterator<Item = &'c ColumnRef>) -> String {
    let one = |(table, names): (&str, Vec<&str>)| match names.as_slice() {
        [] => format!("{table} (that a row is there)"),
        names => names.iter().map(|n| format!("{table}.{n}")).collect::<Vec<_>>().join(", "),
    };
    by_table(columns).into_iter().map(one).collect::<Vec<_>>().join(", ")
}

/// One line a column: its values and, below, what decides it beyond the rows of its table.
fn each_column(out: &mut String, columns: &[(String, Trace)], rows: &Columns) {
    let width = columns.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    out.push_str("\ncolumns and what their values come from\n");
    for (name, trace) in columns {
        let values = listed(&trace.values);
        let values = if values.is_empty() { "-" } else { &values };
        let _ = writeln!(out, "  {name:width$}  {values}");
        let own = listed(trace.rows.difference(rows));
        if !own.is_empty() {
            let _ = writeln!(out, "  {:width$}  decided by {own}", "");
        }
    }
}

fn names(columns: &Columns) -> Vec<String> {
    columns.iter().map(ToString::to_string).collect()
}

fn json(answer: &LineageAnswer, up: bool, down: bool, direct: bool) -> String {
    let column = |(name, trace): &(String, Trace)| json!({"name": name, "values": names(&trace.values), "rows": names(&trace.rows)});
    let columns: Vec<Value> = answer.up.iter().map(column).collect();
    let mut whole = json!({
        "name": name(answer),
        "table": answer.table,
        "column": answer.column,
        "kind": answer.kind,
        "path": answer.path,
        "direct": direct,
    });
    if up {
        whole["up"] = json!({"rows": names(&answer.rows), "columns": columns});
    }
    if down {
        whole["down"] = json!({"values": names(&answer.down.values), "rows": names(&answer.down.rows)});
    }
    format!("{whole:#}\n")
}

/// What it comes from on the left, what depends on it on the right: full arrows for values, dotted ones for
/// what only decides rows. For a column these are columns and, behind dotted arrows, tables; for a table, tables.
fn mermaid(answer: &LineageAnswer, up: bool, down: bool) -> String {
    let of_column = answer.column.is_some();
    let label = |column: &ColumnRef| if of_column { column.to_string() } else { column.table.clone() };
    let mut out = format!("flowchart LR\n  n0[\"{}\"]\n", name(answer));
    let mut next = 0;
    let mut arrows = |values: &Columns, rows: &Columns, to_it: bool| {
        let full: BTreeSet<String> = values.iter().map(label).collect();
        let known: BTreeSet<&str> = values.iter().map(|c| c.table.as_str()).collect();
        let dotted: BTreeSet<&str> =
            rows.iter().map(|c| c.table.as_str()).filter(|t| of_column || !known.contains(t)).collect();
        let full = full.iter().map(|name| (name.as_str(), "-->"));
        for (name, arrow) in full.chain(dotted.into_iter().map(|table| (table, "-.->"))) {
            next += 1;
            let (from, to) = if to_it { (next, 0) } else { (0, next) };
            let _ = writeln!(out, "  n{next}[\"{name}\"]\n  n{from} {arrow} n{to}");
        }
    };
    if up {
        let mut all = Trace { values: Columns::new(), rows: answer.rows.clone() };
        for (_, trace) in &answer.up {
            all.extend(trace.clone());
        }
        arrows(&all.values, &all.rows, true);
    }
    if down {
        arrows(&answer.down.values, &answer.down.rows, false);
    }
    out
}
