//! `kinfold run`

use super::args::{OutputFormat, SelectArguments};
use super::exit::Exit;
use super::printer::Printer;
use super::summary;
use crate::error::{Context, ErrorKind, Result};
use crate::points::Point;
use crate::runner::{
    Events, Failure, Options, Prepared, Purpose, RunReport, leave_manifest, manifest, prepare, run as execute,
};
use clap::Args;

#[derive(Debug, Args)]
pub(super) struct RunArguments {
    #[command(flatten)]
    select: SelectArguments,
    /// Build also models that nothing changed for, and go on without files that are gone.
    #[arg(long)]
    full: bool,
    /// Format of the summary; json is that of target/run.json.
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
}

pub(super) async fn run(arguments: &RunArguments, options: Options, printer: &Printer) -> Exit {
    let options = Options { full: arguments.full, ..arguments.select.apply(options) };
    let prepared = match prepare(&options, Purpose::Run).await {
        Ok(prepared) => prepared,
        Err(failure) => return printer.failure(&failure),
    };
    printer.findings(&prepared.warnings, prepared.engine.source_map());
    if prepared.selected.is_empty() {
        printer.data(match arguments.output {
            OutputFormat::Text => "nothing to do: no model is selected\n",
            OutputFormat::Json => "{\"nodes\": [], \"syncs\": []}\n",
        });
        return Exit::Ok;
    }
    carry_out(prepared, &options, arguments.output, printer).await
}

/// Executes what was prepared, and says what came of it.
pub(super) async fn carry_out(prepared: Prepared, options: &Options, output: OutputFormat, printer: &Printer) -> Exit {
    let definitions = manifest(&prepared.project, &prepared.graph, &prepared.engine);
    let events = match Events::new(&prepared, &options.root, options.now, printer) {
        Ok(events) => events,
        Err(error) => return printer.error(&error),
    };
    let outcome = Box::pin(execute(prepared, options, &events)).await;
    let failure = match &outcome {
        Ok(report) if report.failure.is_some() => report.failure.as_ref().map(ToString::to_string),
        Ok(report) => (!report.is_success()).then(|| "a data test or a sync failed".to_owned()),
        Err(Failure::Error(error)) => Some(error.to_string()),
        Err(Failure::Findings(..)) => Some("the data break what the definitions promise".to_owned()),
    };
    if let Err(error) = events.end(failure.as_deref()) {
        return printer.error(&error);
    }
    match outcome {
        Ok(report) => {
            let left = leave(options, &report);
            let left = left.and_then(|text| leave_manifest(&options.root, &definitions).map(|()| text));
            match (output, &left) {
                (OutputFormat::Json, Ok(text)) => printer.data(text),
                _ => printer.data(&summary::summary(&report)),
            }
            if let Err(error) = left {
                return printer.error(&error);
            }
            if let Some(error) = &report.failure {
                return printer.error(error);
            }
            if report.is_success() {
                Exit::Ok
            } else if report.syncs.iter().any(|s| s.refused) {
                Exit::Refused
            } else {
                Exit::Failed
            }
        }
        Err(failure) => printer.failure(&failure),
    }
}

/// Writes `target/run.json` for machines; gives its text.
fn leave(options: &Options, report: &RunReport) -> Result<String> {
    let folder = options.root.join("target");
    let doing = || format!("cannot write {}", folder.join("run.json").display());
    std::fs::create_dir_all(&folder).or_fail(ErrorKind::Storage, doing)?;
    let text = serde_json::to_string_pretty(report).or_fail(ErrorKind::Failed, doing)? + "\n";
    std::fs::write(folder.join("run.json"), &text).or_fail(ErrorKind::Storage, doing)?;
    Point::Reported.reached();
    Ok(text)
}
