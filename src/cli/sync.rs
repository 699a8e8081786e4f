//! `kinfold sync`: syncs over the committed tables, without building a model.

use super::args::OutputFormat;
use super::exit::Exit;
use super::printer::Printer;
use super::run::carry_out;
use super::summary::grouped;
use crate::error::{Error, ErrorKind};
use crate::runner::{
    Effect, Effects, Options, Prepared, Purpose, Reading, Resend, Silent, SyncSample, note_reading, prepare, preview,
};
use clap::{Args, Subcommand};
use std::fmt::Write as _;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct SyncArguments {
    #[command(subcommand)]
    action: Option<SyncAction>,
    /// Syncs; all of them by default.
    names: Vec<String>,
    /// Say what would be sent, with samples of the rows, and send nothing.
    #[arg(long)]
    plan: bool,
    /// Send every current row, changed or not.
    #[arg(long)]
    full: bool,
    /// Forget what the destination is known to have, and send every current row as new.
    #[arg(long, conflicts_with = "full")]
    reset: bool,
    /// Format of the summary; json is that of target/run.json.
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
}

/// What else is done with syncs.
#[derive(Debug, Subcommand)]
enum SyncAction {
    /// Send again what was rejected for good, too, besides what changed.
    #[command(after_help = "Example: kinfold sync retry searched_not_booked_to_lake")]
    Retry(RetryArguments),
}

#[derive(Debug, Args)]
struct RetryArguments {
    /// Syncs; all of them by default.
    names: Vec<String>,
    /// Format of the summary; json is that of target/run.json.
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
}

pub(super) async fn sync(arguments: &SyncArguments, mut options: Options, printer: &Printer) -> Exit {
    let (names, output, resend) = match &arguments.action {
        Some(SyncAction::Retry(retry)) => (&retry.names, retry.output, Resend { rejected: true, ..Resend::default() }),
        None => (
            &arguments.names,
            arguments.output,
            Resend { full: arguments.full, reset: arguments.reset, rejected: false },
        ),
    };
    options.resend = resend;
    options.select = if names.is_empty() { vec!["kind:sync".to_owned()] } else { names.clone() };
    let prepared = match prepare(&options, Purpose::Run).await {
        Ok(prepared) => prepared,
        Err(failure) => return printer.failure(&failure),
    };
    printer.findings(&prepared.warnings, prepared.engine.source_map());
    if let Some(error) = no_syncs(&prepared) {
        return printer.error(&error);
    }
    if arguments.plan {
        say(prepared, &options, output, printer).await
    } else {
        carry_out(prepared, &options, output, printer).await
    }
}

/// What is wrong with the names: each must be that of a sync.
fn no_syncs(prepared: &Prepared) -> Option<Error> {
    let is_sync = |name: &&String| prepared.project.models.get(*name).is_some_and(|m| m.kind.word() == "sync");
    let other = prepared.selected.iter().find(|name| !is_sync(name));
    match other {
        Some(name) => Some(
            Error::new(ErrorKind::Usage, format!("`{name}` is no sync"))
                .with_help("name syncs; `kinfold ls` lists them"),
        ),
        None if prepared.selected.is_empty() => {
            Some(Error::new(ErrorKind::Usage, "there is no sync").with_help("define one with `kind: sync`"))
        }
        None => None,
    }
}

/// Says what would be sent.
async fn say(prepared: Prepared, options: &Options, output: OutputFormat, printer: &Printer) -> Exit {
    let previewed = match preview(prepared, options, Effects::All, &Silent).await {
        Ok(previewed) => previewed,
        Err(failure) => return printer.failure(&failure),
    };
    let shown = previewed.effects.iter().filter_map(|effect| match effect {
        Effect::Sync { sync, samples, .. } if !samples.is_empty() => Some(sync.clone()),
        _ => None,
    });
    if let Err(failure) = note_reading(options, Reading::of("query", shown)).await {
        return printer.failure(&failure);
    }
    let failed = previewed.effects.iter().any(|e| matches!(e, Effect::Sync { error: Some(_), .. }));
    match output {
        OutputFormat::Text => {
            let mut out = String::new();
            previewed.effects.iter().for_each(|effect| planned(&mut out, effect));
            printer.data(&out);
        }
        OutputFormat::Json => match serde_json::to_string_pretty(&json(&previewed.effects)) {
            Ok(text) => printer.data(&format!("{text}\n")),
            Err(e) => return printer.error(&Error::new(ErrorKind::Failed, "the plan cannot be written").caused_by(e)),
        },
    }
    if failed { Exit::Failed } else { Exit::Ok }
}

fn json(effects: &[Effect]) -> Vec<serde_json::Value> {
    let one = |effect: &Effect| match effect {
        Effect::Sync { samples, .. } => {
            let mut value = serde_json::to_value(effect).unwrap_or_default();
            if let (Some(object), Ok(samples)) = (value.as_object_mut(), serde_json::to_value(samples)) {
                object.insert("samples".to_owned(), samples);
            }
            Some(value)
        }
        Effect::Built { .. } => None,
    };
    effects.iter().filter_map(one).collect()
}

fn planned(out: &mut String, effect: &Effect) {
    let Effect::Sync { sync, destination, counts, error, note, reasons, samples } = effect else { return };
    let _ = writeln!(out, "{sync} to {destination}");
    match (error, note) {
        (Some(error), _) => {
            let _ = writeln!(out, "  would fail: {error}");
        }
        (None, note) => {
            if let Some(note) = note {
                let what = if counts.deleted > 0 { "would only delete" } else { "would send nothing" };
                let _ = writeln!(out, "  {what}: {note}");
            }
            let numbers = [
                ("insert", counts.inserted),
                ("update", counts.updated),
                ("delete", counts.deleted),
                ("unchanged", counts.unchanged),
                ("ignored by the mode", counts.ignored),
                ("rejected before", counts.waiting),
                ("withheld", counts.withheld),
            ];
            for (what, number) in numbers {
                if number == 0 && !["insert", "update", "delete", "unchanged"].contains(&what) {
                    continue;
                }
                let _ = writeln!(out, "  {what}: {}", grouped(number));
                for SyncSample { row, .. } in samples.iter().filter(|s| s.operation == what) {
                    let _ = writeln!(out, "    {}", serde_json::Value::from(row.clone()));
                }
            }
            if let Some(reasons) = reasons {
                let _ = writeln!(out, "  {reasons}");
            }
        }
    }
}
