//! `kinfold ls`

use super::args::SelectArguments;
use super::exit::Exit;
use super::printer::Printer;
use crate::runner::{Listed, Options, list};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write;

#[derive(Debug, Args)]
pub(super) struct LsArguments {
    #[command(flatten)]
    select: SelectArguments,
    /// Also list the source tables that the models read.
    #[arg(long)]
    sources: bool,
    /// Format of the list; mermaid draws the graph.
    #[arg(long, short, value_enum, default_value_t = GraphFormat::Text)]
    output: GraphFormat,
}

/// Formats of graphs on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum GraphFormat {
    Text,
    Json,
    Mermaid,
}

pub(super) fn ls(arguments: &LsArguments, options: Options, printer: &Printer) -> Exit {
    match list(&arguments.select.apply(options), arguments.sources) {
        Ok(listed) => {
            printer.data(&match arguments.output {
                GraphFormat::Text => text(&listed),
                GraphFormat::Json => json(&listed),
                GraphFormat::Mermaid => mermaid(&listed),
            });
            Exit::Ok
        }
        Err(failure) => printer.failure(&failure),
    }
}

fn text(listed: &[Listed]) -> String {
    let header = ["name", "kind", "path", "tags", "reads"].map(str::to_owned);
    let row = |l: &Listed| {
        let or_none = |text: String| if text.is_empty() { "-".to_owned() } else { text };
        let reads = l.reads.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        [l.name.clone(), l.kind.to_owned(), l.path.clone(), or_none(l.tags.join(", ")), or_none(reads)]
    };
    let rows: Vec<[String; 5]> = std::iter::once(header).chain(listed.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|r| r[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2), width(3)];
    let mut out = String::new();
    for [name, kind, path, tags, reads] in &rows {
        let [a, b, c, d] = widths;
        let _ = writeln!(out, "{name:a$}  {kind:b$}  {path:c$}  {tags:d$}  {reads}");
    }
    out
}

fn json(listed: &[Listed]) -> String {
    let one = |l: &Listed| json!({"name": l.name, "kind": l.kind, "path": l.path, "tags": l.tags, "reads": l.reads, "description": l.description});
    let all: Vec<_> = listed.iter().map(one).collect();
    format!("{:#}\n", serde_json::Value::from(all))
}

/// Models as boxes, source tables rounded; an arrow goes from what is read to its reader.
fn mermaid(listed: &[Listed]) -> String {
    let numbers: BTreeMap<&str, usize> = listed.iter().enumerate().map(|(n, l)| (l.name.as_str(), n)).collect();
    let mut out = "flowchart LR\n".to_owned();
    for (number, one) in listed.iter().enumerate() {
        let _ = match one.kind {
            "source" => writeln!(out, "  n{number}([\"{}\"])", one.name),
            kind => writeln!(out, "  n{number}[\"{}<br/>{kind}\"]", one.name),
        };
    }
    for (number, one) in listed.iter().enumerate() {
        for read in one.reads.iter().filter_map(|r| numbers.get(r.as_str())) {
            let _ = writeln!(out, "  n{read} --> n{number}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(name: &str, kind: &'static str, reads: &[&str]) -> Listed {
        Listed {
            name: name.to_owned(),
            kind,
            path: format!("models/{name}"),
            tags: Vec::new(),
            reads: reads.iter().map(|r| (*r).to_owned()).collect(),
            description: None,
        }
    }

    #[test]
    fn the_graph_has_boxes_and_arrows_of_what_is_listed_only() {
        let all = [listed("web.t", "source", &[]), listed("m", "sql", &["web.t", "not_listed"])];
        assert_eq!(mermaid(&all), "flowchart LR\n  n0([\"web.t\"])\n  n1[\"m<br/>sql\"]\n  n0 --> n1\n");
    }

    #[test]
    fn columns_are_aligned_and_nothing_is_a_dash() {
        let all = [listed("long_name", "sql", &["b", "a"])];
        assert_eq!(
            text(&all),
            "name       kind  path              tags  reads\nlong_name  sql   models/long_name  -     a, b\n"
        );
    }
}
