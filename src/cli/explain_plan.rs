//! `kinfold explain plan`

use super::args::OutputFormat;
use super::exit::Exit;
use super::printer::Printer;
use super::summary::counted;
use crate::engine::{PartialNote, Scan, ScanPath, ScanPlan, TableRead};
use crate::runner::{Options, explain_plan};
use clap::Args;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;

#[derive(Debug, Args)]
pub(super) struct PlanArguments {
    /// A profile or an audience.
    name: String,
    /// Format of the answer.
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
}

pub(super) async fn plan(arguments: &PlanArguments, options: &Options, printer: &Printer) -> Exit {
    match explain_plan(options, &arguments.name).await {
        Ok(plan) => {
            printer.data(&match arguments.output {
                OutputFormat::Text => as_text(&plan),
                OutputFormat::Json => format!("{:#}\n", as_json(&plan)),
            });
            Exit::Ok
        }
        Err(failure) => printer.not_loaded("explain plan", &failure),
    }
}

/// How a scan is called, in text and in JSON.
fn words(path: ScanPath) -> (&'static str, &'static str) {
    match path {
        ScanPath::Shared => ("one scan", "shared"),
        ScanPath::Ordered => ("a scan of its own, because rows must come in an order", "ordered"),
        ScanPath::Later => ("a scan after other models, whose rows it reads", "later"),
        ScanPath::Query => ("a query of its own", "query"),
    }
}

fn as_text(plan: &ScanPlan) -> String {
    let mut out = format!("{} is made with {}\n", plan.model, counted(plan.scans.len(), "scan"));
    for scan in &plan.scans {
        let _ = writeln!(out, "\n{}", words(scan.path).0);
        for read in &scan.tables {
            let _ = writeln!(
                out,
                "  reads {}: {} of {} columns ({})",
                read.table,
                read.columns.len(),
                read.of,
                read.columns.join(", ")
            );
            for filter in &read.filters {
                let whose = if read.parquet { "row groups are left out by" } else { "filters by" };
                let _ = writeln!(out, "    {whose}: {filter}");
            }
        }
        for (model, asked) in &scan.answers {
            let _ = writeln!(out, "  for {model}: {}", asked.join(", "));
        }
    }
    out.push_str(&partials_text(plan));
    out
}

/// What need not be read again tomorrow.
fn partials_text(plan: &ScanPlan) -> String {
    let Some(models) = &plan.partials else { return "\nno partial states are kept (`partials: false`)\n".to_owned() };
    let mut out = "\npartial states\n".to_owned();
    for (model, notes) in models {
        let kept: Vec<&str> = notes.iter().filter(|n| n.because.is_none()).map(|n| n.name.as_str()).collect();
        if !kept.is_empty() {
            let _ = writeln!(out, "  kept for {model}: {}", kept.join(", "));
        }
        let mut read: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for note in notes {
            if let Some(because) = &note.because {
                read.entry(because).or_default().push(&note.name);
            }
        }
        for (because, names) in read {
            let _ = writeln!(out, "  all files are read for {model}: {} ({because})", names.join(", "));
        }
    }
    out
}

fn as_json(plan: &ScanPlan) -> Value {
    let read = |read: &TableRead| {
        json!({
            "table": read.table,
            "columns": read.columns,
            "columns_of_table": read.of,
            "filters": read.filters,
            "parquet": read.parquet,
        })
    };
    let scan = |scan: &Scan| {
        json!({
            "path": words(scan.path).1,
            "reads": scan.tables.iter().map(read).collect::<Value>(),
            "answers": scan.answers,
        })
    };
    let note =
        |note: &PartialNote| json!({"name": note.name, "kept_of": note.tables, "all_files_because": note.because});
    let notes = |notes: &Vec<PartialNote>| notes.iter().map(note).collect::<Value>();
    let partials = plan.partials.iter().flatten().map(|(model, of_model)| (model.clone(), notes(of_model)));
    json!({
        "model": plan.model,
        "profile": plan.profile,
        "scans": plan.scans.iter().map(scan).collect::<Value>(),
        "partials": plan.partials.is_some().then(|| Value::Object(partials.collect())),
    })
}
