//! `kinfold run`

use super::args::{OutputFormat, SelectArguments};
use super::exit::Exit;
use super::printer::Printer;
use super::summary;
use crate::error::{Context, ErrorKind, Result};
use crate::runner::{Options, RunReport, prepare, run as execute};
use clap::Args;

#[derive(Debug, Args)]
pub(super) struct RunArguments {
    #[command(flatten)]
    select: SelectArguments,
    /// Format of the summary; json is that of target/run.json.
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
}

pub(super) async fn run(arguments: &RunArguments, options: Options, printer: &Printer) -> Exit {
    let options = arguments.select.apply(options);
    let prepared = match prepare(&options).await {
        Ok(prepared) => prepared,
        Err(failure) => return printer.failure(&failure),
    };
    printer.findings(&prepared.warnings, prepared.engine.source_map());
    match execute(prepared, &options, printer).await {
        Ok(report) => {
            let left = leave(&options, &report);
            match (arguments.output, &left) {
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
    Ok(text)
}
